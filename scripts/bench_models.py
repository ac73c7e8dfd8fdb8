"""Writes the models of the conversion benchmark; run by the toolchain's interpreter, from the repository's root.

    TOOLCHAIN_PYTHON -m scripts.bench_models FOLDER [NAME …]

Real shapes, random weights: the cost of a conversion does not depend on the values.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from tests.models.zoo_tokenizer_files import save_tokenizer

#: Name -> model class, configuration values, tokenizer of the zoo, model type.
SHAPES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "bert-base": ("BertModel", {}, "wordpiece", "bert"),
    "gpt2": ("GPT2LMHeadModel", {}, "gpt2", "gpt2"),
    "llama-100m": (
        "LlamaForCausalLM",
        {
            "num_hidden_layers": 12,
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
            "vocab_size": 32000,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        },
        "llama",
        "llama",
    ),
    "t5-small": ("T5ForConditionalGeneration", {"decoder_start_token_id": 0}, "t5", "t5"),
}


def write(name: str, folder: Path) -> None:
    """Write one model with its tokenizer."""
    class_name, values, tokenizer, model_type = SHAPES[name]
    model_class = getattr(transformers, class_name)
    torch.manual_seed(0)
    model_class(model_class.config_class(**values)).eval().save_pretrained(folder)
    save_tokenizer(tokenizer, model_type, folder)


if __name__ == "__main__":
    for chosen in sys.argv[2:] or SHAPES:
        write(chosen, Path(sys.argv[1]) / chosen)
