"""The server as huggingface_hub sees it; run with every supported version."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.hub import Fault, HubServer
from tests.hub.client import Client
from tests.hub.conftest import FILES, GOOD, ONNX, OTHER

pytestmark = pytest.mark.hub

DOWNLOAD = "hf_hub_download(repo, file, cache_dir=cache, token=token)"


def download(client: Client, repo: str, file: str, cache: Path, token: object = False) -> Path:
    """The path of a downloaded file."""
    return Path(client.value(DOWNLOAD, repo=repo, file=file, cache=cache, token=token))


def test_model_info(hub: HubServer, client: Client) -> None:
    info = client.value("model_info('acme/plain', files_metadata=True, securityStatus=True).__dict__")
    assert info["sha"] == hub.commit("acme/plain")
    assert (info["id"], info["author"], info["pipeline_tag"]) == ("acme/plain", "acme", "fill-mask")
    assert info["config"] == {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "tokenizer_config": {"mask_token": {"content": "[MASK]"}},
    }
    assert {"one", "two", "license:mit", "onnx", "safetensors", "bert", "en", "de"} <= set(info["tags"])
    assert info["library_name"] == "transformers"
    assert "'F32': 6" in str(info["safetensors"])
    assert info["mask_token"] == "[MASK]"


def test_siblings_are_identified_as_git_does(client: Client) -> None:
    blobs = "{s.rfilename: [s.size, s.blob_id, s.lfs and s.lfs.sha256] for s in info.siblings}"
    found = client.value(f"(lambda info: {blobs})(model_info('acme/plain', files_metadata=True))")
    assert set(found) == set(FILES)
    config = FILES["config.json"]
    assert isinstance(config, bytes)
    expected = hashlib.sha1(b"blob %d\0%b" % (len(config), config)).hexdigest()
    assert found["config.json"] == [len(config), expected, None]
    digest = hashlib.sha256(ONNX).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(ONNX)}\n".encode()
    assert found["onnx/model.onnx"][1] == hashlib.sha1(b"blob %d\0%b" % (len(pointer), pointer)).hexdigest()
    assert found["onnx/model.onnx"][2] == digest


def test_a_space_names_its_models(client: Client) -> None:
    found = client.value("(lambda s: [s.id, s.sdk, s.models, s.datasets, s.private])(space_info('acme/demo'))")
    assert found == ["acme/demo", "gradio", ["acme/plain"], [], False]
    assert client.error("space_info('acme/missing')").name == "RepositoryNotFoundError"


def test_expand(client: Client) -> None:
    assert client.value("model_info('acme/plain', expand=['downloads', 'gated']).downloads") == 7
    assert client.value("model_info('acme/plain', expand=['downloads']).tags") is None


@pytest.mark.parametrize("name", [name for name in FILES if "safetensors" not in name])
def test_download(hub: HubServer, client: Client, tmp_path: Path, name: str) -> None:
    assert download(client, "acme/plain", name, tmp_path, GOOD).read_bytes() == FILES[name]
    listeners = [(request.method, request.listener) for request in hub.requests]
    assert listeners == [("HEAD", "origin"), ("GET", "cdn" if name.endswith(".onnx") else "origin")]


def test_the_token_goes_to_the_origin_only(hub: HubServer, client: Client, tmp_path: Path) -> None:
    download(client, "acme/gated", "model.onnx", tmp_path, GOOD)
    sent = {request.listener: request.headers.get("authorization") for request in hub.requests}
    assert sent == {"origin": f"Bearer {GOOD}", "cdn": None}


def test_snapshot(client: Client, tmp_path: Path) -> None:
    folder = Path(client.value("snapshot_download('acme/plain', cache_dir=cache)", cache=tmp_path))
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES


def test_snapshot_of_an_empty_repository(client: Client, tmp_path: Path) -> None:
    folder = Path(client.value("snapshot_download('acme/empty', cache_dir=cache)", cache=tmp_path))
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_list_models(hub: HubServer, client: Client) -> None:
    assert client.value("[m.id for m in list_models(author='acme', filter='onnx')]") == ["acme/plain", "acme/gated"]
    assert client.value("[m.id for m in list_models(search='PLAIN', full=True)]") == ["acme/plain"]
    assert client.value("[m.id for m in list_models(pipeline_tag='fill-mask')]") == ["acme/plain"]
    assert client.value("[m.likes for m in list_models(author='crowd', sort='likes', limit=3)]") == [11, 10, 9]
    assert "acme/private" not in client.value("[m.id for m in list_models(token=False)]")
    assert "acme/private" in client.value("[m.id for m in list_models(token=token)]", token=GOOD)


def test_list_models_in_pages(hub: HubServer, client: Client) -> None:
    hub.options.list_page_size = 5
    found = client.value("[m.id for m in list_models(author='crowd')]")
    hub.options.list_page_size = 1000
    assert sorted(found) == [f"crowd/m{number:02}" for number in range(12)]
    assert len(hub.requests) == 3


def test_tree_in_pages(hub: HubServer, client: Client) -> None:
    found = client.value("[f.path for f in list_repo_tree('acme/many', recursive=True)]")
    assert len(found) == 1207
    assert len(hub.requests) == 2
    assert client.value("[f.path for f in list_repo_tree('acme/many')]") == [f"d{number}" for number in range(7)]
    assert len(client.value("list(list_repo_tree('acme/many', 'd1'))")) == 172
    assert client.value("next(iter(list_repo_tree('acme/plain', 'onnx', expand=True))).security.status") == "safe"
    name = client.error("list(list_repo_tree('acme/many', 'nowhere'))").name
    assert name in {"EntryNotFoundError", "RemoteEntryNotFoundError"}


def test_paths_info(client: Client) -> None:
    names = ["onnx/model.onnx", "onnx", "missing"]
    found = client.value("[[i.path, getattr(i, 'size', None)] for i in get_paths_info('acme/plain', n)]", n=names)
    assert found == [["onnx/model.onnx", len(ONNX)], ["onnx", None]]


def test_refs_and_commits(hub: HubServer, client: Client) -> None:
    main, second = hub.commit("acme/second"), hub.commit("acme/second", "dev")
    refs = "(lambda r: [[(i.ref, i.target_commit) for i in l] for l in (r.branches, r.tags, r.pull_requests)])"
    assert client.value(f"{refs}(list_repo_refs('acme/second', include_pull_requests=True))") == [
        [["refs/heads/main", main], ["refs/heads/dev", second]],
        [["refs/tags/v1.0", main]],
        [["refs/pr/1", second]],
    ]
    ids = "[c.commit_id for c in list_repo_commits('acme/second', revision='dev', formatted=True)]"
    assert client.value(ids) == [second, main]


@pytest.mark.parametrize("revision", ["dev", "refs/pr/1"])
def test_revisions(hub: HubServer, client: Client, revision: str) -> None:
    expected = hub.commit("acme/second", "dev")
    assert client.value("model_info('acme/second', revision=r).sha", r=revision) == expected
    assert client.value("model_info('acme/second', revision=r).sha", r=expected) == expected


def test_a_branch_moves(hub: HubServer, client: Client, tmp_path: Path) -> None:
    before = client.value("model_info('acme/second').sha")
    hub.move_branch("acme/second", "main", "v2")
    after = client.value("model_info('acme/second').sha")
    hub.move_branch("acme/second", "main", "main")
    assert before == hub.commit("acme/second") != after
    assert download(client, "acme/second", "config.json", tmp_path).parent.name == before


@pytest.mark.parametrize("old", ["acme/first", "first", "ACME/Second"])
def test_renamed(client: Client, tmp_path: Path, old: str) -> None:
    assert client.value("model_info(old).id", old=old) == "acme/second"
    assert [*client.value("list_repo_files(old, revision='dev')", old=old)] == ["config.json", "new.txt"]
    path = download(client, old, "config.json", tmp_path)
    assert path.read_bytes() == b"{}"
    assert f"models--{old.replace('/', '--')}" in path.parts


def test_alias(client: Client, tmp_path: Path) -> None:
    assert download(client, "old-plain", "onnx/model.onnx", tmp_path).read_bytes() == ONNX


@pytest.mark.parametrize("repo", ["acme/missing", "acme/private", "missing"])
@pytest.mark.parametrize("token", [False, OTHER])
def test_missing_or_private(client: Client, tmp_path: Path, repo: str, token: object) -> None:
    assert client.error("model_info(repo, token=token)", repo=repo, token=token).name == "RepositoryNotFoundError"
    error = client.error(DOWNLOAD, repo=repo, file="config.json", cache=tmp_path, token=token)
    assert error.name == "RepositoryNotFoundError"


def test_private_with_access(client: Client, tmp_path: Path) -> None:
    assert client.value("model_info('acme/private', token=token).private", token=GOOD) is True
    assert download(client, "acme/private", "config.json", tmp_path, GOOD).read_bytes() == b"{}"


@pytest.mark.parametrize("token", [False, OTHER])
def test_gated(client: Client, tmp_path: Path, token: object) -> None:
    assert client.value("model_info('acme/gated', token=token).gated", token=token) == "manual"
    for expression in ("auth_check('acme/gated', token=token)", "list_repo_commits('acme/gated', token=token)"):
        assert client.error(expression, token=token).name == "GatedRepoError"
    error = client.error(DOWNLOAD, repo="acme/gated", file="config.json", cache=tmp_path, token=token)
    assert error.name == "GatedRepoError"
    assert "restricted" in error.text


def test_disabled(client: Client, tmp_path: Path) -> None:
    assert client.error("model_info('acme/disabled')").name == "DisabledRepoError"
    error = client.error(DOWNLOAD, repo="acme/disabled", file="config.json", cache=tmp_path, token=False)
    assert error.name == "LocalEntryNotFoundError"
    assert error.cause is not None
    assert error.cause.name == "DisabledRepoError"


def test_unknown_token(client: Client) -> None:
    error = client.error("model_info('acme/plain', token='hf_unknown')")
    assert error.name == "HfHubHTTPError"
    assert "Invalid credentials in Authorization header" in error.text
    assert client.error("whoami(token='hf_unknown')").name in {"HTTPError", "HfHubHTTPError"}


def test_whoami(client: Client) -> None:
    account = client.value("whoami(token=token)", token=GOOD)
    assert (account["name"], account["orgs"][0]["name"]) == ("alice", "acme")


def test_missing_revision_and_file(hub: HubServer, client: Client, tmp_path: Path) -> None:
    assert client.error("model_info('acme/plain', revision='zz')").name == "RevisionNotFoundError"
    error = client.error("hf_hub_download('acme/plain', 'a', revision='zz', cache_dir=c)", c=tmp_path)
    assert error.name == "RevisionNotFoundError"
    error = client.error(DOWNLOAD, repo="acme/plain", file="zz", cache=tmp_path, token=False)
    assert error.name in {"EntryNotFoundError", "RemoteEntryNotFoundError"}
    assert (tmp_path / "models--acme--plain/.no_exist" / hub.commit("acme/plain") / "zz").exists()


def test_resume(hub: HubServer, client: Client, tmp_path: Path) -> None:
    """A body cut after 15 MiB: 2.x resumes within the call, earlier versions in the next call."""
    hub.add_fault(Fault("close", path="/repos/", after=15 << 20))
    outcome = client.evaluate(DOWNLOAD, repo="acme/large", file="model.bin", cache=tmp_path, token=False)
    if outcome.error is not None:
        download(client, "acme/large", "model.bin", tmp_path)
    bodies = [request for request in hub.requests if request.listener == "cdn"]
    ranges = [request.headers.get("Range") for request in bodies]
    assert [request.bytes_sent for request in bodies] == [15 << 20, (24 << 20) - _first(ranges[1])]
    assert 0 < _first(ranges[1]) <= 15 << 20


def _first(value: str | None) -> int:
    assert value is not None
    return int(value.removeprefix("bytes=").removesuffix("-"))


def test_resolve_cache(hub: HubServer, client: Client, tmp_path: Path) -> None:
    hub.options.resolve_cache = True
    path = download(client, "acme/plain", "odd/sp ace/f#1 100%.txt", tmp_path)
    assert download(client, "acme/plain", "onnx/model.onnx", tmp_path).read_bytes() == ONNX
    hub.options.resolve_cache = False
    assert path.read_bytes() == b"odd"
    assert [request.status for request in hub.requests] == [307, 200, 200, 302, 200]


def test_strict_401(hub: HubServer, client: Client) -> None:
    hub.options.strict_401 = True
    error = client.error("model_info('acme/missing', token=False)")
    hub.options.strict_401 = False
    assert error.name == "HfHubHTTPError"


def test_an_expired_url(hub: HubServer, client: Client, tmp_path: Path) -> None:
    hub.options.cdn_ttl = -1
    error = client.error(DOWNLOAD, repo="acme/plain", file="onnx/model.onnx", cache=tmp_path, token=False)
    hub.options.cdn_ttl = 3600
    assert error.name == "HfHubHTTPError"
    assert "403" in error.text


def test_a_flipped_byte_is_not_noticed_by_the_client(hub: HubServer, client: Client, tmp_path: Path) -> None:
    hub.add_fault(Fault("flip", path="/repos/", offset=1000))
    found = download(client, "acme/plain", "onnx/model.onnx", tmp_path).read_bytes()
    assert [at for at, byte in enumerate(found) if byte != ONNX[at]] == [1000]


def test_gzip(hub: HubServer, client: Client, tmp_path: Path) -> None:
    fault = Fault("gzip", path="config.json")
    hub.add_fault(fault)
    assert download(client, "acme/plain", "config.json", tmp_path).read_bytes() == FILES["config.json"]
    assert hub.strikes(fault) == 1


def test_rate_limit(hub: HubServer, client: Client) -> None:
    hub.add_fault(Fault("status", path="/api/models/acme/plain", status=429))
    assert "429" in client.error("model_info('acme/plain')").text
    assert client.value("model_info('acme/plain').id") == "acme/plain"


def test_without_size_in_the_redirect(hub: HubServer, client: Client, tmp_path: Path) -> None:
    """0.x then uses the length of the redirect's body as the file's, and finds the file too long."""
    hub.add_fault(Fault("headers", method="HEAD", remove=("X-Linked-Size",)))
    outcome = client.evaluate(DOWNLOAD, repo="acme/plain", file="onnx/model.onnx", cache=tmp_path, token=False)
    assert outcome.error is None or "Consistency check failed" in outcome.error.text


def test_a_client_with_its_own_defaults(hub: HubServer, tmp_path: Path) -> None:
    """With Xet and telemetry enabled: no header offers Xet, and the telemetry's request is answered."""
    env = hub.env(tmp_path / "home")
    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK"):
        del env[name]
    with Client(env) as client:
        assert download(client, "acme/plain", "onnx/model.onnx", tmp_path).read_bytes() == ONNX
    assert {request.status for request in hub.requests} == {200, 302}


def test_a_large_snapshot(hub: HubServer, client: Client, tmp_path: Path) -> None:
    folder = Path(client.value("snapshot_download('acme/many', cache_dir=c, allow_patterns='d1/*')", c=tmp_path))
    assert len(list((folder / "d1").iterdir())) == 172
