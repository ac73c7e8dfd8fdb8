"""Measure reduced precisions against the float32 variants that they are made from: speed, size and loss.

    python -m scripts.bench_precision                              # pulls MiniLM and a random Llama of 100M
    python -m scripts.bench_precision --encoder DIR --decoder DIR  # stored fp32 variants, or one of them

Both sides of a pair run in turn in one process, A B A B; a ratio is the median of the rounds' own ratios, so that a
machine whose speed drifts treats both alike. A decoder makes 48 tokens after a prompt of 64, one call each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tests.models.minilm import minilm_repository

from gpux import Settings, pull_model
from gpux.pipelines.tokenization import Tokenizer
from gpux.probes import sentences
from gpux.reduction import Reduction, reduce
from gpux.runtime.graph_files import graph_bytes
from gpux.runtime.graphs import Graphs
from gpux.runtime.session import Session
from gpux.store import MANIFEST, read_manifest
from gpux.variants import StoredModel

PROMPT, STEPS, BATCH = 64, 48, 32
#: (precision, ratio of speed to float32 at least)
GOALS = {("encoder", "int8"): 1.7, ("decoder", "int4"): 3.5}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "hidden_act": "silu",
}
HEADER = "| variant | recipe | size | speed | goal | loss |\n|---|---|---|---|---|---|"

Work = Callable[[Session], int]


@dataclass(frozen=True)
class Row:
    """One precision of one model."""

    name: str
    found: Reduction
    size: float  #: relative to float32
    speed: float  #: the same
    goal: float | None

    def __str__(self) -> str:
        loss = ", ".join(f"{name} {value:.4g}" for name, value in self.found.loss.items())
        goal = "" if self.goal is None else f"≥ {self.goal:g}"
        name = f"{self.name}, {self.found.precision}"
        return f"| {name} | {self.found.recipe} | {self.size:.2f} × | {self.speed:.2f} × | {goal} | {loss} |"


def write_llama(folder: Path) -> Path:
    """A Llama of 100M parameters, random; its head is its embedding."""
    rng, hidden, inner = np.random.default_rng(0), LLAMA["hidden_size"], LLAMA["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (32000, 768), "model.norm.weight": (768,)}
    for layer in range(12):
        for name, shape in {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (256, hidden),
            "self_attn.v_proj": (256, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape  # type: ignore[assignment]
    weights = {
        name: np.ones(shape, np.float32)
        if len(shape) == 1
        else rng.standard_normal(shape, np.float32) * np.float32(0.02)
        for name, shape in shapes.items()
    }
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


def stored(folder: Path) -> StoredModel:
    """A variant by the path of its folder."""
    return StoredModel(folder, read_manifest(folder / MANIFEST))


def texts_at_once(model: StoredModel) -> Work:
    """Runs the sentences in padded batches; how many there were."""
    tokenizer = Tokenizer(model)
    rows = sorted((tokenizer([text], limit=128)[0] for text in sentences() * 3), key=len)
    batches = [_padded(model, rows[start : start + BATCH], tokenizer.pad_id) for start in range(0, len(rows), BATCH)]

    def run(session: Session) -> int:
        for batch in batches:
            session.run(batch)
        return len(rows)

    return run


def _padded(model: StoredModel, rows: list[Any], pad: int | None) -> dict[str, Any]:
    width = max(map(len, rows))
    ids = np.array([row.ids + [pad or 0] * (width - len(row)) for row in rows])
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    found = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {spec.name: found[spec.name] for spec in model.graph().inputs}


def decode(session: Session) -> int:
    """Greedy tokens, one call each; how many."""
    logits, cache = _step(session, np.arange(PROMPT)[None] * 37 % 30000, 0, {})
    for done in range(STEPS):
        logits, cache = _step(session, logits[:, -1].argmax(-1)[None], PROMPT + done, cache)
    return STEPS


def _step(session: Session, ids: Any, past: int, cache: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": np.ones((1, past + ids.shape[1]), np.int64)}
    for spec in session.inputs:
        if spec.name == "position_ids":
            inputs[spec.name] = np.arange(past, past + ids.shape[1])[None]
        elif spec.name.startswith("past"):
            empty = [size if isinstance(size, int) else 1 - min(axis, 1) for axis, size in enumerate(spec.shape)]
            inputs[spec.name] = cache[spec.name] if past else np.zeros(empty, spec.dtype)
    found = session.run(inputs)
    return found["logits"], {name.replace("present", "past_key_values"): found[name] for name in found}


def compare(name: str, model: StoredModel, work: Work, rounds: int) -> list[Row]:
    """Every precision of a variant against it."""
    rows = []
    file = model.graph().file
    for precision in ("fp16", "int8", "int4"):
        with tempfile.TemporaryDirectory(prefix="gpux-bench-precision-") as place:
            folder = Path(place)
            (folder / "out").mkdir()
            found = reduce(
                model, folder / "out", precision, open_graphs=Graphs, scratch=folder / "scratch", log=folder / "log"
            )
            size = graph_bytes(folder / "out" / file) / graph_bytes(model.path / file)
            speed = _ratio(model.path / file, folder / "out" / file, work, rounds)
            rows.append(Row(name, found, size, speed, GOALS.get((name, precision))))
    return rows


def _ratio(before: Path, after: Path, work: Work, rounds: int) -> float:
    with Session(before, device="cpu") as full, Session(after, device="cpu") as reduced:
        pairs = [(_rate(full, work), _rate(reduced, work)) for _ in range(rounds + 1)]
    return statistics.median(second / first for first, second in pairs[1:])  # the first one warms up


def _rate(session: Session, work: Work) -> float:
    start = time.perf_counter()
    return work(session) / (time.perf_counter() - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--decoder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="gpux-bench-precision-") as place:
        home = Path(place)
        settings, given = Settings.from_env(home=home / "home"), options.encoder or options.decoder
        if options.encoder or not given:
            source = None if given else minilm_repository(home / "minilm", onnx=False)
            model = stored(options.encoder) if given else pull_model(str(source), settings=settings)
            rows += compare("encoder", model, texts_at_once(model), options.rounds)
        if options.decoder or not given:
            source = None if given else write_llama(home / "llama")
            model = (
                stored(options.decoder) if given else pull_model(str(source), task="text-generation", settings=settings)
            )
            rows += compare("decoder", model, decode, options.rounds)
    print(HEADER, *rows, sep="\n")


if __name__ == "__main__":
    main()
