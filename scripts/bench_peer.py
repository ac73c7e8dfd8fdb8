"""Embeds texts with gpux or sentence-transformers in a separate process, for the benchmark.

Usage: bench_peer.py (gpux|sentence-transformers) (one|many) MODEL [OUTPUT.npy]. Imports nothing from this repository,
so that the toolchain's interpreter can run it. Prints one JSON line.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

WORDS = (  # noqa: SIM905 - one string reads better than 80 quoted words
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend"
).split()


def texts(count: int = 512) -> list[str]:
    """Texts of 5 to 80 words, the same in every process."""
    chosen = random.Random(0)
    return [" ".join(chosen.choices(WORDS, k=chosen.randint(5, 80))) for _ in range(count)]


def encoder(peer: str, model: str) -> Any:
    """Load the model with defaults, as a user would."""
    if peer == "gpux":
        from gpux import pipeline

        return pipeline("feature-extraction", model=model).encode
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(model, device="cpu").encode


def main() -> None:
    """Embed one text, or time many texts with a loaded model."""
    peer, what, model = sys.argv[1:4]
    encode = encoder(peer, model)
    if what == "one":
        print(json.dumps({"shape": list(encode(["a cat sits on the mat"]).shape)}))
        return
    encode(texts())  # warm-up with every shape
    started = time.perf_counter()
    vectors = encode(texts())
    seconds = time.perf_counter() - started
    if len(sys.argv) > 4:
        import numpy as np

        np.save(sys.argv[4], vectors)
    print(json.dumps({"texts_per_second": len(vectors) / seconds}))


if __name__ == "__main__":
    main()
