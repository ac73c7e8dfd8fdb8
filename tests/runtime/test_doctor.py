from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

from gpux.runtime import cuda
from gpux.runtime.doctor import Check, DoctorReport, check_folders, check_onnxruntime, doctor, runtime_packages
from gpux.system.settings import Settings


def by_name(checks: Any) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_report_of_this_machine_has_no_problem(tmp_path: Path) -> None:
    report = doctor(Settings.from_env(home=tmp_path))
    checks = by_name(report.checks)
    assert report.ok
    assert checks["device cpu"].message == "CPUExecutionProvider starts"
    assert {"python", "onnxruntime", "libraries", "torch", "store", "source cache", "toolchains", "machine"} <= set(
        checks
    )
    json.dumps(report.to_dict())


def test_the_hub_client_is_not_imported() -> None:
    code = "import sys; from gpux.runtime.doctor import doctor; from gpux.system.settings import Settings\n"
    code += "doctor(Settings.from_env()); print({'huggingface_hub', 'torch', 'onnx', 'rich'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


class Installed(Distribution):
    """A package by its RECORD."""

    def __init__(self, folder: Path, name: str, *files: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (self.folder / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))

    def read_text(self, filename: str) -> str | None:
        file = self.folder / filename
        return file.read_text() if file.exists() else None

    def locate_file(self, path: Any) -> Any:
        return self.folder / path


def test_packages_that_contain_onnxruntime(tmp_path: Path) -> None:
    found = [
        Installed(tmp_path, "onnxruntime", "onnxruntime/__init__.py"),
        Installed(tmp_path, "onnxruntime-gpu", "onnxruntime/__init__.py", "onnxruntime/capi/x.so"),
        Installed(tmp_path, "onnxruntime-genai", "onnxruntime_genai/__init__.py"),
    ]
    packages = runtime_packages(found)
    assert packages == ["onnxruntime 1.2", "onnxruntime-gpu 1.2"]
    check = check_onnxruntime(packages)
    assert check.status == "problem"
    assert check.hint == "`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install onnxruntime-gpu`."
    assert check_onnxruntime(packages[:1]).status == "ok"


def test_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings.from_env(home=tmp_path / "file" / "home", hf_cache=tmp_path / "hf")
    checks = by_name(check_folders(settings))
    assert checks["store"].status == "problem" and "not a folder" in checks["store"].message
    assert checks["source cache"].status != "problem"
    assert not DoctorReport(tuple(checks.values())).ok


@pytest.mark.parametrize(
    ("version", "absent", "missing"),
    [
        ("13.0", ("libcudnn.so.9",), ["libcudnn.so.9"]),
        ("12.8", ("libcuda.so.1", "libcublas.so.12"), ["libcuda.so.1", "libcublas.so.12"]),
        ("13.0", (), []),
        (None, ("libcuda.so.1", "libcudnn.so.9"), ["libcuda.so.1"]),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="names of Linux")
def test_missing_libraries_are_named(version: str | None, absent: tuple[str, ...], missing: list[str]) -> None:
    def load(name: str) -> None:
        if name in absent:
            raise OSError(name)

    assert cuda.missing(version, load) == missing
    assert ("driver" in cuda.advice(missing)) == ("libcuda.so.1" in missing)
