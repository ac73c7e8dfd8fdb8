"""Weights in blocks of 4 or 8 bits: linear layers as MatMulNBits, embeddings as GatherBlockQuantized.

Both are operators of onnxruntime's domain ``com.microsoft``. A head and an embedding that share a weight still share
the quantized one. ``accuracy_level`` 4 lets the kernel round activations to 8 bits, block by block, which is what makes
it fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from gpux.quantize.program.graph_file import GraphFile, replace_node
from gpux.quantize.program.layers import Embedding, Linear, WeightKey, find_embeddings, find_heads, find_linears
from gpux.quantize.program.packing import pack_blocks

DOMAIN = "com.microsoft"
#: An embedding with fewer rows is not quantized.
ROWS = 1024
#: The block of an embedding that does not share its weight with the head.
EMBEDDING_BLOCK = 32


@dataclass(frozen=True)
class BlockOptions:
    """Bits and blocks of :func:`quantize_blocks`."""

    bits: int = 4  #: of linear layers
    head_bits: int = 4  #: of the head
    embedding_bits: int = 8  #: of embeddings; one that shares its weight with the head has the head's. 0: not quantized
    block: int = 32  #: values that share a scale
    symmetric: bool = True  #: without zero points
    accuracy_level: int = 4  #: of MatMulNBits: 4 rounds activations to 8 bits, 0 keeps them in float32


def quantize_blocks(file: GraphFile, options: BlockOptions) -> int:
    """Rewrite the graph; returns the bytes of float weights that were quantized."""
    return _BlockQuantizer(file, options).run()


def quantize_embeddings(file: GraphFile) -> int:
    """Quantize every large embedding to 8 bits; returns the bytes of float weights that were quantized."""
    packed: dict[WeightKey, list[str]] = {}
    quantized = 0
    for embedding in [embedding for embedding in find_embeddings(file) if _is_large(embedding)]:
        if embedding.key not in packed:
            blocks = pack_blocks(file.array(embedding.weight), transposed=True, bits=8, block=EMBEDDING_BLOCK)
            packed[embedding.key] = [
                file.add(embedding.owner, f"{embedding.weight.name}.{name}", array)
                for name, array in (("rows", blocks.values), ("row_scales", blocks.scales))
            ]
            quantized += int(np.prod(embedding.weight.dims)) * 4
        _replace_embedding(file, embedding, packed[embedding.key], 8, EMBEDDING_BLOCK)
    if packed:
        file.require(DOMAIN, 1)
    return quantized


class _BlockQuantizer:
    def __init__(self, file: GraphFile, options: BlockOptions) -> None:
        self._file, self._options = file, options
        self._packed: dict[tuple[WeightKey, int, int, bool], list[str]] = {}
        self._bits: dict[WeightKey, int] = {}
        self._quantized: dict[tuple[int, str], int] = {}  # weight -> bytes

    def run(self) -> int:
        linears, heads, options = list(find_linears(self._file)), find_heads(self._file), self._options
        embeddings = [found for found in find_embeddings(self._file) if options.embedding_bits and _is_large(found)]
        shared = {layer.key for layer in linears} & {embedding.key for embedding in embeddings}
        for layer in linears:
            bits = options.head_bits if id(layer.node) in heads or layer.key in shared else options.bits
            self._bits[layer.key] = max(bits, self._bits.get(layer.key, 0))
        for layer in linears:
            self._replace_linear(layer)
        for embedding in embeddings:
            # A head's zero points are packed in another layout, and its last block may be padded.
            divides = int(embedding.weight.dims[1]) % options.block == 0
            tied = embedding.key in self._bits and options.symmetric and divides
            bits, block = options.embedding_bits, EMBEDDING_BLOCK
            if tied:
                bits, block = self._bits[embedding.key], options.block
            weight = self._weight(embedding, bits, block, symmetric=True)
            _replace_embedding(self._file, embedding, weight, bits, block)
        self._file.require(DOMAIN, 1)
        return sum(self._quantized.values())

    def _replace_linear(self, layer: Linear) -> None:
        (inputs, outputs), bits = layer.shape, self._bits[layer.key]
        output = layer.node.output[0]
        product = self._file.unique(f"{output}.product") if layer.bias else output
        matmul = helper.make_node(
            "MatMulNBits",
            [layer.node.input[0], *self._weight(layer, bits, self._options.block, symmetric=self._options.symmetric)],
            [product],
            layer.node.name,
            domain=DOMAIN,
            K=inputs,
            N=outputs,
            bits=bits,
            block_size=self._options.block,
            accuracy_level=self._options.accuracy_level,
        )
        bias = [helper.make_node("Add", [product, layer.bias], [output], f"{output}.bias")] if layer.bias else []
        replace_node(layer.scope.graph, layer.node, [matmul, *bias])

    def _weight(self, layer: Linear | Embedding, bits: int, block: int, *, symmetric: bool) -> list[str]:
        """Names of the packed weight, its scales and zero points, which all layers with that weight share."""
        key = (layer.key, bits, block, symmetric)
        if key not in self._packed:
            matrix = self._file.array(layer.weight)
            blocks = pack_blocks(matrix, transposed=layer.key[2], bits=bits, block=block, symmetric=symmetric)
            arrays: list[tuple[str, NDArray[Any]]] = [("values", blocks.values), ("scales", blocks.scales)]
            if blocks.zero_points is not None:
                arrays.append(("zero_points", blocks.zero_points))
            self._packed[key] = [
                self._file.add(layer.owner, f"{layer.weight.name}.{name}_q{bits}", array) for name, array in arrays
            ]
            self._quantized[layer.key[:2]] = matrix.size * 4
        return self._packed[key]


def _is_large(embedding: Embedding) -> bool:
    """Whether the embedding has enough rows, of a width that is a multiple of the block."""
    rows, width = embedding.weight.dims
    return bool(rows >= ROWS and width % EMBEDDING_BLOCK == 0)


def _replace_embedding(file: GraphFile, embedding: Embedding, weight: list[str], bits: int, block: int) -> None:
    """Gather blocks, [ids, blocks, block], and join them to rows; a head's weight is stored in the same layout.

    Args:
        file: rewritten in place.
        embedding: the embedding.
        weight: names of its values [rows, blocks, block * bits / 8] and scales [rows, blocks].
        bits: 4 or 8.
        block: values that share a scale.
    """
    values, scales = weight
    ids, (output,) = embedding.node.input[1], embedding.node.output
    rows, width = embedding.weight.dims
    deep, split, ids_shape, shape = (
        file.unique(f"{output}.{name}") for name in ("scales", "blocks", "ids_shape", "shape")
    )
    depth = _integers(file, embedding, "depth", [rows, width // block, 1])
    gather = helper.make_node(
        "GatherBlockQuantized",
        [values, ids, deep],
        [split],
        embedding.node.name,
        domain=DOMAIN,
        bits=bits,
        block_size=block,
        gather_axis=0,
        quantize_axis=2,
    )
    nodes = [
        helper.make_node("Reshape", [scales, depth], [deep], deep),
        gather,
        helper.make_node("Shape", [ids], [ids_shape], ids_shape),
        helper.make_node("Concat", [ids_shape, _integers(file, embedding, "width", [width])], [shape], shape, axis=0),
        helper.make_node("Reshape", [split, shape], [output], f"{output}.joined"),
    ]
    replace_node(embedding.scope.graph, embedding.node, nodes)


def _integers(file: GraphFile, embedding: Embedding, name: str, values: list[int]) -> str:
    return file.add(embedding.scope, f"{embedding.weight.name}.{name}", np.array(values, np.int64))
