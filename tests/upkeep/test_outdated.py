"""Finding and updating outdated models, with a Hub whose branches move."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpux import CancelToken, HuggingFaceManager, Settings, Store, errors, pipeline, pull_model
from gpux.cli.main import run
from gpux.cli.update import about
from gpux.model.reference import ModelRef
from gpux.store.layout import Layout
from gpux.upkeep.outdated import PARALLEL_REQUESTS, RevisionStatus, outdated, update
from tests.hub import Fault, HubServer, add_repo, folder_files
from tests.models.bert import bert_repository

pytestmark = pytest.mark.hub

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes | Path]]:
    """Files of a classifier and of a masked language model, with ONNX and no other weights."""
    folder = tmp_path_factory.mktemp("models")
    tasks = ("text-classification", "fill-mask")
    made = {task: bert_repository(folder / task, task, onnx=True, safetensors=False) for task in tasks}
    return {task: folder_files(path) for task, path in made.items()}


@pytest.fixture
def root(models: dict[str, dict[str, bytes | Path]], tmp_path: Path) -> Path:
    """Repositories with a branch ``main``, and ``next``, to which tests move it."""
    folder = tmp_path / "repositories"
    classify = models["text-classification"]
    for name in ("org/one", "org/two"):
        add_repo(folder, name, classify, label="main", git_tags={"v1": "main"})
        add_repo(folder, name, {**classify, "README.md": b"# Better\n"}, label="next")
    add_repo(folder, "org/other-task", classify, label="main")
    add_repo(folder, "org/other-task", models["fill-mask"], label="next")
    return folder


@pytest.fixture
def hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub for one test alone, since its branches move."""
    with HubServer(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        assert not server.errors


def statuses(found: list[RevisionStatus]) -> dict[str, str]:
    return {one.reference: one.status for one in found}


def test_a_moved_branch_is_outdated_by_one_request_each(hub: HubServer, settings: Settings) -> None:
    one, two = (pull_model(name, settings=settings) for name in ("org/one", "org/two"))
    hub.move_branch("org/one", "main", "next")
    hub.clear_requests()

    first, second = outdated(settings=settings)

    assert len(hub.requests) == 2
    assert (first.reference, first.status, first.commit) == ("org/one", "outdated", one.commit)
    assert first.new_commit == hub.commit("org/one") != one.commit
    assert first.last_modified and first.tasks == ("text-classification",) and first.variants == (one,)
    assert (second.status, second.commit, second.new_commit) == ("current", two.commit, two.commit)
    assert pickle.loads(pickle.dumps(first)) == first
    assert json.loads(json.dumps(first.to_dict()))["status"] == "outdated"


def test_a_branch_a_tag_and_the_default_branch_are_compared_each(hub: HubServer, settings: Settings) -> None:
    for ref in ("org/one", "org/one@main", "org/one@v1"):
        pull_model(ref, settings=settings)
    hub.move_branch("org/one", "main", "next")
    hub.clear_requests()

    assert statuses(outdated(settings=settings)) == {"org/one": "outdated", "org/one@v1": "current"}
    assert len(hub.requests) == 2

    pull_model("org/one@main", settings=settings)  # the default branch was not pulled again by its own name
    hub.clear_requests()
    names = {"org/one": "outdated", "org/one@main": "current", "org/one@v1": "current"}
    assert statuses(outdated(settings=settings)) == names
    assert len(hub.requests) == 2


def test_a_model_pulled_by_commit_causes_no_request(hub: HubServer, settings: Settings) -> None:
    commit = hub.commit("org/one")
    pull_model(f"org/one@{commit}", settings=settings)
    hub.move_branch("org/one", "main", "next")
    hub.clear_requests()

    assert outdated(settings=settings) == []
    (fixed,) = outdated(["org/one"], settings=settings)
    assert (fixed.reference, fixed.status) == (f"org/one@{commit}", "current")
    assert hub.requests == []


def test_only_named_models_are_compared(hub: HubServer, settings: Settings) -> None:
    for ref in ("org/one", "org/one@v1", "org/two"):
        pull_model(ref, settings=settings)
    hub.clear_requests()

    assert set(statuses(outdated(["org/one@v1", "org/one@v1"], settings=settings))) == {"org/one@v1"}
    assert set(statuses(outdated(["org/one"], settings=settings))) == {"org/one", "org/one@v1"}
    assert set(statuses(outdated(["org/two@main"], settings=settings))) == {"org/two"}
    assert len(hub.requests) == 4
    with pytest.raises(errors.NotStoredError):
        outdated(["org/one", "org/other-task"], settings=settings)


def test_gone_models_and_branches(hub: HubServer, root: Path, settings: Settings) -> None:
    add_repo(root, "org/one", {"README.md": b""}, label="unused", branches={"side": "next"})
    for ref in ("org/one@side", "org/two"):
        pull_model(ref, settings=settings)
    add_repo(root, "org/one", {"README.md": b""}, branches={})
    add_repo(root, "org/two", {"README.md": b""}, private=True)

    found = outdated(settings=settings)

    assert statuses(found) == {"org/one@side": "gone", "org/two": "gone"}
    assert isinstance(found[0].error, errors.RevisionNotFoundError)
    assert isinstance(found[1].error, errors.ModelNotFoundError)
    assert update(found, settings=settings) == []


def test_a_renamed_model_reports_its_new_id(hub: HubServer, root: Path, settings: Settings) -> None:
    pull_model("org/one", settings=settings)
    (root / "models" / "org" / "one").rename(root / "models" / "org" / "renamed")
    add_repo(root, "org/renamed", {"README.md": b"# Moved\n"}, label="unused", renamed_from=["org/one"])
    hub.refresh()

    (found,) = outdated(settings=settings)

    assert (found.reference, found.renamed_to) == ("org/one", "org/renamed")
    pull_model("org/one", settings=settings)  # under its new name, which is what is followed from now on
    assert statuses(outdated(settings=settings)) == {"org/renamed": "current"}


@pytest.mark.usefixtures("impatient")
def test_a_failed_request_does_not_stop_the_others(hub: HubServer, settings: Settings) -> None:
    for ref in ("org/one", "org/two"):
        pull_model(ref, settings=settings)
    hub.add_fault(Fault("status", path="org/one", status=500, times=None))

    found = outdated(settings=settings)

    assert statuses(found) == {"org/one": "unknown", "org/two": "current"}
    assert isinstance(found[0].error, errors.HubServerError)
    assert found[0].to_dict()["error"]["code"] == "hub_server"


@pytest.mark.usefixtures("impatient")
def test_requests_end_if_the_hub_does_not_answer(hub: HubServer, root: Path, settings: Settings) -> None:
    number = 2 * PARALLEL_REQUESTS
    for index in range(number):
        add_repo(root, f"many/m{index}", folder_files(root / "models" / "org" / "one" / "revisions" / "main"))
        pull_model(f"many/m{index}", settings=settings)
    hub.clear_requests()
    fault = Fault("drop", times=None)
    hub.add_fault(fault)

    found = outdated(settings=settings)

    assert {currency.status for currency in found} == {"unknown"} and len(found) == number
    assert all(isinstance(currency.error, errors.NetworkError) for currency in found)
    requested = {request.path.split("?")[0] for request in hub.requests}
    assert PARALLEL_REQUESTS <= len(requested) < number


@pytest.mark.usefixtures("impatient")
def test_requests_end_after_a_rate_limit(hub: HubServer, root: Path, settings: Settings) -> None:
    number = 3 * PARALLEL_REQUESTS
    for index in range(number):
        add_repo(root, f"many/m{index:02}", folder_files(root / "models" / "org" / "one" / "revisions" / "main"))
        pull_model(f"many/m{index:02}", settings=settings)
    hub.clear_requests()
    hub.add_fault(Fault("status", status=429, times=None))

    found = outdated(settings=settings)

    assert all(isinstance(currency.error, errors.RateLimitError) for currency in found)
    assert len({request.path.split("?")[0] for request in hub.requests}) < number


def test_offline_makes_no_request(hub: HubServer, settings: Settings) -> None:
    pull_model("org/one", settings=settings)
    hub.clear_requests()

    (found,) = outdated(settings=settings.with_overrides(offline=True))

    assert found.status == "unknown" and isinstance(found.error, errors.OfflineError)
    assert hub.requests == []


def test_a_damaged_record_is_reported(hub: HubServer, settings: Settings) -> None:
    for ref in ("org/one", "org/two"):
        pull_model(ref, settings=settings)
    Layout(settings.store).revision_file("hf", "org/one", None).write_text("{")

    found = outdated(settings=settings)

    assert statuses(found) == {"org/one": "unknown", "org/two": "current"}
    assert isinstance(found[0].error, errors.ManifestError)


def test_cancel(hub: HubServer, settings: Settings) -> None:
    pull_model("org/one", settings=settings)
    hub.move_branch("org/one", "main", "next")
    found = outdated(settings=settings)
    cancel = CancelToken()
    cancel.cancel()

    with pytest.raises(errors.CancelledError):
        outdated(settings=settings, cancel=cancel)
    with pytest.raises(errors.CancelledError):
        update(found, settings=settings, cancel=cancel)


@pytest.mark.usefixtures("impatient")
def test_a_manager_of_the_callers_own(hub: HubServer, settings: Settings) -> None:
    pull_model("org/one", settings=settings)
    elsewhere = HuggingFaceManager(settings, endpoint="http://127.0.0.1:9")

    (found,) = outdated(settings=settings, managers={"hf": elsewhere})

    assert isinstance(found.error, errors.NetworkError)


def test_a_folder_is_compared_only_if_it_is_named(hub: HubServer, settings: Settings, tmp_path: Path) -> None:
    folder = bert_repository(tmp_path / "mine", "fill-mask", onnx=True)
    model = pull_model(folder, settings=settings)
    assert outdated(settings=settings) == []
    assert [found.status for found in outdated([folder], settings=settings)] == ["current"]

    (folder / "README.md").write_text("changed")
    found = outdated([folder], settings=settings)
    (done,) = update(found, settings=settings)

    assert found[0].status == "outdated"
    assert done.model is not None and done.model.commit != model.commit
    assert hub.requests == []


def test_update_pulls_outdated_models_and_keeps_the_former_commit(hub: HubServer, settings: Settings) -> None:
    one, two = (pull_model(name, settings=settings) for name in ("org/one", "org/two"))
    hub.move_branch("org/one", "main", "next")

    (done,) = update(outdated(settings=settings), settings=settings)

    assert (done.reference, done.task, done.commit, done.error) == ("org/one", one.task, one.commit, None)
    assert done.model is not None and done.model.commit == hub.commit("org/one")
    assert done.to_dict()["updated"] is True
    store = Store(settings.store)
    assert {(model.id, model.commit) for model in store.models()} == {
        ("org/one", one.commit),
        ("org/one", done.model.commit),
        ("org/two", two.commit),
    }
    assert statuses(outdated(settings=settings)) == {"org/one": "current", "org/two": "current"}
    with pipeline(done.model.task, model="org/one", settings=settings) as classify:
        assert classify("fox")
    (removal,) = store.prune_plan().removals
    assert removal.kind == "superseded" and removal.path == one.path


def test_update_keeps_task_precision_and_recipe(hub: HubServer, settings: Settings) -> None:
    model = pull_model("org/one", settings=settings)
    hub.move_branch("org/one", "main", "next")
    calls: list[dict[str, Any]] = []

    def pull(ref: object, **options: Any) -> Any:
        calls.append({"ref": str(ref), **options})
        return pull_model(ref, **options)  # type: ignore[arg-type]

    update(outdated(settings=settings), settings=settings, pull=pull)

    (options,) = calls
    assert {name: options[name] for name in ("ref", "task", "precision", "convert", "allow_inexact")} == {
        "ref": "org/one",
        "task": model.task,
        "precision": "fp32",
        "convert": False,
        "allow_inexact": False,
    }


def test_a_failed_update_does_not_stop_the_others(hub: HubServer, settings: Settings) -> None:
    for name in ("org/one", "org/other-task"):
        pull_model(name, settings=settings)
        hub.move_branch(name, "main", "next")
    hub.move_branch("org/other-task", "main", "next")

    done = {entry.reference: entry for entry in update(outdated(settings=settings), settings=settings)}

    assert done["org/one"].model is not None
    assert isinstance(done["org/other-task"].error, errors.GpuxError)  # it is no classifier any more
    assert done["org/other-task"].to_dict()["updated"] is False
    assert statuses(outdated(settings=settings))["org/other-task"] == "outdated"


def test_a_pull_that_falls_back_to_the_stored_commit_is_a_failed_update(hub: HubServer, settings: Settings) -> None:
    model = pull_model("org/one", settings=settings)
    hub.move_branch("org/one", "main", "next")
    found = outdated(settings=settings)
    hub.stop()
    try:
        (done,) = update(found, settings=settings)
    finally:
        hub.start()

    assert done.model is None and isinstance(done.error, errors.UnavailableError)
    assert model.commit[:12] in done.error.message


# The command line


def test_gpux_outdated_and_update(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    first = pull_model("org/one", settings=settings)
    pull_model("org/two", settings=settings)
    assert run(["outdated", "--exit-code"]) == 0
    assert "2 of 2 current." in capsys.readouterr().err
    hub.move_branch("org/one", "main", "next")
    new = hub.commit("org/one")

    assert run(["outdated"]) == 0
    shown, remarks = capsys.readouterr()
    assert [line.split("\t")[:4] for line in shown.splitlines()] == [
        ["org/one", "outdated", first.commit[:12], new[:12]],
        ["org/two", "current", hub.commit("org/two")[:12], hub.commit("org/two")[:12]],
    ]
    assert "1 of 2 outdated: `gpux update` pulls them again." in remarks
    assert run(["outdated", "--exit-code", "-q"]) == 1
    assert run(["outdated", "--exit-code", "org/two"]) == 0
    capsys.readouterr()
    assert run(["outdated", "--json"]) == 0
    assert [entry["status"] for entry in json.loads(capsys.readouterr().out)] == ["outdated", "current"]

    assert run(["update", "--dry-run"]) == 0
    shown, remarks = capsys.readouterr()
    assert shown.split("\t") == ["org/one", "text-classification", first.commit[:12], new[:12], "would pull\n"]
    assert len(Store(settings.store).models()) == 2

    assert run(["update"]) == 0
    shown, remarks = capsys.readouterr()
    assert shown.split("\t") == ["org/one", "text-classification", first.commit[:12], new[:12], "updated\n"]
    assert "The former commits stay until `gpux prune`." in remarks
    assert run(["update"]) == 0
    assert "Nothing is outdated." in capsys.readouterr().err
    assert run(["prune", "--yes"]) == 0
    assert {model.commit for model in Store(settings.store).models()} == {new, hub.commit("org/two")}


def test_gpux_update_prints_failures(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    pull_model("org/other-task", settings=settings)
    hub.move_branch("org/other-task", "main", "next")

    assert run(["update", "--json"]) == 7
    shown, remarks = capsys.readouterr()
    (entry,) = json.loads(shown)["updates"]
    assert entry["updated"] is False and entry["error"]["code"] == "unsupported_task"
    assert entry["error"]["message"] in remarks and "Traceback" not in remarks


def test_gpux_outdated_without_a_hub(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    for name in ("org/one", "org/two"):
        pull_model(name, settings=settings)
    hub.stop()
    try:
        assert run(["outdated"]) == 0
        shown, remarks = capsys.readouterr()
        assert [line.split("\t")[1] for line in shown.splitlines()] == ["unknown", "unknown"]
        assert remarks.count("! org/one") == 1 and "0 of 2 current" in remarks
        assert run(["update"]) == 5
    finally:
        hub.start()


def test_offline_update_reports_that_the_status_is_unknown(
    hub: HubServer, settings: Settings, capsys: Captured
) -> None:
    for name in ("org/one", "org/two"):
        pull_model(name, settings=settings)
    assert run(["update", "--offline"]) == 5
    shown, remarks = capsys.readouterr()
    rows = [line.split("\t") for line in shown.splitlines()]
    assert [(row[0], row[4]) for row in rows] == [("org/one", "unknown: offline"), ("org/two", "unknown: offline")]
    assert "2 of 2 could not be checked." in remarks and "Nothing is outdated" not in remarks
    assert run(["update", "--offline", "--json"]) == 5
    found = json.loads(capsys.readouterr().out)["found"]
    assert [(one["status"], one["error"]["code"]) for one in found] == [("unknown", "offline")] * 2


def test_a_dry_run_as_json_lists_the_variants_to_pull(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    former = pull_model("org/one", settings=settings)
    pull_model("org/two", settings=settings)
    hub.move_branch("org/one", "main", "next")
    hub.clear_requests()
    assert run(["update", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    expected = {"reference": "org/one", "commit": former.commit, "new_commit": hub.commit("org/one")}
    assert document["would_pull"] == [{**expected, "task": former.task, "precision": "fp32"}]
    assert document["updates"] == []
    assert len(hub.requests) == 2


def test_each_reference_is_printed_once(hub: HubServer, root: Path, settings: Settings, capsys: Captured) -> None:
    add_repo(root, "org/one", {"README.md": b""}, label="unused", branches={"side": "next"})
    for ref in ("org/one@side", "org/two"):
        pull_model(ref, settings=settings)
    add_repo(root, "org/one", {"README.md": b""}, branches={})
    add_repo(root, "org/two", {"README.md": b""}, private=True)
    for command in ("outdated", "update"):
        assert run([command]) == 0
        shown, remarks = capsys.readouterr()
        assert "! org/one has no revision 'side'" in remarks.splitlines()
        assert "! org/two: no such model at" in remarks
        assert "org/two: org/two" not in shown + remarks


def test_a_failed_update_prints_the_reference_once() -> None:
    assert about("org/x", "org/x: no such model", " (fill-mask)") == "org/x (fill-mask): no such model"
    assert about("org/x@v1", "offline", " and 2 more") == "org/x@v1 and 2 more: offline"
    assert about("org/x@v1", "org/x has no revision 'v1'") == "org/x has no revision 'v1'"


def test_an_empty_store(hub: HubServer, capsys: Captured) -> None:
    assert run(["outdated"]) == 0
    assert capsys.readouterr() == ("", "Nothing is stored that was pulled by a branch or tag.\n")
    assert run(["outdated", "org/one"]) == 3


def test_update_keeps_precisions(hub: HubServer, settings: Settings) -> None:
    pull_model("org/one:int8", settings=settings)  # quantized from fp32, which is stored, too
    hub.move_branch("org/one", "main", "next")

    def would_pull(refs: list[str] | None, precision: str | None = None) -> list[str]:
        found = outdated(refs, precision=precision, settings=settings)
        return [pull["precision"] for status in found for pull in status.would_pull()]

    assert sorted(would_pull(None)) == sorted(would_pull(["org/one:int8", "org/one:fp32"])) == ["fp32", "int8"]
    assert would_pull(["org/one:int8"]) == would_pull(["org/one"], "q8") == would_pull(None, "int8") == ["int8"]
    with pytest.raises(errors.NotStoredError):
        outdated(["org/one:int4"], settings=settings)
    with pytest.raises(errors.UsageError, match="names a precision"):
        outdated(["org/one:int4"], precision="int8", settings=settings)
    (done,) = update(outdated(["org/one:int8"], settings=settings), settings=settings)
    assert done.model is not None
    assert (done.model.commit, done.model.manifest.precision) == (hub.commit("org/one"), "int8")


def test_a_chosen_precision_survives_an_update(hub: HubServer, settings: Settings) -> None:
    model, store = pull_model("org/one:int8", settings=settings), Store(settings.store)
    store.choose_precision(ModelRef("hf", "org/one"), "int8")
    hub.move_branch("org/one", "main", "next")
    update(outdated(settings=settings), settings=settings)
    store.prune_plan().execute()
    found = store.get(ModelRef("hf", "org/one"))
    assert found.manifest.precision == "int8" and found.commit == hub.commit("org/one") != model.commit
