"""Weights in blocks of 4 or 8 bits: linear layers as MatMulNBits, embeddings as GatherBlockQuantized.

The head and an embedding that share a weight go on sharing it. ``accuracy_level`` 4 lets a processor round activations
to 8 bits, block by block, which is what makes it fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from onnx import helper

from gpux.quantize.program.graph_file import GraphFile, replace_node
from gpux.quantize.program.linear import Linear, Table, heads, linears, tables
from gpux.quantize.program.packing import pack_blocks
from gpux.quantize.program.tables import BLOCK, DOMAIN, is_worth, replace_table

Key = tuple[int, str, bool]


@dataclass(frozen=True)
class Plan:
    """How many bits for what."""

    bits: int = 4  #: of linear layers
    head_bits: int = 4  #: of the layer that gives the answer
    table_bits: int = 8  #: of embeddings; one that is tied to the head has its bits. 0: as they are
    block: int = 32
    symmetric: bool = True
    accuracy_level: int = 4


def reduce_weights(file: GraphFile, plan: Plan) -> int:
    """Rewrite the graph; how many bytes of float weights were reduced."""
    return _Reducer(file, plan).run()


class _Reducer:
    def __init__(self, file: GraphFile, plan: Plan) -> None:
        self._file, self._plan = file, plan
        self._packed: dict[tuple[Key, int, int, bool], list[str]] = {}
        self._bits: dict[Key, int] = {}
        self._reduced: dict[tuple[int, str], int] = {}

    def run(self) -> int:
        found, last = list(linears(self._file)), heads(self._file)
        embedded = [table for table in tables(self._file) if self._plan.table_bits and is_worth(table)]
        shared = {layer.key for layer in found} & {table.key for table in embedded}
        for layer in found:
            bits = self._plan.head_bits if id(layer.node) in last or layer.key in shared else self._plan.bits
            self._bits[layer.key] = max(bits, self._bits.get(layer.key, 0))
        for layer in found:
            self._replace_linear(layer)
        for table in embedded:
            # A head packs zero points otherwise, and fills up blocks that do not come out even.
            even = int(table.weight.dims[1]) % self._plan.block == 0
            tied = table.key in self._bits and self._plan.symmetric and even
            bits, block = (self._bits[table.key], self._plan.block) if tied else (self._plan.table_bits, BLOCK)
            replace_table(self._file, table, self._weight(table, bits, block, symmetric=True), bits, block)
        self._file.require(DOMAIN, 1)
        return sum(self._reduced.values())

    def _replace_linear(self, layer: Linear) -> None:
        (inputs, outputs), bits = layer.shape, self._bits[layer.key]
        output = layer.node.output[0]
        plain = self._file.unique(f"{output}.product") if layer.bias else output
        product = helper.make_node(
            "MatMulNBits",
            [layer.node.input[0], *self._weight(layer, bits, self._plan.block, symmetric=self._plan.symmetric)],
            [plain],
            layer.node.name,
            domain=DOMAIN,
            K=inputs,
            N=outputs,
            bits=bits,
            block_size=self._plan.block,
            accuracy_level=self._plan.accuracy_level,
        )
        bias = [helper.make_node("Add", [plain, layer.bias], [output], f"{output}.bias")] if layer.bias else []
        replace_node(layer.scope.graph, layer.node, [product, *bias])

    def _weight(self, item: Linear | Table, bits: int, block: int, *, symmetric: bool) -> list[str]:
        """Names of the packed weight, its scales and zero points; the layers that share a weight share these."""
        key = (item.key, bits, block, symmetric)
        if key not in self._packed:
            matrix = self._file.array(item.weight)
            blocks = pack_blocks(matrix, transposed=item.key[2], bits=bits, block=block, symmetric=symmetric)
            arrays: list[tuple[str, NDArray[Any]]] = [("values", blocks.values), ("scales", blocks.scales)]
            if blocks.zero_points is not None:
                arrays.append(("zero_points", blocks.zero_points))
            self._packed[key] = [
                self._file.add(item.owner, f"{item.weight.name}.{name}_q{bits}", array) for name, array in arrays
            ]
            self._reduced[item.key[:2]] = matrix.size * 4
        return self._packed[key]
