"""The precision that ``--precision auto`` stands for, by device, kind of model and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpux.model.info import ModelInfo
from gpux.model.values import Value
from gpux.runtime.devices import candidates
from gpux.runtime.onnx_runtime import available_providers
from gpux.system.machine import available_memory

Kind = Literal["decoder", "other"]

#: Devices that compute float16 at least as fast as they read it.
_HALF = ("cuda", "tensorrt", "rocm", "migraphx", "dml", "webgpu")
#: Bytes per parameter of int8 in blocks of 32, with its scales.
_INT8_BYTES = 1.125


@dataclass(frozen=True)
class Choice(Value):
    """A precision, and why it was chosen."""

    precision: str
    reason: str


def automatic_precision(info: ModelInfo, task: str, device: str = "auto") -> tuple[str, Choice]:
    """The device that ``device`` stands for on this machine, and the precision that suits the model there.

    Raises:
        DeviceError: the device is unknown or not available.
    """
    chosen = candidates(device, available_providers())[0].device
    kind: Kind = "decoder" if task == "text-generation" else "other"
    return chosen, choose_precision(chosen, kind, parameters=info.parameters, available_memory=available_memory())


def choose_precision(
    device: str, kind: Kind, *, parameters: int | None = None, available_memory: int | None = None
) -> Choice:
    """The precision that ``auto`` stands for: one that changes answers visibly is chosen only where memory requires it.

    Args:
        device: short name, such as ``cpu`` or ``cuda:1``.
        kind: ``decoder`` for a model that generates text token by token, else ``other``.
        parameters: of the model, if known.
        available_memory: bytes that a run may use, if known.
    """
    name = device.partition(":")[0]
    if name in _HALF:
        return Choice("fp16", f"{name} computes float16 natively: half the memory, and no visible change of answers")
    if name != "cpu":
        return Choice("fp32", f"{name} chooses its own precision internally")
    if kind == "other":
        return Choice("fp32", "on the CPU int8 is faster, but changes vectors and scores: request it by name")
    if parameters and available_memory and parameters * _INT8_BYTES > available_memory / 2:
        return Choice("int4", "a decoder on the CPU is limited by reading weights, and int8 would fill half the memory")
    return Choice(
        "int8", "a decoder on the CPU is limited by reading weights: int8 in blocks reads a quarter at very little loss"
    )
