"""What ``--precision auto`` means for one model on one device of this machine."""

from __future__ import annotations

from typing import Literal

from gpux.model.info import ModelInfo
from gpux.quantize import Choice, choose_precision
from gpux.runtime.devices import candidates
from gpux.runtime.onnx_runtime import available_providers
from gpux.system.machine import available_memory

AUTO = "auto"


def automatic_precision(info: ModelInfo, task: str, device: str = "auto") -> tuple[str, Choice]:
    """The device that is meant, and the precision that suits the model there, with the reason.

    Raises:
        DeviceError: the device is unknown or not there.
    """
    chosen = candidates(device, available_providers())[0].device
    kind: Literal["decoder", "other"] = "decoder" if task == "text-generation" else "other"
    choice = choose_precision(chosen, kind, parameters=info.parameters, available_memory=available_memory())
    return chosen, choice
