"""Interoperability: olah, a caching mirror, chained in front of the loopback Hub, and gpux pulling through it.

Optional: `pip install olah` brings it. It exercises the server with another client than ours, and gpux with another
server than ours.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gpux import HuggingFaceManager, Settings
from tests.hub import HubServer
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.hub,
    pytest.mark.skipif(importlib.util.find_spec("olah") is None, reason="no olah: pip install olah"),
]


@pytest.fixture
def mirror(hub: HubServer, tmp_path: Path) -> Iterator[str]:
    """The mirror's address."""
    with ExitStack() as stack:
        while (address := stack.enter_context(_olah(hub, tmp_path))) is None:
            pass  # another process took the port
        yield address


@contextmanager
def _olah(hub: HubServer, folder: Path) -> Iterator[str | None]:
    """The address of a mirror; None if its port was taken before it listened."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    origin, cdn = urlsplit(hub.url), urlsplit(hub.cdn_url)
    own = f"127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "olah.server", "--host", "127.0.0.1", "--port", str(port)),
        *("--hf-scheme", "http", "--hf-netloc", origin.netloc, "--hf-lfs-netloc", cdn.netloc),
        *("--mirror-scheme", "http", "--mirror-netloc", own, "--mirror-lfs-netloc", own),
        *("--repos-path", str(folder / "repos"), "--log-path", str(folder / "logs")),
    ]
    with (
        (folder / "olah.log").open("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or _listens(port))
            if process.poll() is not None:
                output = (folder / "olah.log").read_text()
                assert "address already in use" in output, output
            yield None if process.poll() is not None else f"http://{own}"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_pull_through_a_mirror(mirror: str, settings: Settings) -> None:
    manager = HuggingFaceManager(settings, endpoint=mirror)

    info = manager.get_model_info("tiny/classify")
    snapshot = manager.fetch(info, ["config.json", "onnx/model.onnx"])

    assert all(file.etag and file.size for file in info.files)  # omitted by the mirror, read from the tree
    assert (snapshot.path / "onnx/model.onnx").stat().st_size == info.file("onnx/model.onnx").size  # type: ignore[union-attr]
