"""Ask models of the zoo through a running server, and compare with the pipeline in this process.

    python -m scripts.server_tasks [NAME …] [--shard 1/4]

A NAME is a folder of the zoo, a model type, a task or a group, as of ``scripts.coverage_matrix``; by default all. They
are pulled with the toolchains of ``GPUX_TOOLCHAINS``. No session of nox runs this: ``tests/server/test_every_task.py``
does the same with a model for each task.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.conftest import MOBIUS, OPTIMUM
from tests.models import zoo
from tests.server.asking import QUESTIONS, Question, alone, difference, in_the_shape_of_clients, sent, served
from tests.server.running import Running, serving
from tests.warm_toolchain import warm

from gpux.errors import GpuxError
from gpux.model.variant import StoredModel
from gpux.pipelines.registry import pipeline_class
from gpux.pull.api import pull_model
from gpux.pull.open import pipeline
from gpux.server.names import Names
from gpux.system.launch import LAUNCHER
from gpux.system.settings import Settings
from scripts.coverage_entries import Entry, chosen

#: Why an answer is not that of the pipeline, and what it is compared with; docs/reference/http/huggingface.md.
OF_WHOLE_TEXTS = "a vector of each whole text, equal to `encode`, as the repository is one of sentence-transformers"


def main() -> int:
    """Print a line for each model; returns 1 when an answer differs.

    ``documented`` is an answer that differs from that of the pipeline as the documentation says; the reason follows.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--shard", type=lambda text: tuple(map(int, text.split("/"))), default=(1, 1))
    arguments = parser.parse_args()
    entries = [entry for entry in chosen(arguments.names, arguments.shard) if entry.expected_error is None]
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="gpux-tasks-") as name, _toolchains(Path(name) / "warm") as toolchains:
        home = Path(name)
        settings = Settings.from_env({"GPUX_HOME": str(home / "gpux"), "HF_HOME": str(home / "hf")})
        settings = settings.with_overrides(toolchains=toolchains, offline=True)
        python = Settings.from_env().toolchains / "optimum" / "bin" / "python"
        subprocess.run([python, zoo.__file__, home, *(entry.name for entry in entries)], capture_output=True)
        (home / "gpux").mkdir()
        with serving(home / "gpux", ["--max-models", "2"]) as server:
            for entry in entries:
                began = time.perf_counter()
                verdict, more = _verdict(server, settings, home, entry)
                found[verdict] += 1
                print(f"{verdict:<10} {entry.name:<64} {time.perf_counter() - began:5.1f} s  {more}", flush=True)
    print(dict(found))
    return int(found["differs"] > 0)


def _verdict(server: Running, settings: Settings, home: Path, entry: Entry) -> tuple[str, str]:
    try:
        model = pull_model(home / entry.name, task=entry.task, settings=settings)
    except (GpuxError, FileNotFoundError) as error:
        return "not stored", str(error)[:160]
    if model.pipeline_task not in QUESTIONS:
        return "no task", model.pipeline_task
    name = Names(settings.store).name_of(model)
    try:
        question = _question(model)
        reason = ""
        if question.task == "feature-extraction" and model.has_file("modules.json"):
            expected, reason = _vectors(model, question), OF_WHOLE_TEXTS
        else:
            expected = alone(model, question)
    except GpuxError as error:
        body = {"inputs": sent(QUESTIONS[model.pipeline_task].inputs)}
        answer = server.post(f"/models/{name}", body)
        alike = answer.status_code != 200 and answer.json().get("code") == error.code
        return ("refused" if alike else "differs"), f"{error.code}: {error.message[:100]} | {answer.text[:200]}"
    try:
        shown = served(server, name, question)
    except AssertionError as error:
        return "differs", str(error)[:300]
    other = difference(shown, in_the_shape_of_clients(question, expected))
    if other is not None:
        return "differs", other
    return ("documented" if reason else "equal"), reason


def _vectors(model: StoredModel, question: Question) -> Any:
    """Of whole texts."""
    with pipeline("feature-extraction", model) as pipe:
        return pipe.encode(question.inputs).tolist()


def _question(model: StoredModel) -> Question:
    """The question of the model's own task, with what its tokenizer calls a mask."""
    found = QUESTIONS[model.pipeline_task]
    if found.task == "fill-mask":
        with pipeline(found.task, model) as pipe:
            mask: Any = getattr(pipe, "tokenizer").mask_token  # noqa: B009 - of this task's pipeline
        found = replace(found, inputs=str(found.inputs).replace("[MASK]", str(mask)))
    names = {spec.name for spec in pipeline_class(found.task).options()}
    return replace(found, options={name: value for name, value in found.options.items() if name in names})


@contextmanager
def _toolchains(folder: Path) -> Iterator[Path]:
    """The installed toolchains, with interpreters that have imported torch already."""
    installed = Settings.from_env().toolchains
    with warm(installed / "optimum", folder / "optimum", LAUNCHER, *OPTIMUM):
        if not (installed / "mobius" / "toolchain.json").is_file():
            yield folder
            return
        with warm(installed / "mobius", folder / "mobius", LAUNCHER, *MOBIUS):
            yield folder


if __name__ == "__main__":
    sys.exit(main())
