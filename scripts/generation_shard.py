"""One shard of the generation matrix: opens each stored variant, compares its tokens, and appends a row."""

from __future__ import annotations

import json
import os
import time
import traceback
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from gpux.errors import GpuxError
from gpux.model.variant import CallSpec
from gpux.runtime.graphs import Graphs
from scripts.coverage_entries import Entry
from scripts.coverage_shard import Opinion, Shard, read_rows
from scripts.generation_checks import SEARCHES, VARIED, Checks
from scripts.generation_inputs import arrays_of
from scripts.generation_models import Stored, StoredDecoder, StoredPair, open_graphs

TASKS = ("text-generation", "text2text-generation", "image-to-text", "automatic-speech-recognition")
_OF_TEXT = TASKS[:2]
#: Tokens of the four prompts, of an answer, and of a beam.
SIZES, ROOM, BEAM_ROOM = (9, 3, 20, 14), 64, 32
#: End tokens of beams, of a vocabulary of 512: a beam ends after about twenty tokens.
_BEAM_ENDS = range(100, 116)
#: Minimum number of input tokens; the encoder of longt5 fails at fewer than its ``global_block_size``.
_LEAST = {"longt5": 4}
_KEPT = (
    "name",
    "model_type",
    "base",
    "task",
    "hub_task",
    "group",
    "expected_error",
    "requested_converter",
    "recipe",
    "error",
    "message",
)


class Reference(Opinion):
    """The process of ``generation_reference``."""

    def __init__(self, python: Path, env: dict[str, str], log: Path) -> None:
        super().__init__(python, env, log)
        self._command = [str(python), "-m", "scripts.generation_reference"]


@dataclass
class GenerationShard:
    """Folders and interpreters of one shard."""

    folder: Path  #: of the coverage matrix
    number: tuple[int, int]
    python: Path  #: the toolchain's interpreter: generates the references
    converters: Sequence[str] = ()  #: converters requested by name

    def __post_init__(self) -> None:
        name = f"{self.number[0]}of{self.number[1]}"
        self._rows = self.folder / f"generation-{name}.jsonl"
        self._log = self.folder / f"generation-reference-{name}.log"
        self._env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "2"}

    def pull(self, entries: Sequence[Entry]) -> None:
        """Pull entries that no shard of the coverage matrix has tried yet, as in that matrix."""
        tried = {(row["name"], row["requested_converter"]) for row in self._stored()}
        if not self.converters:  # entries tried with a requested converter are not repeated
            tried |= {(name, None) for name, _ in tried}
        requested: list[str | None] = [*self.converters]
        for converter in requested or [None]:
            name = "-".join(filter(None, [converter, f"{self.number[0]}of{self.number[1]}"]))
            left = [entry for entry in entries if (entry.name, converter) not in tried]
            Shard(self.folder, name, self.python, converter).run(left)

    def run(self, entries: Iterable[Entry]) -> None:
        """Check the stored entries that have no row yet."""
        left = self._left({entry.name for entry in entries})
        with Reference(self.python, self._env, self._log) as reference:
            for number, row in enumerate(left, 1):
                began = time.monotonic()
                found = {key: row.get(key) for key in _KEPT} | self._checked(row, reference)
                with self._rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
                took = time.monotonic() - began
                by = f"{row['name']} by {row['requested_converter']}"
                print(f"{number}/{len(left)} {by}: {summary(found)} ({took:.0f} s)", flush=True)

    def _stored(self) -> list[dict[str, Any]]:
        return read_rows(sorted(self.folder.glob("rows-*.jsonl")))

    def _left(self, names: set[str]) -> list[dict[str, Any]]:
        done = {
            (row["name"], row["requested_converter"])
            for row in read_rows(sorted(self.folder.glob("generation-*.jsonl")))
        }
        return [
            row
            for row in self._stored()
            if row["name"] in names
            and (row["name"], row["requested_converter"]) not in done
            and (not self.converters or row["requested_converter"] in self.converters)
        ]

    def _checked(self, row: Mapping[str, Any], reference: Opinion) -> dict[str, Any]:
        if row["status"] != "proven":
            return {"status": row["status"]}
        folder = next((place for place in sorted(self.folder.glob(f"zoo-*/{row['name']}")) if place.is_dir()), None)
        if folder is None or not Path(row["path"]).is_dir():
            return {"status": "gone", "message": "the model folder or the stored variant was deleted"}
        try:
            return judge(row, folder, reference)
        except GpuxError as exc:
            return {"status": "failed", "error": type(exc).__name__, "message": f"{exc.message}"}
        except Exception as exc:  # noqa: BLE001 - the exception is reported in the row
            text = f"{exc}\n{traceback.format_exc(limit=-3)}"
            return {"status": "failed", "error": type(exc).__name__, "message": text[:900]}


def generates(entry: Entry) -> bool:
    """Whether an entry generates tokens, by its task in the zoo."""
    return entry.hub_task in _OF_TEXT or (entry.hub_task in TASKS and entry.task.endswith("-with-past"))


def request_for(name: str, folder: Path, limit: int | None) -> dict[str, Any]:
    """The request for transformers and gpux.

    Args:
        name: name of the entry, the seed of the prompts.
        folder: folder of the original model.
        limit: context length of the model in tokens.
    """
    rng = np.random.default_rng(_seed(name))
    room = ROOM if limit is None else min(ROOM, limit - max(SIZES))
    beam_room = min(BEAM_ROOM, room)
    least = _LEAST.get(name.partition("__")[0], 1)
    return {
        "folder": str(folder),
        "prompts": [rng.integers(5, 300, max(size, least)).tolist() for size in SIZES],
        "room": room,
        "varied": VARIED,
        "beams": {search: {**options, "max_new_tokens": beam_room} for search, options in SEARCHES.items()},
        "beam_ends": list(_BEAM_ENDS),
    }


def _seed(name: str) -> int:
    return zlib.crc32(name.encode())


def judge(row: Mapping[str, Any], folder: Path, reference: Opinion) -> dict[str, Any]:
    """Run the checks of one proven row of the coverage matrix."""
    request = request_for(row["name"], folder, row["call_spec"].get("max_length"))
    with open_graphs(row) as graphs, TemporaryDirectory() as scratch:
        if row["hub_task"] not in _OF_TEXT:
            file = Path(scratch) / "inputs.npz"
            arrays: dict[str, Any] = arrays_of(graphs.session("encoder").inputs, len(SIZES), _seed(row["name"]))
            np.savez(file, **arrays)
            request["arrays"] = str(file)
        answer = reference.ask(request)
        if "error" in answer:
            return {"status": "no reference", "message": answer["error"]}
        checks = compare(graphs, CallSpec(**row["call_spec"]), Path(row["path"]), request, answer)
    wrong = any(check["wrong"] for check in checks.values())
    distinct = [len(set(found["tokens"])) for found in answer["endless"]]
    return {"status": "WRONG" if wrong else "equal", "checks": checks, "room": request["room"], "distinct": distinct}


def compare(
    graphs: Graphs, call_spec: CallSpec, folder: Path, request: Mapping[str, Any], answer: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Compare the tokens of a variant with the reference.

    Args:
        graphs: the variant's graphs.
        call_spec: how the graphs are called.
        folder: folder of the variant's configuration.
        request: the request to the reference process.
        answer: its response.
    """
    model: Stored
    if "encoder" in graphs.names:
        inputs = dict(np.load(request["arrays"])) if "arrays" in request else request["prompts"]
        model = StoredPair(graphs, answer["start"], inputs)
    else:
        model = StoredDecoder(graphs, call_spec, request["prompts"])
    return Checks(model, folder, answer, request).run()


def summary(row: Mapping[str, Any]) -> str:
    """A row in one line."""
    if "checks" not in row:
        return f"{row['status']} {row.get('error') or ''}: {str(row.get('message') or '')[:160]}"
    parts = [f"{name} {cell(check)}" for name, check in row["checks"].items()]
    first = next((wrong for check in row["checks"].values() for wrong in check["wrong"]), "")
    return f"{row['status']}: {', '.join(parts)} {first}"


def cell(check: Mapping[str, Any] | None) -> str:
    """One check as ``12 of 12``, with near ties and unsteady rows counted separately."""
    if check is None:
        return ""
    parts = {"near ties": check["ties"], "unsteady": check.get("unsteady", 0)}
    total = check["equal"] + sum(parts.values()) + len(check["wrong"])
    more = "".join(f" + {count} {name}" for name, count in parts.items() if count)
    return f"{check['equal']}{more} of {total}"
