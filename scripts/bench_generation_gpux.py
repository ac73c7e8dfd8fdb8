"""gpux and the bare loops over its graph, in one process and on one session.

python -m scripts.bench_generation_gpux VARIANT THREADS
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from gpux import pipeline
from gpux.model.variant import StoredModel
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.runtime.generation.engine.decoder import Decoder, DecoderState
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.loops.stepwise import generate
from gpux.runtime.generation.options import GenerationOptions
from gpux.store import MANIFEST, read_manifest
from scripts.bench_generation_bare import BoundLoop, copying
from scripts.bench_generation_process import serve

Prompts = list[list[int]]
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Timed:
    """A session that counts the seconds of its bound runs; any other attribute is the session's."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, *arguments: Any) -> None:
        """Run the session and record the seconds."""
        began = time.perf_counter()
        self._session.run_with_iobinding(*arguments)
        self.seconds.append(time.perf_counter() - began)


class Measured:
    """The functions that the benchmark's parent process can call."""

    def __init__(self, variant: Path, threads: int) -> None:
        model = StoredModel(variant, read_manifest(variant / MANIFEST))
        opened = pipeline("text-generation", model=model, device="cpu", threads=threads)
        assert isinstance(opened, TextGenerationPipeline)
        self._pipe = opened
        self._session = self._pipe.session._session
        self._states: dict[int, DecoderState] = {}
        self._loops: dict[int, BoundLoop] = {}

    def engine(self, prompts: Prompts, new: int) -> dict[str, Any]:
        """The generation engine of the pipeline, from token ids."""
        return _timed(self._pipe._decoder, prompts, new)

    def pipeline(self, prompts: Prompts, new: int) -> dict[str, Any]:
        """The pipeline itself, from texts with the same number of tokens; only the end of the call is timed."""
        texts = ["".join(chr(97 + token % 26) for token in row) for row in prompts]
        began = time.perf_counter()
        found = self._pipe.generate(texts, max_new_tokens=new, eos_token_id=(), reuse_prefix=False)
        seconds = time.perf_counter() - began
        tokens = [list(answers[0].tokens) for answers in found]
        assert {answers[0].prompt_tokens for answers in found} == {len(prompts[0])}
        return {"stamps": [seconds], "tokens": tokens}

    def copying(self, prompts: Prompts, new: int) -> dict[str, Any]:
        """The bare loop that copies the cache."""
        return copying(self._session, prompts, new)

    def bound(self, prompts: Prompts, new: int) -> dict[str, Any]:
        """The bare loop with the cache bound in place; the time includes allocating its buffers, as for the engine."""
        began = time.perf_counter()
        loop = BoundLoop(self._session, prompts, new)
        built = time.perf_counter() - began
        found = loop.write(new)
        return {"stamps": [built + stamp for stamp in found["stamps"]], "tokens": found["tokens"]}

    def engine_again(self, prompts: Prompts, new: int, room: int) -> dict[str, Any]:
        """The engine with a prompt that is in the cache from the previous call, as in a chat."""
        key = len(prompts[0])
        if key not in self._states:
            self._states[key] = self._pipe._decoder.open(room)
        return _stamped(self._states[key], prompts, new, time.perf_counter())

    def bound_again(self, prompts: Prompts, new: int, room: int) -> dict[str, Any]:
        """The bare loop with a prompt that is in the cache from the previous call."""
        key = len(prompts[0])
        known = key in self._loops
        if not known:
            self._loops[key] = BoundLoop(self._session, prompts, room)
        return self._loops[key].write(new, again=known)

    def outside(self, prompts: Prompts, new: int) -> dict[str, float]:
        """Median microseconds of a step outside onnxruntime: of the engine, and of the bare loop."""
        timed = Timed(self._session)
        self._pipe.session._session = timed
        try:
            engine = _outside(self.engine(prompts, new), timed)
            timed.seconds.clear()
            bare = _outside(BoundLoop(timed, prompts, new).write(new), timed)
        finally:
            self._pipe.session._session = self._session
        return {"engine": engine, "bare": bare}

    def memory(self, prompts: Prompts, new: int) -> dict[str, Any]:
        """Resident bytes after the second and the last token, measured twice, since the first run maps the cache."""
        state = self._pipe._decoder.open(new)
        options, found = GenerationOptions(max_new_tokens=new), []
        for _ in range(2):
            resident = [_resident() for _ in generate(state, DecodeRequest(prompts, options))]
            found.append([resident[1], resident[-1]])
        state.close()
        return {"resident": found, "cache": new * self._pipe._decoder.bytes_per_token()}


def _timed(decoder: Decoder, prompts: Prompts, new: int) -> dict[str, Any]:
    began = time.perf_counter()
    state = decoder.open(new)
    try:
        return _stamped(state, prompts, new, began)
    finally:
        state.close()


def _stamped(state: DecoderState, prompts: Prompts, new: int, began: float) -> dict[str, Any]:
    stamps: list[float] = []
    tokens: Prompts = [[] for _ in prompts]
    for emitted in generate(state, DecodeRequest(prompts, GenerationOptions(max_new_tokens=new))):
        assert emitted.token is not None
        tokens[emitted.row].append(emitted.token)
        if emitted.row == len(prompts) - 1:
            stamps.append(time.perf_counter() - began)
    return {"stamps": stamps, "tokens": tokens}


def _outside(found: dict[str, Any], timed: Timed) -> float:
    steps = np.diff(found["stamps"])
    return float(np.median(1e6 * (steps - np.array(timed.seconds[-len(steps) :]))))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def main() -> None:
    """Load a variant and answer requests."""
    measured = Measured(Path(sys.argv[1]), int(sys.argv[2]))
    names = ("engine", "pipeline", "copying", "bound", "engine_again", "bound_again", "outside", "memory")
    serve({name: getattr(measured, name) for name in names})


if __name__ == "__main__":
    main()
