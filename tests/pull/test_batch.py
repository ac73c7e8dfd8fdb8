"""Pulls of files and of several models, and their plans, from the loopback Hub and without a toolchain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gpux import (
    HuggingFaceManager,
    Selection,
    Settings,
    Store,
    errors,
    open_model,
    plan_files,
    plan_model,
    pull_files,
    pull_model,
    pull_models,
)
from gpux.pull.files import place_of
from gpux.system.progress import Event, StageFinished, StageStarted
from tests.commands import finished
from tests.hub import HubServer, add_repo
from tests.models.bert import bert_repository

pytestmark = pytest.mark.hub

PACKAGE = {f"Model.mlpackage/{name}": name.encode() for name in ("Manifest.json", "Data/weights/weight.bin")}


@pytest.fixture
def repositories(repositories: Path, tmp_path: Path) -> Path:
    """A copy, to which tests add repositories."""
    return shutil.copytree(repositories, tmp_path / "hub", symlinks=True)


@pytest.fixture
def packages(repositories: Path, hub: HubServer) -> str:
    add_repo(repositories, "odd/packages", {**PACKAGE, "config.json": b"{}", "big.gguf": b"GGUF" * 1000})
    return "odd/packages"


def test_a_package_is_downloaded_completely(manager: HuggingFaceManager, packages: str) -> None:
    snapshot = pull_files(packages, selection=Selection(include=("Model.mlpackage/*.json",)), manager=manager)

    place = place_of(snapshot)
    assert place.name == "Model.mlpackage" and place.is_dir()
    assert {p.relative_to(place.parent).as_posix() for p in place.rglob("*") if p.is_file()} == set(PACKAGE)


def test_one_file(hub: HubServer, manager: HuggingFaceManager, packages: str) -> None:
    hub.clear_requests()

    snapshot = pull_files(f"{packages}/big.gguf", manager=manager)

    assert place_of(snapshot).read_bytes() == b"GGUF" * 1000
    assert not any("weight" in request.path for request in hub.requests)
    assert snapshot.report is not None and snapshot.report.received == 4000


def test_a_pattern_without_a_match_lists_the_files(manager: HuggingFaceManager, packages: str) -> None:
    with pytest.raises(errors.EntryNotFoundError, match=r"big\.gguf"):
        pull_files(packages, selection=Selection(include=("*.nothing",)), manager=manager)


def test_the_command_prints_the_path(packages: str) -> None:
    done = finished("pull", f"{packages}/big.gguf")
    everything = finished("pull", packages, "--all", "--json")

    assert Path(done.stdout.strip()).read_bytes() == b"GGUF" * 1000
    assert len(json.loads(everything.stdout)["files"]) == 4


def test_a_failure_does_not_stop_the_others(settings: Settings) -> None:
    seen: dict[str, list[Event]] = {}

    outcomes = pull_models(
        ["tiny/classify", "nope/nope", "tiny/fill", "tiny/classify"],
        settings=settings,
        progress=lambda ref, event: seen.setdefault(ref, []).append(event),
    )

    assert [outcome.ref for outcome in outcomes] == ["tiny/classify", "nope/nope", "tiny/fill"]
    assert [type(outcome.error) for outcome in outcomes] == [type(None), errors.ModelNotFoundError, type(None)]
    assert {model.id for model in Store(settings.store).models()} == {"tiny/classify", "tiny/fill"}
    assert set(seen) == {"tiny/classify", "nope/nope", "tiny/fill"}
    json.dumps([outcome.to_dict() for outcome in outcomes])


def test_a_list_in_a_file(hub: HubServer, tmp_path: Path) -> None:
    listed = tmp_path / "models.txt"
    listed.write_text("tiny/classify   # a comment\n\n# another\ntiny/missing\n")

    done = finished("pull", "--from-file", str(listed), "--json")

    assert done.returncode == errors.ModelNotFoundError.exit_code
    assert [(entry["ref"], entry["error"] is None) for entry in json.loads(done.stdout)] == [
        ("tiny/classify", True),
        ("tiny/missing", False),
    ]


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--format", "onnx"]])
def test_a_bad_line_of_a_list_does_not_stop_the_others(hub: HubServer, tmp_path: Path, options: list[str]) -> None:
    listed = tmp_path / "models.txt"
    listed.write_bytes(b"\xef\xbb\xbfnot a name\ntiny/classify\ndatasets/acme/data\n\xff\xfe\ntiny/fill\n")

    done = finished("pull", "--from-file", str(listed), "--json", *options)
    shown = finished("pull", "--from-file", str(listed), *options)

    found = {entry["ref"]: entry.get("error") for entry in json.loads(done.stdout)}
    assert [name for name, error in found.items() if error is None] == ["tiny/classify", "tiny/fill"]
    assert {error["code"] for error in found.values() if error} == {"invalid_reference", "wrong_kind"}
    assert done.returncode == shown.returncode == errors.InvalidReferenceError.exit_code
    assert "'not a name' is not a model reference" in shown.stderr and "names a dataset" in shown.stderr


def test_a_failed_pull_ends_its_stage(hub: HubServer, settings: Settings) -> None:
    seen: list[tuple[str, Event]] = []

    pull_models(["nope/nope", "tiny/fill"], settings=settings, progress=lambda ref, event: seen.append((ref, event)))

    failed = [event for ref, event in seen if ref == "nope/nope"]
    assert isinstance(failed[0], StageStarted)
    assert isinstance(failed[-1], StageFinished) and failed[-1].message == ""


def test_a_plan_fetches_the_configuration_and_small_graphs_alone(hub: HubServer, manager: HuggingFaceManager) -> None:
    plan = plan_model("tiny/classify", manager=manager)

    fetched = {request.path for request in hub.requests if "/resolve/" in request.path}
    assert all(path.endswith(("/config.json", "/model.onnx")) for path in fetched)
    assert plan.kind == "shipped" and plan.fetch_bytes == plan.total_bytes > 0
    assert {file.path for file in plan.left_out} == {"README.md", "model.safetensors"}
    pull_model("tiny/classify", manager=manager)
    hub.clear_requests()
    assert plan_model("tiny/classify", manager=manager).kind == "stored"
    assert len(hub.requests) == 1
    assert plan_files("tiny/classify", selection=Selection(format="onnx"), manager=manager).fetch_bytes == 0


def test_dry_run_on_the_command_line(hub: HubServer) -> None:
    table = finished("pull", "tiny/weights", "--dry-run")
    document = json.loads(finished("pull", "tiny/weights", "--dry-run", "--json").stdout)

    assert "model.safetensors" in table.stdout and "to fetch" in table.stderr
    assert document["kind"] == "convert" and document["space"][0]["needed"] > document["fetch_bytes"]


def test_too_little_disk_space_is_reported_before_any_download(
    hub: HubServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpux.pull.needs.RESERVE", 10**18)

    with pytest.raises(errors.DiskFullError, match="ignore-disk-space"):
        raise_with_hint(settings)
    assert not any("/resolve/" in request.path for request in hub.requests)
    assert pull_model("tiny/classify", settings=settings, ignore_disk_space=True).id == "tiny/classify"


def raise_with_hint(settings: Settings) -> None:
    try:
        pull_model("tiny/classify", settings=settings)
    except errors.DiskFullError as exc:
        raise errors.DiskFullError(f"{exc.message} {exc.hint}") from exc


def test_a_pull_reports_its_transfer(settings: Settings) -> None:
    first = pull_model("tiny/classify", settings=settings).report
    again = pull_model("tiny/classify", settings=settings).report

    assert first is not None and first.received > 100_000 and first.verified == len(first.files) == 6
    assert again is not None and (again.received, again.requests) == (0, 0)


def test_discarding_the_source(settings: Settings) -> None:
    model = pull_model("tiny/classify", settings=settings, discard_source=True)

    assert Store(settings.store).verify(model).ok
    assert not [blob for blob in settings.hf_cache.rglob("blobs/*") if blob.stat().st_size > 100_000]


def test_the_quota_evicts_the_least_recently_used_variant(settings: Settings) -> None:
    pull_model("tiny/embed", settings=settings)
    pull_model("tiny/fill", settings=settings)

    pull_model("tiny/classify", settings=settings.with_overrides(max_cache=300_000))

    assert {model.id for model in Store(settings.store).models()} == {"tiny/fill", "tiny/classify"}


def test_a_string_is_one_reference_and_one_pattern(settings: Settings, manager: HuggingFaceManager) -> None:
    assert [outcome.ref for outcome in pull_models("tiny/fill", settings=settings)] == ["tiny/fill"]
    selection = Selection(include="config.json")  # type: ignore[arg-type]
    assert pull_files("tiny/fill", selection=selection, manager=manager).files == ("config.json",)


def test_the_default_task_is_the_models_own(settings: Settings, tmp_path: Path) -> None:
    own = pull_model("tiny/embed", settings=settings)
    other = bert_repository(tmp_path / "masked", "fill-mask", onnx=True)
    add = pull_model(other, settings=settings, task="fill-mask")

    assert own.manifest.own_task and add.manifest.own_task
    with pytest.raises(errors.UnsupportedTaskError, match="last_hidden_state"):
        pull_model(pulled_without_weights(tmp_path), settings=settings, task="fill-mask")
    assert open_model("tiny/embed", settings=settings) == own


def pulled_without_weights(tmp_path: Path) -> Path:
    return bert_repository(tmp_path / "embed", "feature-extraction", onnx=True, safetensors=False)


def test_files_of_several_models_of_which_one_is_missing(hub: HubServer) -> None:
    done = finished("pull", "tiny/fill", "tiny/missing", "tiny/embed", "--include", "config.json", "--json")

    assert done.returncode == errors.ModelNotFoundError.exit_code
    assert [("error" in entry, entry["ref"]) for entry in json.loads(done.stdout)] == [
        (False, "tiny/fill"),
        (True, "tiny/missing"),
        (False, "tiny/embed"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("odd/gguf/model-q4.gguf", "tiny/fill"),
        ("tiny/fill", "--detach", "--dry-run"),
        ("tiny/fill", "--include", "*.json", "--force"),
        ("bad ref", "--detach"),
        ("tiny/fill@v1", "--revision", "v2"),
        ("tiny/fill", "--all", "--include", "*.json"),
    ],
)
def test_contradicting_options_are_refused_before_any_download(hub: HubServer, arguments: tuple[str, ...]) -> None:
    done = finished("pull", *arguments)

    assert done.returncode == 2
    assert not any("/resolve/" in request.path for request in hub.requests)


def test_discarding_the_source_of_a_stored_model(settings: Settings) -> None:
    pull_model("tiny/fill", settings=settings)

    pull_model("tiny/fill", settings=settings, discard_source=True)

    assert not [blob for blob in settings.hf_cache.rglob("blobs/*") if blob.stat().st_size > 100_000]
