"""External data of shipped ONNX under any name: planned, fetched, refused where it is missing or unsafe."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gpux import Settings, errors, pipeline, plan_model, pull_model
from gpux.cli.main import run
from gpux.inspect.formats import Selection
from gpux.model.variant import StoredModel
from gpux.pull import graph_data
from gpux.pull.files import plan_files, pull_files
from tests.hub import HubServer, add_repo, folder_files
from tests.models.bert import bert_repository
from tests.models.external import move_weights
from tests.pull.conftest import Make

ODD = ("Constant_7_attr__value", "weights.bin", "data/part two.raw")


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return bert_repository(tmp_path / "shipped", "fill-mask", onnx=True)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], HubServer]]:
    """Serve one folder as ``acme/odd`` on a Hub of its own."""
    opened = []

    def started(folder: Path) -> HubServer:
        root = tmp_path / "hub"
        add_repo(root, "acme/odd", folder_files(folder))
        server = HubServer(root)
        opened.append(server)
        server.__enter__()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        return server

    yield started
    for server in opened:
        server.__exit__(None, None, None)


def answer(model: StoredModel) -> np.ndarray:
    with pipeline(model=model) as opened:
        return np.array([one["score"] for one in opened("the [MASK]", top_k=20)])


@pytest.mark.parametrize("names", [ODD[:1], ODD[1:2], ODD[2:], ODD, ("model.onnx_data", "more.bin")])
@pytest.mark.parametrize("constants", [False, True])
def test_a_hub_model_is_pulled_with_the_files_that_its_graph_names(
    shipped: Path, serve: Callable[[Path], HubServer], names: tuple[str, ...], constants: bool
) -> None:
    move_weights(shipped / "onnx" / "model.onnx", names, constants=constants)
    (shipped / "onnx" / "other.bin").write_bytes(b"x" * 5000)
    (shipped / "model.safetensors").unlink()
    server = serve(shipped)
    settings = Settings.from_env()

    plan = plan_model("acme/odd", settings=settings)
    planned = {file.path: file.size for file in plan.files}
    fetched_by_plan = [
        request.path for request in server.requests if "/resolve/" in request.path and "onnx/" in request.path
    ]
    model = pull_model("acme/odd", settings=settings)

    assert {f"onnx/{name}" for name in names} <= planned.keys() and "onnx/other.bin" not in planned
    assert plan.fetch_bytes == sum((shipped / path).stat().st_size for path in planned)
    assert {path.rpartition("/")[2] for path in fetched_by_plan} == {"model.onnx"}
    assert {*names, "model.onnx"} <= {file.path for file in model.manifest.files}
    graph = (shipped / "onnx" / "model.onnx").stat().st_size
    assert model.report is not None and model.report.received == plan.fetch_bytes - graph  # the plan fetched it
    assert np.isfinite(answer(model)).all()


def test_the_answers_are_those_of_the_graph_with_its_weights_inside(shipped: Path, settings: Settings) -> None:
    inside = answer(pull_model(shipped, settings=settings))
    move_weights(shipped / "onnx" / "model.onnx", ODD)

    outside = answer(pull_model(shipped, settings=settings))

    assert np.array_equal(inside, outside)


def test_a_large_graph_is_read_after_its_download(
    shipped: Path, serve: Callable[[Path], HubServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_data, "LARGEST", 100)
    move_weights(shipped / "onnx" / "model.onnx", ODD)
    server = serve(shipped)
    settings = Settings.from_env()

    plan = plan_model("acme/odd", settings=settings)
    during = [request.path for request in server.requests if "/resolve/" in request.path and "onnx/" in request.path]
    model = pull_model("acme/odd", settings=settings)

    assert not during
    assert any("files that it names are fetched then" in note for note in plan.notes)
    assert set(ODD) <= {file.path for file in model.manifest.files}


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_is_missing_is_refused_by_name_before_weights_are_fetched(
    shipped: Path, serve: Callable[[Path], HubServer], monkeypatch: pytest.MonkeyPatch, large: bool, stubs: Make
) -> None:
    stubs(a={})
    move_weights(shipped / "onnx" / "model.onnx", ODD)
    (shipped / "onnx" / "weights.bin").unlink()
    (shipped / "model.safetensors").unlink()
    if large:
        monkeypatch.setattr(graph_data, "LARGEST", 100)
    server = serve(shipped)

    with pytest.raises(errors.EntryNotFoundError, match=r"reads weights from onnx/weights\.bin, which the repository"):
        pull_model("acme/odd", settings=Settings.from_env())

    assert not [request.path for request in server.requests if "Constant_7" in request.path]


def test_a_model_whose_shipped_graph_is_incomplete_is_converted(
    shipped: Path, settings: Settings, stubs: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    stubs(a={})
    move_weights(shipped / "onnx" / "model.onnx", ["weights.bin"])
    (shipped / "onnx" / "weights.bin").unlink()

    code = run(["pull", str(shipped)])

    err = capsys.readouterr().err
    assert code == 0 and "reads weights from onnx/weights.bin" in err and "a is next" in err


@pytest.mark.parametrize("cut", [0, 100])
def test_a_file_that_is_shorter_than_the_graph_needs_is_refused(shipped: Path, settings: Settings, cut: int) -> None:
    move_weights(shipped / "onnx" / "model.onnx", ["weights.bin"])
    (shipped / "model.safetensors").unlink()
    data = shipped / "onnx" / "weights.bin"
    data.write_bytes(data.read_bytes()[:cut])

    plan = plan_model(shipped, settings=settings)

    assert isinstance(plan.refusal, errors.SessionError)
    assert f"has {cut} bytes" in plan.refusal.message


@pytest.mark.parametrize("location", ["../../secret", "/etc/hostname"])
def test_an_unsafe_name_is_refused(shipped: Path, settings: Settings, location: str, tmp_path: Path) -> None:
    (shipped / "model.safetensors").unlink()
    move_weights(shipped / "onnx" / "model.onnx", [location], folder=tmp_path / "a" / "b" / "c" / "d")

    for source in (shipped, shipped / "onnx" / "model.onnx"):
        with pytest.raises(errors.UnsafePathError, match="outside of its folder"):
            pull_model(source, task="fill-mask", settings=settings)


def test_the_hint_for_a_folder_helps(shipped: Path, settings: Settings, tmp_path: Path) -> None:
    move_weights(shipped / "onnx" / "model.onnx", ["weights.bin"])
    (shipped / "model.safetensors").unlink()
    away = (shipped / "onnx" / "weights.bin").rename(tmp_path / "weights.bin")

    with pytest.raises(errors.EntryNotFoundError) as caught:
        pull_model(shipped, settings=settings)
    assert caught.value.hint == f"Copy weights.bin into {shipped / 'onnx'}."
    shutil.copy(away, shipped / "onnx")

    assert pull_model(shipped, settings=settings).task == "fill-mask"


def test_a_path_to_an_onnx_file_brings_what_it_names(shipped: Path, settings: Settings) -> None:
    move_weights(shipped / "onnx" / "model.onnx", ODD)

    model = pull_model(shipped / "onnx" / "model.onnx", task="fill-mask", settings=settings)

    assert {file.path for file in model.manifest.files} == {"model.onnx", *ODD}


def test_files_that_are_downloaded_unchanged_include_external_data(
    shipped: Path, serve: Callable[[Path], HubServer]
) -> None:
    move_weights(shipped / "onnx" / "model.onnx", ODD)
    serve(shipped)
    settings = Settings.from_env()
    data = {f"onnx/{name}" for name in ODD}

    one = pull_files("acme/odd/onnx/model.onnx", settings=settings)
    every = plan_files("acme/odd", selection=Selection(format="onnx"), settings=settings)
    some = plan_files("acme/odd", selection=Selection("onnx", exclude=("*.bin",)), settings=settings)

    assert set(one.files) == {"onnx/model.onnx", *data}
    assert data <= {file.path for file in every.files}
    assert "onnx/weights.bin" not in {file.path for file in some.files}


@pytest.mark.parametrize(("keep", "task"), [(True, "fill-mask"), (False, "fill-mask"), (False, "question-answering")])
def test_the_hint_for_shipped_onnx_of_another_task_helps(
    tmp_path: Path, settings: Settings, stubs: Make, keep: bool, task: str
) -> None:
    stubs(a={"refuses": "has no such head"})
    folder = bert_repository(tmp_path / "embeds", "feature-extraction", onnx=True)
    if not keep:
        (folder / "model.safetensors").unlink()

    with pytest.raises(errors.UnsupportedTaskError, match="needs") as caught:
        pull_model(folder, task=task, settings=settings)

    command = (caught.value.hint or "").split("`")[1]
    assert command == f"gpux pull {folder} --task feature-extraction"
    assert run(command.split()[1:]) == 0
