"""The generation matrix: tokens of every stored decoder and encoder-decoder of the zoo, compared with transformers.

    python -m scripts.generation_matrix run [--shard 1/2] [--only NAME …] [--converter NAME …] [--existing]
    python -m scripts.generation_matrix report

``run`` uses variants from the folder of the coverage matrix; missing ones are pulled as in that matrix, unless
``--existing`` is given. Rows are written to that folder; existing rows stay. ``report`` writes
docs/generation-coverage.md and returns 1 when a row is wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.coverage_entries import chosen
from scripts.coverage_matrix import shard_of, toolchain_python
from scripts.coverage_shard import ROOT, read_rows
from scripts.generation_report import write_report
from scripts.generation_shard import GenerationShard, generates

FOLDER = ROOT / "build" / "coverage"
PAGE = ROOT / "docs" / "generation-coverage.md"


def main() -> int:
    """Run or report."""
    arguments = _parser().parse_args()
    folder = arguments.folder.absolute()
    if arguments.command == "report":
        return write_report(read_rows(sorted(folder.glob("generation-*.jsonl"))), PAGE, write=not arguments.check)
    entries = [entry for entry in chosen(arguments.only, arguments.shard) if generates(entry)]
    shard = GenerationShard(folder, arguments.shard, arguments.python or toolchain_python(), arguments.converter)
    if not arguments.existing:
        shard.pull(entries)
    shard.run(entries)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.generation_matrix", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the coverage matrix")
    parser.add_argument(
        "--shard", type=shard_of, default=(1, 1), metavar="I/N", help="run every N-th entry from the I-th"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="folders, model types, tasks or groups")
    parser.add_argument(
        "--converter", nargs="+", default=[], metavar="NAME", help="use only these converters; default: all rows"
    )
    parser.add_argument("--existing", action="store_true", help="do not pull missing variants")
    parser.add_argument("--python", type=Path, help="an interpreter with torch (default: the toolchain's)")
    parser.add_argument("--check", action="store_true", help="report: print without writing files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
