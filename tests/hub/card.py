"""The YAML block at the top of a model card.

Reads the subset that model cards use: scalars and lists of scalars at the top level. Nested structures are omitted; a
repository that needs them sets `cardData` in its `repo.json`.
"""

from __future__ import annotations

import re
from typing import Any

_KEY = re.compile(r"([A-Za-z0-9_.-]+):(?:\s+(.*))?$")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


def read_card(text: str) -> dict[str, Any]:
    """The top-level entries of a card's front matter; empty without one."""
    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    card: dict[str, Any] = {}
    block: list[str] = []
    key: str | None = None
    for line in lines[1:]:
        if line.rstrip() == "---":
            if key is not None:
                _store_block(card, key, block)
            return card
        match = _KEY.match(line)
        if match is None:
            block.append(line)
            continue
        if key is not None:
            _store_block(card, key, block)
        key, block = None, []
        if match[2] and not match[2].startswith("#"):
            if match[2][0] not in "|>&*!{":
                card[match[1]] = _value(match[2])
        else:
            key = match[1]
    return {}


def _store_block(card: dict[str, Any], key: str, block: list[str]) -> None:
    """Stores the indented lines below a key, if they are a list of scalars or empty."""
    lines = [line.strip() for line in block if line.strip() and not line.strip().startswith("#")]
    if not lines:
        card[key] = None
    elif all(line.startswith("- ") and not _KEY.match(line[2:]) for line in lines):
        card[key] = [_value(line[2:]) for line in lines]


def _value(text: str) -> Any:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_value(item) for item in text[1:-1].split(",") if item.strip()]
    if text[:1] in {"'", '"'} and text.endswith(text[0]) and len(text) > 1:
        return text[1:-1]
    text = text.split(" #", 1)[0].rstrip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text):
        return float(text) if any(mark in text for mark in ".eE") else int(text)
    return text
