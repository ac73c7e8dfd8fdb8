from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from gpux.errors import DeviceError, InputError, SessionError
from gpux.runtime import onnx_runtime
from gpux.runtime.devices import CPU, resolve
from gpux.runtime.onnx_runtime import ERRORS, available_providers, mapped_errors, probe, runtime_version
from gpux.runtime.session import Session
from tests.models.bert import bert_repository

FEED: dict[str, Any] = {
    "input_ids": [[2, 5, 3]],
    "attention_mask": [[1, 1, 1]],
    "token_type_ids": [[0, 0, 0]],
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    return bert_repository(folder, "feature-extraction", onnx=True, external_data=True) / "onnx" / "model.onnx"


@pytest.fixture
def session(graph: Path) -> Iterator[Session]:
    with Session(graph, device="cpu") as opened:
        yield opened


def test_session_describes_its_graph(session: Session, graph: Path) -> None:
    assert (session.device, session.execution_provider) == ("cpu", CPU)
    assert [(spec.name, spec.dtype) for spec in session.inputs] == [(name, "int64") for name in FEED]
    assert [spec.to_dict() for spec in session.outputs] == [
        {"name": "last_hidden_state", "dtype": "float32", "shape": ["batch_size", "sequence_length", 32]}
    ]
    assert session.memory_bytes == sum(file.stat().st_size for file in graph.parent.iterdir())
    assert session.memory_bytes > graph.stat().st_size
    assert runtime_version() == onnxruntime.__version__


def test_run(session: Session) -> None:
    answer = session.run(FEED)
    assert answer["last_hidden_state"].shape == (1, 3, 32)
    assert session.run(FEED, ["last_hidden_state"]).keys() == answer.keys()


def test_assignment_counts_every_node(session: Session) -> None:
    assignment = session.assignment
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        assert assignment == {}
    else:
        assert assignment.keys() == {CPU} and assignment[CPU] > 10


def test_auto_names_the_chosen_device(graph: Path) -> None:
    with Session(graph) as session:
        assert session.device in ("cuda", "rocm", "dml", "cpu")


@pytest.mark.skipif("AzureExecutionProvider" not in available_providers(), reason="this build has no such provider")
def test_device_that_runs_nodes_on_the_cpu_is_rejected(graph: Path) -> None:
    with pytest.raises(DeviceError, match=r"runs part of the computation on the CPU.*MatMul") as caught:
        Session(graph, device="AzureExecutionProvider")
    assert caught.value.details["cpu_nodes"]["MatMul"] > 0
    with Session(graph, device="AzureExecutionProvider", allow_cpu_nodes=True) as session:
        assert session.assignment.keys() == {CPU}


def test_missing_device(graph: Path) -> None:
    with pytest.raises(DeviceError):
        Session(graph, device="vitisai")


def test_wrong_inputs_never_reach_onnxruntime(session: Session) -> None:
    with pytest.raises(InputError, match="missing: attention_mask"):
        session.run({"input_ids": [[1]], "token_type_ids": [[0]]})
    with pytest.raises(InputError, match="'input_ids' has rank 1"):
        session.run({**FEED, "input_ids": [1]})


def test_errors_of_onnxruntime_are_mapped(session: Session) -> None:
    with pytest.raises(SessionError, match="out of data bounds") as caught:
        session.run({**FEED, "input_ids": [[10**6] * 3]})
    assert isinstance(
        caught.value.__cause__, tuple(getattr(ort_state, name) for name in ERRORS if hasattr(ort_state, name))
    )
    assert pickle.loads(pickle.dumps(caught.value)).to_dict() == caught.value.to_dict()


def test_a_run_that_fails_prints_nothing(session: Session, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SessionError):
        session.run({**FEED, "attention_mask": [[1, 1]]})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [None, b"", b"no protobuf"])
def test_a_graph_that_cannot_be_loaded(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "model.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SessionError, match=r"model\.onnx") as caught:
        Session(file, device="cpu")
    assert caught.value.hint == "Run `gpux verify --repair`: the file may be damaged."


def test_truncated_external_data(graph: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(graph.parent, tmp_path / "copy")
    (copy / "model.onnx_data").write_bytes(b"")
    with pytest.raises(SessionError) as caught:
        Session(copy / "model.onnx", device="cpu")
    assert "gpux verify --repair" in (caught.value.hint or "")


def test_every_exception_of_onnxruntime_is_mapped() -> None:
    raised = {name: kind for name, kind in vars(ort_state).items() if isinstance(kind, type)}
    foreign = {name for name, kind in raised.items() if issubclass(kind, BaseException)}
    assert foreign <= ERRORS.keys()
    for name in foreign:
        with pytest.raises(ERRORS[name]), mapped_errors(Path("model.onnx")):
            raise raised[name]("it failed")


def test_a_closed_session(graph: Path) -> None:
    session = Session(graph, device="cpu")
    session.close()
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session.run(FEED)


def test_threads_share_a_session(session: Session) -> None:
    expected = session.run(FEED)["last_hidden_state"]
    answers: list[Any] = []

    def work() -> None:
        answers.extend(session.run(FEED)["last_hidden_state"] for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 160 and all(np.array_equal(answer, expected) for answer in answers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of os.fork in a process with threads: that is the point
def test_a_forked_process_gets_an_error_and_does_not_hang(session: Session) -> None:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe()

    def child() -> None:
        try:
            session.run(FEED)
        except SessionError as exc:
            writer.send(exc.message)

    process = context.Process(target=child)
    process.start()
    assert "forked" in reader.recv()
    process.join()
    reader.close()
    writer.close()


def test_the_probe_starts_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Any] = []
    load = onnx_runtime.load
    monkeypatch.setattr(onnx_runtime, "load", lambda *args, **named: sessions.append(load(*args, **named)))
    probe(resolve("cpu", available_providers()))
    assert [session.get_providers() for session in sessions] == [["CPUExecutionProvider"]]
