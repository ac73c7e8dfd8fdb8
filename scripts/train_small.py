"""Train the small model that tests and the demo generate text with. ``./dev train_small``, or

    TOOLCHAIN_PYTHON -m scripts.train_small [--folder FOLDER] [--steps N]

Needs torch and transformers, about 1 GB of memory, and 20 minutes on two cores that multiply bf16 (its log). Equal
seeds give equal weights on one machine with one version of torch; another machine adds numbers up in another order.
``OMP_WAIT_POLICY=PASSIVE`` helps where other programs use the cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.small_card import continuations, perplexities, write_card
from scripts.small_rows import Rows
from scripts.small_text import FOLDER, LICENCE, RELEASE, SHA256, Document, read_text
from scripts.small_tokenizer import ENTRIES, POSITIONS, save_tokenizer, train_tokenizer

SEED = 6
STEPS = 2700
TOKENS = 2048  #: of one training step
SHORT, LONG = 512, POSITIONS  #: ids of a row; the last part of the training has long ones
LONG_FROM = 0.8
WARM_UP = 0.04
MATRIX_RATE, OTHER_RATE, DECAY = 0.02, 0.004, 0.1
EVERY = 50  #: steps between lines of the log
CORES = 2
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}


class Log:
    """Lines for the terminal and for training.log."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def __call__(self, line: str) -> None:
        """Print one line and keep it for the log."""
        print(line, flush=True)
        self._file.write(line + "\n")
        self._file.flush()


def main() -> int:
    """Train the model and write its folder."""
    arguments = _arguments()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    log = Log(folder / "training.log")
    _settle()
    documents = read_text()
    _log_versions(log)
    tokenizer = train_tokenizer([document for document in documents if not document.held_out], SEED)
    model = _model(tokenizer)
    began, worked = time.monotonic(), time.process_time()
    _train(model, Rows(tokenizer, [d for d in documents if not d.held_out], SEED), arguments.steps, log)
    wall, own = time.monotonic() - began, (time.process_time() - worked) / CORES
    _save(model, tokenizer, folder)
    log(f"trained in {wall:.0f} s; processor time {own:.0f} s on each of {CORES} cores")
    log(f"sha256 of model.safetensors {_digest(folder / 'model.safetensors')}")
    _describe(folder, documents, arguments.steps, own, log)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder to write the model to")
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="number of steps, fewer for a trial; the committed model has all"
    )
    return parser.parse_args()


def _settle() -> None:
    """Make torch deterministic."""
    torch.set_num_threads(CORES)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    transformers.utils.logging.set_verbosity_error()


def _precision() -> torch.dtype:
    """The dtype of matrix products: bf16 where the processor supports it, which halves the time."""
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _log_versions(log: Log) -> None:
    log(f"seed {SEED}; python {platform.python_version()}; torch {torch.__version__}")
    log(f"transformers {transformers.__version__}; tokenizers {tokenizers.__version__}")
    log(f"{platform.machine()}, {CORES} threads, products in {_precision()}")
    log(f"text of CPython {RELEASE}, sha256 {SHA256}")


def _model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        **SHAPE,
        vocab_size=ENTRIES,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    return model


def _train(model: LlamaForCausalLM, rows: Rows, steps: int, log: Log) -> None:
    optimizers = _optimizers(model)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: _rate(step, steps)) for one in optimizers]
    began, recent = time.monotonic(), 0.0
    model.train()
    for step, batch in enumerate(_batches(rows, steps), 1):
        loss = _loss(model, batch)
        loss.backward()
        for one in (*optimizers, *schedulers):
            one.step()
        model.zero_grad()
        recent += loss.item()
        if step % EVERY == 0 or step == steps:
            seconds = time.monotonic() - began
            log(f"step {step} loss {recent / ((step - 1) % EVERY + 1):.4f} {seconds:.0f} s")
            recent = 0.0
    model.eval()


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learn about twice as fast under it; AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=DECAY),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to zero."""
    warm = max(1, round(WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / (steps - warm + 1))


def _batches(rows: Rows, steps: int) -> Iterator[torch.Tensor]:
    for step in range(steps):
        length = LONG if step >= LONG_FROM * steps else SHORT
        yield torch.tensor(rows.batch(TOKENS // length, length))


def _loss(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    dtype = _precision()
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        logits = model(input_ids=batch, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), batch[:, 1:].flatten())


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    (folder / "model.safetensors").chmod(0o644)
    if not (folder / LICENCE).exists():
        shutil.copyfile(FOLDER / LICENCE, folder / LICENCE)


def _describe(folder: Path, documents: list[Document], steps: int, seconds: float, log: Log) -> None:
    """Load the saved folder, measure the model and write its card."""
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    perplexity = perplexities(model, tokenizer, documents)
    samples = continuations(model, tokenizer)
    facts = {
        "parameters": model.num_parameters(),
        "layers": SHAPE["num_hidden_layers"],
        "width": SHAPE["hidden_size"],
        "heads": SHAPE["num_attention_heads"],
        "kv_heads": SHAPE["num_key_value_heads"],
        "positions": POSITIONS,
        "entries": ENTRIES,
        "steps": steps,
        "tokens": steps * TOKENS,
        "minutes": seconds / 60,
        "precision": str(_precision()).removeprefix("torch."),
        "release": RELEASE,
    }
    write_card(folder, facts, perplexity, samples)
    log(f"held-out perplexity {json.dumps({kind: round(value, 4) for kind, value in perplexity.items()})}")
    for one in samples:
        log(f"{one['prompt']!r} -> {one['text']!r}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
