"""Repositories that a catalog describes: config-only, gated, odd, moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hub import add_repo
from tests.inspect.headers.files import safetensors

MIXTRAL: dict[str, Any] = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 4096,
    "vocab_size": 32000,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "sliding_window": None,
}
MIXTRAL_ID = "mistralai/Mixtral-8x7B-v0.1"
LLAMA_ID = "meta-llama/Llama-3.2-1B"
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "vocab_size": 100,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}
COUNT = 32_000  #: values in the weights that the repositories have


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def weights(dtype: str = "F16") -> bytes:
    return safetensors([("model.embed_tokens.weight", dtype, (COUNT // 64, 64))])


def write(root: Path) -> None:
    """Write the repositories that the tests import."""
    add_repo(
        root,
        MIXTRAL_ID,
        {"config.json": text(MIXTRAL)},
        card_data={"license": "apache-2.0", "language": ["fr", "en"]},
        pipeline_tag="text-generation",
        downloads=1000,
        likes=10,
    )
    closed = {"config.json": text(LLAMA), "model.safetensors": weights()}
    add_repo(root, LLAMA_ID, closed, gated="manual", card_data={"license": "llama3.2"}, extra={"safetensors": None})
    add_repo(root, "acme/small", closed, pipeline_tag="text-generation", renamed_from=("small", "acme/old"))
    add_repo(root, "acme/private", closed, private=True)
    add_repo(root, "acme/odd", {"config.json": text({"model_type": "llama", "hidden_size": -1, "vocab_size": 1e300})})
    add_repo(root, "acme/escapes", {"config.json": b'{"model_type": "a\\u001b[31mb", "x": "\\ud800"}'})
    add_repo(root, "acme/classifier", {"config.json": text(LLAMA)}, pipeline_tag="text-classification", downloads=5)
    add_repo(root, "acme/text-ranking-ish", {"config.json": text(LLAMA)}, downloads=1)
