"""Key-value caches: memory that is allocated once and bound to the graph.

A graph with GroupQueryAttention writes new keys behind the old ones, so its past and present share memory
(:class:`SharedCache`). Any other graph returns old and new keys concatenated, which needs two buffers that swap roles
with every call (:class:`GrowingCache`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpux.errors import CacheMemoryError, UnsupportedError
from gpux.model.graph_io import present_name
from gpux.model.variant import TensorSpec
from gpux.runtime.binding import Binding, Buffer
from gpux.system.machine import available_memory

#: onnx.TensorProto.BFLOAT16, which numpy has no dtype for
_BFLOAT16 = 16
#: Bytes that are allocated without a check of the free memory, which costs a twentieth of a short prompt's time.
SMALL = 16 << 20


@dataclass(frozen=True)
class CacheTensor:
    """One tensor of a cache: the keys or values of a layer."""

    past: str  #: name of the input
    present: str  #: name of the output that becomes this input in the next call
    dtype: str
    shape: tuple[int | str | None, ...]  #: rows first
    axis: int  #: axis of the tokens

    @property
    def element(self) -> np.dtype[np.generic] | int:
        """The dtype, or an ONNX type number, as bindings accept it."""
        return _BFLOAT16 if self.dtype == "bfloat16" else np.dtype(self.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize

    def sized(self, rows: int, tokens: int) -> tuple[int, ...]:
        """The shape for a number of rows and tokens."""
        fixed = [size if isinstance(size, int) else 1 for size in self.shape]
        fixed[0], fixed[self.axis] = rows, tokens
        return tuple(fixed)

    @cached_property
    def unit(self) -> int:
        """Bytes of one token of one row."""
        return math.prod(self.sized(1, 1)) * self.itemsize

    def nbytes(self, rows: int, tokens: int) -> int:
        """Bytes for a number of rows and tokens."""
        return rows * tokens * self.unit

    def view(self, buffer: Buffer, rows: int, tokens: int) -> NDArray[np.generic]:
        """The beginning of the buffer as an array; a copy if it is device memory."""
        kind = np.dtype(np.uint16 if self.dtype == "bfloat16" else self.dtype)
        return buffer.read()[: self.nbytes(rows, tokens)].view(kind).reshape(self.sized(rows, tokens))


def find_caches(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> tuple[CacheTensor, ...]:
    """The tensors of a decoder's own cache, by name: ``past_key_values.0.key`` is the output ``present.0.key``.

    Keys and values of the encoder's output (``.encoder.``) are not included.

    Raises:
        UnsupportedError: a tensor has no axis that grows with the tokens, such as the state of a recurrent model.
    """
    outputs_by_name = {spec.name for spec in outputs}
    found = []
    for spec in inputs:
        present = present_name(spec.name, outputs_by_name)
        if present is None or ".encoder." in spec.name:
            continue
        axes = [axis for axis, size in enumerate(spec.shape) if axis and not isinstance(size, int)]
        if len(axes) != 1:
            raise UnsupportedError(
                f"the cache {spec.name} has {len(axes)} dynamic axes besides its rows, and gpux supports exactly one",
                hint="Run the graph yourself with gpux.Session.",
            )
        found.append(CacheTensor(spec.name, present, spec.dtype, spec.shape, axes[0]))
    return tuple(found)


def check_memory(needed: int) -> None:
    """Check that this many bytes are free; up to :data:`SMALL` bytes are not checked.

    Raises:
        CacheMemoryError: with the needed and the free bytes.
    """
    if needed <= SMALL:
        return
    available = available_memory()
    if available is not None and needed > available:
        raise CacheMemoryError(
            f"the key-value cache would take {needed / 1e6:,.0f} MB, and {available / 1e6:,.0f} MB are free",
            hint="Shorten the prompt, lower max_new_tokens, or give fewer rows at once.",
            needed=needed,
            available=available,
        )


class SharedCache:
    """Past and present in one buffer, ``[rows, heads, capacity, size]``; the tokens of a row begin at 0."""

    def __init__(self, tensors: Sequence[CacheTensor], rows: int, capacity: int, device: str) -> None:
        self.tensors, self.rows, self.capacity = tuple(tensors), rows, capacity
        self._allocated = rows
        self._device = device
        check_memory(self.nbytes)
        self._buffers = [Buffer(tensor.nbytes(rows, capacity), device) for tensor in self.tensors]
        #: Whether it has to be bound for every call: host memory, of a device that copies its inputs.
        self.moves = any(buffer.device != device.partition(":")[0] for buffer in self._buffers)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return sum(tensor.nbytes(self._allocated, self.capacity) for tensor in self.tensors)

    def bind(self, binding: Binding, added: int, row: int | None = None) -> None:
        """Bind all rows, or a single one, for a call that adds ``added`` tokens to each."""
        rows = self.rows if row is None else 1
        for tensor, buffer in zip(self.tensors, self._buffers, strict=True):
            offset = 0 if row is None else tensor.nbytes(row, self.capacity)
            shape = tensor.sized(rows, self.capacity)
            binding.feed_buffer(tensor.past, buffer, tensor.element, shape, offset)
            binding.fetch_buffer(tensor.present, buffer, tensor.element, shape, offset)

    def advance(self, added: int) -> None:
        """Nothing to do after a call: the graph has written in place."""

    def truncate(self, length: int) -> None:
        """Nothing to do: later tokens overwrite the removed ones."""

    def keep(self, rows: Sequence[int], length: int, spare: int = 0) -> None:
        """Continue with these rows, in this order, and the first ``length`` tokens of each; nothing is padded here."""
        if len(rows) > self._allocated:
            self._resize(rows, self.capacity, length)
        elif list(rows) != list(range(len(rows))):
            for tensor, buffer in zip(self.tensors, self._buffers, strict=True):
                array = tensor.view(buffer, self._allocated, self.capacity)
                _move(np.moveaxis(array, tensor.axis, 1), rows, length)
                buffer.write(array.reshape(-1).view(np.uint8))
        self.rows = len(rows)

    def reserve(self, capacity: int, length: int) -> None:
        """Grow to a capacity of tokens for each row, and keep the first ``length`` of them."""
        if capacity > self.capacity:
            self._resize(range(self.rows), capacity, length)

    def _resize(self, rows: Sequence[int], capacity: int, length: int) -> None:
        check_memory(sum(tensor.nbytes(len(rows), capacity) for tensor in self.tensors))
        for number, tensor in enumerate(self.tensors):
            old = np.moveaxis(tensor.view(self._buffers[number], self._allocated, self.capacity), tensor.axis, 1)
            buffer = Buffer(tensor.nbytes(len(rows), capacity), self._device)
            new = tensor.view(buffer, len(rows), capacity)
            np.moveaxis(new, tensor.axis, 1)[:, :length] = old[list(rows), :length]
            buffer.write(new.reshape(-1).view(np.uint8))
            self._buffers[number] = buffer
        self.rows = self._allocated = len(rows)
        self.capacity = capacity

    def close(self) -> None:
        """Release the memory."""
        self._buffers.clear()


class GrowingCache:
    """Two buffers that take turns: each call reads one, and writes old and new tokens to the other, without gaps."""

    moves = True  #: it has to be bound for every call

    def __init__(self, tensors: Sequence[CacheTensor], rows: int, capacity: int, device: str) -> None:
        self.tensors, self.rows, self.capacity = tuple(tensors), rows, capacity
        self.length = 0
        self._device = device
        check_memory(self.nbytes)
        sizes = [tensor.nbytes(rows, capacity) for tensor in self.tensors]
        self._past = [Buffer(size, device) for size in sizes]
        self._present = [Buffer(size, device) for size in sizes]

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return 2 * sum(tensor.nbytes(self.rows, self.capacity) for tensor in self.tensors)

    def bind(self, binding: Binding, added: int, row: int | None = None) -> None:
        """Bind all rows, for a call that adds ``added`` tokens to each."""
        for tensor, past, present in zip(self.tensors, self._past, self._present, strict=True):
            before, after = tensor.sized(self.rows, self.length), tensor.sized(self.rows, self.length + added)
            if binding.has_input(tensor.past):
                binding.feed_buffer(tensor.past, past, tensor.element, before)
            binding.fetch_buffer(tensor.present, present, tensor.element, after)

    def advance(self, added: int) -> None:
        """Swap the buffers after a call: its output is the past of the next one."""
        self._past, self._present = self._present, self._past
        self.length += added

    def keep(self, rows: Sequence[int], length: int, spare: int = 0) -> None:
        """Continue with these rows, in this order, without the first ``spare`` tokens of each."""
        if not spare and list(rows) == list(range(self.rows)):
            return
        wider = len(rows) > self.rows
        if wider:
            check_memory(2 * sum(tensor.nbytes(len(rows), self.capacity) for tensor in self.tensors))
        for number, tensor in enumerate(self.tensors):
            whole = np.moveaxis(tensor.view(self._past[number], self.rows, self.length), tensor.axis, 1)
            taken = np.ascontiguousarray(np.moveaxis(whole[list(rows), spare:], 1, tensor.axis))
            if wider:
                size = tensor.nbytes(len(rows), self.capacity)
                self._past[number], self._present[number] = Buffer(size, self._device), Buffer(size, self._device)
            self._past[number].write(taken.reshape(-1).view(np.uint8))
        self.rows, self.length = len(rows), self.length - spare

    def truncate(self, length: int) -> None:
        """Remove the tokens of all rows from ``length`` on."""
        if length >= self.length:
            return
        for tensor, past in zip(self.tensors, self._past, strict=True):
            whole = np.moveaxis(tensor.view(past, self.rows, self.length), tensor.axis, 1)
            shorter = np.ascontiguousarray(np.moveaxis(whole[:, :length], 1, tensor.axis))
            past.write(shorter.reshape(-1).view(np.uint8))
        self.length = length

    def reserve(self, capacity: int, length: int) -> None:
        """Grow to a capacity of tokens for each row, and keep the first ``length`` of them."""
        if capacity <= self.capacity:
            return
        check_memory(2 * sum(tensor.nbytes(self.rows, capacity) for tensor in self.tensors))
        self.capacity = capacity
        for number, tensor in enumerate(self.tensors):
            filled = tensor.nbytes(self.rows, self.length)
            buffer = Buffer(tensor.nbytes(self.rows, capacity), self._device)
            buffer.write(self._past[number].read()[:filled])
            self._past[number], self._present[number] = buffer, Buffer(buffer.nbytes, self._device)

    def close(self) -> None:
        """Release the memory."""
        self._past.clear()
        self._present.clear()


Cache = SharedCache | GrowingCache


def _move(array: NDArray[np.generic], rows: Sequence[int], length: int) -> None:
    """Move ``rows`` to the beginning of ``[rows, tokens, ...]``, in order; only rows that move are copied."""
    moved = [(place, row) for place, row in enumerate(rows) if place != row]
    places, sources = [place for place, _ in moved], [row for _, row in moved]
    array[places, :length] = array[sources, :length]
