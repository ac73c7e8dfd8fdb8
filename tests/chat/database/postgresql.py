"""A PostgreSQL server of Debian's package on loopback, with its own data folder, run by a user without privileges."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_USER = "gpux"
_PATIENCE = 120  #: seconds


class PostgresServer:
    """The server, while the block runs.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """

    def __init__(self) -> None:
        self._programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="gpux-postgres-"))
        self._data = self._folder / "data"
        self.password = secrets.token_hex(8)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of the database ``postgres``, with its superuser."""
        return f"postgresql://{_USER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        secret = self._folder / "password"
        secret.write_text(self.password, encoding="ascii")
        self._data.mkdir(mode=0o700)
        for path in (self._folder, self._data, secret):
            shutil.chown(path, *_owner())
        options = ("--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C", "--no-sync")
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", _USER, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_unprivileged(), cwd=self._folder)
        self.start()
        return self

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "fsync": "off",  # the machine does not fail in a test
            "max_connections": "40",
        }
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log, cwd=self._folder, **_unprivileged())
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + _PATIENCE
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self._folder / 'log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it with the connections that it has."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)  # "fast shutdown"
        self._process.wait(_PATIENCE)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder)


def _programs() -> Path:
    """The folder of the server's programs, which Debian does not put into PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if (named := shutil.which("initdb")) is not None:
        return Path(named).parent
    raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")


def _owner() -> tuple[int, int]:
    """This user; for root, which the server refuses, the user of Debian's package."""
    if os.getuid():
        return os.getuid(), os.getgid()
    import pwd  # Windows does not have it

    entry = pwd.getpwnam("postgres")
    return entry.pw_uid, entry.pw_gid


def _unprivileged() -> dict[str, Any]:
    if os.getuid():
        return {}
    user, group = _owner()
    return {"user": user, "group": group, "extra_groups": ()}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
