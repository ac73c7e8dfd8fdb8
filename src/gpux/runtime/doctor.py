"""Checks of this machine: onnxruntime, devices, libraries and folders. ``gpux doctor`` prints them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from gpux.errors import DeviceError, SessionError
from gpux.model.values import Value
from gpux.runtime import cuda
from gpux.runtime.devices import CPU, DEVICES, Device, candidates, resolve
from gpux.runtime.onnx_runtime import available_providers, cuda_version, probe, runtime_version
from gpux.system.machine import cpu_quota, cpu_threads, memory_limit, usable_cpus
from gpux.system.settings import Settings

Status = Literal["ok", "warning", "problem"]

#: Bytes of free space below which the pull of a medium-sized model fails.
_LITTLE = 5_000_000_000


@dataclass(frozen=True)
class Check(Value):
    """The result of one check."""

    name: str
    status: Status
    message: str  #: the finding
    hint: str | None = None  #: how to fix it


@dataclass(frozen=True)
class DoctorReport(Value):
    """All checks, in reading order."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check is a problem; warnings are ignored."""
        return all(check.status != "problem" for check in self.checks)


def doctor(settings: Settings) -> DoctorReport:
    """Check Python, onnxruntime, devices, libraries, folders and the machine. Nothing is changed or downloaded."""
    return DoctorReport(
        (
            Check("python", "ok", f"{platform.python_version()} on {platform.platform()}, {sys.executable}"),
            check_onnxruntime(runtime_packages()),
            *check_devices(available_providers()),
            *check_dependencies(),
            check_torch(),
            *check_folders(settings),
            check_machine(),
        )
    )


def runtime_packages(found: Iterable[metadata.Distribution] | None = None) -> list[str]:
    """Installed packages that contain the module ``onnxruntime``, as ``name version``."""
    owners = []
    for distribution in metadata.distributions() if found is None else found:
        record = distribution.read_text("RECORD") or ""
        if "onnxruntime/__init__.py," in record:
            owners.append(f"{distribution.metadata['Name']} {distribution.version}")
    return sorted(owners)


def check_onnxruntime(packages: list[str]) -> Check:
    """Problem if several packages contain the module: each overwrote files of the one installed before."""
    if len(packages) > 1:
        names = [package.split()[0] for package in packages]
        keep = next((name for name in names if name != "onnxruntime"), names[0])
        return Check(
            "onnxruntime",
            "problem",
            f"{' and '.join(packages)} are installed over each other, so that their files are mixed",
            f"`pip uninstall -y {' '.join(names)}`, then `pip install {keep}`.",
        )
    source = packages[0] if packages else "no installed package"
    built = f", built with CUDA {cuda_version()}" if cuda_version() else ""
    return Check("onnxruntime", "ok", f"{runtime_version()} from {source}{built}")


def check_devices(available: tuple[str, ...]) -> Iterator[Check]:
    """Start each device that this onnxruntime was built with, then list those that it was not built with."""
    absent = []
    for device in DEVICES:
        if not any(name in available for name in device.execution_providers):
            absent.append(device.name)
        else:
            yield _started(device, available)
    usable = candidates("auto", available)
    yield Check("device auto", "ok", f"tries {', then '.join(choice.device for choice in usable)}")
    yield Check("other devices", "ok", f"not in this onnxruntime: {', '.join(absent)}")
    if "CUDAExecutionProvider" not in available and not cuda.missing(None):
        yield Check(
            "NVIDIA GPU", "warning", "a driver is installed, and this onnxruntime cannot use it", f"{_install('cuda')}."
        )


def _started(device: Device, available: tuple[str, ...]) -> Check:
    name, choice = f"device {device.name}", resolve(device.name, available)
    try:
        probe(choice)
    except (DeviceError, SessionError) as exc:
        status: Status = "problem" if choice.execution_provider == CPU else "warning"
        return Check(name, status, str(exc), exc.hint)
    return Check(name, "ok", f"{choice.execution_provider} starts")


def _install(name: str) -> str:
    return next(device.install for device in DEVICES if device.name == name)


def check_dependencies() -> Iterator[Check]:
    """Versions of the libraries that gpux requires."""
    versions = {name: _version(name) for name in required_packages() if name != "onnxruntime"}
    here = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    yield Check("libraries", "ok", f"gpux {_version('gpux') or 'from source'}, {here}")
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        yield Check("missing libraries", "problem", ", ".join(missing), "`pip install --force-reinstall gpux`.")


def required_packages() -> list[str]:
    """Names of the packages that gpux requires without extras, from its own metadata; empty if it is not installed."""
    try:
        required = metadata.requires("gpux") or []
    except metadata.PackageNotFoundError:
        return []
    return sorted(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line)


def check_torch() -> Check:
    """Whether torch is installed; running a model does not use it, and toolchains have their own."""
    version = _version("torch")
    found = f"{version} is installed" if version else "not installed"
    return Check("torch", "ok", f"{found}; running models does not need it")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_folders(settings: Settings) -> Iterator[Check]:
    """Whether gpux can write to its folders, and their free space."""
    folders = {"store": settings.store, "source cache": settings.hf_cache, "toolchains": settings.toolchains}
    for name, folder in folders.items():
        yield _folder(name, folder)


def _folder(name: str, folder: Path) -> Check:
    here = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    if not here.is_dir() or not os.access(here, os.W_OK | os.X_OK):
        blame = f"{here} is not a folder" if not here.is_dir() else f"{here} is not writable"
        return Check(name, "problem", f"{folder}: {blame}", "Set GPUX_HOME or HF_HOME to a writable folder.")
    free = shutil.disk_usage(here).free
    state = "" if here == folder else ", created when it is needed"
    status: Status = "warning" if free < _LITTLE else "ok"
    hint = "Free space with `gpux prune`." if free < _LITTLE else None
    return Check(name, status, f"{folder}{state}: {free / 1e9:.1f} GB free", hint)


def check_machine() -> Check:
    """Cores and memory that this process may use, and the threads of a run."""
    quota, memory = cpu_quota(), memory_limit()
    limits = f", limited to {quota:g} by its control group" if quota else ""
    size = f"{memory / 1e9:.1f} GB of memory" if memory else "unknown memory"
    return Check("machine", "ok", f"{len(usable_cpus())} processors{limits}, {cpu_threads()} threads per run, {size}")
