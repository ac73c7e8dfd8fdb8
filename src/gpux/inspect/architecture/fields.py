"""Reads an arbitrary ``config.json``: one name for each fact, whatever name a configuration uses.

A value of another type, or an implausible one, counts as missing; nothing here raises for the content of a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

#: Larger values are implausible: sizes of tensors, and numbers of layers.
LARGEST, MOST_LAYERS = 1 << 40, 10_000

#: Name of a fact here -> its names in configuration files, the most specific first. A dot addresses a section (MPT).
NAMES: dict[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model", "n_embed", "dim", "emb_dim", "embed_dim", "model_dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"),
    "heads": (
        "num_attention_heads",
        "n_head",
        "n_heads",
        "num_heads",
        "attention_heads",
        "encoder_attention_heads",
        "decoder_attention_heads",
    ),
    "kv_heads": (
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "n_kv_heads",
        "multi_query_group_num",
        "attn_config.kv_n_heads",
    ),
    "head": ("head_dim", "d_kv", "kv_channels", "attention_head_dim"),
    "vocab": ("vocab_size", "padded_vocab_size", "n_vocab", "decoder_vocab_size"),
    "context": (
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "max_sequence_length",
        "seq_length",
        "seq_len",
        "max_target_positions",
        "n_ctx",
        "model_max_length",
    ),
    "inner": (
        "intermediate_size",
        "ffn_hidden_size",
        "n_inner",
        "d_ff",
        "ffn_dim",
        "hidden_dim",
        "d_inner",
        "encoder_ffn_dim",
        "decoder_ffn_dim",
        "ffn_config.ffn_hidden_size",
    ),
    "experts": (
        "num_local_experts",
        "num_experts",
        "n_routed_experts",
        "moe_num_experts",
        "ffn_config.moe_num_experts",
    ),
    "used_experts": (
        "num_experts_per_tok",
        "num_experts_per_token",
        "experts_per_token",
        "moe_top_k",
        "moe_topk",
        "moe_k",
        "num_selected_experts",
        "ffn_config.moe_top_k",
    ),
    "shared_experts": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "expert": ("moe_intermediate_size", "expert_intermediate_size", "moe_ffn_hidden_size"),
    "shared_expert": ("shared_expert_intermediate_size", "shared_intermediate_size"),
    "channels": ("num_channels", "in_channels", "in_chans"),
    "encoder_layers": ("encoder_layers", "num_encoder_layers"),
    "decoder_layers": ("decoder_layers", "num_decoder_layers"),
    "state": ("state_size", "d_state", "mamba_d_state", "ssm_state_size"),
    "conv": ("conv_kernel", "d_conv", "mamba_d_conv"),
}

#: Parts of a multimodal model -> names of the sections that describe them.
SECTIONS: dict[str, tuple[str, ...]] = {
    "text": ("text_config", "llm_config", "language_config", "text_cfg"),
    "vision": ("vision_config", "vision_cfg", "visual"),
    "audio": ("audio_config", "audio_encoder_config"),
    "encoder": ("encoder",),
    "decoder": ("decoder",),
}


@cache
def library_defaults() -> Mapping[str, Mapping[str, Any]]:
    """The defaults of transformers for each model type; written by ``scripts/update_config_defaults.py``."""
    found: dict[str, dict[str, Any]] = json.loads((files(__package__) / "defaults.json").read_text(encoding="utf-8"))
    return found


class Fields:
    """A configuration, or a section of one, with the defaults of its model type."""

    def __init__(self, config: object, defaults: Mapping[str, Any] | None = None) -> None:
        self.given: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
        stated = self.given.get("model_type")
        self.model_type = stated if isinstance(stated, str) and stated else None
        known = library_defaults().get(self.model_type or "", {})
        self.defaults: Mapping[str, Any] = known if defaults is None else defaults
        if self.model_type is None and isinstance(fallback := self.defaults.get("model_type"), str):
            self.model_type = fallback or None
        #: Names of the values that were read from the defaults.
        self.assumed: set[str] = set()

    def raw(self, name: str) -> Any:
        """The value of a name (a dot addresses a section), else its default, else None.

        ``null`` in the file means None, whatever the default is, as in transformers.
        """
        value = _within(self.given, name)
        if value is None and name not in self.given and (value := _within(self.defaults, name)) is not None:
            self.assumed.add(name)
        return value

    def candidates(self, fact: str) -> Iterator[tuple[str, Any]]:
        """The names of a fact with their values: those in the file, then those in the defaults, prefixed with ``=``."""
        names = NAMES.get(fact, (fact,))
        for name in names:
            if (value := _within(self.given, name)) is not None:
                yield name, value
        for name in names:
            if name not in self.given and (value := _within(self.defaults, name)) is not None:
                yield f"={name}", value

    def count(self, fact: str) -> int | None:
        """A plausible integer of at least 0; None if missing."""
        most = MOST_LAYERS if fact.endswith("layers") else LARGEST
        for name, value in self.candidates(fact):
            number = whole(value)
            if number is not None and 0 <= number <= most:
                if name.startswith("="):
                    self.assumed.add(name[1:])
                return number
        return None

    def size(self, fact: str) -> int | None:
        """A plausible integer of at least 1; None if missing."""
        return self.count(fact) or None

    def need(self, fact: str) -> int:
        """A size that a formula requires.

        Raises:
            MissingFieldError: the size is missing.
        """
        found = self.size(fact)
        if found is None:
            raise MissingFieldError(NAMES.get(fact, (fact,))[0])
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean; ``default`` if missing."""
        value = self.raw(name)
        return value if isinstance(value, bool) else default

    def number(self, name: str) -> float | None:
        """A finite number greater than 0; None if missing."""
        value = self.raw(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return float(value) if 0 < value <= LARGEST else None

    def text(self, name: str) -> str | None:
        """A non-empty string; None if missing."""
        value = self.raw(name)
        return value if isinstance(value, str) and value else None

    def counts(self, name: str) -> tuple[int, ...]:
        """A list of integers; empty for any other value."""
        numbers = [whole(item) for item in self.items(name)]
        found = tuple(n for n in numbers if n is not None and 0 <= n <= LARGEST)
        return found if len(found) == len(numbers) else ()

    def items(self, name: str) -> tuple[Any, ...]:
        """The items of a list; empty for any other value, or an implausibly long list."""
        value = self.raw(name)
        return tuple(value) if isinstance(value, (list, tuple)) and len(value) <= MOST_LAYERS else ()

    def mapping(self, *names: str) -> Mapping[str, Any]:
        """The first non-empty section with one of the names; else an empty one."""
        found = (self.given.get(name) for name in names)
        return next((value for value in found if isinstance(value, Mapping) and value), {})

    def section(self, part: str) -> Fields | None:
        """The configuration of a part: ``text``, ``vision``, ``audio``, ``encoder``, ``decoder``.

        Omitted values are the defaults of the section's own type, else those of this type for the part. None if the
        file does not describe the part; the text part may be at the top level (Qwen2-VL).
        """
        for name in SECTIONS[part]:
            value, fallback = self.given.get(name), self.defaults.get(name)
            fallback = fallback if isinstance(fallback, Mapping) else None
            if isinstance(value, Mapping):
                return Fields(value, _defaults_of(value, self.model_type, fallback))
            if fallback is not None and part == "text" and any(size in self.given for size in NAMES["hidden"]):
                return Fields(_flat(self.given), fallback)
        return None

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of the classes that the weights were saved from."""
        return tuple(item for item in self.items("architectures") if isinstance(item, str))

    @property
    def labels(self) -> int:
        """Number of outputs of a classification head; default: 2, as in transformers."""
        named = self.given.get("id2label")
        return len(named) if isinstance(named, Mapping) and named else self.size("num_labels") or 2


class MissingFieldError(Exception):
    """A size that a formula requires is missing; ``args[0]`` is its usual name. Never leaves this package."""


class NoFormulaError(Exception):
    """There is no confirmed formula for ``args[0]``. Never leaves this package."""


def whole(value: object) -> int | None:
    """The value as an integer; None for any other value, including booleans."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _within(source: Mapping[str, Any], name: str) -> Any:
    first, _, rest = name.partition(".")
    value = source.get(first)
    if not rest:
        return value
    return value.get(rest) if isinstance(value, Mapping) else None


def _defaults_of(
    section: Mapping[str, Any], parent: str | None, fallback: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Defaults of a section: None if its own type has some, else those of the parent's type for the section."""
    stated = section.get("model_type")
    own = isinstance(stated, str) and stated != parent and stated in library_defaults()
    return None if own else fallback


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without its sections, for a text part at the top level."""
    return {name: v for name, v in given.items() if name != "model_type" and not name.endswith("_config")}
