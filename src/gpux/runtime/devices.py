"""Device names and the execution providers that they stand for. Pure: no device is probed here.

``auto`` selects the first available device of :data:`AUTO_ORDER`. The others are used only when requested by name:
TensorRT and OpenVINO compile a graph for minutes; CoreML, QNN, WebGPU and XNNPACK are often slower than the CPU on
transformers with dynamic axes.
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
    """A device by the short name that users type."""

    name: str
    execution_providers: tuple[str, ...]  #: in order of preference; one available provider is enough
    install: str  #: how to install it, as a sentence without a full stop
    index_option: str | None = None  #: provider option for the number after the colon
    also: tuple[str, ...] = ()  #: execution providers for nodes that the first does not support


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
    Device("coreml", ("CoreMLExecutionProvider",), "Install `onnxruntime` on macOS, which includes it"),
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

#: Operators that also compute shapes and indices. Execution providers assign those nodes to the CPU on purpose, so such
#: a node on the CPU does not mean that the model's computation runs there.
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
    """Execution providers with options, as they are passed to onnxruntime."""

    device: str  #: the short name; for other execution providers, their name in lower case without its suffix
    execution_provider: str  #: must run the graph
    options: dict[str, str]  #: of that execution provider
    also: tuple[str, ...]  #: providers for nodes that it does not support, in order; the last is the CPU
    explicit: bool  #: requested by name, so no other device may be used

    @property
    def needs_cuda(self) -> bool:
        """Whether NVIDIA's driver and libraries are required."""
        return "CUDAExecutionProvider" in (self.execution_provider, *self.also)

    @property
    def execution_providers(self) -> list[tuple[str, dict[str, str]]]:
        """Names with options, in order, as ``InferenceSession(providers=)`` accepts them."""
        return [(self.execution_provider, dict(self.options)), *((name, {}) for name in self.also)]


def resolve(requested: str | int, available: Sequence[str]) -> DeviceChoice:
    """The best choice of execution providers for a device.

    Args:
        requested: ``auto``, a short name (``cuda``, ``cuda:1``, ``coreml`` …), an execution provider's full name, or
            a number as in transformers: 0 and above for ``cuda:0`` …, -1 for ``cpu``.
        available: the result of onnxruntime's ``get_available_providers()``.

    Raises:
        DeviceError: the device is unknown, or this onnxruntime was built without it.
    """
    return candidates(requested, available)[0]


def candidates(requested: str | int, available: Sequence[str]) -> list[DeviceChoice]:
    """All choices, best first: several for ``auto``, else one. Arguments and errors are those of :func:`resolve`."""
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


def check_name(requested: str) -> str:
    """``requested``, if it has the form of a device's name, whether or not this onnxruntime has the device.

    Raises:
        DeviceError: it is neither ``auto``, a short name, nor the name of an execution provider.
    """
    name, _ = _split(_as_name(requested))
    if name != "auto" and not name.endswith("executionprovider"):
        _known(name, requested, ())
    return requested


def computation(operators: Mapping[str, int]) -> dict[str, int]:
    """The counts of operators that do more than compute shapes and indices."""
    return {name: count for name, count in operators.items() if name not in SHAPE_OPERATORS}


def _as_name(requested: Any) -> str:
    """The device name for a number as in transformers."""
    if isinstance(requested, str):
        return requested
    if isinstance(requested, int) and not isinstance(requested, bool) and requested >= -1:
        return "cpu" if requested == -1 else f"cuda:{requested}"
    raise DeviceError(
        f"{requested!r} is not a device", hint='Give a name such as "cuda:0", "cpu" or "auto".', device=str(requested)
    )


def _split(requested: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"([^:]+)(?::(\d+))?", requested.strip())
    if match is None:
        raise _unknown(requested)
    return match[1].lower(), int(match[2]) if match[2] else None


def _known(name: str, requested: str, available: Sequence[str]) -> Device:
    """The device of a short name, or of the full name of any available execution provider."""
    name = _ALIASES.get(name, name)
    if name in _BY_NAME:
        return _BY_NAME[name]
    for device in DEVICES:
        if name == device.execution_providers[0].lower():
            return device
    for provider in available:
        if name == provider.lower():
            return Device(name.removesuffix("executionprovider"), (provider,), "Install a build of onnxruntime with it")
    raise _unknown(requested)


def _provider(device: Device, available: Sequence[str]) -> str | None:
    return next((name for name in device.execution_providers if name in available), None)


def _choice(
    device: Device, provider: str, available: Sequence[str], *, explicit: bool, index: int | None = None
) -> DeviceChoice:
    if index is not None and device.index_option is None:
        raise DeviceError(
            f"{device.name} does not support device numbers", hint=f"Use --device {device.name}.", device=device.name
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
        f"{requested!r} is not a device{suggestion} Devices: {', '.join(known)}, and full names of execution providers",
        hint="Run `gpux doctor` to see which devices work on this machine.",
        device=requested,
    )


def _unavailable(device: Device, requested: str, available: Sequence[str]) -> DeviceError:
    return DeviceError(
        f"device {requested!r} requires {' or '.join(device.execution_providers)}; this onnxruntime has only "
        f"{', '.join(available)}",
        hint=f"{device.install}; `gpux doctor` shows what is missing.",
        device=requested,
    )
