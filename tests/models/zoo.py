"""Tiny models of many architectures with random weights, as folders with the files of Hub repositories.

    python zoo.py FOLDER [NAME …]

Runs with torch, transformers 4.5x, tokenizers and sentencepiece. Writes ``FOLDER/TYPE__TASK`` for each entry, and
``FOLDER/NAME`` for each of the special folders of ``zoo_folders``. A NAME is a model type, a type and a task
(``bert__fill-mask``), or a special folder's name; without a NAME, everything is written. Network is not needed.

A built folder holds config.json, model.safetensors, a small real tokenizer, preprocessor_config.json for images and
audio, and generation_config.json for a generating model. All random numbers come from seeds derived from the names.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if __name__ == "__main__":  # as a program: make the repository's root importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.models import (
    zoo_audio,
    zoo_decoders,
    zoo_detection,
    zoo_extra,
    zoo_more_senses,
    zoo_more_text,
    zoo_multimodal,
    zoo_seq2seq,
    zoo_series,
    zoo_text,
    zoo_vision,
)
from tests.models.zoo_building import build
from tests.models.zoo_entries import EXTRA, MORE, ZOO
from tests.models.zoo_folders import FOLDERS, build_folder

__all__ = ["EXTRA", "FOLDERS", "MORE", "ZOO", "build", "build_folder", "folder_name"]

_RECIPES = (
    zoo_text, zoo_decoders, zoo_seq2seq, zoo_vision, zoo_detection, zoo_audio, zoo_series, zoo_multimodal, zoo_extra,
    zoo_more_text, zoo_more_senses,
)  # fmt: skip


def folder_name(model_type: str, task: str) -> str:
    """Name of the entry's folder."""
    return f"{model_type}__{task}"


def main(arguments: list[str]) -> int:
    """Build the requested entries; returns 1 when an entry cannot be built."""
    root, only, failed = Path(arguments[0]), set(arguments[1:]), 0
    for name, make in _builders(only):
        began = time.perf_counter()
        try:
            make(root / name)
            print(f"ok   {name:64} {time.perf_counter() - began:5.2f} s", flush=True)
        except Exception as exc:
            failed += 1
            print(f"FAIL {name:64} {type(exc).__name__}: {next(iter(str(exc).splitlines()), '')}", flush=True)
    return 1 if failed else 0


def _builders(only: set[str]) -> Iterator[tuple[str, Callable[[Path], None]]]:
    for model_type, task in ZOO + EXTRA + MORE:
        name = folder_name(model_type, task)
        if not only or {name, model_type} & only:
            yield name, lambda folder, entry=(model_type, task): build(*entry, folder)
    for name in FOLDERS:
        if not only or name in only:
            yield name, lambda folder, name=name: build_folder(name, folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
