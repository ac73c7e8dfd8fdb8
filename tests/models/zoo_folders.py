"""Special folders that differ in something other than the architecture: poolings, slow tokenizers, damage, custom code.

Each has the expected result of a pull, so that the coverage matrix can distinguish an expected refusal from a failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.models.zoo_building import build
from tests.models.zoo_entries import FFN, GEN, HEADS, HF, LAYERS, POS, S2S, H
from tests.models.zoo_slow_tokenizers import (
    write_clip_like,
    write_gpt2_like,
    write_marian,
    write_sentencepiece,
    write_wordpiece,
)


@dataclass(frozen=True)
class SpecialFolder:
    """One folder, the task that it is pulled for, and the expected result."""

    model_type: str
    task: str
    write: Callable[[Path], None]
    error: str | None = None  #: expected error class of a pull in ``gpux.errors`` (or a base class); None: proven


FOLDERS: dict[str, SpecialFolder] = {}


def build_folder(name: str, folder: Path) -> None:
    """Write the special folder ``name`` into ``folder`` (created)."""
    folder.mkdir(parents=True, exist_ok=True)
    FOLDERS[name].write(folder)


def _sentence(base: str, **options: Any) -> Callable[[Path], None]:
    """A function that writes a sentence-transformers repository with a model of the zoo."""

    def write(folder: Path) -> None:
        from tests.models.sentence import write_sentence_files

        build(base, HF, folder)
        write_sentence_files(folder, options, hidden=H, seed=1)  # type: ignore[arg-type]

    return write


_PROMPTS = {"query": "search: ", "document": "passage: "}
for _name, _base, _options in (
    ("cls", "bert", {"pooling": "cls", "normalize": True}),
    ("mean", "mpnet", {"pooling": "mean"}),
    ("lasttoken", "qwen3", {"pooling": "lasttoken", "normalize": True, "prompts": _PROMPTS}),
    ("dense", "bert", {"pooling": "mean", "dense": 24, "normalize": True}),
    ("prompts", "xlm-roberta", {"prompts": _PROMPTS, "default_prompt_name": "query", "include_prompt": False}),
):
    FOLDERS[f"sentence-{_name}"] = SpecialFolder(_base, HF, _sentence(_base, **_options))


def _retokenized(entry: tuple[str, str], write: Callable[[Path], None]) -> Callable[[Path], None]:
    """A function that writes a model with only the files of a slow tokenizer."""

    def make(folder: Path) -> None:
        build(*entry, folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "vocab.txt"):
            (folder / name).unlink(missing_ok=True)
        write(folder)

    return make


for _name, _entry, _write in (
    ("wordpiece", ("bert", "fill-mask"), write_wordpiece),
    ("gpt2", ("gpt2", GEN), write_gpt2_like),
    ("roberta", ("roberta", "fill-mask"), lambda folder: write_gpt2_like(folder, "RobertaTokenizer")),
    ("t5", ("t5", S2S), lambda folder: write_sentencepiece(folder, "spiece.model", "T5Tokenizer")),
    ("albert", ("albert", HF), lambda folder: write_sentencepiece(folder, "spiece.model", "AlbertTokenizer")),
    ("xlmr", ("xlm-roberta", HF), lambda f: write_sentencepiece(f, "sentencepiece.bpe.model", "XLMRobertaTokenizer")),
    ("llama", ("llama", GEN), lambda folder: write_sentencepiece(folder, "tokenizer.model", "LlamaTokenizer")),
    ("marian", ("marian", S2S), write_marian),
    ("clip", ("clip", HF), write_clip_like),
):
    FOLDERS[f"slow-{_name}"] = SpecialFolder(_entry[0], _entry[1], _retokenized(_entry, _write))


def _edited(entry: tuple[str, str], change: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        build(*entry, folder)
        change(folder)

    return make


def _config(**values: Any) -> Callable[[Path], None]:
    """A function that changes config.json; None removes a key."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        found = {**json.loads(path.read_text(encoding="utf-8")), **values}
        path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}), encoding="utf-8")

    return change


def _cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4096])


def _garble(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * 64 + weights.read_bytes()[64:])


def _own_code(folder: Path) -> None:
    _config(model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"})(folder)
    (folder / "own.py").write_text("raise RuntimeError('this code must not run')\n", encoding="utf-8")


def _pickled(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _halved(folder: Path) -> None:
    """Convert the weights to bfloat16, in which most large models are stored."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = {name: value.to(torch.bfloat16) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _sharded(folder: Path) -> None:
    """Split the weights into several files with an index."""
    import transformers

    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    model = getattr(transformers, found).from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="200KB")


def _half(folder: Path) -> None:
    """Remove the classification head from the weights, as of a model that was not trained for the task."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, folder / "model.safetensors", {"format": "pt"}
    )


_BERT, _LLAMA = ("bert", "text-classification"), ("llama", GEN)
for _name, _entry, _change, _error in (
    ("corrupt-cut", _BERT, _cut, "CorruptFileError"),
    ("corrupt-header", _BERT, _garble, "CorruptFileError"),
    ("contradiction-hidden", _BERT, _config(hidden_size=H // 2, intermediate_size=FFN), "ConversionError"),
    ("contradiction-layers", _BERT, _config(num_hidden_layers=LAYERS + 1), "GpuxError"),
    (
        "contradiction-heads",
        _LLAMA,
        _config(num_attention_heads=HEADS * 2, num_key_value_heads=HEADS * 2),
        "ConversionError",
    ),
    ("contradiction-vocabulary", _LLAMA, _config(vocab_size=600), "ConversionError"),
    ("no-model-type", _BERT, _config(model_type=None), "UnsupportedArchitectureError"),
    ("unknown-model-type", _BERT, _config(model_type="not-there"), "UnsupportedArchitectureError"),
    ("own-code", _LLAMA, _own_code, "UnsupportedArchitectureError"),
    ("no-head", _BERT, _half, "UnsupportedTaskError"),
    ("no-weights", _BERT, lambda folder: (folder / "model.safetensors").unlink(), "NoWeightsError"),
    ("pickled", _BERT, _pickled, None),
    ("bfloat16", _LLAMA, _halved, None),
    ("sharded", _LLAMA, _sharded, None),
    ("no-tokenizer", _BERT, lambda folder: (folder / "tokenizer.json").unlink(), None),
    ("short-positions", ("gpt2", GEN), _config(n_positions=POS // 2), "ConversionError"),
):
    FOLDERS[_name] = SpecialFolder(_entry[0], _entry[1], _edited(_entry, _change), _error)
