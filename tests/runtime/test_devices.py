from __future__ import annotations

from typing import Any

import pytest

from gpux.errors import DeviceError
from gpux.runtime.devices import AUTO_ORDER, CPU, DEVICES, DeviceChoice, candidates, check_name, computation, resolve

GPU_BUILD = ("TensorrtExecutionProvider", "CUDAExecutionProvider", CPU)
CPU_BUILD = ("AzureExecutionProvider", CPU)


def asked(choice: DeviceChoice) -> list[str]:
    return [name for name, _ in choice.execution_providers]


@pytest.mark.parametrize("requested", ["cuda", "CUDA", " cuda ", "gpu", "CUDAExecutionProvider"])
def test_aliases_resolve_to_the_same_device(requested: str) -> None:
    choice = resolve(requested, GPU_BUILD)
    assert (choice.device, choice.execution_provider, choice.explicit) == ("cuda", "CUDAExecutionProvider", True)
    assert asked(choice) == ["CUDAExecutionProvider", CPU]


def test_a_number_picks_the_device() -> None:
    assert resolve("cuda:1", GPU_BUILD).options == {"device_id": "1"}
    assert resolve("cuda", GPU_BUILD).options == {}


def test_device_numbers_as_in_transformers() -> None:
    assert resolve(1, GPU_BUILD) == resolve("cuda:1", GPU_BUILD)
    assert resolve(-1, GPU_BUILD) == resolve("cpu", GPU_BUILD)
    with pytest.raises(DeviceError, match="'cuda:0' requires CUDAExecutionProvider"):
        resolve(0, CPU_BUILD)


@pytest.mark.parametrize(
    "requested", ["auto", "cuda:1", "GPU", "tensorrt", "QNNExecutionProvider", "OtherExecutionProvider"]
)
def test_a_name_is_checked_without_the_device(requested: str) -> None:
    assert check_name(requested) == requested


@pytest.mark.parametrize("requested", ["", "cud", "cuda:x", "provider"])
def test_a_name_that_no_device_has(requested: str) -> None:
    with pytest.raises(DeviceError, match="is not a device"):
        check_name(requested)


@pytest.mark.parametrize("requested", [None, True, -2, 1.0, b"cpu"])
def test_invalid_devices_are_rejected(requested: Any) -> None:
    with pytest.raises(DeviceError, match="is not a device") as caught:
        resolve(requested, GPU_BUILD)
    assert "cuda:0" in (caught.value.hint or "")


def test_tensorrt_leaves_the_rest_to_cuda() -> None:
    assert asked(resolve("tensorrt", GPU_BUILD)) == ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU]


def test_cpu_is_the_cpu_alone() -> None:
    assert asked(resolve("cpu", GPU_BUILD)) == [CPU]


def test_auto_follows_its_order_and_is_not_explicit() -> None:
    assert [choice.device for choice in candidates("auto", GPU_BUILD)] == ["cuda", "cpu"]
    assert not resolve("auto", GPU_BUILD).explicit
    assert resolve("auto", CPU_BUILD).device == "cpu"


def test_auto_never_selects_providers_that_compile_for_minutes() -> None:
    everything = [name for device in DEVICES for name in device.execution_providers]
    assert [choice.device for choice in candidates("auto", everything)] == list(AUTO_ORDER)


def test_rocm_is_migraphx_where_only_that_is_built() -> None:
    choice = resolve("rocm", ("MIGraphXExecutionProvider", CPU))
    assert (choice.device, choice.execution_provider) == ("rocm", "MIGraphXExecutionProvider")


def test_execution_provider_without_a_short_name() -> None:
    choice = resolve("azureexecutionprovider", CPU_BUILD)
    assert (choice.device, choice.execution_provider) == ("azure", "AzureExecutionProvider")


@pytest.mark.parametrize(
    ("requested", "suggestion"),
    [("hardcore-cpu", "'cpu'"), ("cudaa", "'cuda'"), ("open-vino", "'openvino'"), ("cpu:x", "'cpu'"), ("", "Devices")],
)
def test_error_for_an_unknown_device_lists_the_devices(requested: str, suggestion: str) -> None:
    with pytest.raises(DeviceError, match=r"is not a device.*Devices: auto, cpu, cuda") as caught:
        resolve(requested, CPU_BUILD)
    assert suggestion in caught.value.message
    assert caught.value.hint is not None and "gpux doctor" in caught.value.hint


def test_error_for_a_missing_device_names_the_package() -> None:
    with pytest.raises(DeviceError, match=r"requires CUDAExecutionProvider.*has only Azure") as caught:
        resolve("cuda", CPU_BUILD)
    assert caught.value.hint is not None and "onnxruntime-gpu" in caught.value.hint


def test_a_device_without_numbers() -> None:
    with pytest.raises(DeviceError, match="does not support device numbers"):
        resolve("cpu:1", CPU_BUILD)


def test_every_device_has_an_install_hint() -> None:
    assert all(device.install and not device.install.endswith(".") for device in DEVICES)
    assert len({device.name for device in DEVICES}) == len(DEVICES)


def test_shape_operators_do_not_count_as_computation() -> None:
    assert computation({"Shape": 3, "Gather": 2, "Concat": 1}) == {}
    assert computation({"Shape": 3, "MatMul": 2}) == {"MatMul": 2}
