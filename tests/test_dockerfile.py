"""What the Dockerfile names exists: extras, files and options of `gpux serve`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def argument(instruction: str) -> str:
    """What follows the only instruction of a name."""
    [found] = re.findall(rf"^{instruction} (.+)$", TEXT, re.MULTILINE)
    return str(found)


def test_the_extras_of_a_service_are_installed() -> None:
    name, _, value = argument("ARG").partition("=")
    assert f'".[${{{name}}}]"' in TEXT
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    documented = re.findall(rf"--build-arg {name}=([a-z,]+)", TEXT)
    for extras in (value, *documented):
        assert {"server", "chat"} <= set(extras.split(",")) <= set(known)


def test_the_files_of_the_build_are_not_ignored() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)
    names = [name.removeprefix("./") for line in copied for name in line.split()]
    assert names
    for name in names:
        assert (ROOT / name).exists() and f"!{name}" in allowed


def test_the_command_starts_a_server_with_the_options_that_there_are() -> None:
    entry, command = json.loads(argument("ENTRYPOINT")), json.loads(argument("CMD"))
    assert entry == ["gpux"]
    run = [sys.executable, "-P", "-m", "gpux", command[0], "--help"]
    options = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    for option in command:
        assert not option.startswith("--") or f"{option} " in options
    port = command[command.index("--port") + 1]
    assert port == argument("EXPOSE") and f"127.0.0.1:{port}/livez" in TEXT
