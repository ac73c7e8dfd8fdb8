"""The coverage matrix: plan, convert, prove, store, run and independently check every model of the zoo.

    python -m scripts.coverage_matrix run [--shard 1/2] [--only NAME …] [--converter NAME] [--again STATUS …]
    python -m scripts.coverage_matrix report

``run`` without ``--shard`` runs two shards in parallel. Rows are written to ``build/coverage/``; existing rows stay.
``report`` writes docs/coverage.md, docs/coverage.json and src/gpux/convert/preferences.json; ``./dev coverage_matrix``
does both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gpux.convert.registry import find_toolchain
from gpux.system.settings import Settings
from scripts.coverage_entries import chosen
from scripts.coverage_report import write_report
from scripts.coverage_shard import ROOT, Shard, read_rows

FOLDER = ROOT / "build" / "coverage"


def main() -> int:
    """Run or report; returns 1 when a stored variant is wrong."""
    arguments = _parser().parse_args()
    folder = arguments.folder.absolute()
    if arguments.command == "report":
        return write_report(read_rows(sorted(folder.glob("rows-*.jsonl"))), ROOT, write=not arguments.check)
    if arguments.again:
        forget(folder, arguments.again)
    if arguments.shard is None:
        return max(_run_shards(arguments))
    number, count = arguments.shard
    for converter in arguments.converter or [None]:
        name = "-".join(filter(None, [converter, f"{number}of{count}"]))
        python = arguments.python or toolchain_python()
        Shard(folder, name, python, converter, arguments.precisions).run(chosen(arguments.only, (number, count)))
    return 0


def forget(folder: Path, statuses: Sequence[str]) -> None:
    """Delete the rows of these statuses or entry names, so that they are run again."""
    for file in folder.glob("rows-*.jsonl"):
        kept = [row for row in read_rows([file]) if not {row["status"], row["name"], row["base"]} & set(statuses)]
        file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def _run_shards(arguments: argparse.Namespace) -> list[int]:
    """Run the shards, each in its own process; their exit codes."""
    command = [sys.executable, "-m", "scripts.coverage_matrix", "run", "--folder", str(arguments.folder.absolute())]
    for name in ("only", "converter", "precisions"):
        command += [f"--{name}", *values] if (values := getattr(arguments, name)) else []
    command += ["--python", str(arguments.python)] if arguments.python else []
    numbers = range(1, arguments.shards + 1)
    shards = [subprocess.Popen([*command, "--shard", f"{n}/{arguments.shards}"], cwd=ROOT) for n in numbers]
    return [shard.wait() for shard in shards]


def toolchain_python() -> Path:
    """The interpreter of the installed toolchain, whose transformers builds the zoo."""
    found = find_toolchain("optimum", Settings.from_env())
    found.check_ready()
    return found.python


def shard_of(text: str) -> tuple[int, int]:
    """Parse ``I/N``: the number of the shard, and the number of shards."""
    number, _, count = text.partition("/")
    if not 1 <= int(number) <= int(count):
        raise ValueError(text)
    return int(number), int(count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.coverage_matrix", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where rows, models and the store are written")
    parser.add_argument("--shard", type=shard_of, metavar="I/N", help="run every N-th entry from the I-th")
    parser.add_argument("--shards", type=int, default=2, help="number of parallel shards without --shard")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="folders, model types, tasks or groups")
    parser.add_argument(
        "--converter", nargs="+", metavar="NAME", help="use only these converters; default: the planner's choice"
    )
    parser.add_argument(
        "--precisions", nargs="+", default=[], metavar="NAME", help="precisions besides fp32: int8, int4 …"
    )
    parser.add_argument("--python", type=Path, help="an interpreter with torch (default: the toolchain's)")
    parser.add_argument("--check", action="store_true", help="report: print without writing files")
    parser.add_argument("--again", nargs="+", metavar="STATUS", help="first delete rows of these statuses or names")
    return parser


if __name__ == "__main__":
    sys.exit(main())
