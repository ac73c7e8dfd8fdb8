"""Search: filters of the Hub and of gpux, pages, and the requests of a first page."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gpux import HuggingFaceManager, Settings, errors
from gpux.cli.main import run
from gpux.describe.runnable import runnable
from gpux.huggingface.search import EXPANDED, SearchQuery, read_count
from tests.hub import Fault, HubServer, add_repo
from tests.inspect.headers.files import safetensors

pytestmark = pytest.mark.hub

BERT = b'{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}'


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("catalogue")
    small = safetensors([("w", "F32", (1000, 1000))])
    large = safetensors([("w", "F32", (5000, 1000))])
    task = "text-classification"
    settings: dict[str, Any] = {"card_data": {"license": "mit"}, "pipeline_tag": task}
    add_repo(root, "a/small", {"config.json": BERT, "model.safetensors": small}, downloads=9, likes=1, **settings)
    add_repo(root, "a/large", {"config.json": BERT, "model.safetensors": large}, downloads=8, likes=5)
    add_repo(root, "b/graph", {"onnx/model.onnx": b"x"}, downloads=7, trending_score=9, library_name="transformers.js")
    add_repo(root, "b/gguf", {"m-Q4_0.gguf": b"x"}, downloads=6, gated="auto", extra={"gguf": {"total": 3_000_000}})
    add_repo(root, "b/odd", {"config.json": b'{"model_type": "quantum"}', "model.safetensors": small}, downloads=5)
    for number in range(120):
        add_repo(root, f"crowd/m{number:03}", {"README.md": b"# x"}, downloads=0)
    return root


@pytest.fixture
def hub(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(catalogue) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        assert not server.errors


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"task": "text-classification"}, ["a/small"]),
        ({"license": "mit"}, ["a/small"]),
        ({"library": "transformers.js"}, ["b/graph"]),
        ({"format": "onnx"}, ["b/graph"]),
        ({"format": "gguf", "gated": True}, ["b/gguf"]),
        ({"author": "b", "gated": False}, ["b/graph", "b/odd"]),
        ({"min_parameters": 2_000_000, "max_parameters": 9_000_000, "author": "a"}, ["a/large"]),
        ({"max_parameters": 1_000_000, "author": "a"}, ["a/small"]),
        ({"author": "a", "sort": "likes"}, ["a/large", "a/small"]),
        ({"author": "b", "sort": "trending", "limit": 1}, ["b/graph"]),
    ],
)
def test_filters(hub: HubServer, manager: HuggingFaceManager, filters: dict[str, Any], expected: list[str]) -> None:
    assert [info.id for info in manager.search_models(**filters)] == expected
    assert len(pages(hub)) == 1


def test_the_fields_of_a_result(hub: HubServer, manager: HuggingFaceManager) -> None:
    small, *_ = manager.search_models("small")
    gguf, *_ = manager.search_models("gguf")

    assert (small.parameters, small.formats) == (10**6, ("safetensors",))
    assert (small.license, small.model_type) == ("mit", "bert")
    assert (small.downloads, small.likes, small.gated) == (9, 1, None)
    assert small.last_modified and small.commit and small.files
    assert (gguf.parameters, gguf.gated) == (3_000_000, "auto")


@pytest.mark.parametrize("text", ["hf:a/small", "a/small", " small ", "hf:small"])
def test_the_scheme_of_a_reference_is_not_searched(manager: HuggingFaceManager, text: str) -> None:
    assert [info.id for info in manager.search_models(text)] == ["a/small"]


def pages(hub: HubServer) -> list[str]:
    """The pages that were requested."""
    return [request.path for request in hub.requests]


def test_pages_are_requested_when_they_are_needed(hub: HubServer, manager: HuggingFaceManager) -> None:
    found = manager.iter_models(SearchQuery("crowd"), page=50)

    assert len(list(islice(found, 50))) == 50
    assert len(pages(hub)) == 1
    assert len(list(found)) == 70
    assert len(pages(hub)) == 3


def test_a_page_that_fails_is_requested_again(
    hub: HubServer, manager: HuggingFaceManager, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.add_fault(Fault("status", path="api/models", status=503, times=1))

    assert [info.id for info in manager.search_models("small")] == ["a/small"]
    assert [request.status for request in hub.requests] == [503, 200]
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (Fault("status", path="api/models", status=503, times=None), errors.UnavailableError, "answered HTTP 503"),
        (Fault("status", path="api/models", status=429, times=None), errors.RateLimitError, "limits requests"),
        (Fault("drop", path="api/models", times=None), errors.UnavailableError, "no answer from"),
    ],
)
def test_a_search_that_fails_names_the_last_failure(
    hub: HubServer,
    manager: HuggingFaceManager,
    fault: Fault,
    kind: type[errors.GpuxError],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.add_fault(fault)

    with pytest.raises(kind, match=message) as caught:
        manager.search_models("small")
    assert "no response for" not in str(caught.value)
    assert "--offline" not in str(caught.value.hint)  # a search needs the Hub
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "filters",
    [
        {"sort": "beauty"},
        {"format": "exe"},
        {"min_parameters": 2, "max_parameters": 1},
        {"limit": 0},
    ],
)
def test_invalid_values_are_refused(hub: HubServer, manager: HuggingFaceManager, filters: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        manager.search_models(**filters)
    assert hub.requests == []


def test_an_unknown_filter_is_a_type_error(hub: HubServer, manager: HuggingFaceManager) -> None:
    unknown: dict[str, Any] = {"colour": "red"}
    with pytest.raises(TypeError, match="colour"):
        manager.search_models(**unknown)
    with pytest.raises(TypeError, match="colour"):
        HuggingFaceManager(**unknown)
    assert hub.requests == []


def test_results_of_a_hub_that_ignores_filters_are_filtered(hub: HubServer, manager: HuggingFaceManager) -> None:
    body = b'[{"id": "x/one", "safetensors": {"parameters": {}, "total": 5}, "gated": "auto"}, {"id": "x/two"}]'
    hub.add_fault(Fault("status", status=200, body=body, headers={"Content-Type": "application/json"}, times=None))

    assert [info.id for info in manager.search_models(max_parameters=10)] == ["x/one"]
    assert [info.id for info in manager.search_models(gated=False)] == ["x/two"]


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b'{"error": "x"}', b"[1, 2]", b'[{"name": "x"}]'])
def test_an_invalid_response_is_an_error(hub: HubServer, manager: HuggingFaceManager, body: bytes) -> None:
    hub.add_fault(Fault("status", status=200, body=body, headers={"Content-Type": "application/json"}, times=None))

    with pytest.raises(errors.HubServerError):
        manager.search_models("x")


def test_a_first_page_is_one_request_as_large_as_that_of_huggingface_hub(hub: HubServer, settings: Settings) -> None:
    from huggingface_hub import HfApi

    expand: Any = list(EXPANDED)
    list(HfApi(endpoint=hub.url, token=False).list_models(search="crowd", sort="downloads", limit=50, expand=expand))
    theirs = {request.path: request.bytes_sent for request in hub.requests}
    hub.clear_requests()

    HuggingFaceManager(settings).search_models("crowd", limit=50)

    ours = {request.path: request.bytes_sent for request in hub.requests}
    assert len(ours) == len(theirs) == 1
    assert list(ours.values()) == list(theirs.values())


def test_runnable_models(hub: HubServer, manager: HuggingFaceManager, settings: Settings) -> None:
    how = runnable(settings)
    found = {info.id: how(info) for info in manager.search_models(limit=10)}

    assert found["a/small"] == "optimum"
    assert found["b/graph"] == "onnx"
    assert found["b/gguf"] is found["b/odd"] is None


def test_the_command(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "--runnable", "--limit", "10", "--not-gated"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {row[0]: row[-1] for row in rows} == {"a/small": "optimum", "a/large": "optimum", "b/graph": "onnx"}
    assert run(["search", "--format", "gguf"]) == 0
    assert capsys.readouterr().out.split("\t")[:3] == ["b/gguf", "", "3.0M"]
    assert run(["search", "--min-size", "many"]) == 2


@pytest.mark.parametrize(
    ("text", "count"), [("7B", 7 * 10**9), ("350m", 35 * 10**7), ("1.5b", 15 * 10**8), ("1_000", 1000)]
)
def test_counts(text: str, count: int) -> None:
    assert read_count(text) == count


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (6 * 10**9, None, "min:6B"),
        (1_500_000_000, 128 * 10**9, "min:1500M,max:128B"),
        (1_234_567, 1_234_567, "min:1234K,max:1235K"),
        (0, 6 * 10**9, "max:6B"),
    ],
)
def test_sizes_in_the_request(low: int | None, high: int | None, expected: str) -> None:
    assert SearchQuery(min_parameters=low, max_parameters=high).parameters(5)["num_parameters"] == expected
