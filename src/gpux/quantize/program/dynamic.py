"""Dynamic quantization to 8 bits: weights per column in advance, activations per tensor while the graph runs.

The pattern DynamicQuantizeLinear, MatMulInteger, Cast, Mul is standard ONNX; onnxruntime fuses it into one operator.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto, TensorProto, helper

from gpux.quantize.program.blocks import quantize_embeddings
from gpux.quantize.program.graph_file import GraphFile, replace_node
from gpux.quantize.program.layers import Linear, WeightKey, find_linears
from gpux.quantize.program.packing import quantize_columns
from gpux.system.worker_protocol import Refused

#: The first version of the ONNX operator set with DynamicQuantizeLinear.
OPSET = 11


def quantize_dynamic(file: GraphFile, bits: int = 8, *, embeddings: bool = True) -> int:
    """Rewrite the graph; returns the bytes of float weights that were quantized.

    Args:
        file: rewritten in place.
        bits: 8, or 7; see :func:`packing.quantize_columns`.
        embeddings: quantize large embeddings too, to 8 bits in blocks.

    Raises:
        Refused: ``conversion`` when the graph's operator set is too old.
    """
    if file.opset < OPSET:
        raise Refused("conversion", f"the graph has opset {file.opset}, and int8 needs {OPSET}")
    embedded = quantize_embeddings(file) if embeddings else 0
    return embedded + _DynamicQuantizer(file, bits).run()


@dataclass(frozen=True)
class _Quantized:
    """Names of the parts of a quantized activation."""

    values: str
    scale: str
    zero_point: str


class _DynamicQuantizer:
    def __init__(self, file: GraphFile, bits: int) -> None:
        self._file, self._bits = file, bits
        self._weights: dict[WeightKey, tuple[str, str]] = {}
        self._activations: dict[tuple[int, str], _Quantized] = {}
        self._quantized: dict[tuple[int, str], int] = {}  # weight -> bytes

    def run(self) -> int:
        for layer in list(find_linears(self._file)):
            self._replace(layer)
        return sum(self._quantized.values())

    def _replace(self, layer: Linear) -> None:
        weight, weight_scale = self._weight(layer)
        activation, before = self._activation(layer)
        (output,), name = layer.node.output, self._file.unique
        whole, floats, scale = name(f"{output}.int32"), name(f"{output}.float"), name(f"{output}.scale")
        product = name(f"{output}.product") if layer.bias else output
        nodes = [
            *before,
            helper.make_node("MatMulInteger", [activation.values, weight, activation.zero_point], [whole], whole),
            helper.make_node("Cast", [whole], [floats], floats, to=TensorProto.FLOAT),
            helper.make_node("Mul", [activation.scale, weight_scale], [scale], scale),
            helper.make_node("Mul", [floats, scale], [product], f"{output}.scaled"),
        ]
        if layer.bias:
            nodes.append(helper.make_node("Add", [product, layer.bias], [output], f"{output}.bias"))
        replace_node(layer.scope.graph, layer.node, nodes)

    def _weight(self, layer: Linear) -> tuple[str, str]:
        """Names of the weight and its scales, which all layers with that weight share."""
        if layer.key not in self._weights:
            matrix = self._file.array(layer.weight)
            values, scales = quantize_columns(matrix, transposed=layer.transposed, bits=self._bits)
            name = layer.weight.name
            self._weights[layer.key] = (
                self._file.add(layer.owner, f"{name}.int8", values),
                self._file.add(layer.owner, f"{name}.scales", scales),
            )
            self._quantized[layer.key[:2]] = matrix.size * 4
        return self._weights[layer.key]

    def _activation(self, layer: Linear) -> tuple[_Quantized, list[NodeProto]]:
        """The quantized input, and the node that quantizes it unless an earlier layer has the same input."""
        source = layer.node.input[0]
        key = (id(layer.scope.graph), source)
        if key in self._activations:
            return self._activations[key], []
        parts = [self._file.unique(f"{source}.{part}") for part in ("uint8", "scale", "zero_point")]
        self._activations[key] = _Quantized(*parts)
        return self._activations[key], [helper.make_node("DynamicQuantizeLinear", [source], parts, parts[0])]
