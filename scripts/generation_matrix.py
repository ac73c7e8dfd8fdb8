"""The matrix of generation: what every stored decoder and encoder-decoder of the zoo writes, against transformers.

    python -m scripts.generation_matrix run [--shard 1/2] [--only NAME …] [--converter NAME …] [--existing]
    python -m scripts.generation_matrix report

``run`` takes variants from the folder of the coverage matrix; what is not there yet is pulled as that matrix does,
unless ``--existing`` is given. Rows lie beside it and are not made twice. ``report`` writes docs/generation-coverage.md
and ends with 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.coverage_entries import chosen
from scripts.coverage_matrix import shard_of, toolchain_python
from scripts.coverage_shard import ROOT, read_rows
from scripts.generation_report import write_report
from scripts.generation_shard import GenerationShard, writes

FOLDER = ROOT / "build" / "coverage"
PAGE = ROOT / "docs" / "generation-coverage.md"


def main() -> int:
    """Run or report."""
    arguments = _parser().parse_args()
    folder = arguments.folder.absolute()
    if arguments.command == "report":
        return write_report(read_rows(sorted(folder.glob("generation-*.jsonl"))), PAGE, write=not arguments.check)
    entries = [entry for entry in chosen(arguments.only, arguments.shard) if writes(entry)]
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
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the coverage matrix")
    parser.add_argument(
        "--shard", type=shard_of, default=(1, 1), metavar="I/N", help="run every N-th entry from the I-th"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="folders, model types, tasks or groups")
    parser.add_argument("--converter", nargs="+", default=[], metavar="NAME", help="these alone; default: all rows")
    parser.add_argument("--existing", action="store_true", help="pull nothing")
    parser.add_argument("--python", type=Path, help="an interpreter with torch (default: the toolchain's)")
    parser.add_argument("--check", action="store_true", help="report: print, write nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
