"""Programs in processes of their own: how gpux starts them, and how their failures are reported."""

from __future__ import annotations

import errno
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpux.errors import error_types
from gpux.system.cancel import CancelToken
from gpux.system.launch import launch_command
from gpux.system.process import converse
from gpux.system.worker_protocol import Refused, describe

PROGRAMS = ("gpux.convert.worker.optimum", "gpux.convert.worker.mobius", "gpux.quantize.program")


@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_of_the_users_python_is_imported(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "gpux", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of PYTHONPATH was imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    log, events = tmp_path / "log", list[Mapping[str, Any]]()
    command = launch_command(sys.executable, program)
    end = converse(command, {"command": "nonsense"}, log=log, on_event=events.append, cancel=CancelToken())
    assert end.code == 1, log.read_text()
    assert events[-1]["event"] == "failure"
    assert "nonsense" in events[-1]["message"]


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (Refused("no_weights", "there are no weights"), "no_weights"),
        (MemoryError(), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EIO, "Input/output error"), "conversion"),
        (ImportError("no module named torch"), "toolchain"),
        (pickle.UnpicklingError("truncated"), "corrupt_file"),
        (ValueError("anything else"), "conversion"),
    ],
)
def test_the_type_of_an_exception_decides_the_code(exc: BaseException, code: str) -> None:
    found = describe(exc)
    assert found["code"] == code
    assert code in error_types()
    json.dumps(found)


def test_a_damaged_safetensors_file_is_a_corrupt_file() -> None:
    safetensors = pytest.importorskip("safetensors")
    assert describe(safetensors.SafetensorError("header too large"))["code"] == "corrupt_file"


def test_a_failure_has_its_cause_on_one_line() -> None:
    exc = Refused("conversion", "the exporter failed", "Try another task.")
    exc.__cause__ = KeyError("a\nb")
    assert describe(exc) == {
        "code": "conversion",
        "message": "the exporter failed",
        "hint": "Try another task.",
        "cause": "KeyError: 'a\\nb'",
    }
