"""Embeddings in blocks of 4 or 8 bits: onnxruntime's operator ``com.microsoft.GatherBlockQuantized``."""

from __future__ import annotations

import numpy as np
from onnx import helper

from gpux.quantize.program.graph_file import GraphFile, replace_node
from gpux.quantize.program.linear import Table, tables
from gpux.quantize.program.packing import pack_blocks

DOMAIN = "com.microsoft"
#: An embedding with fewer rows stays as it is.
ROWS = 1024
BLOCK = 32


def reduce_tables(file: GraphFile) -> int:
    """Put every large embedding into 8 bits; how many bytes of float weights were reduced."""
    packed: dict[tuple[int, str, bool], list[str]] = {}
    reduced = 0
    for table in [table for table in tables(file) if is_worth(table)]:
        if table.key not in packed:
            blocks = pack_blocks(file.array(table.weight), transposed=True, bits=8, block=BLOCK)
            packed[table.key] = [
                file.add(table.owner, f"{table.weight.name}.{name}", array)
                for name, array in (("rows", blocks.values), ("row_scales", blocks.scales))
            ]
            reduced += int(np.prod(table.weight.dims)) * 4
        replace_table(file, table, packed[table.key], 8, BLOCK)
    if packed:
        file.require(DOMAIN, 1)
    return reduced


def is_worth(table: Table) -> bool:
    """True for one that is large, and that blocks divide without a rest."""
    rows, width = table.weight.dims
    return bool(rows >= ROWS and width % BLOCK == 0)


def replace_table(file: GraphFile, table: Table, weight: list[str], bits: int, block: int) -> None:
    """Gather rows as blocks, [ids, blocks, block], which is how a tied head stores them, then put them together.

    Args:
        file: rewritten in place.
        table: the embedding.
        weight: names of its values [rows, blocks, block * bits / 8] and scales [rows, blocks].
        bits: 4 or 8.
        block: values that share a scale.
    """
    values, scales = weight
    ids, (output,) = table.node.input[1], table.node.output
    rows, width = table.weight.dims
    deep, split, ids_shape, shape = (
        file.unique(f"{output}.{name}") for name in ("scales", "blocks", "ids_shape", "shape")
    )
    gather = helper.make_node(
        "GatherBlockQuantized",
        [values, ids, deep],
        [split],
        table.node.name,
        domain=DOMAIN,
        bits=bits,
        block_size=block,
        gather_axis=0,
        quantize_axis=2,
    )
    nodes = [
        helper.make_node("Reshape", [scales, _integers(file, table, "depth", [rows, width // block, 1])], [deep], deep),
        gather,
        helper.make_node("Shape", [ids], [ids_shape], ids_shape),
        helper.make_node("Concat", [ids_shape, _integers(file, table, "width", [width])], [shape], shape, axis=0),
        helper.make_node("Reshape", [split, shape], [output], f"{output}.joined"),
    ]
    replace_node(table.scope.graph, table.node, nodes)


def _integers(file: GraphFile, table: Table, name: str, values: list[int]) -> str:
    return file.add(table.scope, f"{table.weight.name}.{name}", np.array(values, np.int64))
