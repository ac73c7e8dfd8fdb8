"""A running server with one repository of each kind, and a client process that talks to it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import HubServer, User, add_repo
from tests.hub.client import Client
from tests.hub.wire import LFS, ask

GOOD, OTHER = "hf_good", "hf_other"
USERS = {GOOD: User("alice", orgs=("acme",)), OTHER: User("bob")}
ONNX = bytes(range(256)) * 1024
CARD = b"---\nlicense: mit\ntags:\n- one\n- two # second\nlanguage: [en, de]\nmodel-index:\n- name: x\n---\n# Card\n"


def safetensors(shape: tuple[int, ...] = (2, 3)) -> bytes:
    """A safetensors file with one float32 tensor."""
    size = 4
    for length in shape:
        size *= length
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


FILES: dict[str, bytes | Path] = {
    "README.md": CARD,
    "config.json": b'{"model_type":"bert","architectures":["BertModel"],"hidden_size":8}',
    "tokenizer_config.json": b'{"mask_token":{"content":"[MASK]"},"model_max_length":512}',
    "model.safetensors": safetensors(),
    "onnx/model.onnx": ONNX,
    "odd/sp ace/f#1 100%.txt": b"odd",
    "odd/\u00fcn\u00ef.txt": b"unicode",
}


def fill(root: Path) -> None:
    """Writes the repositories that the tests use."""
    add_repo(root, "acme/plain", FILES, pipeline_tag="fill-mask", downloads=7, trending_score=9)
    add_repo(root, "acme/second", {"config.json": b"{}", "new.txt": b"2"}, label="v2")
    add_repo(
        root,
        "acme/second",
        {"config.json": b"{}"},
        renamed_from=("acme/first", "first"),
        branches={"dev": "v2"},
        git_tags={"v1.0": "main"},
        pull_requests={"1": "v2"},
        parents={"v2": "main"},
    )
    add_repo(root, "acme/private", {"config.json": b"{}"}, private=True)
    add_repo(root, "acme/gated", {"config.json": b"{}", "model.onnx": ONNX}, gated="manual")
    add_repo(root, "acme/disabled", {"config.json": b"{}"}, disabled=True)
    add_repo(root, "acme/empty", {})
    add_repo(root, "acme/large", {"model.bin": bytes(24 << 20)})
    add_repo(root, "acme/many", {f"d{number % 7}/{number:04}.txt": b"%d" % number for number in range(1200)})
    add_repo(root, "acme/demo", {"README.md": b"---\nsdk: gradio\nmodels: [acme/plain]\n---\n"}, kind="spaces")
    for number in range(12):
        add_repo(root, f"crowd/m{number:02}", {"a.txt": b"a"}, likes=number, tags=("crowd",))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A server over `fill`'s repositories."""
    root = tmp_path_factory.mktemp("hub")
    fill(root)
    with HubServer(root, users=USERS, aliases={"old-plain": "acme/plain"}) as server:
        yield server
    assert server.errors == []


@pytest.fixture(autouse=True)
def _fresh_records(request: pytest.FixtureRequest) -> None:
    """Forgets the faults and requests of earlier tests."""
    if "hub" in request.fixturenames:
        server: HubServer = request.getfixturevalue("hub")
        server.clear_faults()
        server.clear_requests()


@pytest.fixture(scope="module")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client process of the installed line; downloads should name a `cache_dir` of their own."""
    with Client(hub.env(tmp_path_factory.mktemp("hf"))) as running:
        yield running


@pytest.fixture
def cdn(hub: HubServer) -> str:
    """A signed URL of the ONNX file."""
    location = ask(hub.url + LFS).headers["location"]
    assert location.startswith(f"{hub.cdn_url}/")
    hub.clear_requests()
    return location
