"""The model in a GGUF header: architecture in llama.cpp's terms, size, quantization."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpux.inspect.formats.gguf_files import gguf_label
from gpux.inspect.headers.gguf import GgufFile, LongArray
from gpux.model.values import Value

#: llama.cpp's architecture name -> ``model_type`` of config.json, where they differ
_MODEL_TYPES = {
    "phi2": "phi",
    "starcoder": "gpt_bigcode",
    "gptneox": "gpt_neox",
    "command-r": "cohere",
    "gpt-oss": "gpt_oss",
}
#: key after ``<architecture>.`` -> name in config.json
_CONFIG = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}


@dataclass(frozen=True)
class GgufSummary(Value):
    """A model in one file or several splits; None means not stated."""

    files: int
    version: int
    architecture: str | None  #: llama.cpp's name: ``llama``, ``qwen2`` …
    name: str | None
    parameters: int
    tensors: int
    bytes: int | None  #: of the weights; None if a type is unknown
    types: Mapping[str, int] = field(default_factory=dict)  #: type -> parameters, the largest share first
    label: str | None = None  #: quantization in the file name: ``Q4_K_M``
    context_length: int | None = None  #: tokens in training
    embedding_length: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    vocab: int | None = None
    experts: int | None = None
    active_experts: int | None = None
    tokenizer: str | None = None  #: ``gpt2``, ``llama``, ``bert`` …
    chat_template: bool = False
    license: str | None = None
    big_endian: bool = False
    notes: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        """Type -> fraction of the parameters."""
        return {name: count / self.parameters for name, count in self.types.items()} if self.parameters else {}

    @property
    def bits(self) -> float | None:
        """Average bits per weight."""
        return 8 * self.bytes / self.parameters if self.parameters and self.bytes is not None else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, with ``shares`` and ``bits``."""
        return {**super().to_dict(), "shares": self.shares, "bits": self.bits}


def summarize(files: Sequence[GgufFile]) -> GgufSummary:
    """Summarize a file, or all splits of one, the first of which has the metadata."""
    first = files[0]
    data, tensors = first.metadata, [tensor for file in files for tensor in file.tensors]
    types: Counter[str] = Counter()
    for tensor in tensors:
        types[tensor.type] += tensor.elements
    sizes = [tensor.bytes for tensor in tensors]
    architecture = _text(data.get("general.architecture"))
    prefix = f"{architecture}."
    return GgufSummary(
        files=len(files),
        version=first.version,
        architecture=architecture,
        name=_text(data.get("general.name")),
        parameters=sum(types.values()),
        tensors=len(tensors),
        bytes=None if None in sizes else sum(size or 0 for size in sizes),
        types=dict(types.most_common()),
        label=gguf_label(first.path),
        context_length=_number(data.get(f"{prefix}context_length")),
        embedding_length=_number(data.get(f"{prefix}embedding_length")),
        layers=_number(data.get(f"{prefix}block_count")),
        heads=_number(data.get(f"{prefix}attention.head_count")),
        kv_heads=_number(data.get(f"{prefix}attention.head_count_kv")),
        vocab=_vocabulary(data, prefix),
        experts=_number(data.get(f"{prefix}expert_count")),
        active_experts=_number(data.get(f"{prefix}expert_used_count")),
        tokenizer=_text(data.get("tokenizer.ggml.model")),
        chat_template=bool(data.get("tokenizer.chat_template")),
        license=_text(data.get("general.license")),
        big_endian=first.big_endian,
        notes=tuple(_notes(files, len(tensors))),
    )


def as_config(file: GgufFile) -> dict[str, Any]:
    """The architecture under the names of ``config.json``; ``{}`` if the metadata has none."""
    data = file.metadata
    architecture = _text(data.get("general.architecture"))
    if architecture is None:
        return {}
    found = {name: data[f"{architecture}.{key}"] for key, name in _CONFIG.items() if f"{architecture}.{key}" in data}
    plain = {name: max(value, default=None) if isinstance(value, list) else value for name, value in found.items()}
    vocab = _vocabulary(data, f"{architecture}.")
    tied = all(tensor.name != "output.weight" for tensor in file.tensors)
    config = {"model_type": _MODEL_TYPES.get(architecture, architecture), **plain, "vocab_size": vocab}
    if file.tensors:
        config["tie_word_embeddings"] = tied
    return {name: value for name, value in config.items() if value is not None}


def _vocabulary(data: Mapping[str, Any], prefix: str) -> int | None:
    tokens = data.get("tokenizer.ggml.tokens")
    if isinstance(tokens, LongArray):
        return tokens.count
    return len(tokens) if isinstance(tokens, list) else _number(data.get(f"{prefix}vocab_size"))


def _notes(files: Sequence[GgufFile], tensors: int) -> list[str]:
    data = files[0].metadata
    splits, promised = data.get("split.count"), data.get("split.tensors.count")
    notes = []
    if isinstance(splits, int) and splits > len(files):
        notes.append(f"the counts are those of {len(files)} of {splits} splits")
    elif isinstance(promised, int) and promised != tensors:
        notes.append(f"the splits contain {tensors} tensors, but state {promised}")
    if not tensors:
        notes.append("the file contains a vocabulary and no weights")
    return notes


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    """An integer, or the largest of a list: some architectures have one per layer."""
    if isinstance(value, list):
        return max((item for item in value if isinstance(item, int)), default=None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
