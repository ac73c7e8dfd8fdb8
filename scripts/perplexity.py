"""Perplexity of the small model on its held-out texts, in every precision: the loss by quantization.

    python -m scripts.perplexity

Needs the toolchains, which ``./dev bench`` installs. Formula: exp of the mean negative log-likelihood of all tokens of
a window except the first; ``scripts/small_held_out.py`` cuts the windows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from gpux import Session, Settings, pull_model
from gpux.model.precisions import QUANTIZED
from gpux.model.variant import StoredModel
from gpux.runtime.generation.engine.decoder import Decoder
from gpux.runtime.numeric import log_softmax
from scripts.small_held_out import held_out_windows

SMALL = Path(__file__).parent.parent / "tests" / "models" / "small"
PRECISIONS = ("fp32", *QUANTIZED)


def main() -> int:
    """Print a table, and append it to a page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--append", type=Path, help="append the table to this Markdown file")
    page = parser.parse_args().append
    expected = json.loads((SMALL / "expected.json").read_text(encoding="utf-8"))["perplexity"]
    lines = ["| precision | size | Python's prose | stories |", "|---|---|---|---|"]
    lines.append(f"| torch, fp32 | | {expected['python']:.3f} | {expected['stories']:.4f} |")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.from_env().with_overrides(home=Path(folder))
        for precision in PRECISIONS:
            model = pull_model(SMALL, precision=precision, settings=settings, allow_inexact=True)
            found = perplexities(model)
            lines.append(
                f"| {precision} | {model.size / 1e6:.1f} MB | {found['python']:.3f} | {found['stories']:.4f} |"
            )
            print(lines[-1], flush=True)
    if page is not None:
        with page.open("a", encoding="utf-8") as file:
            file.write("\n## Perplexity of the small model\n\n" + "\n".join(lines) + "\n")
    return 0


def perplexities(model: StoredModel) -> dict[str, float]:
    """Kind of text -> perplexity of the model."""
    tokenizer = Tokenizer.from_file(str(model.path / "tokenizer.json"))
    with Session(model.path / model.graph().file, device="cpu") as session:
        decoder = Decoder(session, model.manifest.call_spec)
        kinds = held_out_windows(lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids))
        return {kind: perplexity(decoder, windows) for kind, windows in kinds.items()}


def perplexity(decoder: Decoder, windows: Iterable[list[int]]) -> float:
    """Perplexity of windows of token ids, each evaluated separately."""
    total, count = 0.0, 0
    for window in windows:
        state = decoder.open(0)
        try:
            first = state.start([window[:1]])
            scores = np.concatenate([first, state.extend(window[1:-1])]) if len(window) > 2 else first
        finally:
            state.close()
        logs = log_softmax(scores.copy())
        total -= float(logs[np.arange(len(window) - 1), window[1:]].sum(dtype=np.float64))
        count += len(window) - 1
    return math.exp(total / count)


if __name__ == "__main__":
    sys.exit(main())
