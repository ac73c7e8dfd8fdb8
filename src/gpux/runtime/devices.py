"""From the device that a user asks for to the execution providers that onnxruntime is given. Pure: nothing is probed.

``auto`` takes the first of :data:`AUTO_ORDER` that is there. The others run only when they are asked for by name:
TensorRT and OpenVINO compile a graph for minutes, CoreML, QNN, WebGPU and XNNPACK are often slower than the CPU on
transformers with free axes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpux.errors import DeviceError
from gpux.model.values import Value

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Device(Value):
    """A short name that users type."""

    name: str
    execution_providers: tuple[str, ...]  #: in order of preference; one that is there is enough
    install: str  #: how to get it, as a sentence without its full stop
    index_option: str | None = None  #: option that takes the number after the colon
    also: tuple[str, ...] = ()  #: execution providers that take what the first leaves over


_GPU_PACKAGE = "`pip uninstall onnxruntime`, then `pip install 'onnxruntime-gpu[cuda,cudnn]'`"

DEVICES = (
    Device("cpu", (CPU,), "`pip install onnxruntime`"),
    Device("cuda", ("CUDAExecutionProvider",), _GPU_PACKAGE, "device_id"),
    Device("tensorrt", ("TensorrtExecutionProvider",), _GPU_PACKAGE, "device_id", ("CUDAExecutionProvider",)),
    Device(
        "rocm",
        ("ROCMExecutionProvider", "MIGraphXExecutionProvider"),
        "Install `onnxruntime-rocm` from AMD",
        "device_id",
    ),
    Device("migraphx", ("MIGraphXExecutionProvider",), "Install `onnxruntime-migraphx` from AMD", "device_id"),
    Device("coreml", ("CoreMLExecutionProvider",), "It comes with `onnxruntime` on macOS"),
    Device("dml", ("DmlExecutionProvider",), "Install `onnxruntime-directml` on Windows", "device_id"),
    Device("openvino", ("OpenVINOExecutionProvider",), "Install `onnxruntime-openvino`"),
    Device("webgpu", ("WebGpuExecutionProvider",), "It needs a build of onnxruntime with WebGPU"),
    Device("qnn", ("QNNExecutionProvider",), "Install `onnxruntime-qnn`"),
    Device("xnnpack", ("XnnpackExecutionProvider",), "It needs a build of onnxruntime with XNNPACK"),
    Device("cann", ("CANNExecutionProvider",), "Install `onnxruntime-cann`", "device_id"),
    Device("vitisai", ("VitisAIExecutionProvider",), "Install `onnxruntime-vitisai` from AMD"),
    Device("dnnl", ("DnnlExecutionProvider",), "It needs a build of onnxruntime with oneDNN"),
    Device("acl", ("ACLExecutionProvider",), "It needs a build of onnxruntime with the Arm Compute Library"),
)
AUTO_ORDER = ("cuda", "rocm", "dml", "cpu")

#: Operators that compute shapes and indices too. Execution providers leave those to the CPU on purpose, so a node of
#: one of them on the CPU says nothing about the computation.
SHAPE_OPERATORS = frozenset(
    {
        "Add",
        "And",
        "Cast",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Expand",
        "Floor",
        "Gather",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "If",
        "Less",
        "LessOrEqual",
        "Max",
        "MemcpyFromHost",
        "MemcpyToHost",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Range",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "Reshape",
        "Shape",
        "Size",
        "Slice",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)

_ALIASES = {"gpu": "cuda", "directml": "dml", "trt": "tensorrt"}
_BY_NAME = {device.name: device for device in DEVICES}


@dataclass(frozen=True)
class DeviceChoice(Value):
    """What onnxruntime is asked for."""

    device: str  #: the short name; that of the execution provider in lower case where it has none
    execution_provider: str  #: the one that has to run the graph
    options: dict[str, str]  #: of that execution provider
    also: tuple[str, ...]  #: what may take its leftovers, in order; ends with the CPU
    explicit: bool  #: asked for by name, so nothing else will do

    @property
    def needs_cuda(self) -> bool:
        """True when NVIDIA's driver and libraries have to be there."""
        return "CUDAExecutionProvider" in (self.execution_provider, *self.also)

    @property
    def execution_providers(self) -> list[tuple[str, dict[str, str]]]:
        """As onnxruntime takes them: names with options, in order."""
        return [(self.execution_provider, dict(self.options)), *((name, {}) for name in self.also)]


def resolve(requested: str | int, available: Sequence[str]) -> DeviceChoice:
    """The execution providers for ``requested``.

    Args:
        requested: ``auto``, a short name (``cuda``, ``cuda:1``, ``coreml`` …), an execution provider's full name, or
            a number as transformers takes it: 0 and above for ``cuda:0`` …, -1 for ``cpu``.
        available: what onnxruntime's ``get_available_providers()`` answers.

    Raises:
        DeviceError: no such device is known, or this onnxruntime comes without it.
    """
    return candidates(requested, available)[0]


def candidates(requested: str | int, available: Sequence[str]) -> list[DeviceChoice]:
    """Every choice that would do, best first: one, except for ``auto``. Raises as :func:`resolve`."""
    requested = _as_name(requested)
    if requested.strip().lower() == "auto":
        found = [_provider(_BY_NAME[name], available) for name in AUTO_ORDER]
        pairs = zip(AUTO_ORDER, found, strict=True)
        return [_choice(_BY_NAME[name], provider, available, explicit=False) for name, provider in pairs if provider]
    name, index = _split(requested)
    device = _known(name, requested, available)
    provider = _provider(device, available)
    if provider is None:
        raise _unavailable(device, requested, available)
    return [_choice(device, provider, available, explicit=True, index=index)]


def computation(operators: Mapping[str, int]) -> dict[str, int]:
    """Those of the counted operators that do more than shapes and indices."""
    return {name: count for name, count in operators.items() if name not in SHAPE_OPERATORS}


def _as_name(requested: Any) -> str:
    """A number as transformers means it; anything else but a name is refused."""
    if isinstance(requested, str):
        return requested
    if isinstance(requested, int) and not isinstance(requested, bool) and requested >= -1:
        return "cpu" if requested == -1 else f"cuda:{requested}"
    raise DeviceError(
        f"{requested!r} is no device", hint='A device is a name: "cuda:0", "cpu", "auto".', device=str(requested)
    )


def _split(requested: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"([^:]+)(?::(\d+))?", requested.strip())
    if match is None:
        raise _unknown(requested)
    return match[1].lower(), int(match[2]) if match[2] else None


def _known(name: str, requested: str, available: Sequence[str]) -> Device:
    """The device of a short or full name; an execution provider that only this onnxruntime knows is one too."""
    name = _ALIASES.get(name, name)
    if name in _BY_NAME:
        return _BY_NAME[name]
    for device in DEVICES:
        if name == device.execution_providers[0].lower():
            return device
    for provider in available:
        if name == provider.lower():
            return Device(name.removesuffix("executionprovider"), (provider,), "an onnxruntime that has it")
    raise _unknown(requested)


def _provider(device: Device, available: Sequence[str]) -> str | None:
    return next((name for name in device.execution_providers if name in available), None)


def _choice(
    device: Device, provider: str, available: Sequence[str], *, explicit: bool, index: int | None = None
) -> DeviceChoice:
    if index is not None and device.index_option is None:
        raise DeviceError(
            f"{device.name} takes no device number", hint=f"Use --device {device.name}.", device=device.name
        )
    options = {device.index_option: str(index)} if device.index_option and index is not None else {}
    also = [name for name in (*device.also, CPU) if name in available and name != provider]
    return DeviceChoice(device.name, provider, options, tuple(also), explicit)


def _unknown(requested: str) -> DeviceError:
    known = ["auto", *(device.name for device in DEVICES)]
    near = difflib.get_close_matches(requested.split(":")[0].lower(), known, n=1)
    near = near or [name for name in known if name in requested.lower()]
    suggestion = f"; did you mean {near[0]!r}?" if near else "."
    return DeviceError(
        f"{requested!r} is no device{suggestion} Known: {', '.join(known)}, and full names of execution providers",
        hint="Run `gpux doctor` to see which are usable here.",
        device=requested,
    )


def _unavailable(device: Device, requested: str, available: Sequence[str]) -> DeviceError:
    return DeviceError(
        f"device {requested!r} needs {' or '.join(device.execution_providers)}, and this onnxruntime has only "
        f"{', '.join(available)}",
        hint=f"{device.install}; `gpux doctor` tells what is missing.",
        device=requested,
    )
