"""Models with random weights, of which only the sizes count; run by the toolchain's interpreter.

    python random_models.py FOLDER

Writes ``FOLDER/NAME`` for each of :data:`MODELS`, without a tokenizer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_LLAMA = {
    "vocab_size": 2560, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
_BERT = {
    "vocab_size": 2560, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8,
}  # fmt: skip
_T5 = {
    "vocab_size": 2560, "d_model": 256, "d_ff": 512, "d_kv": 32, "num_heads": 8, "num_layers": 2,
    "decoder_start_token_id": 0,
}  # fmt: skip
_VIT = {
    "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip
_GPT2 = {"vocab_size": 2560, "n_embd": 256, "n_layer": 2, "n_head": 8, "n_positions": 512}
#: name -> transformers' class of the model, that of its configuration, and the configuration
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "untied": ("LlamaForCausalLM", "LlamaConfig", _LLAMA),
    "positions": ("GPT2LMHeadModel", "GPT2Config", _GPT2),
    "encoder": ("BertModel", "BertConfig", _BERT),
    "masked": ("BertForMaskedLM", "BertConfig", _BERT),
    "encoder-decoder": ("T5ForConditionalGeneration", "T5Config", _T5),
    "vision": ("ViTForImageClassification", "ViTConfig", _VIT),
}


def main(root: Path) -> None:
    """Write all."""
    import torch
    import transformers

    for name, (model, config, values) in MODELS.items():
        # Seeded: with other weights int8 may lose too much and keep some layers in floats, which is larger than
        # estimated.
        torch.manual_seed(0)
        getattr(transformers, model)(getattr(transformers, config)(**values)).save_pretrained(root / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
