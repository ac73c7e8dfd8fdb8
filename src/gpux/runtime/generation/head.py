"""The matrix that a decoder's logits come from, read from its file a few rows at a time."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import CorruptFileError

if TYPE_CHECKING:
    import onnx

#: The output of gpux' own conversions that the head reads.
HIDDEN = "hidden_states"
#: What float32 loses in all the sums of a score, relative to the product of the lengths.
ROUNDING = 1e-5
#: Bytes of rows that are read at a time.
_PIECE = 4 << 20
#: A graph's file is read as a whole to find the head in it: larger ones hold their weights themselves.
_LARGEST_GRAPH = 64 << 20
_VIEWS = frozenset({"Identity", "Transpose"})

Rows = NDArray[np.float32]


class Head:
    """A float32 matrix in a file, ``[vocabulary, size]``: a row for each token. Safe to use from many threads.

    Args:
        file: in which it lies, row after row.
        offset: of its first byte.
        shape: tokens, and numbers of each.
    """

    def __init__(self, file: Path, offset: int, shape: tuple[int, int]) -> None:
        self.path, self.shape = file, shape
        self._offset = offset
        self._row_bytes = 4 * shape[1]
        self._file = file.open("rb", buffering=0)
        self.close = weakref.finalize(self, self._file.close)  #: lets go of the file; may be called twice
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.shape[0] * self._row_bytes

    def rows(self, tokens: Iterable[int]) -> Rows:
        """The rows of some tokens, ``[tokens, size]``.

        Raises:
            CorruptFileError: the file is shorter than it was.
        """
        chosen = list(tokens)
        found = np.empty((len(chosen), self.shape[1]), np.float32)
        for place, token in enumerate(chosen):
            self._read(found[place], token)
        return found

    def pieces(self) -> Iterator[tuple[int, Rows]]:
        """All rows, some megabytes at a time, each piece with the token of its first row."""
        count = max(1, _PIECE // self._row_bytes)
        for start in range(0, self.shape[0], count):
            piece = np.empty((min(count, self.shape[0] - start), self.shape[1]), np.float32)
            self._read(piece, start)
            yield start, piece

    def made(self, logits: Rows, hidden: Rows) -> bool:
        """Whether these logits, ``[rows, vocabulary]``, are what it makes of ``hidden``, ``[rows, size]``."""
        if (logits.shape[-1], hidden.shape[-1]) != self.shape:
            return False
        sizes = lengths(hidden)[:, None] * ROUNDING
        return all(
            bool((np.abs(hidden @ piece.T - logits[:, start : start + len(piece)]) <= sizes * lengths(piece)).all())
            for start, piece in self.pieces()
        )

    def scores(self, hidden: Rows) -> Rows:
        """The scores of all tokens, ``[rows, vocabulary]``, from ``[rows, size]``."""
        found = np.empty((len(hidden), self.shape[0]), np.float32)
        for start, piece in self.pieces():
            np.matmul(hidden, piece.T, out=found[:, start : start + len(piece)])
        return found

    def _read(self, out: Rows, token: int) -> None:
        offset, room = self._offset + token * self._row_bytes, out.view(np.uint8).reshape(-1).data
        if hasattr(os, "preadv"):
            count = os.preadv(self._file.fileno(), [room], offset)
        else:  # Windows
            with self._lock:
                self._file.seek(offset)
                count = self._file.readinto(room)
        if count != out.nbytes:
            raise CorruptFileError(f"{self.path} is shorter than it was", hint="Run `gpux verify --repair`.")


def lengths(rows: Rows) -> Rows:
    """Euclidean, ``[rows]``."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))


def find_head(graph: Path) -> Head | None:
    """The head of a decoder's graph, if its file tells where that lies.

    That is so where the logits are what :data:`HIDDEN` is multiplied with, and nothing comes after that; where the
    matrix is float32, kept row after row, as an embedding is that is the head too; and lies in a file beside the graph.
    """
    if graph.stat().st_size > _LARGEST_GRAPH:
        return None
    import onnx

    model = onnx.load(graph, load_external_data=False).graph
    makers = {name: node for node in model.node for name in node.output}
    head = makers.get("logits")
    if head is None or head.op_type != "MatMul":
        return None
    before = makers.get(head.input[0])
    if before is None or before.op_type != "Slice" or before.input[0] != HIDDEN:
        return None
    name, turned = _behind_views(head.input[1], makers)
    tensor = next((one for one in model.initializer if one.name == name), None)
    return _outside(graph, tensor) if tensor is not None and turned else None


def _behind_views(name: str, makers: dict[str, Any]) -> tuple[str, bool]:
    """The weight that is seen under this name, and whether it is seen turned."""
    turned = False
    while (node := makers.get(name)) is not None and node.op_type in _VIEWS:
        turned ^= node.op_type == "Transpose" and not _keeps_order(node)
        name = node.input[0]
    return name, turned


def _keeps_order(transpose: onnx.NodeProto) -> bool:
    """Whether a ``Transpose`` leaves all axes where they are; by default it reverses them."""
    order = [list(attribute.ints) for attribute in transpose.attribute if attribute.name == "perm"]
    return bool(order) and order[0] == sorted(order[0])


def _outside(graph: Path, tensor: onnx.TensorProto) -> Head | None:
    """The matrix beside the graph (ONNX IR, "External Tensor Data"); None where it is another kind of tensor."""
    import onnx

    kept = {entry.key: entry.value for entry in tensor.external_data}
    if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2 or "location" not in kept:
        return None
    rows, size = tensor.dims
    return Head(graph.parent / kept["location"], int(kept.get("offset", 0)), (rows, size))
