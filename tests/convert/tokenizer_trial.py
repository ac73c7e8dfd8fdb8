"""Writes tokenizer.json files with the worker's code, and the ids and texts of the slow tokenizers.

Run in a toolchain: ``python tokenizer_trial.py SRC FOLDER OUTPUT``; writes ``OUTPUT/answers.json``.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

#: Not those of the worker's own proof.
TEXTS = (
    "",
    "A small step.",
    "Übergrößenträger süßen Käse; Ælfrēd, Þór, żółć",
    "Широкая электрификация южных губерний",
    "我能吞下玻璃而不伤身体。 私はガラスを食べられます",
    "나는 유리를 먹을 수 있어요",
    "أنا قادر على أكل الزجاج",
    "मैं काँच खा सकता हूँ",
    "🙂🇫🇷 ok",
    "for k, v in d.items():\n    print(f'{k}: {v}')",
    "one   two\t\tthree\n\nfour",
    "you're 42 and 3.5",
)
PAIR = ("A small step", "für uns")


class Events:
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def stage(self, stage: str, message: str) -> None:
        """Ignored."""

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def main(source_root: str, folder: Path, output: Path) -> None:
    sys.path.insert(0, source_root)
    answers = {}
    for source in sorted(folder.iterdir()):
        (output / source.name).mkdir(parents=True)
        answers[source.name] = try_one(source, output / source.name)
    (output / "answers.json").write_text(json.dumps(answers))


def try_one(source: Path, output: Path) -> dict[str, Any]:
    from gpux.convert.answer_case import write_answers
    from gpux.convert.worker.tokenizer.work import Job, write_tokenizers
    from gpux.system.worker_protocol import Refused

    events = Events()
    try:
        job = Job(str(source), str(output), "feature-extraction")
        write_answers(write_tokenizers(job, events), output)  # type: ignore[arg-type]
    except Refused as exc:
        return {"refused": exc.code, "message": exc.message}
    written = sorted(file.name for file in output.glob("tokenizer*.json") if file.name != "tokenizer_config.json")
    found: dict[str, Any] = {"files": written, "warnings": events.warnings}
    if found["files"] and "tiktoken" not in source.name:
        found.update(slow_answers(source))
    return found


def slow_answers(source: Path) -> dict[str, Any]:
    from transformers import AutoTokenizer

    slow = AutoTokenizer.from_pretrained(source, use_fast=False, local_files_only=True)
    ids = [slow(text)["input_ids"] for text in TEXTS]
    ctc = hasattr(slow, "word_delimiter_token")
    texts = [slow.decode(row, skip_special_tokens=not ctc, clean_up_tokenization_spaces=False) for row in ids]
    return {"ids": ids, "texts": texts, "pair": slow(*PAIR)["input_ids"], "ctc": ctc}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
