"""Keys and values of the tokens so far, in memory that is allocated once and bound to the graph in place.

A graph with GroupQueryAttention writes new keys behind the old ones, so its past and its present are one place
(:class:`SharedCache`). Any other graph answers past and new keys one after the other, which takes two places that swap
roles from call to call (:class:`GrowingCache`).
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
#: Bytes that are taken without a look at the machine's memory, which costs a twentieth of a short prompt's time.
SMALL = 16 << 20


@dataclass(frozen=True)
class CacheTensor:
    """One tensor of a cache: keys or values of a layer."""

    past: str  #: the input
    present: str  #: the output that it comes from
    dtype: str
    shape: tuple[int | str | None, ...]  #: rows first
    axis: int  #: of the tokens

    @property
    def element(self) -> np.dtype[np.generic] | int:
        """The dtype as a binding takes it."""
        return _BFLOAT16 if self.dtype == "bfloat16" else np.dtype(self.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize

    def sized(self, rows: int, tokens: int) -> tuple[int, ...]:
        """The shape for so many rows and tokens."""
        fixed = [size if isinstance(size, int) else 1 for size in self.shape]
        fixed[0], fixed[self.axis] = rows, tokens
        return tuple(fixed)

    @cached_property
    def unit(self) -> int:
        """Bytes of one token of one row."""
        return math.prod(self.sized(1, 1)) * self.itemsize

    def nbytes(self, rows: int, tokens: int) -> int:
        """Bytes for so many rows and tokens."""
        return rows * tokens * self.unit

    def view(self, buffer: Buffer, rows: int, tokens: int) -> NDArray[np.generic]:
        """The buffer's beginning as an array; of a device's memory a copy."""
        kind = np.dtype(np.uint16 if self.dtype == "bfloat16" else self.dtype)
        return buffer.read()[: self.nbytes(rows, tokens)].view(kind).reshape(self.sized(rows, tokens))


def find_caches(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> tuple[CacheTensor, ...]:
    """The tensors of a decoder's own cache, by their names: ``past_key_values.0.key`` comes from ``present.0.key``.

    What a decoder keeps of its encoder (``.encoder.``) is not among them.

    Raises:
        UnsupportedError: one has no axis that grows with the tokens, as the state of a recurrent model.
    """
    answered = {spec.name for spec in outputs}
    found = []
    for spec in inputs:
        present = present_name(spec.name, answered)
        if present is None or ".encoder." in spec.name:
            continue
        axes = [axis for axis, size in enumerate(spec.shape) if axis and not isinstance(size, int)]
        if len(axes) != 1:
            raise UnsupportedError(
                f"the cache {spec.name} has {len(axes)} free axes besides its rows, and gpux writes along exactly one",
                hint="Run the graph yourself with gpux.Session.",
            )
        found.append(CacheTensor(spec.name, present, spec.dtype, spec.shape, axes[0]))
    return tuple(found)


def check_memory(needed: int) -> None:
    """Return if so many bytes can be allocated; as few as :data:`SMALL` are not asked about.

    Raises:
        CacheMemoryError: with both figures.
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
    """Past and present in one place, ``[rows, heads, capacity, size]``; a row's tokens begin at 0."""

    def __init__(self, tensors: Sequence[CacheTensor], rows: int, capacity: int, device: str) -> None:
        self.tensors, self.rows, self.capacity = tuple(tensors), rows, capacity
        self._allocated = rows
        self._device = device
        check_memory(self.nbytes)
        self._buffers = [Buffer(tensor.nbytes(rows, capacity), device) for tensor in self.tensors]
        #: Has to be bound for every call: the host's memory for a device that copies what it reads.
        self.moves = any(buffer.device != device.partition(":")[0] for buffer in self._buffers)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(tensor.nbytes(self._allocated, self.capacity) for tensor in self.tensors)

    def bind(self, binding: Binding, added: int, row: int | None = None) -> None:
        """Bind all rows, or a single one, for a call that adds so many tokens to each."""
        rows = self.rows if row is None else 1
        for tensor, buffer in zip(self.tensors, self._buffers, strict=True):
            offset = 0 if row is None else tensor.nbytes(row, self.capacity)
            shape = tensor.sized(rows, self.capacity)
            binding.feed_buffer(tensor.past, buffer, tensor.element, shape, offset)
            binding.fetch_buffer(tensor.present, buffer, tensor.element, shape, offset)

    def advance(self, added: int) -> None:
        """The call was made: the graph wrote in place, nothing is left to do."""

    def truncate(self, length: int) -> None:
        """What is beyond is overwritten by what comes."""

    def keep(self, rows: Sequence[int], length: int, spare: int = 0) -> None:
        """Go on with these rows, in this order; ``length`` tokens of each are worth keeping. Nothing is padded here."""
        if len(rows) > self._allocated:
            self._resize(rows, self.capacity, length)
        elif list(rows) != list(range(len(rows))):
            for tensor, buffer in zip(self.tensors, self._buffers, strict=True):
                array = tensor.view(buffer, self._allocated, self.capacity)
                _move(np.moveaxis(array, tensor.axis, 1), rows, length)
                buffer.write(array.reshape(-1).view(np.uint8))
        self.rows = len(rows)

    def reserve(self, capacity: int, length: int) -> None:
        """Make room for so many tokens a row; what is there stays."""
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
        """Let go of the memory."""
        self._buffers.clear()


class GrowingCache:
    """Two places that take turns; each call reads one, and writes the other one token longer, without gaps."""

    moves = True  #: has to be bound for every call

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
        """Bytes that it holds."""
        return 2 * sum(tensor.nbytes(self.rows, self.capacity) for tensor in self.tensors)

    def bind(self, binding: Binding, added: int, row: int | None = None) -> None:
        """Bind all rows, for a call that adds so many tokens to each."""
        for tensor, past, present in zip(self.tensors, self._past, self._present, strict=True):
            before, after = tensor.sized(self.rows, self.length), tensor.sized(self.rows, self.length + added)
            if binding.takes(tensor.past):
                binding.feed_buffer(tensor.past, past, tensor.element, before)
            binding.fetch_buffer(tensor.present, present, tensor.element, after)

    def advance(self, added: int) -> None:
        """The call was made: what it wrote is the past now."""
        self._past, self._present = self._present, self._past
        self.length += added

    def keep(self, rows: Sequence[int], length: int, spare: int = 0) -> None:
        """Go on with these rows, in this order, without the first ``spare`` tokens of each."""
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
        """Forget the tokens of all rows from ``length`` on."""
        if length >= self.length:
            return
        for tensor, past in zip(self.tensors, self._past, strict=True):
            whole = np.moveaxis(tensor.view(past, self.rows, self.length), tensor.axis, 1)
            shorter = np.ascontiguousarray(np.moveaxis(whole[:, :length], 1, tensor.axis))
            past.write(shorter.reshape(-1).view(np.uint8))
        self.length = length

    def reserve(self, capacity: int, length: int) -> None:
        """Make room for so many tokens a row; what is there stays."""
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
        """Let go of the memory."""
        self._past.clear()
        self._present.clear()


Cache = SharedCache | GrowingCache


def _move(array: NDArray[np.generic], rows: Sequence[int], length: int) -> None:
    """Put ``rows`` at the beginning of ``[rows, tokens, ...]``, in order; only those that move are copied."""
    moved = [(place, row) for place, row in enumerate(rows) if place != row]
    places, sources = [place for place, _ in moved], [row for _, row in moved]
    array[places, :length] = array[sources, :length]
