"""What ``--precision auto`` means on a device. Pure, and it never picks what changes answers visibly without need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpux.model.values import Value

Kind = Literal["decoder", "other"]

#: Devices that compute float16 as fast as it can be read, or faster.
_HALF = ("cuda", "tensorrt", "rocm", "migraphx", "dml", "webgpu")
#: Bytes per parameter of int8 in blocks of 32, with its scales.
_INT8_BYTES = 1.125


@dataclass(frozen=True)
class Choice(Value):
    """A precision, and why."""

    precision: str
    reason: str


def choose_precision(
    device: str, kind: Kind, *, parameters: int | None = None, available_memory: int | None = None
) -> Choice:
    """The precision that ``auto`` stands for.

    Args:
        device: short name, such as ``cpu`` or ``cuda:1``.
        kind: ``decoder`` for a model that makes text token by token, else ``other``.
        parameters: of the model, where they are known.
        available_memory: bytes that a run may take, where they are known.
    """
    name = device.partition(":")[0]
    if name in _HALF:
        return Choice("fp16", f"{name} computes float16 natively: half the memory, and no answer changes visibly")
    if name != "cpu":
        return Choice("fp32", f"{name} chooses its own precision inside")
    if kind == "other":
        return Choice("fp32", "on the CPU int8 is faster, but moves vectors and scores: ask for it by name")
    if parameters and available_memory and parameters * _INT8_BYTES > available_memory / 2:
        return Choice("int4", "a decoder on the CPU waits for its weights, and in int8 they would fill half the memory")
    return Choice(
        "int8", "a decoder on the CPU waits for its weights: int8 in blocks reads a quarter at next to no loss"
    )
