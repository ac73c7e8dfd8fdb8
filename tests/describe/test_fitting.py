"""Estimates for a description and a machine."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gpux import Settings
from gpux.describe import describe_model
from gpux.describe.fitting import fit_model, gpus, this_machine
from gpux.errors import UsageError
from gpux.inspect.fit import GpuFacts, MachineFacts
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
