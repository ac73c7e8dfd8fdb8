"""Writes effective tokenizers with the worker's code, and their answers.

Run in a toolchain: ``python effective_trial.py SRC FOLDER OUTPUT TASK``; writes ``answers.json`` for each subfolder.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any


class Events:
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def stage(self, stage: str, message: str) -> None:
        """Ignored."""

    def send(self, event: str, **values: Any) -> None:
        self.warnings.append(values["message"])

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def main(source_root: str, folder: Path, output: Path, task: str) -> None:
    sys.path.insert(0, source_root)
    from gpux.convert.answer_case import write_answers
    from gpux.convert.worker.tokenizer.work import Job, TokenizerWork
    from gpux.system.worker_protocol import Refused

    found = {}
    for source in sorted(folder.iterdir()):
        events = Events()
        target = output / source.name
        target.mkdir(parents=True)
        refused = None
        try:
            work = TokenizerWork(Job(str(source), str(target), task), events)  # type: ignore[arg-type]
            write_answers(work.finish(), target)
        except Refused as exc:
            refused = [exc.code, exc.message]
        found[source.name] = {"warnings": events.warnings, "refused": refused}
    (output / "events.json").write_text(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
