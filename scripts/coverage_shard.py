"""One shard of the coverage matrix: its folders are built, each entry is pulled and judged, each row appended at once.

What is in the file of rows is not done again, so that a stopped shard goes on where it was.
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
#: Seconds for what takes 5 to 15 on two cores; a mixture of experts or a large graph takes the longest.
PULL_SECONDS, OPINION_SECONDS = 180, 90


@dataclass
class Shard:
    """Folders and programs of one shard."""

    folder: Path  #: of everything that the matrix writes
    name: str
    python: Path  #: of the toolchain: builds the zoo and gives the second opinion
    converter: str | None = None  #: the one to try; None: what the planner takes
    precisions: Sequence[str] = ()  #: made besides fp32

    def __post_init__(self) -> None:
        self._home = self.folder / f"home-{self.name}"
        self._zoo = self.folder / f"zoo-{self.name}"
        self.rows = self.folder / f"rows-{self.name}.jsonl"
        self._env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._env.setdefault("OMP_NUM_THREADS", "2")

    def run(self, entries: Sequence[Entry]) -> None:
        """Do what is not done yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = {(row["name"], row["asked"]) for row in read_rows([self.rows])}
        left = [entry for entry in entries if (entry.name, self.converter) not in done]
        if not left:
            return
        unbuilt = self._build(left)
        with Opinion(self.python, self._env, self.folder / f"opinion-{self.name}.log") as opinion:
            for number, entry in enumerate(left, 1):
                began = time.monotonic()
                row = self._row(entry, unbuilt.get(entry.name), opinion)
                self._append(row)
                print(f"{number}/{len(left)} {entry.name}: {told(row)} ({time.monotonic() - began:.0f} s)", flush=True)

    def _build(self, entries: Sequence[Entry]) -> dict[str, str]:
        """Write the folders; those that could not be written, with the reason."""
        names = [entry.name for entry in entries if not (self._zoo / entry.name / "config.json").is_file()]
        if not names:
            return {}
        command = [str(self.python), str(PROGRAM), str(self._zoo), *names]
        said = subprocess.run(command, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return {line.split()[1]: line for line in said.stdout.splitlines() if line.startswith("FAIL")}

    def _row(self, entry: Entry, unbuilt: str | None, opinion: Opinion) -> dict[str, Any]:
        named = {**asdict(entry), "base": entry.base, "hub_task": entry.hub_task, "asked": self.converter}
        if unbuilt:
            return {**named, "status": "unbuilt", "message": unbuilt}
        row = {**named, **self._pull(entry)}
        if row["status"] == "proven":
            asked = {"folder": str(self._zoo / entry.name), "seed": entry.name}
            row["opinion"] = opinion.ask({**asked, "graphs": row["graphs"], "call_spec": row["call_spec"]})
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
    """The program of second opinions, started when it is first asked, and again after it had to be killed."""

    def __init__(self, python: Path, env: dict[str, str], log: Path) -> None:
        self._command = [str(python), "-m", "scripts.coverage_opinion"]
        self._env = env
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer; ``error`` in it where there is none."""
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
        """End the program."""
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
    """The rows of these files; of several for the same entry and converter, the last."""
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    for file in files:
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                found[row["name"], row["asked"]] = row
    return list(found.values())


def told(row: dict[str, Any]) -> str:
    """A row in a few words."""
    if row["status"] in ("proven", "WRONG"):
        opinion = row.get("opinion", {})
        said = opinion.get("error") or f"second opinion {opinion.get('worst', 0):.0e} in {opinion.get('compared')}"
        return f"{row['status']} by {row.get('recipe')}, {row.get('largest') or 0:.0e}, {said}"
    return f"{row['status']} {row.get('error', '')}: {row.get('message', '')[:100]}"
