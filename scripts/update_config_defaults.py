"""Write src/gpux/inspect/architecture/defaults.json: the defaults of transformers for fields missing in config.json.

    PYTHON scripts/update_config_defaults.py

PYTHON is an interpreter with transformers (the `optimum` toolchain's). A configuration file omits values that equal the
default of its type, often in the parts of multimodal models, so sizes cannot be computed without these values.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

TABLE = Path(__file__).parents[1] / "src" / "gpux" / "inspect" / "architecture" / "defaults.json"
#: Parts of the names of fields that affect sizes and parameter counts.
_PARTS = """
    hidden intermediate layer head vocab position window expert lora_rank shared bias state conv embed embd
    ffn patch depth _dim sparse relative bucket
"""
#: Names of further fields.
_NAMES = """
    first_k_dense_replace moe_layer_freq
    alibi attention_chunk_size attn_layer_offset attn_layer_period conv_L_cache conv_act conv_kernel d_ff
    d_inner d_kv d_model dim do_layer_norm_before emb_dim embedding_size expand expansion_ratio
    expert_layer_offset expert_layer_period feed_forward_proj frequency_stride global_attn_every_n_layers
    image_size in_channels in_chans inner_group_num interaction_layers intermediate_size_mlp is_decoder
    is_encoder_decoder is_gated_act layer_norm_elementwise_affine layer_types local_attention max_length
    max_seq_len max_source_positions max_target_positions mlp_ratio model_max_length moe_k moe_top_k
    multi_query n_ctx n_groups n_inner new_decoder_architecture no_bias norm_bias norm_rel_ebd num_channels
    num_codebooks num_experts_per_tok num_hidden_layers_per_stage num_kv_heads num_mel_bins out_hidden_size
    output_dim parallel_attn pos_att_type projection_dim qk_layernorm qkv_bias scale_factor seq_length
    share_att_key spatial_merge_size temporal_patch_size tie_word_embeddings time_step_limit time_step_rank
    time_stride top_k type_vocab_size use_auxiliary_head use_bias use_conv_bias use_mask_token
    use_parallel_residual use_qk_norm use_swiglu_ffn window_size word_embed_proj_dim
"""
#: Parts of the names of fields that do not affect sizes.
_UNRELATED = """
    dropout drop _eps epsilon initializer layer_scale prune layerdrop output_hidden act norm_eps _std _range
    return_ cross_attention_hidden cpu _cache loss
"""
PARTS, NAMES, UNRELATED = _PARTS.split(), frozenset(_NAMES.split()), _UNRELATED.split()


def is_relevant(name: str, value: object) -> bool:
    """Whether the field affects sizes and its default is a small plain value."""
    by_part = any(part in name for part in PARTS) and not any(part in name for part in UNRELATED)
    if name not in NAMES and not by_part:
        return False
    if isinstance(value, (list, tuple)):
        return len(value) <= 16 and all(isinstance(item, int) for item in value)
    return isinstance(value, (bool, int, float, str))


def fields(config: Any) -> dict[str, Any]:
    """The relevant fields of a configuration class with the defaults of its constructor, and its nested sections.

    The defaults are read from the constructor instead of an object, since an object also has values derived from
    others, which are wrong for a file that changes those.
    """
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(config).__init__).parameters.items():
        value = getattr(config, name, None)
        if isinstance(value, transformers.PretrainedConfig):
            continue
        if is_relevant(name, parameter.default):
            found[name] = parameter.default
    for name, value in sorted(vars(config).items()):
        if isinstance(value, transformers.PretrainedConfig) and not name.startswith("_"):
            found[name] = {"model_type": value.model_type, **fields(value)}
    return found


def main() -> None:
    """Build the default configuration of every model type and write its relevant fields."""
    table: dict[str, Any] = {}
    for model_type in sorted(CONFIG_MAPPING_NAMES):
        try:
            found = fields(transformers.AutoConfig.for_model(model_type))
        except Exception as exc:  # noqa: BLE001 - a type without defaults is left out and reported
            print(f"{model_type}: {type(exc).__name__}: {exc}"[:160], file=sys.stderr)
            continue
        if found:
            table[model_type] = found
    rows = [f"{json.dumps(name)}: {json.dumps(table[name], separators=(',', ':'))}" for name in table]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    print(f"{len(table)} types, {TABLE.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
