"""Memory that a graph is bound to: the host's, and a device's as onnxruntime allocates it, here on the CPU too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpux.errors import SessionError
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.runtime import binding
from gpux.runtime.binding import Buffer
from gpux.runtime.session import Session
from tests.pipelines.writer import expected, writer
from tests.runtime.generation import tiny_graphs

PROMPTS = ["a cat", "the dog ran", "x"]


@pytest.fixture(params=["host", "device"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where buffers are: `device` takes the way of CUDA, whose memory only onnxruntime can reach."""
    if request.param == "device":
        monkeypatch.setattr(binding, "_OWN_MEMORY", frozenset({"cpu"}))
    place: str = request.param
    return place


def test_buffer_writes_and_reads_bytes(memory: str) -> None:
    buffer = Buffer(16)
    buffer.write(np.arange(16, dtype=np.uint8))
    buffer.write(np.array([7, 7], np.uint8))
    assert buffer.read().tolist() == [7, 7, *range(2, 16)]
    assert (buffer.nbytes, buffer.device) == (16, "cpu")


@pytest.mark.parametrize("kind", ["growing", "shared"])
def test_generation_in_either_memory(memory: str, kind: tiny_graphs.Kind, tmp_path: Path) -> None:
    """Rows that leave, rows that are widened, beams, a cache that is resized and one that is taken up again."""
    with TextGenerationPipeline(writer(tmp_path, kind), device="cpu", eos_token_id=[]) as pipe:
        together = pipe(PROMPTS, max_new_tokens=12, return_full_text=False)
        assert together == [[{"generated_text": expected(prompt, 12)}] for prompt in PROMPTS]
        drawn = pipe(["a cat"] * 2, seed=1, num_return_sequences=3, max_new_tokens=5)
        assert drawn == pipe(["a cat"] * 2, seed=1, num_return_sequences=3, max_new_tokens=5, batch_size=1)
        assert pipe("a cat", num_beams=3, max_new_tokens=5) == pipe(["a cat"], num_beams=3, max_new_tokens=5)[0]
        first = pipe("abcdefghijklmnopqrst", max_new_tokens=3)[0]["generated_text"]
        second = pipe.stream(f"{first} and more of it", max_new_tokens=6)
        assert "".join(second) == expected(f"{first} and more of it", 6)
        assert second.result.timings.reused_tokens >= 20


def test_closed_binding_raises(tmp_path: Path) -> None:
    with Session(tiny_graphs.write(tmp_path / "model.onnx", "shared"), device="cpu") as session:
        bound = session.bind()
        bound.close()
        bound.close()
        with pytest.raises(SessionError, match="closed"):
            bound.run()


def test_wrong_shape_raises(tmp_path: Path) -> None:
    with Session(tiny_graphs.write(tmp_path / "model.onnx", "growing"), device="cpu") as session:
        bound = session.bind()
        bound.feed("input_ids", np.zeros((1, 2, 3), np.int64))
        with pytest.raises(SessionError):
            bound.run()
