"""Resident memory of a pipeline that answers 100,000 texts of a generator, beside that after the first 5,000.

    python -m scripts.bench_memory [--texts 100000] [--model FOLDER] [--append docs/benchmarks.md]

The model is a folder or reference for feature-extraction; by default all-MiniLM-L6-v2. Each text is made
when the generator is asked for it, and each answer is dropped.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from gpux import pipeline
from scripts.bench_peer import texts

FIRST = 5_000
ROOT = Path(__file__).parent.parent


def made(count: int) -> Iterator[str]:
    """Texts of 5 to 80 words, never two alike."""
    words = texts()
    for number in range(count):
        yield f"{words[number % len(words)]} {number}"


def resident() -> float:
    """Megabytes of this process."""
    return float(psutil.Process().memory_info().rss) / 1e6


def measured(model: str, count: int) -> dict[str, float]:
    """Megabytes after the first texts, at the end and at most, and texts per second."""
    begun, first, most = time.perf_counter(), 0.0, 0.0
    with pipeline("feature-extraction", model=model) as pipe:
        for index, _ in pipe.iter_answers(made(count)):
            if index + 1 == FIRST:
                first = resident()
            if index % 1000 == 0:
                most = max(most, resident())
        seconds = time.perf_counter() - begun
        return {"first": first, "end": resident(), "most": most, "rate": count / seconds}


def section(found: dict[str, float], count: int, model: str) -> str:
    """The section of the page."""
    return f"""
## Memory of a generator

`python -m scripts.bench_memory`: {count:,} texts of 5 to 80 words from a generator through `iter_answers` of
{model}, on {platform.system()} with Python {platform.python_version()}.

| | |
|---|---|
| resident after {FIRST:,} texts | {found["first"]:.1f} MB |
| resident at the end | {found["end"]:.1f} MB |
| at most, seen every 1,000 texts | {found["most"]:.1f} MB |
| end / after {FIRST:,} | **{found["end"] / found["first"]:.3f}** (goal: at most 1.1) |
"""


def main() -> None:
    """Measure, print, and append the section where a page is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--append", type=Path)
    arguments = parser.parse_args()
    found = measured(arguments.model, arguments.texts)
    text = section(found, arguments.texts, Path(arguments.model).name)
    print(f"{text}\n{found['rate']:,.0f} texts per second")
    if arguments.append:
        with arguments.append.open("a", encoding="utf-8") as page:
            page.write(text)


if __name__ == "__main__":
    main()
