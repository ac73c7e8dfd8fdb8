"""A chat provider of another package, as docs/how-to/extend.md shows it: installed, served, and tested by its suite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chat.service.talking import chatting, talk

ROOT = Path(__file__).parents[3]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the page's package, as an installation leaves it."""
    page = (ROOT / "docs" / "how-to" / "extend.md").read_text()
    folder = tmp_path / "site"
    points = folder / "parrot-1.0.dist-info" / "entry_points.txt"
    points.parent.mkdir(parents=True)
    for name in ("parrot.py", "test_parrot.py"):
        [text] = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", page, re.DOTALL)
        (folder / name).write_text(text)
    (points.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    points.write_text("[gpux.chat_providers]\nparrot = parrot:ParrotProvider\n")
    return folder


def test_it_answers_in_a_server(tmp_path: Path, package: Path) -> None:
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    configuration = '[providers.parrot]\nprefix = "bird:"\n[providers.ollama]\nenabled = false\n'
    with chatting(tmp_path, configuration, HUGGINGFACE_ENABLED="false", PYTHONPATH=path) as server:
        found = talk(server, {"model": "bird:grey", "message": "hello you"})
        assert found.text == "hello you "
        assert found.end["modelProvider"] == "parrot"
        missing = talk(server, {"model": "bird:green", "message": "hello"})
        assert (missing.status, missing.error["code"]) == (404, "model_not_found")


def test_it_passes_its_suite(package: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_parrot.py"]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^18 passed", done.stdout, re.MULTILINE), done.stdout
