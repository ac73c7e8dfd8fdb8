"""Answer cases: inputs of a task's pipeline, and the answers of the reference library to them.

The reference folder of a conversion gets ``answers.json`` and, for arrays, ``answers.npz``; a variant keeps both files
in its folder ``proof/``. The reference libraries are transformers' ``AutoTokenizer`` and ``pipeline``, and
sentence-transformers. ``answers.json`` has

* ``cases``: for each case the fields of :class:`AnswerCase`; ``expected`` is ``{"array": NAME}`` for an array of
  ``answers.npz``, and ``{"value": ...}`` for any other answer. An array within ``inputs`` or an answer is
  ``{"$array": NAME}``;
* ``versions``: library -> version, of the libraries that computed the answers;
* ``failures``: kind -> why the reference library gave no answers of that kind.

The worker imports this module in a toolchain, which has numpy and no gpux installed.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from gpux.errors import CorruptFileError

ANSWERS, ARRAYS = "answers.json", "answers.npz"

#: Token ids with special tokens: ``inputs`` is a text or ``[first, second]``, ``expected`` is
#: ``{"ids": [...], "type_ids": [...] or None}``. Without options nothing is cut, however long the text is; ``options``
#: may have ``add_special_tokens``, and ``truncation: True`` with a ``max_length``.
TOKENS = "tokens"
#: A chat template: ``inputs`` is a list of messages, ``options`` may have ``tools`` and ``add_generation_prompt``,
#: ``expected`` is ``{"text": ..., "ids": [...]}``.
CHAT = "chat"
#: Sentence vectors: ``inputs`` is a list of texts, ``options`` are those of sentence-transformers' ``encode``,
#: ``expected`` is a float32 array [texts, size].
ENCODE = "encode"
#: A call of the pipeline: ``inputs`` and ``options`` are those of ``transformers.pipeline``, ``expected`` its answer; a
#: float32 array, for brevity, where the answer is nested lists of numbers. Ask for all labels (``top_k=None``): whether
#: two that are nearly equal were exchanged cannot be seen in the best one alone.
#:
#: A picture, as an input and in an answer, is a uint8 array [height, width, 3] or, in grey, [height, width]; a mask is
#: a bool array [height, width]; a sound is ``{"array": float32 array [samples], "sampling_rate": int}``.
CALL = "call"
#: Stands for an array in the JSON of inputs and answers.
_KEY = "$array"


@dataclass(frozen=True)
class AnswerCase:
    """One question to a pipeline, and the reference library's answer."""

    name: str  #: unique in its set: ``tokens/empty``, ``encode/unequal-lengths`` …
    kind: str  #: :data:`TOKENS`, :data:`CHAT`, :data:`ENCODE` or :data:`CALL`
    inputs: Any  #: JSON-able, with numpy arrays
    expected: Any  #: JSON-able, with numpy arrays
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AnswerSet:
    """The answer cases of one model and task."""

    cases: tuple[AnswerCase, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)  #: kind -> why there are no cases of it


def write_answers(answers: AnswerSet, folder: Path) -> None:
    """Write ``answers.json`` and, if an answer is an array, ``answers.npz``."""
    arrays: dict[str, NDArray[Any]] = {}
    cases = []
    for case in answers.cases:
        if isinstance(case.expected, np.ndarray):
            arrays[case.name] = case.expected
            expected: dict[str, Any] = {"array": case.name}
        else:
            expected = {"value": _split(case.expected, f"{case.name}/expected", arrays)}
        inputs = _split(case.inputs, f"{case.name}/inputs", arrays)
        cases.append({**vars(case), "inputs": inputs, "options": dict(case.options), "expected": expected})
    content = {"cases": cases, "versions": dict(answers.versions), "failures": dict(answers.failures)}
    folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        with (folder / ARRAYS).open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for options
    (folder / ANSWERS).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read_answers(folder: Path) -> AnswerSet | None:
    """The answer cases of a folder; None for a folder without ``answers.json``.

    Raises:
        CorruptFileError: a file cannot be read as answer cases.
    """
    file = folder / ANSWERS
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        arrays = _read_arrays(folder / ARRAYS)
        cases = tuple(
            AnswerCase(
                case["name"],
                case["kind"],
                _joined(case["inputs"], arrays),
                _expected(case["expected"], arrays),
                case.get("options", {}),
            )
            for case in content["cases"]
        )
        return AnswerSet(cases, content.get("versions", {}), content.get("failures", {}))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise CorruptFileError(f"{file} has no readable answer cases: {exc}", hint="Run `gpux verify`.") from exc


def _read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    if not file.is_file():
        return {}
    with file.open("rb") as raw, NpzFile(raw, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _expected(found: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Any:
    return arrays[found["array"]] if "array" in found else _joined(found["value"], arrays)


def _split(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """A value whose arrays are replaced by their names; they are added to ``arrays``."""
    if isinstance(value, np.ndarray):
        key = f"{name}/{len(arrays)}"
        arrays[key] = value
        return {_KEY: key}
    if isinstance(value, Mapping):
        return {key: _split(inner, name, arrays) for key, inner in value.items()}
    return [_split(inner, name, arrays) for inner in value] if isinstance(value, (list, tuple)) else value


def _joined(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The reverse of :func:`_split`."""
    if isinstance(value, dict):
        return arrays[value[_KEY]] if set(value) == {_KEY} else {k: _joined(v, arrays) for k, v in value.items()}
    return [_joined(inner, arrays) for inner in value] if isinstance(value, list) else value


def merged(sets: Sequence[AnswerSet]) -> AnswerSet:
    """One set with the cases, versions and failures of all."""
    cases = tuple(case for answers in sets for case in answers.cases)
    versions = {name: version for answers in sets for name, version in answers.versions.items()}
    failures = {kind: reason for answers in sets for kind, reason in answers.failures.items()}
    return AnswerSet(cases, versions, failures)
