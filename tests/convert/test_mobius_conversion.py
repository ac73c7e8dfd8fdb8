"""Real conversions with mobius, in its toolchain, each compared with the original."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.convert import mobius
from gpux.convert.base import ConversionReport, ConversionRequest
from gpux.convert.host.converter import ToolchainConverter
from gpux.convert.host.pip import interpreter
from gpux.errors import ConversionError, CorruptFileError, GpuxError, NoWeightsError, UnsupportedTaskError
from gpux.model.variant import Proof
from gpux.proof import comparison
from gpux.runtime.graphs import Graphs
from gpux.system.settings import Settings

pytestmark = pytest.mark.toolchain
TASK = "text-generation"
MakeRequest = Callable[..., ConversionRequest]


@pytest.fixture(scope="session")
def mobius_python(warm_toolchains: Path) -> Path:
    """The interpreter of the mobius toolchain."""
    if not (warm_toolchains / "mobius" / "toolchain.json").is_file():
        pytest.skip("no mobius toolchain: `GPUX_TOOLCHAINS=that-folder gpux toolchain install mobius`")
    return interpreter(warm_toolchains / "mobius")


@pytest.fixture(scope="session")
def decoders(mobius_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models."""
    folder = tmp_path_factory.mktemp("decoders")
    program = Path(__file__).parent / "tiny_decoders.py"
    subprocess.run([mobius_python, "-I", program, folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def convert(mobius_python: Path, settings: Settings, make_request: MakeRequest) -> Callable[[Path], ConversionReport]:
    converter = ToolchainConverter(mobius.SPEC, settings, python=mobius_python)
    return lambda source: converter.convert(make_request(source, TASK))


def prove(request: ConversionRequest, report: ConversionReport) -> Proof:
    with (
        Graphs(request.output, report.graphs) as graphs,
        Graphs(request.reference / "small", report.small_graphs) as small,
    ):
        run = small.run if report.small_graphs else None
        return comparison.prove(request.reference, graphs.run, "fp32", thresholds=report.thresholds, small=run)


@pytest.mark.parametrize(
    "name", ["llama-tied", "llama-pickled", "mistral-window", "gpt2", "gemma", "opt", "mixtral", "llama-gguf"]
)
def test_a_decoder_is_proven(
    decoders: Path, convert: Callable[[Path], ConversionReport], make_request: MakeRequest, name: str
) -> None:
    request, report = make_request(decoders / name, TASK), convert(decoders / name)
    found = prove(request, report)
    assert found.status == "proven", [case for case in found.cases if not case.passed]
    assert found.limit is None
    assert any(case.calls > 3 for case in found.cases), "several cached steps"
    call_spec = report.call_spec
    assert (call_spec.padding_side, call_spec.chunk_rows) == ("right", 1)
    assert call_spec.limits["model"]["attention_mask"]["1"] == call_spec.max_length
    if name not in ("gpt2", "opt"):  # learned positions are the model's; these are rows of the graph's rotations
        assert call_spec.limits["model"]["input_ids"]["1"] == 64
    assert {file.name for file in request.output.iterdir()} == {"model.onnx", "model.onnx_data"}
    if name in ("llama-tied", "gpt2"):
        check_size(request.output, decoders / name / "model.safetensors")


def check_size(output: Path, source: Path) -> None:
    """Tied weights are written once; the table of rotary positions is added."""
    rotations = 64 * 16 * 4 * 2
    assert (output / "model.onnx_data").stat().st_size < 1.05 * source.stat().st_size + rotations


def test_a_long_window_is_proven_on_a_small_model(
    decoders: Path, convert: Callable[[Path], ConversionReport], make_request: MakeRequest
) -> None:
    source = decoders / "mistral-long-window"
    request, report = make_request(source, TASK), convert(source)
    found = prove(request, report)
    assert [threshold.name for threshold in report.thresholds] == ["sliding_window"]
    assert any(case.small_model and (case.length or 0) > 1500 for case in found.cases)
    assert (found.status, found.limit) == ("proven", None)


def test_a_wrong_graph_is_found(
    decoders: Path, convert: Callable[[Path], ConversionReport], make_request: MakeRequest
) -> None:
    """The weights of one layer are replaced by noise after the conversion."""
    request, report = make_request(decoders / "llama-tied", TASK), convert(decoders / "llama-tied")
    data = request.output / "model.onnx_data"
    weights = np.fromfile(data, np.float32)
    weights[len(weights) // 2 :] *= 1.01
    weights.tofile(data)
    assert prove(request, report).status == "inexact"


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("llama-bias", ConversionError, r"would ignore 1 weights, such as model\.layers\.0\.mlp\.up_proj\.bias"),
        ("llama-less", ConversionError, r"lacks 1 weights"),
        ("llama-cut", CorruptFileError, "SafetensorError"),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    decoders: Path, convert: Callable[[Path], ConversionReport], name: str, kind: type[GpuxError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        convert(decoders / name)
    assert caught.value.details["log"].is_file()


def test_no_weights(decoders: Path, convert: Callable[[Path], ConversionReport], tmp_path: Path) -> None:
    source = tmp_path / "bare"
    source.mkdir()
    (source / "config.json").write_text((decoders / "gpt2" / "config.json").read_text())
    with pytest.raises(NoWeightsError):
        convert(source)


def test_two_gguf_files(decoders: Path, convert: Callable[[Path], ConversionReport], tmp_path: Path) -> None:
    source = tmp_path / "two"
    source.mkdir()
    for name in ("a.gguf", "b.gguf"):
        (source / name).write_bytes((decoders / "llama-gguf" / "model.gguf").read_bytes())
    with pytest.raises(ConversionError, match=r"a\.gguf, b\.gguf"):
        convert(source)


def test_another_task(decoders: Path, mobius_python: Path, settings: Settings, make_request: MakeRequest) -> None:
    with pytest.raises(UnsupportedTaskError, match="text-classification"):
        ToolchainConverter(mobius.SPEC, settings, python=mobius_python).convert(
            make_request(decoders / "gpt2", "text-classification")
        )


def test_the_table_of_architectures_is_that_of_the_pinned_mobius(
    mobius_python: Path, ask_worker: Callable[..., dict[str, Any]]
) -> None:
    table = json.loads((Path(__file__).parents[2] / "src/gpux/convert/mobius_architectures.json").read_text())
    answer = ask_worker(mobius_python, mobius.SPEC.worker, {"command": "architectures"})
    known = {name: tasks for name, tasks in answer["architectures"].items() if name not in mobius.WRONG_TYPES}
    assert known == table["architectures"], "run scripts/update_architectures.py mobius"
    assert answer["others"] == table["others"], "run scripts/update_architectures.py mobius"
    assert set(mobius.WRONG_TYPES) <= set(answer["architectures"]), "a type that is refused for nothing"
