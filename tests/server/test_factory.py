"""The application in an ASGI server that gpux does not start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2

from tests.server.running import NO_TLS
from tests.waiting import wait_until


def test_uvicorn_runs_the_application_and_ends_it(filled_home: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "gpux.server:create_app", "--port", str(port)]
    (tmp_path / "store").symlink_to(filled_home / "store")
    environment = {**os.environ, "GPUX_HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx2.get(f"{url}/livez", trust_env=False, verify=NO_TLS).is_success
        except httpx2.TransportError:
            assert process.poll() is None
            return False

    try:
        wait_until(answers)
        assert httpx2.get(f"{url}/gpux/v1/server", trust_env=False, verify=NO_TLS).json()["pid"] == process.pid
        assert httpx2.post(
            f"{url}/gpux/v1/load", json={"model": "tests/writer"}, timeout=60, trust_env=False, verify=NO_TLS
        ).is_success
        assert httpx2.post(f"{url}/gpux/v1/shutdown", trust_env=False, verify=NO_TLS).status_code == 202
        assert process.wait() in (0, -signal.SIGTERM)  # uvicorn raises the signal again
    finally:
        process.kill()
        process.wait()
