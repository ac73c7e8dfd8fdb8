from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from gpux import __version__
from gpux.cli import figures
from gpux.cli.failures import report_failure
from gpux.cli.main import COMMANDS, EPILOG, gpux, run
from gpux.cli.storage import _show
from gpux.cli.terminal import Terminal
from gpux.errors import GpuxError, error_types

Captured = pytest.CaptureFixture[str]
GPUX = [sys.executable, "-m", "gpux"]
GROUPS = (
    "auth",
    "bench",
    "completion",
    "config",
    "conversations",
    "keys",
    "toolchain",
)  # commands whose subcommands print the data


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")


def on_terminal(*command: str, typed: str = "", **environ: str) -> str:
    """What a command shows on a terminal where ``typed`` was typed; stdout and stderr together."""
    import pty  # POSIX only

    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    environ = {"TERM": "xterm-256color", "COLUMNS": "100", **environ}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=kept | environ)
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux says EIO where others say end of file
        pass
    os.close(ours)
    process.wait()
    return shown.decode()


# Help


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands_in_order(option: str, capsys: Captured) -> None:
    assert run([option]) == 0
    shown, remarks = capsys.readouterr()
    section = shown.split("Commands:\n")[1].split("\n\n")[0]
    assert re.findall(r"^  (\w+)", section, re.MULTILINE) == list(COMMANDS)
    assert remarks == ""


def test_help_lists_every_exit_code(capsys: Captured) -> None:
    documented = {int(code) for code in re.findall(r"\b(\d+) [A-Za-z]", EPILOG)}
    assert documented == {0, *(kind.exit_code for kind in error_types().values())}
    run(["--help"])
    assert "130 interrupted" in capsys.readouterr().out


def test_no_command_shows_the_help(capsys: Captured) -> None:
    assert run([]) == 2
    assert "Commands:" in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name: str, capsys: Captured) -> None:
    assert run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: gpux {name} ")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in GROUPS])
def test_every_command_that_prints_data_prints_json(name: str, capsys: Captured) -> None:
    run([name, "--help"])
    shown = capsys.readouterr().out
    assert [option in shown for option in ("--json", "--debug", "--quiet")] == [True] * 3


def test_the_version(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"gpux, version {__version__}\n"


@pytest.mark.parametrize("command", [GPUX, [str(Path(sys.executable).with_name("gpux"))]], ids=["module", "script"])
def test_the_script_and_the_module_start_the_command_line(command: list[str]) -> None:
    result = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"gpux, version {__version__}\n", "")
    assert subprocess.run([*command, "rm", "org/name"], capture_output=True).returncode == 3


# Wrong usage


@pytest.mark.parametrize(
    ("typed", "meant"), [("pul", "pull"), ("serach", "search"), ("lst", "list"), ("docter", "doctor"), ("xyzzy", None)]
)
def test_a_mistyped_command_suggests_the_nearest(typed: str, meant: str | None, capsys: Captured) -> None:
    assert run([typed, "org/name"]) == 2
    shown, remarks = capsys.readouterr()
    assert shown == ""
    assert f"No such command '{typed}'." in remarks
    assert re.findall(r"Did you mean `gpux (\w+)`\?", remarks) == ([meant] if meant else [])


@pytest.mark.parametrize("args", [["list", "--jsn"], ["--jsn"], ["pull"], ["run"], ["completion", "tcsh"]])
def test_wrong_usage_is_2(args: list[str], capsys: Captured) -> None:
    assert run(args) == 2
    shown, remarks = capsys.readouterr()
    assert shown == ""
    assert "Error: " in remarks
    assert "Traceback" not in remarks


# Errors


@pytest.mark.parametrize("kind", error_types().values(), ids=lambda kind: kind.code)
def test_every_error_at_the_boundary(kind: type[GpuxError], capsys: Captured) -> None:
    error = kind("it broke", hint="mend it", free=3)
    assert report_failure(error, ["list"]) == kind.exit_code
    assert capsys.readouterr() == ("", "error: it broke\n  → mend it\n")
    assert report_failure(error, ["list", "--json"]) == kind.exit_code
    shown, remarks = capsys.readouterr()
    assert json.loads(shown) == {"error": {"code": kind.code, "message": "it broke", "hint": "mend it", "free": 3}}
    assert remarks == "error: it broke\n  → mend it\n"


FAILURES: list[tuple[list[str], dict[str, str], str]] = [
    (["info", "two words"], {}, "invalid_reference"),
    (["info", "./nowhere"], {}, "model_not_found"),
    (["info", "ollama:llama3"], {}, "usage"),
    (["list"], {"GPUX_TIMEOUT": "soon"}, "usage"),
    (["rm", "org/name", "--yes"], {}, "not_stored"),
    (["verify", "org/name"], {}, "not_stored"),
    (["info", "org/name"], {"HF_HUB_OFFLINE": "1"}, "offline"),
    (["info", "org/name"], {}, "network"),
]


@pytest.mark.parametrize(("args", "environ", "code"), FAILURES, ids=str)
def test_errors_of_commands(
    args: list[str], environ: dict[str, str], code: str, no_hub: None, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    expected = error_types()[code].exit_code
    assert run(args) == expected
    shown, remarks = capsys.readouterr()
    assert shown == ""
    assert re.match(r"error: \S", remarks)
    assert "Traceback" not in remarks

    assert run([*args, "--json"]) == expected
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    assert f"error: {error['message']}" in remarks


@pytest.mark.parametrize("args", [["--debug", "info", "./nowhere"], ["info", "./nowhere", "--debug"]])
def test_debug_shows_the_traceback(args: list[str], capsys: Captured) -> None:
    assert run(args) == 3
    shown, remarks = capsys.readouterr()
    assert shown == ""
    assert "Traceback (most recent call last)" in remarks
    assert "gpux.errors.ModelNotFoundError" in remarks
    assert remarks.splitlines()[-1].startswith("  → ")


@pytest.mark.parametrize("json_too", [False, True])
def test_ctrl_c_is_130(silent_hub: socket.socket, json_too: bool) -> None:
    command = [*GPUX, "info", "org/name", *(["--json"] if json_too else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    connection, _ = silent_hub.accept()
    process.send_signal(signal.SIGINT)
    shown, remarks = process.communicate()
    connection.close()
    assert process.returncode == 130
    assert "error: interrupted" in remarks
    assert "Traceback" not in remarks
    assert (json.loads(shown)["error"]["code"] == "cancelled") if json_too else (shown == "")


@pytest.mark.parametrize("args", [["--help"], ["completion", "fish"], ["list", "--json"]], ids=" ".join)
def test_a_closed_pipe_is_no_error(args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([*GPUX, *args], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("args", "code"), [(["list", "--json"], 6), (["--help"], 6), (["info", "./no", "--json"], 3)])
def test_a_full_disk_behind_stdout(args: list[str], code: int) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        result = subprocess.run([*GPUX, *args], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == code
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 2
    assert ("No space left on device" in result.stderr) is (code == 6)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(("args", "code"), [("list --json", 0), ("list", 0), ("info ./no --json", 3), ("lst", 2)])
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_streams(args: str, code: int, closed: str) -> None:
    command = ["sh", "-c", f'"$0" -m gpux {args} {closed}', sys.executable]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (code, "")
    assert "Traceback" not in result.stderr


# What is printed where


@pytest.mark.parametrize(
    ("args", "shown", "remarks"),
    [
        (["list"], "", "Nothing is stored yet: `gpux pull org/name`.\n"),
        (["list", "--json"], "[]\n", ""),
        (["list", "-q"], "", ""),
        (["--quiet", "list"], "", ""),
        (["--quiet", "list", "--json"], "[]\n", ""),
        (["verify", "--json"], "[]\n", ""),
        (["jobs"], "", "No jobs: `gpux pull --detach org/name` starts one.\n"),
        (["jobs", "--json"], "[]\n", ""),
        (["prune"], "", "Nothing to remove.\n"),
    ],
    ids=str,
)
def test_data_on_stdout_and_talk_on_stderr(args: list[str], shown: str, remarks: str, capsys: Captured) -> None:
    assert run(args) == 0
    assert capsys.readouterr() == (shown, remarks)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)], ids=str
)
def test_no_color(environ: dict[str, str], coloured: bool) -> None:
    shown = on_terminal(*GPUX, "info", "./nowhere", **environ)
    assert "nowhere" in shown
    assert ("\x1b[" in shown) is coloured


def test_no_colour_in_a_pipe() -> None:
    result = subprocess.run([*GPUX, "info", "./nowhere"], capture_output=True, text=True)
    assert result.stderr.startswith("error: ")
    assert "\x1b" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("name", ["jobs", "prune", "outdated", "update"])
def test_no_table_of_nothing(name: str) -> None:
    shown = on_terminal(*GPUX, name)
    assert shown.startswith(("Nothing ", "No jobs")) and shown.count("\n") == 1


TABLE = """
from gpux.cli.terminal import Terminal
Terminal(as_json=False, quiet=False).table(("Input", "Figure"), [("a [/INST] b [bold] c", "12")], right=(1,))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}], ids=str)
def test_a_table_on_a_terminal_shows_texts_as_they_are(environ: dict[str, str]) -> None:
    shown = on_terminal(sys.executable, "-c", TABLE, **environ)
    assert "Input" in shown
    assert "a [/INST] b [bold] c" in re.sub(r"\x1b\[[0-9;]*m", "", shown)


def test_a_table_in_a_pipe_is_lines() -> None:
    result = subprocess.run([sys.executable, "-c", TABLE], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("a [/INST] b [bold] c\t12\n", "")


DECLINED = """
from gpux.cli.terminal import Terminal
terminal = Terminal(as_json=False, quiet=False)
print(terminal.confirm("Remove?", yes=False), terminal.declined("nothing was removed", "Add --yes.").hint)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_an_option_is_suggested_only_to_a_caller_who_was_not_asked() -> None:
    piped = subprocess.run([sys.executable, "-c", DECLINED], input="n\n", capture_output=True, text=True)
    assert (piped.stdout, piped.stderr) == ("False Add --yes.\n", "")
    assert "False None" in on_terminal(sys.executable, "-c", DECLINED, typed="n\n")


def test_a_table_without_names_of_columns_has_no_header(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    Terminal(as_json=False, quiet=False).table(("", ""), [("model", "org/name")])
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()] == [["model", "org/name"]]


@pytest.mark.parametrize(("width", "whole"), [(80, True), (120, True), (60, False)])
def test_names_are_not_broken_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, width: int, whole: bool
) -> None:
    name, proof = "sentence-transformers/all-MiniLM-L6-v2-onnx", "fp32 proven; int8 loss cosine_mean 0.9987"
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    row = (name, "abcdef1", "feature-extraction", "fp32 *", "90 MB", "", proof, "pinned")
    _show(Terminal(as_json=False, quiet=False), [row])

    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert any(name in line for line in lines) is whole
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_cell_of_a_narrow_table_is_cut(monkeypatch: pytest.MonkeyPatch, capsys: Captured, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    row = ("providers.huggingface.max_concurrent_models", "x" * 40, "/home/somebody/of/this/machine/chat.toml:12")
    Terminal(as_json=False, quiet=False).table(("Key", "Value", "From"), [row], whole=0)
    lines = capsys.readouterr().out.splitlines()[3:]
    assert sorted("".join(lines).replace(" ", "")) == sorted("".join(row))


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: Captured) -> None:
    assert run(["completion", shell]) == 0
    script, remarks = capsys.readouterr()
    assert remarks == ""
    assert f"_GPUX_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("gpux pu", {"pull"}),
        ("gpux re", {"revisions"}),
        ("gpux toolchain ", {"install", "list", "remove", "show"}),
        ("gpux auth ", {"login", "logout", "status"}),
        ("gpux completion z", {"zsh"}),
        ("gpux list --js", {"--json"}),
    ],
)
def test_shell_completion(words: str, found: set[str]) -> None:
    count = str(len(words.split(" ")) - 1)
    environ = {"_GPUX_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
    script = str(Path(sys.executable).with_name("gpux"))
    result = subprocess.run([script], env=os.environ | environ, capture_output=True, text=True)
    assert {line.split(",")[-1] for line in result.stdout.splitlines()} == found


@pytest.mark.parametrize("name", ["auth", "bench", "catalog", "config", "conversations", "jobs", "keys", "toolchain"])
def test_the_help_of_a_group_is_not_cut(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([name, "--help"]) == 0
    table = capsys.readouterr().out.partition("Commands:")[2]
    assert table
    assert "..." not in table


def test_the_group_lists_its_commands() -> None:
    context = click.Context(gpux)
    assert gpux.list_commands(context) == list(COMMANDS)
    assert gpux.get_command(context, "pulll") is None
    groups = {name for name in COMMANDS if isinstance(gpux.get_command(context, name), click.Group)}
    assert groups == {"toolchain", "auth", "jobs", "catalog", "config", "conversations", "keys", "bench"}


# Figures

FIGURES: list[tuple[Any, Any, str]] = [
    (figures.size, None, "?"),
    (figures.size, 0, "0 B"),
    (figures.size, 999, "999 B"),
    (figures.size, 1000, "1.0 kB"),
    (figures.size, 90_868_376, "90.9 MB"),
    (figures.size, 999_999, "1.0 MB"),
    (figures.size, 2_500_000_000, "2.5 GB"),
    (figures.size, 7_000_000_000_000, "7.0 TB"),
    (figures.count, None, ""),
    (figures.count, 0, "0"),
    (figures.count, 999, "999"),
    (figures.count, 22_713_728, "22.7M"),
    (figures.count, 999_999, "1.0M"),
    (figures.count, 7_241_732_096, "7.2B"),
    (figures.difference, None, ""),
    (figures.difference, 2.1e-06, "2.1e-06"),
    (figures.difference, 0.0, "0.0e+00"),
]


@pytest.mark.parametrize(
    ("function", "value", "text"), FIGURES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_figures(function: Any, value: Any, text: str) -> None:
    assert function(value) == text
