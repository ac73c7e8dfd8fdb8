"""The endpoints below `/api`."""

from __future__ import annotations

import json
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

from tests.hub.access import Gatekeeper
from tests.hub.messages import HubError, Reply, Request, is_true, json_reply
from tests.hub.model_info import Model, model_json
from tests.hub.paging import take_page
from tests.hub.repository import Ref, Repository, Revision
from tests.hub.safetensors import sharded_headers
from tests.hub.search import list_json, listed_keys, page_size, search
from tests.hub.settings import Options, User
from tests.hub.store import RepoStore
from tests.hub.tree import commit_title, list_paths, list_tree


class Context(Protocol):
    """The attributes of the application that the endpoints use."""

    store: RepoStore
    gatekeeper: Gatekeeper
    options: Options
    base_url: str


def whoami(user: User | None) -> Reply:
    """`/api/whoami-v2`: the account of the token."""
    if user is None:
        raise HubError(401, "Invalid username or password.")
    orgs = [{"type": "org", "id": f"org-{name}", "name": name, "fullname": name} for name in user.orgs]
    token = {"displayName": "token", "role": user.role}
    account = {"type": "user", "id": f"user-{user.name}", "name": user.name, "orgs": orgs}
    account |= {"fullname": user.fullname or user.name, "email": user.email or f"{user.name}@localhost"}
    return json_reply({**account, "auth": {"type": "access_token", "accessToken": token}})


def list_models(context: Context, user: User | None, request: Request) -> Reply:
    """`/api/models`: the models that the caller may see and that match."""
    keys = listed_keys(request)
    found = search(_visible_models(context, user), request)
    size = page_size(request, context.options.list_page_size)
    page, headers = take_page(request, context.base_url, found, size)
    return json_reply(list_json(page, keys), headers)


def tags_by_type(context: Context, user: User | None) -> Reply:
    """`/api/models-tags-by-type`: all values that a search can filter on."""
    found: dict[str, set[str]] = {"pipeline_tag": set(), "library": set(), "license": set(), "other": set()}
    for model in _visible_models(context, user):
        for tag in model.tags:
            kind = "license" if tag.startswith("license:") else "other"
            kind = "pipeline_tag" if tag == model.pipeline_tag else kind
            found["library" if tag == model.library else kind].add(tag)
    return json_reply({kind: [_tag_json(kind, tag) for tag in sorted(tags)] for kind, tags in found.items()})


def _tag_json(kind: str, tag: str) -> dict[str, str]:
    return {"type": kind, "id": tag, "label": tag}


def _visible_models(context: Context, user: User | None) -> list[Model]:
    models = []
    for repo_id in context.store.ids():
        repository = context.store.open(repo_id)
        if repository is None or not context.gatekeeper.may_see(user, repository):
            continue
        try:
            revision = repository.resolve("main")
        except HubError:  # A repository without files has no commit to list.
            continue
        models.append(Model(repository, revision.label, revision.commit))
    return models


def model_endpoint(
    context: Context, user: User | None, repository: Repository, rest: tuple[str, ...], request: Request
) -> Reply:
    """`/api/models/{id}/...`: `rest` are the segments after the id, still encoded: a revision may contain `%2F`."""
    name, *arguments = rest or ("revision",)
    if name == "paths-info":
        return _paths_info(repository, _revision(repository, arguments), request)
    if name == "revision" and len(arguments) <= 1:
        return _info(repository, _revision(repository, arguments), request)
    if name == "tree" and arguments:
        below = "/".join(unquote(part) for part in arguments[1:]).strip("/")
        return _tree(context, repository, _revision(repository, arguments[:1]), below, request)
    if name == "refs" and not arguments:
        return _refs(repository, request)
    if name == "commits" and len(arguments) == 1:
        context.gatekeeper.check_download(user, repository)
        return _commits(context, repository, _revision(repository, arguments), request)
    if name == "auth-check" and arguments in ([], ["write"]):
        return _auth_check(context.gatekeeper, user, repository, write=bool(arguments))
    if name == "safetensors-metadata" and arguments:
        context.gatekeeper.check_download(user, repository)
        return _safetensors_metadata(repository, "/".join(map(unquote, arguments)))
    raise HubError(404, "Sorry, we can't find the page you are looking for.")


def _revision(repository: Repository, arguments: list[str]) -> Revision:
    return repository.resolve(unquote(arguments[0]) if arguments else "main")


def _info(repository: Repository, revision: Revision, request: Request) -> Reply:
    model = Model(repository, revision.label, revision.commit)
    blobs, security = request.flag("blobs"), request.flag("securityStatus")
    return json_reply(model_json(model, expand=request.values("expand"), blobs=blobs, security=security))


def _tree(context: Context, repository: Repository, revision: Revision, below: str, request: Request) -> Reply:
    expand = request.flag("expand")
    entries = list_tree(repository, revision, below, recursive=request.flag("recursive"), expand=expand)
    options = context.options
    size = min(options.expanded_page_size, options.tree_page_size) if expand else options.tree_page_size
    page, headers = take_page(request, context.base_url, entries, size)
    return json_reply(page, headers)


def _paths_info(repository: Repository, revision: Revision, request: Request) -> Reply:
    """huggingface_hub sends a form; JSON is accepted too. Missing paths are omitted without an error."""
    if request.method != "POST":
        raise HubError(405, "Method Not Allowed")
    try:
        if "json" in request.headers.get("Content-Type", ""):
            form = json.loads(request.body)
            paths, expand = [str(path) for path in form.get("paths", [])], bool(form.get("expand"))
        else:
            fields = parse_qs(request.body.decode(), keep_blank_values=True)
            paths, expand = fields.get("paths", []), is_true(fields.get("expand", [""])[-1])
    except (ValueError, AttributeError, TypeError) as error:
        raise HubError(400, "Invalid body") from error
    return json_reply(list_paths(repository, revision, paths, expand=expand))


def _refs(repository: Repository, request: Request) -> Reply:
    def to_json(refs: list[Ref]) -> list[dict[str, str]]:
        present = [ref for ref in refs if repository.label_folder(ref.label)]
        commits = {ref.label: repository.commit(ref.label).sha for ref in present}
        return [{"name": ref.name, "ref": ref.full, "targetCommit": commits[ref.label]} for ref in present]

    found: dict[str, Any] = {
        "branches": to_json(repository.branches()),
        "converts": [],
        "tags": to_json(repository.tags()),
    }
    if request.flag("include_prs"):
        found["pullRequests"] = to_json(repository.pull_requests())
    return json_reply(found)


def _commits(context: Context, repository: Repository, revision: Revision, request: Request) -> Reply:
    formatted = "formatted" in request.values("expand")
    found = []
    for label in repository.history(revision.label):
        title = commit_title(repository, label)
        entry: dict[str, Any] = {"id": repository.commit(label).sha, "title": title, "message": ""}
        entry |= {"date": repository.date(label), "authors": [{"user": repository.author or "hub"}]}
        if formatted:
            entry["formatted"] = {"title": title, "message": ""}
        found.append(entry)
    page, headers = take_page(request, context.base_url, found, context.options.commit_page_size)
    return json_reply(page, {**headers, "X-Total-Count": str(len(found))})


def _auth_check(gatekeeper: Gatekeeper, user: User | None, repository: Repository, *, write: bool) -> Reply:
    gatekeeper.check_download(user, repository)
    if write and (user is None or user.role != "write" or repository.author not in (user.name, *user.orgs)):
        raise HubError(403, "You don't have the rights to write to this repository")
    return json_reply({})


def _safetensors_metadata(repository: Repository, index_path: str) -> Reply:
    found = sharded_headers(repository.resolve("main").commit, index_path)
    if found is None:
        raise HubError(404, "Entry not found", "EntryNotFound")
    return json_reply(found)
