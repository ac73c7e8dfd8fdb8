"""One contender of ``scripts.bench_encode``, in a process of its own that keeps its model loaded.

Usage: bench_encode_peer.py KIND FOLDER COUNT. KIND is gpux, sentence-transformers, cross-gpux,
cross-sentence-transformers, or fastembed with its batch size, as fastembed:32. Each line of standard input is a task,
``many``, ``one`` or ``rank``; the answer is a line of JSON with its wall and processor seconds. Imports nothing from
this repository, so that other environments can run it.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = (  # noqa: SIM905 - one string reads better than 80 quoted words
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend"
).split()
PASSAGES, ONES = 100, 200
ONE = "how large is the house of the mother of my friend"


def texts(count: int, least: int, most: int) -> list[str]:
    """Texts of that many words, the same in every process."""
    chosen = random.Random(0)
    return [" ".join(chosen.choices(WORDS, k=chosen.randint(least, most))) for _ in range(count)]


def gpux(folder: str, count: int) -> dict[str, Callable[[], Any]]:
    """``encode``, and one text by it and by the bare tokenizer and session, alternately."""
    from gpux import pipeline

    encode = pipeline("feature-extraction", folder, device="cpu").encode
    many = texts(count, 5, 80)
    return {"many": lambda: encode(many), "one": lambda: encode(ONE)}


def bare(folder: str) -> Callable[[], Any]:
    """The tokenizer and a session with onnxruntime's defaults, without pooling."""
    import numpy as np
    import onnxruntime
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    (graph,) = Path(folder).rglob("model.onnx")
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run() -> Any:
        found = tokenizer.encode(ONE)
        given = {"input_ids": found.ids, "attention_mask": found.attention_mask, "token_type_ids": found.type_ids}
        return session.run(None, {name: np.array([given[name]], np.int64) for name in names})

    return run


def sentence_transformers(folder: str, count: int) -> dict[str, Callable[[], Any]]:
    """``SentenceTransformer.encode`` with its defaults."""
    from sentence_transformers import SentenceTransformer

    model, many = SentenceTransformer(folder, device="cpu"), texts(count, 5, 80)
    return {"many": lambda: model.encode(many), "one": lambda: model.encode(ONE)}


def fastembed(folder: str, count: int, batch: int) -> dict[str, Callable[[], Any]]:
    """``TextEmbedding.embed`` on the same ONNX file."""
    import numpy as np
    from fastembed import TextEmbedding  # type: ignore[import-not-found]
    from fastembed.common.model_description import ModelSource, PoolingType  # type: ignore[import-not-found]

    (graph,) = Path(folder).rglob("model.onnx")
    TextEmbedding.add_custom_model(
        model="org/minilm",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="org/minilm"),
        dim=384,
        model_file=str(graph.relative_to(folder)),
    )
    model = TextEmbedding("org/minilm", specific_model_path=folder, providers=["CPUExecutionProvider"])
    many = texts(count, 5, 80)
    return {
        "many": lambda: np.stack(list(model.embed(many, batch_size=batch))),
        "one": lambda: next(iter(model.embed(ONE))),
    }


def cross_gpux(folder: str, _: int) -> dict[str, Callable[[], Any]]:
    """``rank`` of gpux."""
    from gpux import pipeline

    ranking, passages = pipeline("text-ranking", folder, device="cpu"), texts(PASSAGES, 30, 100)
    return {"rank": lambda: ranking.rank(ONE, passages)}


def cross_sentence_transformers(folder: str, _: int) -> dict[str, Callable[[], Any]]:
    """``CrossEncoder.rank`` with its defaults."""
    from sentence_transformers import CrossEncoder

    model, passages = CrossEncoder(folder, device="cpu"), texts(PASSAGES, 30, 100)
    return {"rank": lambda: model.rank(ONE, passages)}


KINDS: dict[str, Callable[..., dict[str, Callable[[], Any]]]] = {
    "gpux": gpux,
    "sentence-transformers": sentence_transformers,
    "cross-gpux": cross_gpux,
    "cross-sentence-transformers": cross_sentence_transformers,
}


def measured(run: Callable[[], Any]) -> dict[str, float]:
    """Wall and processor seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def alternated(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median wall seconds of many short calls that alternate."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ONES):
        for name, run in runs.items():
            found[name].append(measured(run)["wall"])
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def main() -> None:
    """Load, then measure on request."""
    kind, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    name, _, batch = kind.partition(":")
    runs = fastembed(folder, count, int(batch)) if name == "fastembed" else KINDS[name](folder, count)
    for line in sys.stdin:
        task, *arguments = line.split()
        if task == "alternate":  # with the bare session, whose files are in another folder
            answer: Any = alternated({"ours": runs["one"], "bare": bare(arguments[0])})
        elif task == "save":
            import numpy as np

            np.save(arguments[0], runs["many"]())
            answer = {}
        else:
            answer = measured(runs[task])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
