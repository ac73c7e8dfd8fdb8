"""The tiny decoder with each kind of cache."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpux.convert.optimum import WORKER
from gpux.runtime.generation.decoder import Decoder
from gpux.runtime.session import Session
from tests.runtime.generation import tiny_graphs
from tests.runtime.generation.tiny_decoders import DRIVING, Opened
from tests.runtime.generation.tiny_graphs import Kind


@pytest.fixture(params=["growing", "shared"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(params=[False, True], ids=["all-logits", "last-logits"])
def keeps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the graph can be asked for the scores of the last tokens alone."""
    monkeypatch.syspath_prepend(WORKER)
    return bool(request.param)


@pytest.fixture
def made(tmp_path: Path, kind: Kind, keeps: bool) -> Iterator[Opened]:
    """Opens the tiny decoder; ``limit`` is written into its graph."""
    sessions: list[Session] = []

    def make(limit: int | None = None, **arguments: Any) -> Decoder:
        file = tiny_graphs.write(tmp_path / f"model-{len(sessions)}.onnx", kind, limit=limit)
        if keeps:
            assert importlib.import_module("logits").let_start_logits(file)
        sessions.append(Session(file, device="cpu"))
        return Decoder(sessions[-1], DRIVING[kind], **arguments)

    yield make
    for session in sessions:
        session.close()
