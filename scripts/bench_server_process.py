"""The in-process side of the server's benchmark: pipelines of this process, called by JSON lines on standard input."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpux import pipeline
from gpux.pipelines.audio.speech_recognition import AutomaticSpeechRecognitionPipeline
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline

_opened: dict[str, Any] = {}


def opened(name: str, task: str) -> Any:
    """The pipeline of a stored model, opened once; without spinning threads, as in the server's workers."""
    if name not in _opened:
        _opened[name] = pipeline(task, model=name, device="cpu", spinning=False)
    return _opened[name]


def embed(model: str, texts: list[str], single: bool = False) -> dict[str, Any]:
    """Vectors of all texts in one call, or in a call for each."""
    pipe: FeatureExtractionPipeline = opened(model, "feature-extraction")
    latencies = []
    began, cpu = time.perf_counter(), time.process_time()
    for part in [[one] for one in texts] if single else [texts]:
        start = time.perf_counter()
        pipe.encode(part)
        latencies.append(time.perf_counter() - start)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "latencies": latencies,
    }


def generate(model: str, prompt: Any, tokens: int) -> dict[str, Any]:
    """A stream of one answer: seconds to the first text and to the end."""
    pipe: TextGenerationPipeline = opened(model, "text-generation")
    first = None
    began = time.perf_counter()
    with pipe.stream(prompt, max_new_tokens=tokens, do_sample=False) as stream:
        for text in stream:
            if text and first is None:
                first = time.perf_counter() - began
    return {"first": first, "seconds": time.perf_counter() - began}


def transcribe(model: str, path: str) -> dict[str, Any]:
    """The text of a file, which is read first."""
    pipe: AutomaticSpeechRecognitionPipeline = opened(model, "automatic-speech-recognition")
    sound = Path(path).read_bytes()
    began = time.perf_counter()
    text = pipe(sound)["text"]
    return {"text": text, "seconds": time.perf_counter() - began}


def close(model: str) -> dict[str, Any]:
    """Free a model."""
    if (pipe := _opened.pop(model, None)) is not None:
        pipe.close()
    return {}


def main() -> None:
    """Answer each line, a name and its keywords, with a line."""
    tasks: dict[str, Callable[..., dict[str, Any]]] = {
        "embed": embed,
        "generate": generate,
        "transcribe": transcribe,
        "close": close,
    }
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(tasks[name](**arguments)), flush=True)


if __name__ == "__main__":
    main()
