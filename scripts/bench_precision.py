"""Measure quantized precisions relative to their float32 source variants: speed, size and loss.

    python -m scripts.bench_precision                              # pulls MiniLM and a random Llama of 100M
    python -m scripts.bench_precision --encoder DIR --decoder DIR  # stored fp32 variants; one of the two suffices

Both variants of a pair alternate in one process; a reported ratio is the median of the ratios of all rounds, so that a
change in the machine's speed affects both. A decoder generates 48 tokens after a prompt of 64, with the generation
engine and spinning threads, as its pipeline does; its speed is that of the tokens after the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tests.models.minilm import minilm_repository

from gpux import Settings, pull_model
from gpux.model.variant import StoredModel
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.quantize.evaluation import sentences
from gpux.quantize.graphs import QuantizedGraphs, quantize_graphs
from gpux.runtime.generation.engine.decoder import Decoder
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.loops.stepwise import generate
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.graphs import Graphs
from gpux.runtime.session import Session, graph_bytes
from gpux.store import MANIFEST, read_manifest

PROMPT, STEPS, BATCH = 64, 48, 32
#: (kind of model, precision) -> minimum speed relative to float32
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
HEADER = "| variant | recipe | size | speed | goal | with its prompt | loss |\n|---|---|---|---|---|---|---|"

Work = Callable[[Session], "Speed"]


@dataclass(frozen=True)
class Speed:
    """Texts or tokens per second."""

    steady: float  #: of a decoder: after the first token
    whole: float  #: of a decoder: of the whole call, including the prompt


@dataclass(frozen=True)
class Row:
    """One precision of one model."""

    name: str
    found: QuantizedGraphs
    size: float  #: relative to float32
    speed: Speed  #: relative to float32
    goal: float | None

    def __str__(self) -> str:
        loss = ", ".join(f"{name} {value:.4g}" for name, value in self.found.loss.items())
        goal = "" if self.goal is None else f"≥ {self.goal:g}"
        cells = (
            f"{self.name}, {self.found.precision}",
            self.found.method,
            f"{self.size:.2f} ×",
            f"{self.speed.steady:.2f} ×",
            goal,
            f"{self.speed.whole:.2f} ×",
            loss,
        )
        return f"| {' | '.join(cells)} |"


def write_llama(folder: Path) -> Path:
    """A Llama of 100M parameters, with random weights and tied embeddings."""
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
    """The stored variant in a folder."""
    return StoredModel(folder, read_manifest(folder / MANIFEST))


def texts_at_once(model: StoredModel) -> Work:
    """A function that runs sentences in padded batches and returns the speed."""
    tokenizer = Tokenizer(model)
    rows = sorted((tokenizer([text], limit=128)[0] for text in sentences() * 3), key=len)
    batches = [_padded(model, rows[start : start + BATCH], tokenizer.pad_id) for start in range(0, len(rows), BATCH)]

    def run(session: Session) -> Speed:
        started = time.perf_counter()
        for batch in batches:
            session.run(batch)
        rate = len(rows) / (time.perf_counter() - started)
        return Speed(rate, rate)

    return run


def _padded(model: StoredModel, rows: list[Any], pad: int | None) -> dict[str, Any]:
    width = max(map(len, rows))
    ids = np.array([row.ids + [pad or 0] * (width - len(row)) for row in rows])
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    found = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {spec.name: found[spec.name] for spec in model.graph().inputs}


def tokens_one_by_one(model: StoredModel) -> Work:
    """A function that generates tokens after a prompt with the pipeline's engine and returns the speed."""
    prompt, options = [37 * place % 30000 for place in range(PROMPT)], GenerationOptions(max_new_tokens=STEPS)

    def run(session: Session) -> Speed:
        started = time.perf_counter()
        state = Decoder(session, model.manifest.call_spec).open(STEPS)
        try:
            stamps = [time.perf_counter() for _ in generate(state, DecodeRequest([prompt], options))]
        finally:
            state.close()
        return Speed((STEPS - 1) / (stamps[-1] - stamps[0]), STEPS / (stamps[-1] - started))

    return run


def compare(name: str, model: StoredModel, work: Work, rounds: int, *, spinning: bool = False) -> list[Row]:
    """Compare every precision of a variant with the variant itself; ``spinning`` as in the task's pipeline."""
    rows = []
    file = model.graph().file
    for precision in ("fp16", "int8", "int4"):
        with tempfile.TemporaryDirectory(prefix="gpux-bench-precision-") as place:
            folder = Path(place)
            (folder / "out").mkdir()
            found = quantize_graphs(
                model, folder / "out", precision, open_graphs=Graphs, scratch=folder / "scratch", log=folder / "log"
            )
            size = graph_bytes(folder / "out" / file) / graph_bytes(model.path / file)
            files = model.path / file, folder / "out" / file
            speed = _ratio(*files, work, rounds, spinning=spinning)
            rows.append(Row(name, found, size, speed, GOALS.get((name, precision))))
    return rows


def _ratio(before: Path, after: Path, work: Work, rounds: int, *, spinning: bool) -> Speed:
    opened = [Session(graph, device="cpu", spinning=spinning, huge_pages=spinning) for graph in (before, after)]
    with opened[0] as full, opened[1] as reduced:
        pairs = [(work(full), work(reduced)) for _ in range(rounds + 1)][1:]  # the first pair is a warm-up
    return Speed(
        statistics.median(second.steady / first.steady for first, second in pairs),
        statistics.median(second.whole / first.whole for first, second in pairs),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--decoder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--append", type=Path, help="append the table to this Markdown file")
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
            rows += compare("decoder", model, tokens_one_by_one(model), options.rounds, spinning=True)
    table = "\n".join([HEADER, *map(str, rows)])
    print(table)
    if options.append is not None:
        with options.append.open("a", encoding="utf-8") as page:
            page.write(f"\n## Precisions relative to float32\n\n{table}\n")


if __name__ == "__main__":
    main()
