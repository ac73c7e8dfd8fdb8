"""Interoperability: olah, a caching mirror, chained in front of the loopback Hub, and gpux pulling through it.

Optional: `pip install olah` brings it. It exercises the server with another client than ours, and gpux with another
server than ours.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gpux import HuggingFaceManager, Settings
from tests.hub import HubServer

pytestmark = [
    pytest.mark.hub,
    pytest.mark.skipif(importlib.util.find_spec("olah") is None, reason="no olah: pip install olah"),
]


@pytest.fixture
def mirror(hub: HubServer, tmp_path: Path) -> Iterator[str]:
    """The mirror's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    origin, cdn = urlsplit(hub.url), urlsplit(hub.cdn_url)
    own = f"127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "olah.server", "--host", "127.0.0.1", "--port", str(port)),
        *("--hf-scheme", "http", "--hf-netloc", origin.netloc, "--hf-lfs-netloc", cdn.netloc),
        *("--mirror-scheme", "http", "--mirror-netloc", own, "--mirror-lfs-netloc", own),
        *("--repos-path", str(tmp_path / "repos"), "--log-path", str(tmp_path / "logs")),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        try:
            _wait_for(port, process)
            yield f"http://{own}"
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "olah ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("olah did not listen")


def test_a_pull_through_a_mirror(mirror: str, settings: Settings) -> None:
    manager = HuggingFaceManager(settings, endpoint=mirror, timeout=10.0)

    info = manager.get_model_info("tiny/classify")
    snapshot = manager.fetch(info, ["config.json", "onnx/model.onnx"])

    assert all(file.etag and file.size for file in info.files)  # omitted by the mirror, read from the tree
    assert (snapshot.path / "onnx/model.onnx").stat().st_size == info.file("onnx/model.onnx").size  # type: ignore[union-attr]
