"""A graph whose inputs and outputs stay where they are from run to run, in memory that the caller allocates once.

onnxruntime's ``IOBinding``: a run copies nothing in or out, and two tensors may share one place, as the past and the
present keys of a cache do for GroupQueryAttention.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import SessionError
from gpux.runtime.onnx_runtime import FOREIGN, as_ours, device_memory, run_options

#: Devices whose memory onnxruntime can allocate and bind; the others are handed the host's.
_OWN_MEMORY = frozenset({"cuda", "rocm"})


class Buffer:
    """Bytes where a graph can reach them: in the device's memory, or in the host's.

    Args:
        nbytes: how many; the host's are zero at first.
        device: short name of the device, ``cuda`` or ``cuda:1``.
    """

    def __init__(self, nbytes: int, device: str = "cpu") -> None:
        name, _, index = device.partition(":")
        self.nbytes = nbytes
        self.device, self.index = (name, int(index or 0)) if name in _OWN_MEMORY else ("cpu", 0)
        if self.device == "cpu":
            self._host: NDArray[np.uint8] | None = np.zeros(max(nbytes, 1), np.uint8)
            self.pointer: int = self._host.ctypes.data
        else:
            self._host = None
            self._value = device_memory(max(nbytes, 1), self.device, self.index)
            self.pointer = self._value.data_ptr()

    def read(self) -> NDArray[np.uint8]:
        """The bytes: a view of host memory, a copy of a device's."""
        if self._host is not None:
            return self._host
        copied: NDArray[np.uint8] = self._value.numpy()
        return copied

    def write(self, data: NDArray[np.uint8]) -> None:
        """Put bytes at the beginning; after a change of :meth:`read`'s view itself nothing is left to do."""
        if self._host is None:
            whole = self.read()
            whole[: data.size] = data
            self._value.update_inplace(whole)
        elif data.ctypes.data != self.pointer:
            self._host[: data.size] = data


class Binding:
    """What one caller runs a graph with, again and again. Not safe to use from two threads at once.

    Raises:
        SessionError: onnxruntime refuses a tensor, or fails while it runs.
    """

    def __init__(self, session: Any, path: Path, device: str) -> None:
        self.device = device
        #: Inputs travel to the device when they are bound: what an array becomes later has to be bound again.
        self.copies = device != "cpu"
        self._session, self._path = session, path
        self._binding = session.io_binding()
        self._options = run_options()
        self._inputs = frozenset(arg.name for arg in session.get_inputs())
        self._owners: dict[str, Any] = {}  # the memory behind a bound pointer

    def takes(self, name: str) -> bool:
        """Whether the graph has an input of that name: the first call of some decoders has no cache."""
        return name in self._inputs

    def feed(self, name: str, array: NDArray[Any]) -> None:
        """Bind an input to an array's memory, which has to be contiguous; see ``copies`` for later changes of it."""
        self._binding.bind_cpu_input(name, array)  # keeps the array, too

    def override(self, name: str, array: NDArray[Any]) -> None:
        """The same for an optional input, which keeps its default until then."""
        self._owners[name] = array
        self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def fetch(self, name: str, array: NDArray[Any]) -> None:
        """Bind an output to an array's memory, of exactly the shape that comes."""
        self._owners[name] = array
        self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def feed_buffer(self, name: str, buffer: Buffer, dtype: Any, shape: tuple[int, ...], offset: int = 0) -> None:
        """Bind an input to the bytes of a buffer from ``offset`` on."""
        self._owners[name] = buffer
        pointer = buffer.pointer + offset
        self._binding.bind_input(name, buffer.device, buffer.index, dtype, shape, pointer)

    def fetch_buffer(self, name: str, buffer: Buffer, dtype: Any, shape: tuple[int, ...], offset: int = 0) -> None:
        """Bind an output to the bytes of a buffer from ``offset`` on."""
        self._owners[name] = buffer
        pointer = buffer.pointer + offset
        self._binding.bind_output(name, buffer.device, buffer.index, dtype, shape, pointer)

    def run(self) -> None:
        """Run the graph; every output that is bound is written."""
        if self._session is None:
            raise SessionError("this binding is closed", hint="Open the model again.")
        try:  # once a token: a context manager would cost as much as the rest of this
            self._session.run_with_iobinding(self._binding, self._options)
        except FOREIGN as exc:
            raise as_ours(exc, self._path) from exc

    def close(self) -> None:
        """Let go of the session and of all memory; may be called twice."""
        self._session = self._binding = None
        self._owners.clear()
