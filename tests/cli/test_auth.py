"""``gpux auth`` with the token on standard input, on a terminal, and in a real key store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import finished
from tests.hub import HubServer
from tests.waiting import wait_until

pytestmark = pytest.mark.hub

GPUX = [sys.executable, "-m", "gpux"]
TOKENS = ("hf_good", "hf_other", "hf_bad")
FILE_STORE = "keyrings.alt.file.PlaintextKeyring"


def gpux(*args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """The finished command; no token may be in what it shows."""
    return checked(finished(*args, stdin=stdin, environment=environ), args)


def process(*args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """As :func:`gpux`, in a process."""
    environment = os.environ | environ
    return checked(subprocess.run([*GPUX, *args], input=stdin, env=environment, capture_output=True, text=True), args)


def checked(result: subprocess.CompletedProcess[str], args: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    assert not [token for token in TOKENS if token in result.stdout + result.stderr]
    assert "Traceback" not in result.stderr or "--debug" in args
    return result


@pytest.fixture
def token_file(hub: HubServer, home: Path) -> Path:
    """Where the token file will be, with a Hub to log in to."""
    return home / "hf" / "token"


def test_login_status_logout(token_file: Path) -> None:
    done = gpux("auth", "login", stdin="hf_good\n")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Logged in as ada; the token is in {token_file}.\n"
    assert token_file.read_text() == "hf_good"

    shown = gpux("auth", "status")
    assert shown.returncode == 0
    facts = dict(line.split("\t") for line in shown.stdout.splitlines())
    assert facts == {
        "user": "ada",
        "organizations": "acme",
        "role": "read",
        "token from": f"{token_file} (file)",
        "token's name": "token",
    }

    assert gpux("auth", "logout").stderr == f"Removed the token from {token_file}.\n"
    assert not token_file.exists()
    again = gpux("auth", "logout")
    assert (again.returncode, again.stderr) == (0, "Nothing to remove.\n")
    assert gpux("auth", "status").returncode == 4


def test_json(token_file: Path) -> None:
    kept = json.loads(gpux("auth", "login", "--json", stdin="hf_good").stdout)
    assert (kept["source"], kept["place"], kept["account"]["name"]) == ("file", str(token_file), "ada")
    shown = json.loads(gpux("auth", "status", "--json", HF_TOKEN="hf_other").stdout)
    assert (shown["source"], shown["place"], shown["account"]["name"]) == ("environment", "HF_TOKEN", "bob")
    assert shown["unused"] == [str(token_file)]
    left = json.loads(gpux("auth", "logout", "--json", HF_TOKEN="hf_other").stdout)
    assert left == {"removed": [str(token_file)], "still_set": "HF_TOKEN", "other_tokens": None}
    assert json.loads(gpux("auth", "status", "--json").stdout)["error"]["code"] == "access"


@pytest.mark.parametrize(
    ("args", "stdin", "code"),
    [
        ((), "hf_bad", 4),
        ((), "", 4),
        ((), "hf_good\nhf_other\n", 4),
        ((), "\x00\x01", 4),
        (("hf_good",), "hf_good", 2),
        (("--token=hf_good",), "hf_good", 2),
        (("--token", "hf_good"), "hf_good", 2),
    ],
    ids=["refused", "empty", "two", "binary", "argument", "option=", "option"],
)
@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["", "debug"])
def test_refused_logins_keep_nothing(
    token_file: Path, args: tuple[str, ...], stdin: str, code: int, debug: tuple[str, ...]
) -> None:
    done = gpux("auth", "login", *args, *debug, stdin=stdin)
    assert (done.returncode, done.stdout) == (code, "")
    assert not token_file.exists()


def test_a_byte_order_mark_is_no_part_of_a_token(token_file: Path) -> None:
    assert gpux("auth", "login", stdin="\ufeffhf_good\r\n").returncode == 0
    assert token_file.read_text() == "hf_good"


def test_a_variable_that_takes_precedence_is_reported(token_file: Path) -> None:
    assert "! HF_TOKEN is set and takes precedence.\n" in gpux("auth", "login", stdin="hf_good", HF_TOKEN="x").stderr
    assert "! HF_TOKEN is set and still provides a token" in gpux("auth", "logout", HF_TOKEN="x").stderr


@pytest.mark.usefixtures("impatient")
def test_errors(token_file: Path, home: Path) -> None:
    assert gpux("auth", "login", stdin="hf_good", HF_ENDPOINT="http://127.0.0.1:9").returncode == 5
    assert gpux("auth", "login", stdin="hf_good", HF_HUB_OFFLINE="1").returncode == 5
    (home / "hf").touch()  # a file where the folder must be
    assert gpux("auth", "login", stdin="hf_good").returncode == 6
    refused = gpux("auth", "status", HF_TOKEN="hf_bad")
    assert (refused.returncode, "HF_TOKEN" in refused.stderr) == (4, True)


def test_the_hugging_face_command_sees_it(token_file: Path) -> None:
    gpux("auth", "login", stdin="hf_good")
    command = Path(sys.executable).with_name("hf")
    result = subprocess.run([command, "auth", "whoami"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "ada" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_typed_token_is_not_shown(token_file: Path) -> None:
    import pty
    import termios

    ours, theirs = pty.openpty()
    process = subprocess.Popen([*GPUX, "auth", "login"], stdin=theirs, stdout=theirs, stderr=theirs)
    shown = b""
    while b"Token" not in shown:
        shown += os.read(ours, 1000)
    wait_until(lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO)  # after the question was written
    os.write(ours, b"hf_good\n")
    os.close(theirs)
    assert process.wait() == 0
    try:
        while chunk := os.read(ours, 1000):
            shown += chunk
    except OSError:  # Linux says EIO where others say end of file
        pass
    os.close(ours)
    assert b"Logged in as ada" in shown
    assert b"hf_" not in shown
    assert token_file.read_text() == "hf_good"


# The key store


@pytest.fixture
def key_store(token_file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment that chooses a real key store, in a file below this test's home."""
    pytest.importorskip("keyring", reason="the extra: pip install 'gpux[keyring]' keyrings.alt")
    pytest.importorskip("keyrings.alt")
    monkeypatch.setattr("keyring.core._keyring_backend", None)
    return {"PYTHON_KEYRING_BACKEND": FILE_STORE, "XDG_DATA_HOME": str(token_file.parents[1] / "data")}


def keyed(*args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """As :func:`gpux`; keyring reads again which key store the environment chooses, as a new process does."""
    import keyring.core

    keyring.core._keyring_backend = None
    return gpux(*args, stdin=stdin, **environ)


def test_the_key_store_instead_of_a_file(token_file: Path, key_store: dict[str, str]) -> None:
    done = process("auth", "login", "--keyring", stdin="hf_good\n", **key_store)
    assert (done.returncode, done.stderr) == (0, "Logged in as ada; the token is in file PlaintextKeyring.\n")
    assert not token_file.exists()
    assert not [file for file in token_file.parent.rglob("*") if file.is_file() and b"hf_" in file.read_bytes()]

    shown = json.loads(process("auth", "status", "--json", **key_store).stdout)
    assert (shown["source"], shown["account"]["name"]) == ("keyring", "ada")
    assert "private" in keyed("info", "acme/private", **key_store).stdout
    assert keyed("info", "acme/private", HF_TOKEN="hf_other", **key_store).returncode == 3
    assert keyed("info", "acme/private", HF_HUB_DISABLE_IMPLICIT_TOKEN="1", **key_store).returncode == 3

    assert "file PlaintextKeyring" in process("auth", "logout", **key_store).stderr
    assert keyed("auth", "status", **key_store).returncode == 4
    assert list(token_file.parent.iterdir()) == []
    kept = [file for file in (token_file.parents[1] / "data").rglob("*") if file.is_file()]
    assert all(b"=" not in file.read_bytes() for file in kept)


def test_two_homes_do_not_share_an_entry(token_file: Path, key_store: dict[str, str]) -> None:
    other = {**key_store, "HF_HOME": str(token_file.parents[1] / "other")}
    keyed("auth", "login", "--keyring", stdin="hf_good", **key_store)
    keyed("auth", "login", "--keyring", stdin="hf_other", **other)
    keyed("auth", "logout", **other)
    assert "ada" in keyed("auth", "status", **key_store).stdout


def test_a_token_file_takes_precedence_over_the_key_store(token_file: Path, key_store: dict[str, str]) -> None:
    keyed("auth", "login", "--keyring", stdin="hf_good", **key_store)
    keyed("auth", "login", stdin="hf_other", **key_store)
    assert "not used\tfile PlaintextKeyring" in keyed("auth", "status", **key_store).stdout
    refused = keyed("auth", "login", "--keyring", stdin="hf_good", **key_store)
    assert (refused.returncode, "gpux auth logout" in refused.stderr) == (2, True)
    assert token_file.read_text() == "hf_other"
    both = keyed("auth", "logout", **key_store).stderr
    assert f"{token_file} and file PlaintextKeyring" in both


@pytest.mark.parametrize("backend", ["null", "fail"])
def test_a_key_store_that_keeps_nothing(token_file: Path, key_store: dict[str, str], backend: str) -> None:
    key_store["PYTHON_KEYRING_BACKEND"] = f"keyring.backends.{backend}.Keyring"
    done = keyed("auth", "login", "--keyring", stdin="hf_good", **key_store)
    assert (done.returncode, done.stdout) == (6, "")
    assert "without" in done.stderr
    assert not token_file.parent.exists()


def test_a_key_store_that_fails_later(token_file: Path, key_store: dict[str, str]) -> None:
    keyed("auth", "login", "--keyring", stdin="hf_good", **key_store)
    key_store["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    assert keyed("list", **key_store).returncode == 0  # what needs no token goes on
    assert keyed("auth", "status", **key_store).returncode == 6
    assert keyed("auth", "logout", **key_store).returncode == 6


def test_without_the_extra(token_file: Path) -> None:
    program = "import sys; sys.modules['keyring'] = None; from gpux.cli.main import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program, "auth", "login", "--keyring"], input="hf_good", capture_output=True, text=True
    )
    assert result.returncode == 6
    assert "pip install 'gpux[keyring]'" in result.stderr
    assert not token_file.exists()
