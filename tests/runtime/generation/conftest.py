"""The tiny decoder with each kind of cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpux.convert.worker.common import logits
from gpux.runtime.generation.engine.decoder import Decoder
from gpux.runtime.session import Session
from tests.runtime.generation import tiny_graphs
from tests.runtime.generation.tiny_decoders import CALL_SPECS, Opened
from tests.runtime.generation.tiny_graphs import Kind


@pytest.fixture(params=["growing", "shared"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(params=["all-logits", "last-logits"])
def scored(request: pytest.FixtureRequest) -> str:
    """Whether the graph scores every token of a call, or the last tokens alone on request (``logits_start``)."""
    return str(request.param)


@pytest.fixture
def made(tmp_path: Path, kind: Kind, scored: str) -> Iterator[Opened]:
    """Opens the tiny decoder; ``limit`` is written into its graph."""
    sessions: list[Session] = []

    def make(limit: int | None = None, **arguments: Any) -> Decoder:
        file = tiny_graphs.write(tmp_path / f"model-{len(sessions)}.onnx", kind, limit=limit)
        if scored != "all-logits":
            assert logits.add_logits_start(tiny_graphs.tie(file))
        sessions.append(Session(file, device="cpu"))
        return Decoder(sessions[-1], CALL_SPECS[kind], **arguments)

    yield make
    for session in sessions:
        session.close()
