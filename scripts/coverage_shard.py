"""One shard of the coverage matrix: builds the model folders, pulls and checks each entry, and appends its row.

Entries with a row in the file are skipped, so a stopped shard resumes when it is run again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from scripts.coverage_entries import PROGRAM, Entry

ROOT = Path(__file__).parent.parent
#: Time limits in seconds. A pull takes 5 to 15 s on two cores, longest for a mixture of experts or a large graph.
PULL_SECONDS, OPINION_SECONDS = 180, 90


@dataclass
class Shard:
    """Folders and interpreters of one shard."""

    folder: Path  #: for all files of the matrix
    name: str
    python: Path  #: the toolchain's interpreter: builds the zoo and runs the independent check
    converter: str | None = None  #: the converter to use; None: the planner's choice
    precisions: Sequence[str] = ()  #: besides fp32

    def __post_init__(self) -> None:
        self._home = self.folder / f"home-{self.name}"
        self._zoo = self.folder / f"zoo-{self.name}"
        self.rows = self.folder / f"rows-{self.name}.jsonl"
        self._env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._env.setdefault("OMP_NUM_THREADS", "2")

    def run(self, entries: Sequence[Entry]) -> None:
        """Run the entries that have no row yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = {(row["name"], row["requested_converter"]) for row in read_rows([self.rows])}
        left = [entry for entry in entries if (entry.name, self.converter) not in done]
        if not left:
            return
        unbuilt = self._build(left)
        with Opinion(self.python, self._env, self.folder / f"opinion-{self.name}.log") as opinion:
            for number, entry in enumerate(left, 1):
                began = time.monotonic()
                row = self._row(entry, unbuilt.get(entry.name), opinion)
                self._append(row)
                print(
                    f"{number}/{len(left)} {entry.name}: {summary(row)} ({time.monotonic() - began:.0f} s)", flush=True
                )

    def _build(self, entries: Sequence[Entry]) -> dict[str, str]:
        """Write the model folders; returns the name of each that failed with its error."""
        names = [entry.name for entry in entries if not (self._zoo / entry.name / "config.json").is_file()]
        if not names:
            return {}
        command = [str(self.python), str(PROGRAM), str(self._zoo), *names]
        done = subprocess.run(command, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("FAIL")}

    def _row(self, entry: Entry, unbuilt: str | None, opinion: Opinion) -> dict[str, Any]:
        named = {**asdict(entry), "base": entry.base, "hub_task": entry.hub_task, "requested_converter": self.converter}
        if unbuilt:
            return {**named, "status": "unbuilt", "message": unbuilt}
        row = {**named, **self._pull(entry)}
        if row["status"] == "proven":
            request = {"folder": str(self._zoo / entry.name), "seed": entry.name}
            row["opinion"] = opinion.ask({**request, "graphs": row["graphs"], "call_spec": row["call_spec"]})
            if row["opinion"].get("wrong"):
                row["status"] = "WRONG"
        return row

    def _pull(self, entry: Entry) -> dict[str, Any]:
        request = {
            "folder": str(self._zoo / entry.name),
            "task": entry.hub_task,
            "home": str(self._home),
            "converter": self.converter,
            "precisions": self.precisions,
        }
        command = [sys.executable, "-m", "scripts.coverage_pull", json.dumps(request)]
        started = time.monotonic()
        with subprocess.Popen(
            command, cwd=ROOT, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                answer, noise = process.communicate(timeout=PULL_SECONDS)
                return dict(json.loads(answer.splitlines()[-1]))
            except subprocess.TimeoutExpired:
                _kill(process)
                return {
                    "status": "failed",
                    "error": "timeout",
                    "seconds": time.monotonic() - started,
                    "message": "killed",
                }
            except (IndexError, ValueError):
                return {"status": "failed", "error": "crash", "message": noise[-400:]}

    def _append(self, row: dict[str, Any]) -> None:
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class Opinion:
    """The process of the independent check, started at the first request, and again after it was killed."""

    def __init__(self, python: Path, env: dict[str, str], log: Path) -> None:
        self._command = [str(python), "-m", "scripts.coverage_opinion"]
        self._env = env
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The response to a request; it has ``error`` if the process ended or did not respond in time."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], OPINION_SECONDS)
            answer = process.stdout.readline() if ready else ""
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.close()
            return {"error": "no answer in time, or the program ended"}
        return dict(json.loads(answer))

    def _start(self) -> subprocess.Popen[str]:
        log: IO[str] = self._log.open("a", encoding="utf-8")
        with log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, start_new_session=True,
            )  # fmt: skip
        return self._process

    def close(self) -> None:
        """Kill the process."""
        if self._process is not None:
            _kill(self._process)
            self._process = None

    def __enter__(self) -> Opinion:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of these files; the last row of each entry and converter."""
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    for file in files:
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                found[row["name"], row["requested_converter"]] = row
    return list(found.values())


def summary(row: dict[str, Any]) -> str:
    """A row in one line."""
    if row["status"] in ("proven", "WRONG"):
        opinion = row.get("opinion", {})
        check = opinion.get("error") or f"independent check {opinion.get('worst', 0):.0e} in {opinion.get('compared')}"
        return f"{row['status']} by {row.get('recipe')}, {row.get('largest') or 0:.0e}, {check}"
    return f"{row['status']} {row.get('error', '')}: {row.get('message', '')[:100]}"
