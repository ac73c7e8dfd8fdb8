"""What Ollama's API says about a stored model, from its manifest and its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from gpux.errors import GpuxError
from gpux.inspect.architecture import count_parameters
from gpux.inspect.chat_styles import is_harmony, reasoning_style, thinking_switch, tool_style
from gpux.inspect.chat_template import chat_templates, chosen
from gpux.model.tasks import canonical
from gpux.model.variant import StoredModel
from gpux.server.core import EMBEDDING_TASKS, TEXT_TASKS

#: key of ``model_info`` -> the names that configurations have for it
_SIZES = {
    "context_length": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "embedding_length": ("hidden_size", "d_model", "n_embd", "dim"),
    "block_count": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "attention.head_count": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "vocab_size": ("vocab_size",),
}
#: parameter of Ollama's API -> name in ``generation_config.json``
_DEFAULTS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
}
_UNITS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


def usable(task: str) -> bool:
    """Whether a model of the task answers Ollama's API."""
    return canonical(task) in (*TEXT_TASKS, *EMBEDDING_TASKS)


def digest(model: StoredModel) -> str:
    """SHA-256 over the names and hashes of the files, which differs between variants."""
    manifest = model.manifest
    lines = [f"{manifest.scheme} {manifest.id} {manifest.commit} {manifest.task} {manifest.precision}"]
    lines += sorted(f"{file.path} {file.sha256}" for file in manifest.files)
    return sha256("\n".join(lines).encode()).hexdigest()


def details(model: StoredModel) -> dict[str, Any]:
    """``details`` of a model; ``parameter_size`` is empty where it is not known."""
    family = architecture(model)
    return {
        "parent_model": "",
        "format": "onnx",
        "family": family,
        "families": [family],
        "parameter_size": _size(parameter_count(model)),
        "quantization_level": model.manifest.precision.upper(),
    }


def model_info(model: StoredModel, context_length: int | None) -> dict[str, Any]:
    """``model_info``: ``general.…``, and sizes under the name of the architecture, as GGUF files have them.

    Args:
        model: the variant.
        context_length: of the loaded model; None: as its files say.
    """
    family, config = architecture(model), _config(model.path)
    sizes = {key: _number(config, names) for key, names in _SIZES.items()}
    sizes["context_length"] = context_length or context_of(model)
    found = {
        "general.architecture": family,
        "general.basename": model.id.rpartition("/")[2],
        "general.parameter_count": parameter_count(model),
        **{f"{family}.{key}": value for key, value in sizes.items()},
    }
    return {key: value for key, value in found.items() if value is not None}


def defaults(model: StoredModel) -> str:
    """``parameters``: a line ``key value`` for each default of the model's own files."""
    config = _read(model.path / "generation_config.json")
    values = {key: config.get(name) for key, name in _DEFAULTS.items()}
    return "\n".join(f"{key:<30} {value}" for key, value in values.items() if _is_number(value))


def capabilities(model: StoredModel) -> list[str]:
    """What the model does in this API."""
    task = canonical(model.task)
    if task in EMBEDDING_TASKS:
        return ["embedding"]
    if task not in TEXT_TASKS:
        return []
    tools, thinking = _writes(model.path) if task == "text-generation" else (False, False)
    return ["completion", *(["tools"] if tools else []), *(["thinking"] if thinking else [])]


def template(model: StoredModel) -> str:
    """The chat template, jinja2 source; ``{{ .Prompt }}``, which is Ollama's notation, for a model without one."""
    return _template(model.path) or "{{ .Prompt }}"


def architecture(model: StoredModel) -> str:
    """The model type of transformers."""
    return model.manifest.model_type or str(_config(model.path).get("model_type") or "unknown")


def parameter_count(model: StoredModel) -> int | None:
    """By the formula of the architecture; None where gpux has no formula for it."""
    return _count(model.path)


def context_of(model: StoredModel) -> int | None:
    """Tokens of prompt and answer, as the model's files say; None where they do not."""
    found = _number(_config(model.path), _SIZES["context_length"])
    limits = [one for one in (found, model.manifest.call_spec.max_length) if one]
    return min(limits, default=None)


@lru_cache(512)
def _writes(folder: Path) -> tuple[bool, bool]:
    """Whether the model writes calls of tools, and reasoning."""
    source = _template(folder)
    if source is None:
        return False, False
    added = _read(folder / "tokenizer.json").get("added_tokens")
    special = {str(one.get("content")) for one in added or () if isinstance(one, dict)}
    reasons = is_harmony(source) or reasoning_style(source, special) is not None
    return tool_style(source, special) is not None, reasons or thinking_switch(source) is not None


@lru_cache(64)
def _template(folder: Path) -> str | None:
    try:
        return chosen(chat_templates(folder), tools=True)
    except GpuxError:  # a damaged file is for `gpux verify`
        return None


@lru_cache(512)
def _count(folder: Path) -> int | None:
    return count_parameters(_config(folder)).total


@lru_cache(512)
def _config(folder: Path) -> dict[str, Any]:
    return _read(folder / "config.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            for name in names:
                value = part.get(name)
                if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    return value
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _size(count: int | None) -> str:
    if count is None:
        return ""
    unit, letter = next((one for one in _UNITS if count >= one[0]), (1, ""))
    return f"{count / unit:.1f}{letter}" if letter else str(count)
