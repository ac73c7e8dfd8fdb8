"""A pull from a reference to a stored variant, from repositories that ship ONNX; no toolchain is used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpux import HuggingFaceManager, Settings, Store, errors, open_model, pipeline, plan_model, pull_model
from gpux.cli.main import run
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, StageFinished, Warned
from tests.commands import finished
from tests.forked import CONTEXT, pull_in_process
from tests.hub import Fault, HubServer, add_repo, folder_files
from tests.models.bert import bert_repository
from tests.waiting import wait_until

pytestmark = pytest.mark.hub


def test_a_shipped_model_is_pulled_and_runs_without_a_toolchain(hub: HubServer, settings: Settings) -> None:
    events: list[Event] = []

    model = pull_model("tiny/classify", settings=settings, progress=events.append)

    assert (model.task, model.manifest.recipe, model.manifest.proof.status) == (
        "text-classification",
        "shipped",
        "shipped",
    )
    assert [event.stage for event in events if isinstance(event, StageFinished)] == [
        "resolve",
        "download",
        "prove",
        "store",
    ]
    with pipeline("text-classification", model=model) as classify:
        assert classify("the quick brown fox")[0]["label"] in {"negative", "neutral", "positive"}
    assert not any("safetensors" in request.path for request in hub.requests)


def test_a_second_pull_makes_one_request_and_by_commit_none(hub: HubServer, settings: Settings) -> None:
    first = pull_model("tiny/embed", settings=settings)
    hub.clear_requests()

    assert pull_model("tiny/embed", settings=settings) == first
    assert len(hub.requests) == 1
    assert pull_model(f"tiny/embed@{first.commit}", settings=settings) == first
    assert open_model("tiny/embed", settings=settings) == first
    assert len(hub.requests) == 1


def test_a_moved_branch_is_pulled_at_its_new_commit(hub: HubServer, settings: Settings) -> None:
    first = pull_model("tiny/moved", settings=settings, task="text-classification")
    hub.move_branch("tiny/moved", "main", "next")
    try:
        second = pull_model("tiny/moved", settings=settings)
    finally:
        hub.move_branch("tiny/moved", "main", "main")

    assert second.commit != first.commit and second.task == "fill-mask"
    assert {model.commit for model in Store(settings.store).models()} == {first.commit, second.commit}


def test_a_short_name_is_stored_under_its_canonical_id(settings: Settings) -> None:
    model = pull_model("gpt2", settings=settings)

    assert model.id == "openai-community/gpt2"
    assert open_model("gpt2", settings=settings) == open_model("openai-community/gpt2", settings=settings) == model


def test_a_manager_pulls_a_model(manager: HuggingFaceManager) -> None:
    assert manager.pull_model("tiny/embed", revision="v1").id == "tiny/embed"


def test_a_folder_and_an_onnx_file(tmp_path: Path, settings: Settings) -> None:
    folder = bert_repository(tmp_path / "my-model", "feature-extraction", onnx=True)

    model = pull_model(folder, settings=settings)

    assert (model.manifest.scheme, model.id) == ("local", str(folder))
    with pipeline("feature-extraction", model=folder, settings=settings) as embed:
        assert np.asarray(embed("fox")).ndim == 3
    file = pull_model(folder / "onnx" / "model.onnx", settings=settings, task="feature-extraction")
    assert file.graph().file == "model.onnx"


def test_onnx_that_its_pipeline_cannot_open_is_not_stored(tmp_path: Path, settings: Settings) -> None:
    folder = bert_repository(tmp_path / "my-model", "fill-mask", onnx=True, safetensors=False)
    shutil.move(folder / "tokenizer.json", tmp_path)

    with pytest.raises(errors.UnsupportedError, match=r"cannot be opened.*has no tokenizer\.json") as caught:
        pull_model(folder, settings=settings)

    assert Store(settings.store).models() == []
    assert f"Put the tokenizer.json and config.json of the original model into {folder}" in str(caught.value.hint)
    shutil.move(tmp_path / "tokenizer.json", folder)  # as the hint says
    assert pull_model(folder, settings=settings).manifest.proof.status == "shipped"


def test_onnx_with_a_damaged_tokenizer_is_not_stored(tmp_path: Path, settings: Settings) -> None:
    folder = bert_repository(tmp_path / "my-model", "fill-mask", onnx=True)
    (folder / "tokenizer.json").write_text("{}")

    with pytest.raises(errors.CorruptFileError, match=r"tokenizer\.json is not a tokenizer") as caught:
        pull_model(folder, settings=settings)

    assert "staging" not in caught.value.message
    assert "verify" not in str(caught.value.hint)  # nothing is stored that could be verified
    assert Store(settings.store).models() == []


@pytest.mark.parametrize("content", [None, "{,}"])
def test_onnx_without_a_readable_pooling_is_not_stored(content: str | None, tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "my-model"
    bert_repository(folder, "feature-extraction", onnx=True, sentence_transformers={"pooling": "cls"})
    file = folder / "1_Pooling" / "config.json"
    file.unlink() if content is None else file.write_text(content)

    with pytest.raises(errors.CorruptFileError, match=r"1_Pooling.config\.json"):
        pull_model(folder, settings=settings)

    assert Store(settings.store).models() == []


def test_opening_the_pipeline_of_staged_onnx_publishes_nothing(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[object] = []
    monkeypatch.setattr("gpux.pipelines.base.publish", lambda event, settings: published.append(event))
    folder = bert_repository(tmp_path / "my-model", "feature-extraction", onnx=True)

    pull_model(folder, settings=settings)

    assert not published


def test_the_stored_model_is_used_if_the_hub_does_not_answer(hub: HubServer, settings: Settings) -> None:
    first = pull_model("tiny/embed", settings=settings)
    hub.stop()
    events: list[Event] = []
    try:
        again = pull_model("tiny/embed", settings=settings, progress=events.append)
    finally:
        hub.start()

    assert again == first
    assert any(isinstance(event, Warned) and first.commit[:12] in event.message for event in events)


def test_offline(hub: HubServer, settings: Settings) -> None:
    model = pull_model("tiny/embed", settings=settings)
    hub.clear_requests()
    offline = settings.with_overrides(offline=True)

    assert pull_model("tiny/embed", settings=offline) == model
    with pytest.raises(errors.OfflineError):
        pull_model("tiny/fill", settings=offline)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("ref", "kind"),
    [
        ("tiny/missing", errors.ModelNotFoundError),
        ("tiny/embed@nope", errors.RevisionNotFoundError),
        ("acme/gated", errors.GatedModelError),
        ("acme/private", errors.ModelNotFoundError),
        ("odd/no-weights", errors.NoWeightsError),
        ("odd/gguf", errors.NoWeightsError),
        ("odd/unknown", errors.UnsupportedArchitectureError),
        ("tiny/weights", errors.ToolchainMissingError),
        ("not a name", errors.InvalidReferenceError),
        ("ollama:llama3", errors.UsageError),
    ],
)
def test_refusals_store_nothing_and_download_no_weights(
    hub: HubServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, ref: str, kind: type[errors.GpuxError]
) -> None:
    monkeypatch.setattr("gpux.convert.host.converter.has_modules", lambda names: False)
    settings = settings.with_overrides(toolchains=settings.home / "no-toolchains")

    with pytest.raises(kind) as caught:
        pull_model(ref, settings=settings)

    assert caught.value.hint or kind is errors.InvalidReferenceError
    assert caught.value.to_dict() == refusal_of_the_plan(ref, settings).to_dict()
    assert Store(settings.store).models() == []
    assert not any("safetensors" in request.path for request in hub.requests)


def refusal_of_the_plan(ref: str, settings: Settings) -> errors.GpuxError:
    try:
        refusal = plan_model(ref, settings=settings).refusal
    except errors.GpuxError as exc:
        return exc
    assert refusal is not None
    return refusal


def test_a_dry_run_refuses_as_the_pull_does(hub: HubServer) -> None:
    commands = [["pull", "odd/unknown"], ["pull", "odd/unknown", "--dry-run"], ["convert", "odd/unknown", "--explain"]]

    done = [finished(*command) for command in commands]

    assert {run.returncode for run in done} == {errors.UnsupportedArchitectureError.exit_code}
    messages = [[line for line in run.stderr.splitlines() if line.startswith(("error: ", "  → "))] for run in done]
    assert messages[0] == messages[1] == messages[2] and "cannot be converted" in messages[0][0]


@pytest.mark.parametrize("ref", ["odd/no-weights", "odd/gguf"])
def test_no_weights(settings: Settings, ref: str) -> None:
    with pytest.raises(errors.NoWeightsError, match=r"no weights|2 GGUF files"):
        pull_model(ref, settings=settings, task="fill-mask")


def test_a_graph_that_does_not_fit_the_task(settings: Settings, tmp_path: Path) -> None:
    folder = bert_repository(tmp_path / "classifier", "text-classification", onnx=True, safetensors=False)

    with pytest.raises(errors.UnsupportedTaskError, match="rank"):
        pull_model(folder, settings=settings, task="fill-mask")
    assert Store(settings.store).models() == []


def test_a_damaged_graph(settings: Settings, tmp_path: Path) -> None:
    folder = bert_repository(tmp_path / "classifier", "text-classification", onnx=True, safetensors=False)
    graph = folder / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])

    with pytest.raises(
        errors.SessionError, match=r"ships cannot be used: .*Load model from model\.onnx failed"
    ) as caught:
        pull_model(folder, settings=settings)
    assert "verify" not in str(caught.value.hint)  # nothing is stored
    assert Store(settings.store).models() == []


def test_a_store_that_cannot_be_written(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.store.write_text("a file stands where the store should")

    with pytest.raises(errors.NotWritableError):
        pull_model("tiny/embed", settings=settings)


def test_cancel_ends_a_pull_at_any_stage(hub: HubServer, settings: Settings) -> None:
    for stage in ("resolve", "download", "prove", "store"):
        cancel = CancelToken()

        def on_event(event: Event, stage: str = stage, cancel: CancelToken = cancel) -> None:
            if getattr(event, "stage", "") == stage:
                cancel.cancel()

        with pytest.raises(errors.CancelledError):
            pull_model("tiny/fill", settings=settings, progress=on_event, cancel=cancel)
        assert Store(settings.store).models() == []
        assert list((settings.store / "staging").glob("*")) == []


def test_force_creates_the_variant_again(settings: Settings) -> None:
    first = pull_model("tiny/embed", settings=settings)

    second = pull_model("tiny/embed", settings=settings, force=True)

    assert second.path == first.path and second.manifest.files == first.manifest.files
    assert Store(settings.store).verify(second).ok


def test_four_processes_pull_one_model_once(hub: HubServer, repositories: Path, tmp_path: Path) -> None:
    with CONTEXT.Pool(4) as pool:
        paths = pool.starmap(pull_in_process, [("tiny/classify", dict(os.environ))] * 4)

    assert len(set(paths)) == 1
    fetched = [r for r in hub.requests if r.listener == "cdn" and "model.onnx" in r.path and r.method == "GET"]
    assert len(fetched) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("hang", path="/api/models"),
        Fault("stall", path="model.onnx", after=1000, listener="cdn"),
    ],
    ids=["resolve", "download"],
)
def test_ctrl_c_leaves_no_partial_variant(hub: HubServer, settings: Settings, fault: Fault) -> None:
    hub.add_fault(fault)
    command = [sys.executable, "-m", "gpux", "pull", "tiny/classify"]
    with subprocess.Popen(command, env={**os.environ, "GPUX_TIMEOUT": "3600"}, stderr=subprocess.PIPE) as process:
        wait_until(lambda: hub.strikes(fault))
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate()  # the server and the timeout last longer than the test

    assert process.returncode == 130
    assert b"interrupted" in talk and b"Traceback" not in talk
    assert Store(settings.store).models() == []
    hub.clear_faults()
    assert pull_model("tiny/classify", settings=settings).id == "tiny/classify"


def test_external_data_is_stored_with_its_graph(settings: Settings, tmp_path: Path) -> None:
    folder = bert_repository(tmp_path / "big", "feature-extraction", onnx=True, external_data=True)
    add_repo(tmp_path / "hub", "tiny/external", folder_files(folder))

    with HubServer(tmp_path / "hub") as hub:
        model = pull_model("tiny/external", settings=replace(settings, endpoint=hub.url))

    assert {"model.onnx", "model.onnx_data"} <= {file.path for file in model.manifest.files}
    assert all(not (model.path / file.path).is_symlink() for file in model.manifest.files)


def test_the_hint_for_a_local_folder_names_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "tiny" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(errors.UnsupportedError) as caught:
        pull_model("models/tiny/small")

    assert caught.value.hint == "For the folder on this machine, write ./models/tiny/small."


def test_the_command_gives_the_same_hint_with_options_of_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models" / "tiny" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert run(["pull", "models/tiny/small", "--task", "fill-mask"]) == errors.UnsupportedError.exit_code

    assert "write ./models/tiny/small" in capsys.readouterr().err
