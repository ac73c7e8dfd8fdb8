"""Writes a tokenizer as transformers builds it: after its class applied the files beside ``tokenizer.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, normalizers

from gpux.convert.worker.tokenizer.later import is_later, open_later
from gpux.model.effective import EFFECTIVE
from gpux.model.json_file import read_json

TOKENIZER, CONFIG, SPECIALS = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
#: The special tokens that every tokenizer may have.
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: What transformers reads from attributes of a tokenizer when it tokenizes and decodes.
_SETTINGS = (
    "model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "split_special_tokens",
    "model_input_names", "pad_token_type_id",
)  # fmt: skip
#: Other names of settings, and what would add special tokens again.
_APPLIED = ("max_len", "additional_special_tokens", "extra_special_tokens", *NAMES)


def library() -> str:
    """The library that builds tokenizers in this process, with its version."""
    return f"transformers {transformers.__version__}"


def effective_version(folder: Path) -> str | None:
    """The library that wrote the tokenizer of a variant; None if it is as in the repository."""
    found = read_json(folder / CONFIG).get(EFFECTIVE)
    return found if isinstance(found, str) else None


def open_tokenizer(folder: Path, *, trust_remote_code: bool) -> Any:
    """The tokenizer of a folder as ``AutoTokenizer`` opens it; raises anything."""
    if is_later(folder):
        return open_later(folder, trust_remote_code=trust_remote_code)
    return transformers.AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=trust_remote_code
    )


def write_effective(tokenizer: Any, source: Path, output: Path) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json`` of a fast tokenizer.

    ``tokenizer.json`` has neither truncation nor padding. Nothing is written for a tokenizer that no file can describe:
    the library finds a token that is added again with other flags under both. gpux applies its rules to these files.
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    if type(tokenizer).__name__.startswith("CLIPTokenizer"):  # transformers replaces the ends of words in Python
        steps = [decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 1, 1)]
        backend.decoder = decoders.Sequence(steps)
    written = backend.to_str()
    again = Tokenizer.from_str(written)
    again.encode_special_tokens = backend.encode_special_tokens
    tokens = map(str, tokenizer.all_special_tokens)
    texts = [text for token in tokens for text in (f"one {token} two", f"one{token}two")]
    if any(_ids(again, text) != _ids(backend, text) for text in texts):
        return
    write_text(output / TOKENIZER, written)
    write_settings(tokenizer, source, output)


def _ids(tokenizer: Tokenizer, text: str) -> list[int] | None:
    """The ids of a text; None if the tokenizer refuses it: without an unknown token some letters have no id."""
    try:
        return list(tokenizer.encode(text).ids)
    except Exception:  # noqa: BLE001 - tokenizers raises no more specific class
        return None


def lower_case_first(tokenizer: Any) -> None:
    """Lower-case texts before all else, as sentence-transformers does for ``do_lower_case`` of its own file."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    present = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *present])


def write_settings(tokenizer: Any, source: Path, output: Path) -> None:
    """Write the special tokens, limits and sides of a tokenizer, besides what ``tokenizer_config.json`` has."""
    settings = {name: getattr(tokenizer, name) for name in _SETTINGS if hasattr(tokenizer, name)}
    tokens = special_tokens(tokenizer)
    kept = {key: value for key, value in read_json(source / CONFIG).items() if key not in _APPLIED}
    config = {**kept, **tokens, **settings, EFFECTIVE: library()}
    write_text(output / CONFIG, json.dumps(config, ensure_ascii=False, indent=2))
    write_text(output / SPECIALS, json.dumps(_plain(tokens), ensure_ascii=False, indent=2))


def read_effective(folder: Path, template: Any) -> Any:
    """A tokenizer of this process's transformers from files that another version wrote; its rules are not applied.

    Args:
        folder: of the variant.
        template: the chat template.
    """
    config = read_json(folder / CONFIG)
    given = {name: config[name] for name in (*NAMES, *_SETTINGS) if name in config and name != "model_input_names"}
    found = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(folder / TOKENIZER)), **given)
    found.model_input_names = config["model_input_names"]
    found.chat_template = template
    return found


def special_tokens(tokenizer: Any) -> dict[str, Any]:
    """The special tokens as text: ``bos_token`` …, ``additional_special_tokens``, ``extra_special_tokens``."""
    found: Mapping[str, Any] = tokenizer.special_tokens_map
    tokens: dict[str, Any] = {name: str(found[name]) for name in NAMES if found.get(name) is not None}
    additional = found.get("additional_special_tokens")
    if additional is None:  # transformers 5 has another name
        listed = getattr(tokenizer, "extra_special_tokens", None)
        additional = listed if isinstance(listed, list) else None
    if additional:
        tokens["additional_special_tokens"] = [str(token) for token in additional]
    extra = {
        name: str(token)
        for name, token in found.items()
        if name not in (*NAMES, "additional_special_tokens") and isinstance(token, str)
    }
    return {**tokens, "extra_special_tokens": extra} if extra else tokens


def _plain(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """As ``special_tokens_map.json`` has them: the model's own tokens beside the others."""
    rest = {name: value for name, value in tokens.items() if name != "extra_special_tokens"}
    return {**rest, **tokens.get("extra_special_tokens", {})}


def write_text(file: Path, text: str) -> None:
    """Write a file in the place of another, which may be a link to the source's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
