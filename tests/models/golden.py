"""Writes the golden files with transformers and sentence-transformers; run where those and torch are installed:

    python -m tests.models.golden [folder of all-MiniLM-L6-v2]

Without the folder, MiniLM is read from its package; without both, minilm.json is not changed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.models.cases import GOLDEN, MINILM_CALLS, PIPELINE_CASES, SENTENCE_CASES, Call, Case
from tests.models.minilm import minilm_source
from tests.models.weights import digest

LIBRARIES = ("transformers", "sentence-transformers", "torch", "tokenizers", "safetensors", "numpy")
DECIMALS = 7  # the precision of float32 at these sizes

# imported by name, since type checkers run without these two
transformers = importlib.import_module("transformers")
sentence_transformers = importlib.import_module("sentence_transformers")


def main() -> None:
    for task in dict.fromkeys(case.task for case in PIPELINE_CASES):
        _write(task, [_answered(case, _pipeline) for case in PIPELINE_CASES if case.task == task])
    _write("sentence-vectors", [_answered(case, _encoder) for case in SENTENCE_CASES])
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else minilm_source()
    if source is None:
        print("minilm.json: the package is not installed, left as it is")
    else:
        _write("minilm", [("all-MiniLM-L6-v2", _answers(source, MINILM_CALLS, _encoder(source, "")))])


def _pipeline(folder: Path, task: str) -> Callable[..., Any]:
    made: Callable[..., Any] = transformers.pipeline(task, model=str(folder), device="cpu")
    return made


def _encoder(folder: Path, task: str) -> Callable[..., Any]:
    made: Callable[..., Any] = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode
    return made


def _answered(case: Case, load: Callable[[Path, str], Callable[..., Any]]) -> tuple[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        repository = case.build(Path(folder) / "tiny-bert")
        return case.name, _answers(repository, case.calls, load(repository, case.task))


def _answers(repository: Path, calls: Iterable[Call], model: Callable[..., Any]) -> dict[str, Any]:
    weights = digest(load_file(repository / "model.safetensors"))
    answers = {
        call.name: {"digest": call.digest, "output": _plain(model(call.input, **call.options))} for call in calls
    }
    return {"weights": weights, "calls": answers}


def _plain(value: Any) -> Any:
    """Nested lists and rounded numbers, for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


def _write(name: str, cases: list[tuple[str, dict[str, Any]]]) -> None:
    versions = {library: importlib.metadata.version(library) for library in LIBRARIES}
    content = {"versions": versions, "cases": dict(cases)}
    file = GOLDEN / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(_dump(content), encoding="utf-8", newline="\n")
    print(f"{file.name}: {file.stat().st_size} bytes")


def _dump(content: dict[str, Any]) -> str:
    """JSON with one line per call, so that a diff shows which calls changed."""
    lines = ["{", f'"versions": {json.dumps(content["versions"])},', '"cases": {']
    cases = list(content["cases"].items())
    for index, (name, case) in enumerate(cases):
        lines.append(f'{json.dumps(name)}: {{"weights": "{case["weights"]}", "calls": {{')
        calls = [f"{json.dumps(k)}: {_compact(v)}" for k, v in case["calls"].items()]
        lines.append(",\n".join(calls))
        lines.append("}}," if index < len(cases) - 1 else "}}")
    return "\n".join([*lines, "}", "}", ""])


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


if __name__ == "__main__":
    main()
