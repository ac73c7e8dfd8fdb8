"""An ONNX graph on one execution provider."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from numpy.typing import ArrayLike, NDArray

from gpux.errors import DeviceError, SessionError
from gpux.model.variant import TensorSpec
from gpux.runtime.binding import Binding
from gpux.runtime.default_inputs import IGNORE_GIVEN_VALUES, split_defaults
from gpux.runtime.devices import CPU, DeviceChoice, candidates
from gpux.runtime.huge_pages import HugePages
from gpux.runtime.inputs import check_inputs, spec_of
from gpux.runtime.limits import check_limits, read_limits
from gpux.runtime.onnx_runtime import assigned, available_providers, check_assignment, load, mapped_errors, run_options
from gpux.system.machine import cpu_threads

log = logging.getLogger(__name__)


class Session:
    """A loaded ONNX graph. Safe to use from many threads.

    Args:
        path: the ``.onnx`` file, with its external data in the same folder.
        device: ``auto``, a short name (``cuda``, ``cuda:1`` …), an execution provider's full name, or a number as
            in transformers (0 is ``cuda:0``, -1 is ``cpu``).
        threads: threads of one run; by default the physical cores that affinity and control group allow.
        allow_cpu_nodes: allow a device requested by name to run some computation on the CPU.
        spinning: let threads spin instead of sleep while they wait within a run: for short runs.
        huge_pages: move the weights into huge pages once the graph has run some hundred times, see :meth:`count`.

    Raises:
        DeviceError: the device is unknown or unavailable, did not start, or does not support the whole graph.
        SessionError: the graph cannot be loaded.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str | int = "auto",
        threads: int | None = None,
        allow_cpu_nodes: bool = False,
        spinning: bool = False,
        huge_pages: bool = False,
    ) -> None:
        self.path = Path(path)
        self.threads = threads or cpu_threads()
        self.spinning = spinning
        self.notes: tuple[str, ...] = ()  #: why ``auto`` skipped a device
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._defaults: dict[str, NDArray[Any]] = {}  # of inputs whose default was removed from the graph
        self._pages = HugePages() if huge_pages else None
        with self._pages.watching() if self._pages else contextlib.nullcontext():
            self._choice, self._session = self._open(device, allow_cpu_nodes)
        inputs = tuple(map(spec_of, self._session.get_inputs()))
        self.inputs: tuple[TensorSpec, ...] = tuple(spec for spec in inputs if spec.name not in self._defaults)
        #: inputs with a default, which may be omitted
        self.optional: tuple[TensorSpec, ...] = (
            *map(spec_of, self._session.get_overridable_initializers()),
            *(spec for spec in inputs if spec.name in self._defaults),
        )
        self.outputs: tuple[TensorSpec, ...] = tuple(map(spec_of, self._session.get_outputs()))
        self.limits = read_limits(self._session.get_modelmeta().custom_metadata_map)  #: input -> axis -> largest size
        self.memory_bytes: int = graph_bytes(self.path)  #: approximate: the size of the weights

    def _open(self, device: str | int, allow_cpu_nodes: bool) -> tuple[DeviceChoice, Any]:
        """Open the first choice that starts; those that do not are added to :attr:`notes`."""
        choices = candidates(device, available_providers())
        for choice in choices:
            try:
                session = self._load(choice)
                if choice.explicit and not allow_cpu_nodes:
                    check_assignment(choice, session)
                return choice, session
            except DeviceError as exc:
                if choice is choices[-1]:
                    raise
                self.notes += (f"auto skipped {choice.device}: {exc}",)
                log.info(self.notes[-1])
        raise DeviceError("this onnxruntime has no execution provider", hint="Run `gpux doctor`.")

    def _load(self, choice: DeviceChoice) -> Any:
        content = None
        if choice.execution_provider in IGNORE_GIVEN_VALUES:
            content, self._defaults = split_defaults(self.path)
        if content is None:
            return load(self.path, choice, self.threads, spinning=self.spinning)
        return load(content, choice, self.threads, spinning=self.spinning, folder=self.path.parent)

    @property
    def closed(self) -> bool:
        """True after :meth:`close`."""
        return self._session is None

    @property
    def device(self) -> str:
        """Short name of the device that runs the graph: ``cpu``, ``cuda`` …"""
        return self._choice.device

    @property
    def execution_provider(self) -> str:
        """The execution provider that runs the graph."""
        return self._choice.execution_provider

    @property
    def assignment(self) -> dict[str, int]:
        """Number of nodes per execution provider; empty if onnxruntime does not report it (before 1.24).

        On the CPU a second session is opened to count them.
        """
        session = self._require()
        if self.execution_provider == CPU:
            session = load(self.path, self._choice, self.threads, record=True)
        return {provider: sum(operators.values()) for provider, operators in assigned(session).items()}

    def run(self, inputs: Mapping[str, ArrayLike], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run the graph.

        Args:
            inputs: one array per input, by name; those of :attr:`optional` may be omitted. Dtypes are cast as described
                at :func:`gpux.runtime.inputs.check_inputs`.
            outputs: names of the outputs to compute; by default all.

        Returns:
            One array per output, by name.

        Raises:
            InputError: an input is missing, unknown or too large, or has another rank, shape or dtype than declared.
            SessionError: the session is closed, or onnxruntime failed.
        """
        session, feed = self._require(), {**self._defaults, **check_inputs(inputs, self.inputs, self.optional)}
        check_limits(feed, self.limits)
        names = [spec.name for spec in self.outputs] if outputs is None else list(outputs)
        with mapped_errors(self.path):
            return dict(zip(names, session.run(names, feed, run_options()), strict=True))

    def bind(self) -> Binding:
        """Bind inputs and outputs to memory, for a caller that runs the graph many times.

        Raises:
            SessionError: the session is closed.
        """
        binding = Binding(self._require(), self.path, self._choice.device)
        for name, value in self._defaults.items():
            binding.feed(name, value)
        return binding

    def count(self, runs: int = 1) -> None:
        """Report runs of a binding; after some hundred of them, a thread moves the weights into huge pages.

        Applies to sessions on the CPU with ``huge_pages``, if the system gives huge pages on request
        (:mod:`gpux.runtime.huge_pages`).
        """
        if self._pages is not None and self.execution_provider == CPU:
            self._pages.count(runs)

    def close(self) -> None:
        """Release the graph's memory once runs in progress have ended. May be called twice."""
        if self._pages is not None:
            self._pages.stop()
        with self._lock:
            self._session = None

    def _require(self) -> Any:
        if os.getpid() != self._process:  # threads do not survive a fork, and a run would wait for them forever
            raise SessionError(
                f"the session of {self.path} was opened before this process was forked",
                hint="Open the model in the process that uses it, or start processes with the method spawn.",
            )
        with self._lock:
            if self._session is None:
                raise SessionError(f"the session of {self.path} is closed", hint="Open the model again.")
            return self._session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def graph_bytes(path: Path) -> int:
    """Bytes of a graph's file and of its external data, under the names that exporters use; 0 if it cannot be read."""
    names = {path.name, f"{path.stem}.data", f"{path.stem}.bin"}
    prefixes = (f"{path.name}_data", f"{path.name}.data")
    try:
        files = [file for file in path.parent.iterdir() if file.name in names or file.name.startswith(prefixes)]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0
