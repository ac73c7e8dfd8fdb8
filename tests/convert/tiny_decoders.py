"""Writes tiny, random decoders with transformers; run by the mobius toolchain's interpreter.

python tiny_decoders.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

SIZES = {
    "vocab_size": 60,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
OPT = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48}
MODELS = {
    "llama-tied": ("LlamaForCausalLM", {**SIZES, "tie_word_embeddings": True}),
    "mistral-window": ("MistralForCausalLM", {**SIZES, "sliding_window": 8}),
    "mistral-long-window": ("MistralForCausalLM", {**SIZES, "sliding_window": 1500, "max_position_embeddings": 4096}),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gemma": ("GemmaForCausalLM", {**SIZES, "head_dim": 16, "hidden_size": 96}),
    "opt": ("OPTForCausalLM", {**OPT, "max_position_embeddings": 40, "word_embed_proj_dim": 32}),
    "mixtral": ("MixtralForCausalLM", {**SIZES, "num_local_experts": 4}),
}


def write(name: str, folder: Path) -> None:
    """One model, its weights drawn so that masks, positions and biases change its outputs."""
    torch.manual_seed(0)
    class_name, sizes = MODELS[name]
    model_class = getattr(transformers, class_name)
    model = model_class(model_class.config_class(pad_token_id=0, **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(folder)


def write_changed(folder: Path) -> None:
    """The same llama pickled, with an unused bias, with a missing tensor, and truncated."""
    weights = load_file(folder / "llama-tied" / "model.safetensors")
    pickled = _copy_config(folder, "llama-pickled")
    torch.save(weights, pickled / "pytorch_model.bin")
    bias = {"model.layers.0.mlp.up_proj.bias": torch.ones(48)}
    save_file({**weights, **bias}, _copy_config(folder, "llama-bias") / "model.safetensors", {"format": "pt"})
    less = {name: tensor for name, tensor in weights.items() if "layers.1.mlp.up" not in name}
    save_file(less, _copy_config(folder, "llama-less") / "model.safetensors", {"format": "pt"})
    whole = (folder / "llama-tied" / "model.safetensors").read_bytes()
    (_copy_config(folder, "llama-cut") / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _copy_config(folder: Path, name: str) -> Path:
    target = folder / name
    target.mkdir()
    (target / "config.json").write_text((folder / "llama-tied" / "config.json").read_text())
    return target


def write_gguf(folder: Path) -> None:
    """A llama as a GGUF file, in which the rows of queries and keys have another order."""
    import gguf

    source = folder / "llama-tied"
    config, weights = json.loads((source / "config.json").read_text()), load_file(source / "model.safetensors")
    (folder / "llama-gguf").mkdir()
    writer = gguf.GGUFWriter(folder / "llama-gguf" / "model.gguf", "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(0)
    for name, tensor in weights.items():
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        count = next((count for key, count in heads.items() if key in name), None)
        writer.add_tensor(_gguf_name(name), (tensor if count is None else _interleaved(tensor, count)).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.layers.": "blk.",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _gguf_name(name: str) -> str:
    for old, new in GGUF_NAMES.items():
        name = name.replace(old, new)
    return name


def _interleaved(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    rows, columns = tensor.shape
    return tensor.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    for model in MODELS:
        write(model, target / model)
    write_changed(target)
    write_gguf(target)
