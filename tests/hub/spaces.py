"""`GET /api/spaces/{id}`: the metadata of a Space with the models it uses; its files are not served."""

from __future__ import annotations

from urllib.parse import unquote

from tests.hub.messages import HubError, Reply, Request, json_reply
from tests.hub.model_info import Model, as_list, render
from tests.hub.repository import Repository

KEYS = (
    *("_id", "id", "author", "sha", "lastModified", "createdAt", "private", "gated", "disabled", "likes", "tags"),
    *("cardData", "siblings"),
)


def space_endpoint(repository: Repository, rest: tuple[str, ...], request: Request) -> Reply:
    """`rest` are the segments after the id. The keys `models`, `datasets` and `runtime` are those of `extra`, the
    first two else of the card: the real Hub finds them in the code too."""
    if rest[:1] not in {(), ("revision",)} or len(rest) not in {0, 2}:
        raise HubError(404, "Sorry, we can't find the page you are looking for.")
    revision = repository.resolve(unquote(rest[1]) if rest else "main")
    space = Model(repository, revision.label, revision.commit)
    card = space.card or {}
    found = render(space, KEYS) | {key: as_list(card.get(key)) for key in ("models", "datasets")}
    found |= {"sdk": card.get("sdk"), "runtime": {"stage": "RUNNING"}, "subdomain": repository.id.replace("/", "-")}
    if request.flag("blobs"):
        found["siblings"] = space.siblings(blobs=True)
    return json_reply(found | dict(repository.settings.extra))
