"""Inputs and outputs that are bound once to memory of the caller and reused by many runs of a graph.

Based on onnxruntime's ``IOBinding``: a run copies nothing in or out, and two tensors may share memory, as past and
present keys of a key-value cache do for GroupQueryAttention.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import SessionError
from gpux.runtime.onnx_runtime import FOREIGN, as_ours, device_memory, run_options

#: Devices whose memory onnxruntime can allocate and bind; for others, host memory is bound.
_OWN_MEMORY = frozenset({"cuda", "rocm"})


class Buffer:
    """Memory that a graph can read and write: the device's, or the host's.

    Args:
        nbytes: size; host memory is zeroed.
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
        """The bytes, ``uint8 [nbytes]``: a view of host memory, or a copy of device memory."""
        if self._host is not None:
            return self._host
        copied: NDArray[np.uint8] = self._value.numpy()
        return copied

    def write(self, data: NDArray[np.uint8]) -> None:
        """Write bytes at the beginning; does nothing if ``data`` is the view that :meth:`read` returned."""
        if self._host is None:
            whole = self.read()
            whole[: data.size] = data
            self._value.update_inplace(whole)
        elif data.ctypes.data != self.pointer:
            self._host[: data.size] = data


class Binding:
    """Bound inputs and outputs with which one caller runs a graph many times. Not safe to use from two threads at once.

    Raises:
        SessionError: onnxruntime refuses a tensor, or a run fails.
    """

    def __init__(self, session: Any, path: Path, device: str) -> None:
        self.device = device
        #: Inputs are copied to the device when they are bound: after a change, an array has to be bound again.
        self.copies = device != "cpu"
        self._session, self._path = session, path
        self._binding = session.io_binding()
        self._options = run_options()
        self._inputs = frozenset(arg.name for arg in session.get_inputs())
        self._owners: dict[str, Any] = {}  # keeps the memory of bound pointers alive

    def has_input(self, name: str) -> bool:
        """Whether the graph has an input of that name; the first graph of some decoders has no cache inputs."""
        return name in self._inputs

    def feed(self, name: str, array: NDArray[Any]) -> None:
        """Bind an input to a contiguous array; see ``copies`` for later changes of the array."""
        self._binding.bind_cpu_input(name, array)  # also keeps a reference to the array

    def override(self, name: str, array: NDArray[Any]) -> None:
        """Bind an optional input to an array in place of its default."""
        self._owners[name] = array
        self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def fetch(self, name: str, array: NDArray[Any]) -> None:
        """Bind an output to an array of exactly the shape and dtype that the graph will write."""
        self._owners[name] = array
        self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def feed_buffer(self, name: str, buffer: Buffer, dtype: Any, shape: tuple[int, ...], offset: int = 0) -> None:
        """Bind an input to a buffer, from byte ``offset`` on."""
        self._owners[name] = buffer
        pointer = buffer.pointer + offset
        self._binding.bind_input(name, buffer.device, buffer.index, dtype, shape, pointer)

    def fetch_buffer(self, name: str, buffer: Buffer, dtype: Any, shape: tuple[int, ...], offset: int = 0) -> None:
        """Bind an output to a buffer, from byte ``offset`` on."""
        self._owners[name] = buffer
        pointer = buffer.pointer + offset
        self._binding.bind_output(name, buffer.device, buffer.index, dtype, shape, pointer)

    def run(self) -> None:
        """Run the graph and write every bound output."""
        if self._session is None:
            raise SessionError("this binding is closed", hint="Open the model again.")
        try:  # runs once a token: a context manager would double the cost of this method
            self._session.run_with_iobinding(self._binding, self._options)
        except FOREIGN as exc:
            raise as_ours(exc, self._path) from exc

    def close(self) -> None:
        """Release the session and all bound memory; may be called twice."""
        self._session = self._binding = None
        self._owners.clear()
