"""The cache of rows that come and go: slots of equal capacity in one buffer for each tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.binding import Binding, Buffer
from gpux.runtime.generation.engine.cache import CacheTensor, check_memory

Array = NDArray[Any]


class Slots:
    """Past and present in one buffer, ``[slots, heads, capacity, size]``; the tokens of a slot begin at 0.

    Slots are contiguous, so that the first of them are the past of a batch, and any one that of a batch of one.

    Args:
        tensors: of the decoder's cache.
        device: short name of the device; there are no slots before :meth:`arrange`.
    """

    def __init__(self, tensors: Sequence[CacheTensor], device: str) -> None:
        self.tensors = tuple(tensors)
        self.count = self.capacity = 0
        self.unit = sum(tensor.unit for tensor in self.tensors)  #: bytes of one token of one slot
        #: Whether it has to be bound for every call: host memory, of a device that copies its inputs.
        self.moves = False
        self._device = device
        self._buffers: list[Buffer] = []

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return self.count * self.capacity * self.unit

    def bind(self, binding: Binding, first: int, rows: int) -> None:
        """Bind ``rows`` slots from ``first`` on as past and present."""
        for tensor, buffer in zip(self.tensors, self._buffers, strict=True):
            shape, offset = tensor.sized(rows, self.capacity), tensor.nbytes(first, self.capacity)
            binding.feed_buffer(tensor.past, buffer, tensor.element, shape, offset)
            binding.fetch_buffer(tensor.present, buffer, tensor.element, shape, offset)

    def arrange(self, count: int, capacity: int, filled: Mapping[int, int]) -> None:
        """Lay the slots out again; a slot of ``filled`` keeps so many tokens. Bindings to the old ones are void.

        Raises:
            CacheMemoryError: they would not fit into memory; nothing has changed.
        """
        check_memory(count * capacity * self.unit)
        buffers = []
        for number, tensor in enumerate(self.tensors):
            buffer = Buffer(tensor.nbytes(count, capacity), self._device)
            if filled:
                new, old = self._by_token(tensor, buffer, count, capacity), self._view(number)
                for slot, length in filled.items():
                    new[slot, :length] = old[slot, :length]
                _written(buffer, new, tensor)
            buffers.append(buffer)
        self._buffers, self.count, self.capacity = buffers, count, capacity
        self.moves = any(buffer.device != self._device.partition(":")[0] for buffer in buffers)

    def copy(self, source: int, targets: Iterable[int], length: int) -> None:
        """Copy the first ``length`` tokens of a slot to others."""
        places = [target for target in targets if target != source]
        for number, tensor in enumerate(self.tensors if places else ()):
            view = self._view(number)
            for target in places:
                view[target, :length] = view[source, :length]
            _written(self._buffers[number], view, tensor)

    def read(self, slot: int, length: int) -> list[Array]:
        """The first ``length`` tokens of a slot: a new array for each tensor, tokens first."""
        found = []
        for number in range(len(self.tensors)):
            part = self._view(number)[slot, :length]
            found.append(np.moveaxis(np.ascontiguousarray(np.moveaxis(part, 0, -2)), -2, 0))  # stays in its layout
        return found

    def write(self, slot: int, arrays: Sequence[Array], length: int) -> None:
        """Write the first ``length`` tokens of what :meth:`read` returned to a slot."""
        for number, (tensor, array) in enumerate(zip(self.tensors, arrays, strict=True)):
            view = self._view(number)
            view[slot, :length] = array[:length]
            _written(self._buffers[number], view, tensor)

    def close(self) -> None:
        """Release the memory; there are no slots afterwards."""
        self._buffers, self.count, self.capacity = [], 0, 0

    def _view(self, number: int) -> Array:
        return self._by_token(self.tensors[number], self._buffers[number], self.count, self.capacity)

    @staticmethod
    def _by_token(tensor: CacheTensor, buffer: Buffer, count: int, capacity: int) -> Array:
        """``[slots, tokens, …]``: a view of host memory, or of a copy of device memory."""
        return np.moveaxis(tensor.view(buffer, count, capacity), tensor.axis, 1)


def _written(buffer: Buffer, changed: Array, tensor: CacheTensor) -> None:
    """Write a changed view back; nothing to do for host memory."""
    if buffer.device != "cpu":
        buffer.write(np.moveaxis(changed, 1, tensor.axis).reshape(-1).view(np.uint8))
