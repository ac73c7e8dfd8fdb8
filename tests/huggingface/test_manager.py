"""Metadata of the Hub: requests, values, and each refusal as its own error."""

from __future__ import annotations

import pytest

from gpux import HuggingFaceManager, Settings, errors
from gpux.system.cancel import CancelToken
from tests.hub import Fault, HubServer

pytestmark = pytest.mark.hub


def test_model_info_is_one_request(hub: HubServer, manager: HuggingFaceManager) -> None:
    info = manager.get_model_info("tiny/classify")

    assert [request.path.split("?")[0] for request in hub.requests] == ["/api/models/tiny/classify"]
    assert info.id == info.requested_id == "tiny/classify"
    assert info.commit == hub.commit("tiny/classify")
    assert (info.revision, info.model_type) == ("main", "bert")
    assert info.architectures == ("BertForSequenceClassification",)
    assert info.formats == ("onnx", "safetensors")
    assert info.file("model.safetensors").sha256 and info.file("config.json").blob_id  # type: ignore[union-attr]


def test_a_short_name_resolves_to_the_canonical_id(manager: HuggingFaceManager) -> None:
    info = manager.get_model_info("gpt2")

    assert (info.requested_id, info.id) == ("gpt2", "openai-community/gpt2")


def test_revisions(hub: HubServer, manager: HuggingFaceManager) -> None:
    found = {(revision.name, revision.kind) for revision in manager.list_revisions("tiny/embed")}

    assert found == {("main", "branch"), ("v1", "tag")}
    assert manager.get_model_info("tiny/embed@v1").commit == hub.commit("tiny/embed")


def test_files_and_formats(manager: HuggingFaceManager) -> None:
    files = manager.list_model_files("tiny/embed")

    assert {"config.json", "model.safetensors", "onnx/model.onnx", "modules.json"} <= {file.path for file in files}
    assert all(file.size and file.etag for file in files)
    assert manager.detect_format("odd/gguf") == ("gguf",)


def test_search(manager: HuggingFaceManager) -> None:
    assert [info.id for info in manager.search_models("tiny", limit=2)] == ["tiny/embed", "tiny/classify"]
    assert [info.id for info in manager.search_models(task="sentence-similarity")] == [
        "tiny/embed",
        "openai-community/gpt2",
    ]
    assert manager.search_models("no model has this name") == []


def test_a_url_of_this_hub_is_a_reference(hub: HubServer, manager: HuggingFaceManager) -> None:
    assert manager.get_model_info(f"{hub.url}/tiny/embed/tree/v1").id == "tiny/embed"
    with pytest.raises(errors.InvalidReferenceError) as caught:
        manager.get_model_info("http://127.0.0.1:1/tiny/embed")
    assert "HF_ENDPOINT" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("ref", "token", "kind"),
    [
        ("tiny/missing", None, errors.ModelNotFoundError),
        ("tiny/missing", "hf_good", errors.ModelNotFoundError),
        ("acme/private", None, errors.ModelNotFoundError),
        ("acme/private", "hf_other", errors.ModelNotFoundError),
        ("acme/private", "hf_bad", errors.InvalidTokenError),
        ("tiny/embed", "hf_bad", errors.InvalidTokenError),
        ("tiny/embed@nope", None, errors.RevisionNotFoundError),
        ("acme/disabled", None, errors.DisabledModelError),
        ("odd/traversal", None, errors.UnsafePathError),
    ],
)
def test_refusals(settings: Settings, ref: str, token: str | None, kind: type[errors.GpuxError]) -> None:
    manager = HuggingFaceManager(settings, token=token)

    with pytest.raises(kind) as caught:
        manager.get_model_info(ref)

    assert type(caught.value) is kind
    assert "hf_good" not in f"{caught.value!r} {caught.value.hint} {manager!r} {manager.settings!r}"


def test_a_private_model_with_the_right_token(settings: Settings) -> None:
    assert HuggingFaceManager(settings, token="hf_good").get_model_info("acme/private").private


def test_the_error_of_gated_files_names_the_page(settings: Settings, hub: HubServer) -> None:
    for token in (None, "hf_other"):
        manager = HuggingFaceManager(settings, token=token)
        info = manager.get_model_info("acme/gated")
        assert info.gated == "manual"
        with pytest.raises(errors.GatedModelError) as caught:
            manager.fetch(info, ["config.json"])
        assert f"{hub.url}/acme/gated" in str(caught.value.hint)
    granted = HuggingFaceManager(settings, token="hf_good")
    assert granted.fetch(granted.get_model_info("acme/gated"), ["config.json"]).files == ("config.json",)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_failing_hub_is_its_own_error(hub: HubServer, manager: HuggingFaceManager, status: int) -> None:
    hub.add_fault(Fault("status", status=status, times=None))

    with pytest.raises(errors.HubServerError, match=str(status)):
        manager.get_model_info("tiny/embed")


def test_a_page_instead_of_json(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("status", status=200, body=b"<html>sign in to the network</html>", times=None))

    with pytest.raises(errors.HubServerError, match="invalid description"):
        manager.get_model_info("tiny/embed")


@pytest.mark.usefixtures("impatient")
def test_the_error_of_a_rate_limit_has_the_waiting_time(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("status", status=429, headers={"RateLimit": '"api";r=0;t=7'}, times=None))

    with pytest.raises(errors.RateLimitError) as caught:
        manager.get_model_info("tiny/embed")

    assert caught.value.details["retry_after"] == 7


@pytest.mark.usefixtures("impatient")
def test_no_network(settings: Settings) -> None:
    with pytest.raises(errors.NetworkError):
        HuggingFaceManager(settings, endpoint="http://127.0.0.1:9").get_model_info("tiny/embed")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", ["get_model_info", "list_revisions", "search_models"])
def test_a_hub_that_never_answers_meets_a_deadline(hub: HubServer, settings: Settings, call: str) -> None:
    hub.add_fault(Fault("hang", times=None))
    manager = HuggingFaceManager(settings, timeout=0.3)  # the server would be silent longer than the test may take

    with pytest.raises(errors.NetworkError):
        getattr(manager, call)("tiny/embed")


@pytest.mark.usefixtures("impatient")
def test_a_call_can_be_cancelled(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("hang", times=None))
    cancel = CancelToken()
    cancel.cancel()

    with pytest.raises(errors.CancelledError):
        manager.resolve("tiny/embed", cancel=cancel)


def test_offline_sends_no_request(hub: HubServer, settings: Settings, manager: HuggingFaceManager) -> None:
    info = manager.get_model_info("tiny/embed")
    manager.fetch(info, ["config.json"])
    hub.clear_requests()
    offline = HuggingFaceManager(settings, offline=True)

    assert offline.get_model_info("tiny/embed").commit == info.commit
    with pytest.raises(errors.OfflineError, match="tiny/fill"):
        offline.get_model_info("tiny/fill")
    with pytest.raises(errors.OfflineError):
        offline.search_models("tiny")
    assert hub.requests == []


def test_hashes_are_read_from_the_tree_if_a_mirror_omits_them(hub: HubServer, manager: HuggingFaceManager) -> None:
    """The model info of some mirrors (olah) contains file names only."""
    bare = b'{"id": "tiny/embed", "sha": "%s", "siblings": [{"rfilename": "config.json"}]}'
    body = bare % hub.commit("tiny/embed").encode()
    hub.add_fault(Fault("status", path="blobs=", status=200, body=body, headers={"Content-Type": "application/json"}))

    assert all(file.etag and file.size for file in manager.get_model_info("tiny/embed").files)


def test_an_invalid_model_does_not_hide_others_from_a_search(manager: HuggingFaceManager) -> None:
    found = {info.id: info for info in manager.search_models(limit=100)}

    assert {"tiny/embed", "odd/traversal"} <= set(found)
    assert found["odd/traversal"].files and not [file for file in found["odd/traversal"].files if ".." in file.path]
    with pytest.raises(errors.UnsafePathError, match=r"'\.\./outside\.txt' of odd/traversal") as caught:
        manager.resolve("odd/traversal")
    assert "odd/traversal" in str(caught.value.hint)
    assert caught.value.details == {"model": "odd/traversal", "file": "../outside.txt"}


def test_offline_a_short_name_finds_the_files_of_its_model(settings: Settings, manager: HuggingFaceManager) -> None:
    info = manager.get_model_info("gpt2")
    manager.fetch(info, ["config.json"])

    offline = HuggingFaceManager(settings, offline=True)
    for ref in ("gpt2", "gpt2@main", f"gpt2@{info.commit}"):
        found = offline.resolve(ref)
        assert (found.id, found.requested_id, found.commit) == ("openai-community/gpt2", "gpt2", info.commit)
