"""Folders and files that cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpux.cli.main import run
from gpux.errors import CorruptFileError, ModelNotFoundError
from gpux.managers.local import LocalManager

UNREADABLE = [
    pytest.param("/proc/1/", marks=pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")),
    "/" + "x" * 5000,  # longer than any system allows
]


@pytest.mark.parametrize("folder", UNREADABLE, ids=["entries", "name"])
def test_a_folder_that_cannot_be_read_is_a_typed_error(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelNotFoundError, match="cannot be read: ") as caught:
        LocalManager().resolve(folder)
    assert caught.value.hint
    assert run(["info", folder]) == 3
    assert "cannot be read" in capsys.readouterr().err


def test_a_damaged_configuration_of_a_folder_cannot_be_repaired_by_gpux(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CorruptFileError, match="is not JSON") as caught:
        LocalManager().resolve(str(tmp_path))
    assert caught.value.hint == "Correct the file."
