"""Quantization of stored float32 graphs by the real program, measured on real sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest

from gpux import errors
from gpux.convert.reference_case import read_case
from gpux.model.precisions import find_precision
from gpux.model.variant import StoredModel
from gpux.proof.comparison import compare
from gpux.quantize.graphs import QuantizedGraphs, quantize_graphs
from gpux.quantize.methods import QuantizeOptions
from gpux.runtime.graphs import Graphs
from gpux.runtime.session import Session
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, Warned
from tests.quantize.float_variants import (
    LIMIT,
    ROWS,
    WIDTH,
    convolution,
    decoder,
    decoder_calls,
    encoder,
    float_calls,
    stored,
)

Quantize = Callable[..., QuantizedGraphs]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def quantized(tmp_path: Path, output: Path, events: list[Event]) -> Quantize:
    """Quantizes a variant; asserts that two folders are never open at once."""
    opened: list[Path] = []

    @contextmanager
    def open_graphs(folder: Path, files: Any) -> Iterator[Graphs]:
        assert not opened
        opened.append(folder)
        with Graphs(folder, files) as graphs:
            yield graphs
        opened.pop()

    def call(
        source: StoredModel,
        precision: str,
        *,
        allow_inexact: bool = False,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> QuantizedGraphs:
        output.mkdir(exist_ok=True)
        return quantize_graphs(
            source,
            output,
            precision,
            open_graphs=open_graphs,
            scratch=tmp_path / "scratch",
            log=tmp_path / "log",
            options=QuantizeOptions(**options),
            allow_inexact=allow_inexact,
            progress=events.append,
            cancel=cancel,
        )

    return call


@pytest.fixture
def small_decoder(tmp_path: Path) -> StoredModel:
    return stored(tmp_path / "source", decoder(), decoder_calls())


def initializers(file: Path) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load(file, load_external_data=False).graph.initializer}


@pytest.mark.parametrize(
    ("precision", "recipe", "share"),
    [("fp16", "fp16", 0.52), ("int8", "int8-blocks32", 0.32), ("int4", "int4-blocks64", 0.2)],
)
def test_a_decoder(
    small_decoder: StoredModel,
    output: Path,
    tmp_path: Path,
    quantized: Quantize,
    precision: str,
    recipe: str,
    share: float,
) -> None:
    """Tied weights are stored once, both branches are quantized, limits are kept, and the new case can be replayed."""
    found = quantized(small_decoder, precision)

    assert (found.method, found.violations, found.graphs) == (recipe, (), {"model": "model.onnx"})
    assert {"kl", "logits_cosine", "top1"} <= set(found.loss)
    assert (output / "model.onnx").stat().st_size < share * (small_decoder.path / "model.onnx").stat().st_size
    assert sum(
        tensor.dims[0] == ROWS and len(tensor.dims) == 3 for tensor in initializers(output / "model.onnx").values()
    ) == (precision != "fp16")
    with Graphs(output, found.graphs) as graphs:
        assert graphs.session("model").limits == {"input_ids": {1: LIMIT["input_ids"]["1"]}}
        case = read_case(output / "proof" / "case.npz")
        assert len(case.calls) == 2 and compare(case, graphs.run, find_precision(precision).replay_tolerance).passed
    assert [case.kept for case in found.cases] == [True] and found.cases[0].calls == 2
    assert not any((tmp_path / "scratch").rglob("*.npz"))
    assert {file.name for file in output.iterdir()} == {"model.onnx", "proof"}


def test_fp16_keeps_the_types_of_inputs_and_outputs_except_the_cache(
    small_decoder: StoredModel, output: Path, quantized: Quantize
) -> None:
    quantized(small_decoder, "fp16")

    with Session(output / "model.onnx", device="cpu") as session:
        assert {spec.name: spec.dtype for spec in (*session.inputs, *session.outputs)} == {
            "input_ids": "int64",
            "use_cache_branch": "bool",
            "past.0.key": "float16",
            "logits": "float32",
            "present.0.key": "float16",
        }


def test_fp16_keeps_norms_and_small_constants(small_decoder: StoredModel, output: Path, quantized: Quantize) -> None:
    quantized(small_decoder, "fp16")

    graph = onnx.shape_inference.infer_shapes(onnx.load(output / "model.onnx")).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    assert {kinds[name] for name in ("square", "mean", "safe", "root")} == {onnx.TensorProto.FLOAT}
    (half,) = (tensor for name, tensor in initializers(output / "model.onnx").items() if name.startswith("embedding"))
    assert half.data_type == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_external_data_stays_external(tmp_path: Path, output: Path, quantized: Quantize, precision: str) -> None:
    source = stored(tmp_path / "source", decoder(), decoder_calls(), external=True)

    quantized(source, precision)

    assert (output / "model.onnx").stat().st_size < 20_000
    assert (output / "model.onnx_data").stat().st_size < 0.56 * (source.path / "model.onnx_data").stat().st_size
    large = [tensor for tensor in initializers(output / "model.onnx").values() if tensor.external_data]
    assert {entry.value for tensor in large for entry in tensor.external_data if entry.key == "location"} == {
        "model.onnx_data"
    }


def test_an_encoder_gets_dynamic_quantization(tmp_path: Path, output: Path, quantized: Quantize) -> None:
    source = stored(tmp_path / "source", encoder(), float_calls(2, 5, WIDTH))

    found = quantized(source, "int8", column_bits=8)

    nodes = [node.op_type for node in onnx.load(output / "model.onnx").graph.node]
    assert found.method == "int8-dynamic-perchannel"
    assert (nodes.count("MatMulInteger"), nodes.count("DynamicQuantizeLinear")) == (3, 2)  # two layers share an input


def test_beyond_the_limits_the_next_method_is_tried(tmp_path: Path, quantized: Quantize, events: list[Event]) -> None:
    source = stored(tmp_path / "source", encoder(outlier=1000.0), float_calls(2, 5, WIDTH))

    found = quantized(source, "int8")

    assert found.method == "int8-blocks32-floats" and not found.violations
    assert any(isinstance(event, Warned) and "beyond the limits of loss" in event.message for event in events)


def test_a_loss_beyond_the_limits_is_refused_unless_allowed(tmp_path: Path, output: Path, quantized: Quantize) -> None:
    source = stored(tmp_path / "source", encoder(scale=1e6), float_calls(2, 5, WIDTH))

    with pytest.raises(errors.ProofError, match=r"tiny in fp16 is beyond its limits: kl is ") as caught:
        quantized(source, "fp16")

    assert "--allow-inexact" in (caught.value.hint or "")
    assert quantized(source, "fp16", allow_inexact=True).violations


def test_convolutions_are_refused(tmp_path: Path, quantized: Quantize) -> None:
    source = stored(tmp_path / "source", convolution(), float_calls(1, 8, 9, 9))

    with pytest.raises(errors.UnsupportedArchitectureError, match="only 0% of the weights"):
        quantized(source, "int4")


def test_asymmetric_blocks_with_a_finer_head(small_decoder: StoredModel, output: Path, quantized: Quantize) -> None:
    found = quantized(small_decoder, "int4", symmetric=False, head_bits=8, block=32)

    bits = {
        attribute.i
        for node in onnx.load(output / "model.onnx").graph.node
        for attribute in node.attribute
        if attribute.name == "bits"
    }
    assert found.method == "int4-blocks32-asymmetric-head8" and bits == {4, 8}


def test_a_damaged_graph_is_a_corrupt_file(small_decoder: StoredModel, quantized: Quantize, tmp_path: Path) -> None:
    class Damaging(Graphs):
        def close(self) -> None:
            super().close()
            (small_decoder.path / "model.onnx").write_bytes(b"no graph")

    with pytest.raises(errors.CorruptFileError, match=r"model\.onnx cannot be read"):
        quantize_graphs(
            small_decoder, tmp_path, "int8", open_graphs=Damaging, scratch=tmp_path / "s", log=tmp_path / "log"
        )


def test_a_cancelled_quantization_ends(small_decoder: StoredModel, quantized: Quantize) -> None:
    token = CancelToken()
    token.cancel()

    with pytest.raises(errors.CancelledError):
        quantized(small_decoder, "int8", cancel=token)
