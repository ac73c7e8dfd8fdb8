"""Estimates for a description and a machine."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from gpux import Settings, pull_model
from gpux.describe import describe_model
from gpux.describe.fitting import fit_model, gpus, this_machine
from gpux.errors import UsageError
from gpux.inspect.fit import GpuFacts, MachineFacts
from tests.describe import random_models
from tests.inspect.headers.files import llama

MACHINE = MachineFacts(16_000_000_000, 8_000_000_000, bandwidth=20e9, disk_free=100_000_000_000)


def test_a_local_gguf_file(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "a.gguf").write_bytes(llama().file())

    found = describe_model(tmp_path / "a.gguf", settings=settings)
    fits = fit_model(found, MACHINE, context=2048, batch=2)

    assert [(fit.precision, fit.context, fit.batch) for fit in fits] == [
        (name, 2048, 2) for name in ("fp32", "fp16", "int8", "int4")
    ]
    assert fits[0].download == found.gguf.bytes  # type: ignore[union-attr]
    assert (fits[0].weights or 0) > 4 * (found.parameters.total or 0) * 0.99
    with pytest.raises(UsageError):
        fit_model(found, MACHINE, context=0)


def test_an_unknown_size_gives_no_estimate(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "notes.txt").write_text("nothing")

    [fit] = fit_model(describe_model(tmp_path, settings=settings), MACHINE, precisions=["fp32"])

    assert (fit.weights, fit.memory) == (None, None)


def test_this_machine(tmp_path: Path) -> None:
    found = this_machine(tmp_path / "not" / "yet" / "there")

    assert found.ram_total and found.ram_available and found.ram_available <= found.ram_total
    assert found.bandwidth and found.bandwidth > 1e8
    assert found.disk_free


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Card, 48GB, 49140, 48000\nOther, 1024, 1000\n", [("Card, 48GB", 49140, 48000), ("Other", 1024, 1000)]),
        ("No devices were found\n", []),
        ("Card, [N/A], [N/A]\n", []),
    ],
)
def test_gpus_listed_by_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, expected: list[tuple[str, int, int]]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '%s' '{answer}'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert gpus() == tuple(GpuFacts(name, total << 20, free << 20) for name, total, free in expected)


def test_no_gpus_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == ()
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    assert gpus() == ()


SMALL = Path(__file__).parent.parent / "models" / "small"


@pytest.fixture(scope="module")
def folders(warm_toolchains: Path, shared_folder: Callable[[str], Path]) -> Path:
    """The random models with the small model's tokenizer, written once by the toolchain's interpreter."""
    folder = shared_folder("random-models")
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            program: list[str | Path] = [warm_toolchains / "optimum" / "bin" / "python", random_models.__file__, folder]
            subprocess.run(program, check=True, capture_output=True)
            for name in random_models.MODELS.keys() - {"vision"}:
                for file in SMALL.glob("*token*"):
                    shutil.copy(file, folder / name)
            (folder / "done").touch()
    return folder


@pytest.mark.toolchain
@pytest.mark.parametrize("name", ["small", *random_models.MODELS])
def test_weights_are_within_a_tenth_of_what_is_stored(name: str, folders: Path, warm_toolchains: Path) -> None:
    settings = Settings.from_env(toolchains=warm_toolchains)
    folder = SMALL if name == "small" else folders / name
    fits = {fit.precision: fit.weights for fit in fit_model(describe_model(folder, settings=settings), MACHINE)}

    for precision in ("fp32", "fp16", "int8", "int4"):
        model = pull_model(folder, precision=precision, allow_inexact=True, settings=settings)
        stored = sum(file.size for file in model.manifest.files if ".onnx" in file.path)
        assert stored / 1.1 < (fits[precision] or 0) < stored * 1.1, (precision, model.manifest.recipe)
