"""Reading a ``config.json`` that may hold anything: one name for each fact, whatever a model's authors called it.

A value of another type, or out of all proportion, counts as absent; nothing here raises for what a file holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

#: A count beyond these is damage and no model: sizes of tensors, and things that there are several of.
LARGEST, MOST_LAYERS = 1 << 40, 10_000

#: Our name of a fact -> the names that it has in configuration files, the more telling ones first.
#: A dot leads into a section (DBRX, MPT).
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

#: Parts of a multimodal model, each with the sections that describe it.
SECTIONS: dict[str, tuple[str, ...]] = {
    "text": ("text_config", "llm_config", "language_config", "text_cfg"),
    "vision": ("vision_config", "vision_cfg", "visual"),
    "audio": ("audio_config", "audio_encoder_config"),
    "encoder": ("encoder",),
    "decoder": ("decoder",),
}


@cache
def library_defaults() -> Mapping[str, Mapping[str, Any]]:
    """Values that transformers assumes for each model type; written by ``scripts/update_config_defaults.py``."""
    found: dict[str, dict[str, Any]] = json.loads((files(__package__) / "defaults.json").read_text(encoding="utf-8"))
    return found


class Fields:
    """A configuration, or a section of one, with the defaults of its type behind it."""

    def __init__(self, config: object, defaults: Mapping[str, Any] | None = None) -> None:
        self.given: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
        stated = self.given.get("model_type")
        self.model_type = stated if isinstance(stated, str) and stated else None
        known = library_defaults().get(self.model_type or "", {})
        self.defaults: Mapping[str, Any] = known if defaults is None else defaults
        if self.model_type is None and isinstance(fallback := self.defaults.get("model_type"), str):
            self.model_type = fallback or None
        #: Names of the values that were asked for and that only the defaults held.
        self.assumed: set[str] = set()

    def raw(self, name: str) -> Any:
        """The value of a name of the file, with a dot leading into a section; else its default; else None.

        What the file states as null is none, whatever the default is: so transformers reads it too.
        """
        value = _within(self.given, name)
        if value is None and name not in self.given and (value := _within(self.defaults, name)) is not None:
            self.assumed.add(name)
        return value

    def candidates(self, fact: str) -> Iterator[tuple[str, Any]]:
        """Each name of the fact with its value: those of the file, then those of the defaults with a ``=`` before."""
        names = NAMES.get(fact, (fact,))
        for name in names:
            if (value := _within(self.given, name)) is not None:
                yield name, value
        for name in names:
            if name not in self.given and (value := _within(self.defaults, name)) is not None:
                yield f"={name}", value

    def count(self, fact: str) -> int | None:
        """A whole number from 0 on, within reason; None where the file holds none."""
        most = MOST_LAYERS if fact.endswith("layers") else LARGEST
        for name, value in self.candidates(fact):
            number = whole(value)
            if number is not None and 0 <= number <= most:
                if name.startswith("="):
                    self.assumed.add(name[1:])
                return number
        return None

    def size(self, fact: str) -> int | None:
        """A whole number above 0; None where the file holds none."""
        return self.count(fact) or None

    def need(self, fact: str) -> int:
        """A size that a formula cannot do without.

        Raises:
            MissingFieldError: the file holds none; the caller makes a reason of it.
        """
        found = self.size(fact)
        if found is None:
            raise MissingFieldError(NAMES.get(fact, (fact,))[0])
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value; the default where the file holds none."""
        value = self.raw(name)
        return value if isinstance(value, bool) else default

    def number(self, name: str) -> float | None:
        """A finite number above 0; None where the file holds none."""
        value = self.raw(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return float(value) if 0 < value <= LARGEST else None

    def text(self, name: str) -> str | None:
        """A text; None where the file holds none."""
        value = self.raw(name)
        return value if isinstance(value, str) and value else None

    def counts(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers; empty where the file holds anything else."""
        numbers = [whole(item) for item in self.items(name)]
        found = tuple(n for n in numbers if n is not None and 0 <= n <= LARGEST)
        return found if len(found) == len(numbers) else ()

    def items(self, name: str) -> tuple[Any, ...]:
        """A list's items; empty where the file holds no list, or one longer than any model has layers."""
        value = self.raw(name)
        return tuple(value) if isinstance(value, (list, tuple)) and len(value) <= MOST_LAYERS else ()

    def mapping(self, *names: str) -> Mapping[str, Any]:
        """The first of the file's sections of these names that holds something; else an empty one."""
        found = (self.given.get(name) for name in names)
        return next((value for value in found if isinstance(value, Mapping) and value), {})

    def section(self, part: str) -> Fields | None:
        """The configuration of a part: ``text``, ``vision``, ``audio``, ``encoder``, ``decoder``.

        What the file leaves out comes from the section's own type, else from this type's idea of the part. A part of
        which the file says nothing is none, but the text part may stand at the top level (Qwen2-VL).
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
        """Class names that the weights were saved from."""
        return tuple(item for item in self.items("architectures") if isinstance(item, str))

    @property
    def labels(self) -> int:
        """Outputs of a classification head; 2 where the file names none, as transformers has it."""
        named = self.given.get("id2label")
        return len(named) if isinstance(named, Mapping) and named else self.size("num_labels") or 2


class MissingFieldError(Exception):
    """A size that a formula needs is not in the file; ``args[0]`` is its usual name. Stays within this package."""


class NoFormulaError(Exception):
    """Nobody has confirmed a formula for ``args[0]``. Stays within this package."""


def whole(value: object) -> int | None:
    """The value as a whole number; None for anything else, truth values included."""
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
    """Defaults of a section: None where its own type tells them, else those that the parent's type has for it."""
    stated = section.get("model_type")
    own = isinstance(stated, str) and stated != parent and stated in library_defaults()
    return None if own else fallback


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without sections, for a text part that is written at the top level."""
    return {name: v for name, v in given.items() if name != "model_type" and not name.endswith("_config")}
