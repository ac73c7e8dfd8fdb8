"""Where a server listens, and the file of keys that a public address needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpux.errors import AddressError, CorruptFileError, GpuxError, UsageError
from gpux.server.security.guard import Guard
from gpux.server.security.hosts import check_bind, is_loopback, parse_authority, parse_origin
from gpux.server.security.keys import create_key, read_keys
from gpux.server.settings import ServerSettings
from tests.server.security.serving import local, settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_keys(tmp_path: Path, host: str) -> None:
    check_bind(settings(tmp_path, host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "10.0.0.1", "fe80::1%lo", "0"])
def test_every_other_address_needs_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises((UsageError, AddressError)) as refused:
        check_bind(settings(tmp_path, host=host))
    if isinstance(refused.value, UsageError):
        assert "gpux keys create" in (refused.value.hint or "")
    file = tmp_path / "keys.json"
    create_key(file, "laptop")
    check_bind(settings(tmp_path, host=host, api_keys=file))


def test_a_file_without_keys_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with pytest.raises(UsageError, match="has no keys") as refused:
        check_bind(settings(tmp_path, api_keys=file))
    command = (refused.value.hint or "").partition("`")[2].partition("`")[0].replace("NAME", "laptop")
    subprocess.run([sys.executable, "-P", "-m", *command.split()], check=True, capture_output=True)
    check_bind(settings(tmp_path, api_keys=file))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 2, "keys": []}', "[" * 100_000, "\xff"])
def test_a_damaged_file_of_keys_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(CorruptFileError):
        check_bind(settings(tmp_path, api_keys=file))


def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    create_key(file, "laptop")
    file.chmod(0o620)
    with pytest.raises(UsageError, match="other users") as refused:
        read_keys(file)
    assert refused.value.hint == f"Run `chmod go-w {file}`."
    file.chmod(0o640)
    assert len(read_keys(file)) == 1


def test_the_command_line_refuses_a_public_address(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "gpux", "serve", "--host", "0.0.0.0", "--port", "0", "--json"]
    done = subprocess.run(command, env={"GPUX_HOME": str(tmp_path), "PATH": ""}, capture_output=True, timeout=60)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "usage")
    assert "gpux keys create" in error["hint"]


@pytest.mark.parametrize(
    ("server", "allowed"),
    [
        (("127.0.0.1", 80), True),
        (("::1", 80), True),
        (("/run/gpux.sock", None), True),
        (("192.168.0.2", 80), False),
        (("testserver", 80), False),
        (None, False),
    ],
)
def test_another_asgi_server_on_a_public_address_serves_nothing_without_keys(
    tmp_path: Path, server: Any, allowed: bool
) -> None:
    guard = Guard(lambda scope, receive, send: None, settings(tmp_path), lambda path, error: None)  # type: ignore[arg-type,return-value]
    if allowed:
        guard._check_connection({"server": server})
    else:
        with pytest.raises(GpuxError, match="without keys"):
            guard._check_connection({"server": server})


@pytest.mark.parametrize("host", ["*", "*.example.org", "https://x", "a b", ""])
def test_a_pattern_is_not_a_host(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="not a host name"), local(settings(tmp_path, allowed_hosts=(host,))):
        pass


@pytest.mark.parametrize("origin", ["*", "null", "app.example.org", "https://*.example.org", "https://x/", "file://"])
def test_a_pattern_is_not_an_origin(tmp_path: Path, origin: str) -> None:
    with pytest.raises(UsageError, match="not an origin"), local(settings(tmp_path, allowed_origins=(origin,))):
        pass


def test_names_and_addresses() -> None:
    assert parse_authority("[0:0::1]:5") == parse_authority("[::1]:5")
    assert parse_authority("LOCALHOST") == parse_authority("localhost")
    assert parse_origin("http://localhost") == parse_origin("http://localhost:80")
    assert is_loopback("::ffff:127.0.0.1") and not is_loopback("::ffff:10.0.0.1") and not is_loopback("localhost")


def gpux(home: Path, *arguments: str, code: int = 0) -> Any:
    command = [sys.executable, "-P", "-m", "gpux", *arguments, "--json"]
    done = subprocess.run(command, env={"GPUX_HOME": str(home), "PATH": ""}, capture_output=True, timeout=60)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_keys_are_created_listed_and_revoked(tmp_path: Path) -> None:
    made = gpux(tmp_path, "keys", "create", "laptop", "--scope", "manage", "--scope", "read", "--expires", "30d")
    assert made["key"].startswith("gpux_") and made["scopes"] == ["read", "manage"]
    assert made["expires"] - made["created"] == 30 * 86400
    assert made["file"] == str(tmp_path / "server-keys.json")
    assert gpux(tmp_path, "keys", "create", "laptop", code=2)["error"]["hint"].startswith("Choose another")
    assert gpux(tmp_path, "keys", "create", "other", "--expires", "soon", code=2)["error"]["code"] == "usage"
    (listed,) = gpux(tmp_path, "keys", "list")
    assert (listed["name"], listed["id"]) == ("laptop", made["id"])
    assert "key" not in listed and "sha256" not in listed
    check_bind(ServerSettings(host="0.0.0.0", api_keys=Path(made["file"])))
    assert gpux(tmp_path, "keys", "revoke", made["id"])["name"] == "laptop"
    assert gpux(tmp_path, "keys", "list") == []
    assert gpux(tmp_path, "keys", "revoke", "laptop", code=2)["error"]["hint"] == "`gpux keys list` shows them."


def test_keys_created_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    program = "import sys; from pathlib import Path; from gpux.server.security.keys import create_key; "
    program += "[create_key(Path(sys.argv[1]), f'{sys.argv[2]}-{n}') for n in range(5)]"
    running = [subprocess.Popen([sys.executable, "-c", program, str(file), str(number)]) for number in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    assert len(read_keys(file)) == 15
