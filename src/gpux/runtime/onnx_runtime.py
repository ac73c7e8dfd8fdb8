"""The only importer of onnxruntime: its execution providers, loading of graphs, and the mapping of its exceptions."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from gpux.errors import DeviceError, GpuxError, SessionError
from gpux.runtime import cuda
from gpux.runtime.devices import CPU, DeviceChoice, computation

_WARNING = 2  # the default log level
_FATAL = 4  # ORT_LOGGING_LEVEL_FATAL: errors are exceptions, and are not printed on stderr
#: y = x + x over float32 [1]: IR version 7, opset 13
_PROBE = (
    b'\x08\x07:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"

#: onnxruntime's exception -> gpux's. Not every version of onnxruntime has all of them.
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
#: Exceptions that onnxruntime raises: its own, and those of its Python bindings.
FOREIGN = (*_KINDS, RuntimeError, ValueError)
_DAMAGED = frozenset({"InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile"})
_VERIFY = "Run `gpux verify --repair`: the file may be damaged."
#: Further exceptions of loading: for an emptied or overwritten graph, and for truncated or missing external data.
_DAMAGED_LOADING = _DAMAGED | {"Fail", "InvalidArgument", "UnicodeDecodeError"}


def runtime_version() -> str:
    """The version of onnxruntime."""
    return str(onnxruntime.__version__)


def available_providers() -> tuple[str, ...]:
    """Execution providers that this onnxruntime was built with; they may still fail to start."""
    return tuple(onnxruntime.get_available_providers())


def cuda_version() -> str | None:
    """The CUDA version that this onnxruntime was built with; None for a build without CUDA."""
    return str(getattr(onnxruntime, "cuda_version", "")) or None


def probe(choice: DeviceChoice) -> None:
    """Start an execution provider with a graph of one node.

    Raises:
        DeviceError: the provider does not start.
        SessionError: the provider starts and the graph fails.
    """
    load(_PROBE, choice, threads=1)


@contextlib.contextmanager
def mapped_errors(graph: Path | bytes, *, loading: bool = False) -> Iterator[None]:
    """Map onnxruntime's exceptions to gpux's, by type."""
    try:
        yield
    except FOREIGN as exc:
        raise as_ours(exc, graph, loading=loading) from exc


def as_ours(exc: Exception, graph: Path | bytes, *, loading: bool = False) -> GpuxError:
    """The gpux error for one of :data:`FOREIGN`."""
    name = graph.name if isinstance(graph, Path) else "graph"
    kind = type(exc).__name__
    hint = _VERIFY if kind in (_DAMAGED_LOADING if loading else _DAMAGED) else None
    ours = next((ours for foreign, ours in _KINDS.items() if isinstance(exc, foreign)), SessionError)
    return ours(f"onnxruntime, {name}: {str(exc).strip()}", hint=hint, kind=kind)


def load(
    graph: Path | bytes,
    choice: DeviceChoice,
    threads: int,
    *,
    record: bool = False,
    spinning: bool = False,
    folder: Path | None = None,
) -> Any:
    """Open an ``InferenceSession`` with the chosen execution provider, and fail if it does not start.

    Args:
        graph: the file, or its bytes.
        choice: the execution provider.
        threads: threads of one run.
        record: record the execution provider of each node, for :func:`assigned`.
        spinning: let threads spin instead of sleep while they wait within a run.
        folder: contains the external data of a graph given as bytes.

    Raises:
        DeviceError: the execution provider does not start.
        SessionError: the graph cannot be loaded.
    """
    if choice.execution_provider == CPU:
        return _session(graph, choice, threads, record=record, spinning=spinning, folder=folder)
    if choice.needs_cuda:
        _preload()
    # Errors of a starting execution provider are logged outside any session; here they are raised.
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        session = _session(graph, choice, threads, record=True, spinning=spinning, folder=folder)
    except SessionError as exc:
        if exc.details["kind"] in _DAMAGED or (isinstance(graph, Path) and graph.stat().st_size == 0):
            raise
        raise _not_started(choice, str(exc)) from exc
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
    if session.get_providers()[0] != choice.execution_provider:
        raise _not_started(choice, f"onnxruntime would have used {session.get_providers()[0]} instead")
    return session


def _session(
    graph: Path | bytes, choice: DeviceChoice, threads: int, *, record: bool, spinning: bool, folder: Path | None
) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    # Set explicitly: by default onnxruntime pins threads to all cores of the host, which fails in containers.
    options.intra_op_num_threads = threads
    # Spinning makes a single run up to a fifth faster on an idle machine, and costs a third of the throughput if runs
    # overlap or other processes need the cores, as in a server or a container.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    # Between runs the threads sleep, so that another graph whose runs alternate with these gets the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1" if spinning else "0")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    if record:
        options.add_session_config_entry(_RECORD_ASSIGNMENT, "1")
    with mapped_errors(graph, loading=True):
        session = onnxruntime.InferenceSession(
            str(graph) if isinstance(graph, Path) else graph,
            options,
            providers=choice.execution_providers,
            enable_fallback=0,
        )
    session._model_bytes = None  # kept for the fallback, which is off: as large as the weights
    return session


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
    """Load CUDA and cuDNN from NVIDIA's Python packages, if installed; onnxruntime prints about it on stdout."""
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()


def assigned(session: Any) -> dict[str, Counter[str]]:
    """Counts of operators per execution provider; empty if onnxruntime does not report them (before 1.24)."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    found: dict[str, Counter[str]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        operators = (node.op_type for node in subgraph.get_nodes())
        found.setdefault(subgraph.ep_name, Counter()).update(operators)
    return found


def check_assignment(choice: DeviceChoice, session: Any) -> None:
    """Raise ``DeviceError`` if nodes that compute are assigned to the CPU although another device was requested."""
    left = computation(assigned(session).get(CPU, {})) if choice.execution_provider != CPU else {}
    if left:
        listed = ", ".join(f"{count} × {name}" for name, count in sorted(left.items()))
        raise DeviceError(
            f"{choice.execution_provider} runs part of the computation on the CPU: {listed}",
            hint="Use --device auto, or allow it with allow_cpu_nodes=True.",
            device=choice.device,
            cpu_nodes=left,
        )


def run_options() -> Any:
    """Options of a run: errors are exceptions, and are not printed on stderr."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = _FATAL
    # The default, set explicitly: onnxruntime 1.32 looks it up in every run, and a missing entry costs an internal
    # exception, 25 µs.
    options.add_run_config_entry("gpu_graph_id", "0")
    return options


def device_memory(count: int, device: str, index: int) -> Any:
    """Allocate ``count`` bytes on a device, as an ``OrtValue`` that frees them when it is garbage-collected."""
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type([count], np.uint8, device, index)
