"""Selection, refusal, node assignment, proofs, generation and the command line on OpenVINO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts.perplexity import SMALL

from gpux import Settings, Store, pull_model, quantize_model
from gpux.cli.main import run
from gpux.convert.reference_case import Call, ReferenceCase, write_case
from gpux.errors import DeviceError, ProofError, SessionError
from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, ProofCase, StoredModel
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.proof.cases import with_outputs_of
from gpux.proof.replay import replay_once, replays_file
from gpux.runtime.devices import CPU
from gpux.runtime.graphs import Graphs
from gpux.runtime.onnx_runtime import runtime_version
from gpux.runtime.session import Session
from tests.devices.conftest import OPENVINO, WIDTH, Write

FEED: dict[str, Any] = {"input_ids": [[2, 5, 3]], "attention_mask": [[1, 1, 1]], "token_type_ids": [[0, 0, 0]]}
X = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)


pytestmark = pytest.mark.devices

# Selection and refusal


def test_auto_prefers_the_cpu(bert: Path) -> None:
    with Session(bert) as session:
        assert (session.device, session.execution_provider, session.notes) == ("cpu", CPU, ())


@pytest.mark.parametrize("device", ["openvino", "OpenVINO", OPENVINO])
def test_openvino_by_name_runs_the_whole_graph(bert: Path, device: str) -> None:
    with Session(bert, device=device) as session, Session(bert, device="cpu") as reference:
        assert (session.device, session.execution_provider) == ("openvino", OPENVINO)
        assert session.assignment.keys() == {OPENVINO} and session.assignment[OPENVINO] > 10
        found, expected = session.run(FEED), reference.run(FEED)
    np.testing.assert_allclose(found["last_hidden_state"], expected["last_hidden_state"], atol=1e-4)


def test_openvino_has_no_device_number(bert: Path) -> None:
    with pytest.raises(DeviceError, match="openvino"):
        Session(bert, device="openvino:1")


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "coreml"])
def test_a_device_that_this_onnxruntime_lacks_is_refused(bert: Path, device: str) -> None:
    with pytest.raises(DeviceError, match=f"{device}.*this onnxruntime has only {OPENVINO}, {CPU}") as caught:
        Session(bert, device=device)
    assert "gpux doctor" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_a_damaged_graph_is_a_session_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(SessionError, match=r"model\.onnx") as caught:
        Session(tmp_path / "model.onnx", device="openvino")
    assert "gpux verify --repair" in (caught.value.hint or "")


# Node assignment


def test_computation_left_to_the_cpu_is_refused_by_name(scaled: Write) -> None:
    with pytest.raises(DeviceError, match=f"{OPENVINO} .*the CPU: 1 × IsNaN") as caught:
        Session(scaled(not_on_openvino=True), device="openvino")
    assert caught.value.details["cpu_nodes"] == {"IsNaN": 1}


def test_computation_left_to_the_cpu_may_be_accepted(scaled: Write) -> None:
    path = scaled(not_on_openvino=True)
    with Session(path, device="openvino", allow_cpu_nodes=True) as session, Session(path, device="cpu") as reference:
        assert session.assignment.keys() == {OPENVINO, CPU}
        found, expected = session.run({"x": X}), reference.run({"x": X})
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-4, atol=1e-4)


# Inputs with a default


@pytest.mark.parametrize("external_data", [False, True])
def test_an_input_with_a_default_keeps_its_meaning(scaled: Write, external_data: bool) -> None:
    path = scaled(external_data=external_data)
    with Session(path, device="openvino") as session, Session(path, device="cpu") as reference:
        assert [spec.name for spec in session.inputs] == [spec.name for spec in reference.inputs] == ["x"]
        assert [spec.name for spec in session.optional] == [spec.name for spec in reference.optional] == ["factor"]
        for feed in ({"x": X}, {"x": X, "factor": np.array([5], np.float32)}):
            np.testing.assert_allclose(session.run(feed)["y"], reference.run(feed)["y"], rtol=1e-4, atol=1e-4)


def test_a_binding_has_the_default_too(scaled: Write) -> None:
    path, found = scaled(), np.zeros_like(X)
    with Session(path, device="openvino") as session, Session(path, device="cpu") as reference:
        binding = session.bind()
        binding.feed("x", X)
        binding.fetch("y", found)
        binding.run()
        np.testing.assert_allclose(found, reference.run({"x": X})["y"], rtol=1e-4, atol=1e-4)
        factor = np.array([5], np.float32)
        binding.override("factor", factor)
        binding.run()
        np.testing.assert_allclose(found, reference.run({"x": X, "factor": factor})["y"], rtol=1e-4, atol=1e-4)
        binding.close()


# Proofs


def proven(folder: Path, *, shift: float = 0.0) -> StoredModel:
    """A variant that was proven on the CPU, with one kept case; ``shift`` is added to its reference output."""
    calls = (Call("model", {"x": X, "factor": np.array([3], np.float32)}, {"y": np.zeros(0)}),)
    with Graphs(folder, {"model": "scaled.onnx"}) as graphs:
        case = with_outputs_of(ReferenceCase("case", calls), graphs.run)
    shifted = Call("model", case.calls[0].inputs, {"y": case.calls[0].outputs["y"] + np.float32(shift)})
    write_case(ReferenceCase("case", (shifted,)), folder / "proof" / "case.npz")
    proof = Proof("proven", (ProofCase("case", {}, 0.0, 1e-4, kept=True),), {}, runtime_version(), CPU)
    graph = GraphSpec("model", "scaled.onnx", (), ())
    return StoredModel(
        folder, Manifest("local", "scaled", "0" * 40, "t", "fp32", "x", (graph,), (), CallSpec(), proof, {})
    )


def test_a_proof_is_replayed_once_on_openvino(scaled: Write) -> None:
    model = proven(scaled().parent)
    with Graphs.of(model, device="openvino") as graphs:
        assert replay_once(model, graphs)
        assert not replay_once(model, graphs)
    assert json.loads(replays_file(model).read_text()) == [[runtime_version(), OPENVINO]]


def test_other_outputs_than_the_proven_ones_are_refused(scaled: Write) -> None:
    model = proven(scaled().parent, shift=0.5)
    with Graphs.of(model, device="openvino") as graphs, pytest.raises(ProofError, match="other outputs here"):
        replay_once(model, graphs)
    assert not replays_file(model).exists()


# Generation


@pytest.fixture(scope="module")
def writer(toolchains: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """The committed small model, converted by optimum."""
    settings = Settings.from_env(home=tmp_path_factory.mktemp("home"), toolchains=toolchains, offline=True)
    return pull_model(SMALL, converter="optimum", settings=settings)


def home_of(model: StoredModel) -> Path:
    """The gpux home with the store of a model."""
    return model.path.parents[5]


def prompts(count: int) -> list[tuple[Any, list[int]]]:
    """Prompts of the small model, and the token ids that transformers generates for them."""
    expected = json.loads((SMALL / "expected.json").read_text(encoding="utf-8"))
    return [
        ([{"role": "user", "content": case["prompt"]}] if case["chat"] else case["prompt"], case["new_ids"])
        for case in expected["greedy"][:count]
    ]


@pytest.mark.toolchain
def test_generation_gives_the_tokens_of_transformers(writer: StoredModel) -> None:
    with TextGenerationPipeline(writer, device="openvino", allow_cpu_nodes=True) as pipe:
        assert pipe.device == "openvino"
        assert json.loads(replays_file(writer).read_text()) == [[runtime_version(), OPENVINO]]
        for prompt, expected in prompts(3):
            (found,) = pipe.generate([prompt], max_new_tokens=len(expected))[0]
            assert list(found.tokens) == expected


@pytest.mark.toolchain
@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_quantized_variants_pass_their_replay_and_generate(writer: StoredModel, precision: str) -> None:
    quantized = quantize_model(writer, precision, store=Store(home_of(writer) / "store"))
    with TextGenerationPipeline(quantized, device="openvino", allow_cpu_nodes=True) as pipe:
        assert json.loads(replays_file(quantized).read_text()) == [[runtime_version(), OPENVINO]]
        for prompt, expected in prompts(1):
            (found,) = pipe.generate([prompt], max_new_tokens=len(expected))[0]
            assert precision == "int4" or list(found.tokens) == expected
            assert found.text


@pytest.mark.toolchain
def test_a_decoder_is_refused_without_cpu_nodes(writer: StoredModel) -> None:
    with pytest.raises(DeviceError, match=r"the CPU: .* × IsNaN"):
        TextGenerationPipeline(writer, device="openvino")


# The command line


def test_doctor_lists_openvino(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["device openvino"]["message"] == f"{OPENVINO} starts"
    assert checks["device auto"]["message"] == "tries cpu"
    assert checks["onnxruntime"]["message"] == f"{runtime_version()} from onnxruntime-openvino {runtime_version()}"


@pytest.mark.toolchain
def test_run_and_verify_on_openvino(
    writer: StoredModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPUX_HOME", str(home_of(writer)))
    assert run(["run", str(SMALL), "def ", "--device", "openvino", "--max-new-tokens", "4"]) == DeviceError.exit_code
    assert "× IsNaN" in capsys.readouterr().err
    assert run(["verify", "--proof", "--device", "cuda"]) == DeviceError.exit_code
    assert "gpux doctor" in capsys.readouterr().err
