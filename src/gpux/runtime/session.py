"""One ONNX graph on one execution provider. The only importer of onnxruntime outside a toolchain."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from gpux.errors import DeviceError, GpuxError, SessionError
from gpux.machine import cpu_threads
from gpux.runtime import cuda
from gpux.runtime.devices import CPU, DeviceChoice, candidates, computation
from gpux.runtime.graph_files import graph_bytes
from gpux.runtime.inputs import check_inputs, spec_of
from gpux.runtime.limits import check_limits, read_limits
from gpux.variants import TensorSpec

log = logging.getLogger(__name__)

_WARNING = 2  # its default
_FATAL = 4  # onnxruntime's ORT_LOGGING_LEVEL_FATAL: what goes wrong comes as an exception, not on stderr
#: y = x + x over float32 [1]: IR version 7, opset 13
_PROBE = (
    b'\x08\x07:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"

#: onnxruntime's exception -> ours. A version without one of them never raises it.
ERRORS: dict[str, type[GpuxError]] = {
    "DeviceReset": DeviceError,
    "EPFail": DeviceError,
    "EngineError": DeviceError,
    "Fail": SessionError,
    "InvalidArgument": SessionError,
    "InvalidGraph": SessionError,
    "InvalidProtobuf": SessionError,
    "ModelLoadCanceled": SessionError,
    "ModelLoaded": SessionError,
    "ModelRequiresCompilation": SessionError,
    "NoModel": SessionError,
    "NoSuchFile": SessionError,
    "NotFound": SessionError,
    "NotImplemented": SessionError,
    "RuntimeException": SessionError,
}
_KINDS = {getattr(ort_state, name): kind for name, kind in ERRORS.items() if hasattr(ort_state, name)}
_DAMAGED = frozenset({"InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile"})
_VERIFY = "Run `gpux verify --repair`: the file may be damaged."
#: What loading raises besides: for an emptied or overwritten graph, and for external data that is cut or gone.
_DAMAGED_LOADING = _DAMAGED | {"Fail", "InvalidArgument", "UnicodeDecodeError"}


def runtime_version() -> str:
    """The version of onnxruntime."""
    return str(onnxruntime.__version__)


def available_providers() -> tuple[str, ...]:
    """Execution providers that this onnxruntime was built with; whether they can start is another question."""
    return tuple(onnxruntime.get_available_providers())


def cuda_version() -> str | None:
    """The CUDA version that this onnxruntime was built with; None for a build without CUDA."""
    return str(getattr(onnxruntime, "cuda_version", "")) or None


def probe(choice: DeviceChoice) -> None:
    """Start an execution provider on a graph of one node.

    Raises:
        DeviceError: it does not start.
        SessionError: it starts and fails.
    """
    _create(_PROBE, choice, threads=1)


class Session:
    """An ONNX graph, loaded and ready to run. Safe to use from many threads.

    Args:
        path: the ``.onnx`` file; its external data lies beside it.
        device: ``auto``, a short name (``cuda``, ``cuda:1`` …), an execution provider's full name, or a number as
            transformers takes it (0 is ``cuda:0``, -1 is ``cpu``).
        threads: threads of one run; by default the physical cores that affinity and control group leave.
        allow_cpu_nodes: accept that a device asked for by name leaves computation to the CPU.

    Raises:
        DeviceError: the device is unknown, not there, did not start, or did not take the whole graph.
        SessionError: the graph cannot be loaded.
    """

    def __init__(
        self, path: Path, *, device: str | int = "auto", threads: int | None = None, allow_cpu_nodes: bool = False
    ) -> None:
        self.path = Path(path)
        self.threads = threads or cpu_threads()
        self.notes: tuple[str, ...] = ()  #: why ``auto`` passed over a device
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._choice, self._session = self._open(device, allow_cpu_nodes)
        self.inputs: tuple[TensorSpec, ...] = tuple(map(spec_of, self._session.get_inputs()))
        self.outputs: tuple[TensorSpec, ...] = tuple(map(spec_of, self._session.get_outputs()))
        self.limits = read_limits(self._session.get_modelmeta().custom_metadata_map)  #: input -> axis -> largest size
        self.memory_bytes: int = graph_bytes(self.path)

    def _open(self, device: str | int, allow_cpu_nodes: bool) -> tuple[DeviceChoice, Any]:
        """The first candidate that starts; with ``auto`` the others are noted, else there is only one."""
        choices = candidates(device, available_providers())
        for choice in choices:
            try:
                session = _create(self.path, choice, self.threads)
                if choice.explicit and not allow_cpu_nodes:
                    _check_assignment(choice, session)
                return choice, session
            except DeviceError as exc:
                if choice is choices[-1]:
                    raise
                self.notes += (f"auto passed over {choice.device}: {exc}",)
                log.info(self.notes[-1])
        raise DeviceError("this onnxruntime has no execution provider", hint="Run `gpux doctor`.")

    @property
    def closed(self) -> bool:
        """True after :meth:`close`."""
        return self._session is None

    @property
    def device(self) -> str:
        """The short name of the device that runs the graph: ``cpu``, ``cuda`` …"""
        return self._choice.device

    @property
    def execution_provider(self) -> str:
        """The execution provider that runs the graph."""
        return self._choice.execution_provider

    @property
    def assignment(self) -> dict[str, int]:
        """Nodes per execution provider, as onnxruntime divided the graph.

        On the CPU, where nothing else can take a node, a second session is made for the count; empty where
        onnxruntime does not tell (below 1.24).
        """
        session = self._require()
        if self.execution_provider == CPU:
            session = _create(self.path, self._choice, self.threads, record=True)
        return {provider: sum(operators.values()) for provider, operators in _assigned(session).items()}

    def run(self, inputs: Mapping[str, ArrayLike], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run the graph.

        Args:
            inputs: one array per input, by name; see :func:`gpux.runtime.inputs.check_inputs` for what is cast.
            outputs: names of the outputs to compute; all by default.

        Returns:
            One array per output, by name.

        Raises:
            InputError: an input is missing, unknown, not of the declared rank, shape or dtype, or beyond a limit.
            SessionError: the session is closed, or onnxruntime failed.
        """
        session, feed = self._require(), check_inputs(inputs, self.inputs)
        check_limits(feed, self.limits)
        names = [spec.name for spec in self.outputs] if outputs is None else list(outputs)
        options = onnxruntime.RunOptions()
        options.log_severity_level = _FATAL
        with mapped_errors(self.path):
            return dict(zip(names, session.run(names, feed, options), strict=True))

    def close(self) -> None:
        """Let go of the graph's memory; runs in progress end first. May be called twice."""
        with self._lock:
            self._session = None

    def _require(self) -> Any:
        if os.getpid() != self._process:  # its threads did not survive the fork: a run would wait for them for ever
            raise SessionError(
                f"the session of {self.path} was opened before this process was forked",
                hint="Open the model in the process that uses it, or start processes by spawn.",
            )
        with self._lock:
            if self._session is None:
                raise SessionError(f"the session of {self.path} is closed", hint="Open the model again.")
            return self._session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def mapped_errors(graph: Path | bytes, *, loading: bool = False) -> Iterator[None]:
    """Turn onnxruntime's exceptions into ours, by type."""
    damaged = _DAMAGED_LOADING if loading else _DAMAGED
    name = graph.name if isinstance(graph, Path) else "graph"
    try:
        yield
    except tuple(_KINDS) as exc:
        kind = type(exc).__name__
        hint = _VERIFY if kind in damaged else None
        raise _KINDS[type(exc)](f"onnxruntime, {name}: {str(exc).strip()}", hint=hint, kind=kind) from exc
    except (RuntimeError, ValueError) as exc:  # what its bindings raise themselves
        kind = type(exc).__name__
        hint = _VERIFY if kind in damaged else None
        raise SessionError(f"onnxruntime, {name}: {str(exc).strip()}", hint=hint, kind=kind) from exc


def _create(graph: Path | bytes, choice: DeviceChoice, threads: int, *, record: bool = False) -> Any:
    if choice.execution_provider == CPU:
        return _load(graph, choice, threads, record=record)
    if choice.needs_cuda:
        _preload()
    # What goes wrong while an execution provider starts is logged outside any session. It comes as an error here.
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        session = _load(graph, choice, threads, record=True)
    except SessionError as exc:
        if exc.details["kind"] in _DAMAGED or (isinstance(graph, Path) and graph.stat().st_size == 0):
            raise
        raise _not_started(choice, str(exc)) from exc
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
    if session.get_providers()[0] != choice.execution_provider:
        raise _not_started(choice, f"onnxruntime would have used {session.get_providers()[0]} instead")
    return session


def _load(graph: Path | bytes, choice: DeviceChoice, threads: int, *, record: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    # Said outright, because onnxruntime else pins threads to every core of the host, which fails in containers.
    options.intra_op_num_threads = threads
    # Waiting threads sleep. Spinning makes a single run up to a fifth faster on an idle machine, and costs a third of
    # the throughput where runs overlap or other processes want the cores, as in a server or a container.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if record:
        options.add_session_config_entry(_RECORD_ASSIGNMENT, "1")
    with mapped_errors(graph, loading=True):
        return onnxruntime.InferenceSession(
            str(graph) if isinstance(graph, Path) else graph,
            options,
            providers=choice.execution_providers,
            enable_fallback=0,
        )


def _not_started(choice: DeviceChoice, reason: str) -> DeviceError:
    missing = cuda.missing(cuda_version()) if choice.needs_cuda else []
    libraries = f" (cannot be loaded: {', '.join(missing)})" if missing else ""
    return DeviceError(
        f"{choice.execution_provider} did not start{libraries}: {reason}",
        hint=cuda.advice(missing) if missing else "Run `gpux doctor`.",
        device=choice.device,
        missing=missing,
    )


def _preload() -> None:
    """Load CUDA and cuDNN from NVIDIA's Python packages, where they are installed; onnxruntime tells on stdout."""
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()


def _assigned(session: Any) -> dict[str, Counter[str]]:
    """Operators per execution provider."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    found: dict[str, Counter[str]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        operators = (node.op_type for node in subgraph.get_nodes())
        found.setdefault(subgraph.ep_name, Counter()).update(operators)
    return found


def _check_assignment(choice: DeviceChoice, session: Any) -> None:
    left = computation(_assigned(session).get(CPU, {})) if choice.execution_provider != CPU else {}
    if left:
        listed = ", ".join(f"{count} × {name}" for name, count in sorted(left.items()))
        raise DeviceError(
            f"{choice.execution_provider} leaves computation to the CPU: {listed}",
            hint="Use --device auto, or accept it with allow_cpu_nodes=True.",
            device=choice.device,
            cpu_nodes=left,
        )
