"""The page of a model whose files are on this machine: what its own README.md and config.json tell."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpux.errors import CorruptFileError
from gpux.model.info import ModelInfo, read_json
from gpux.model.page import ModelPage

LARGEST = 4 << 20  #: bytes of a README.md that are looked at
_FRONT = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)


def cached_page(info: ModelInfo, folder: Path) -> ModelPage:
    """``info`` with what the files in ``folder`` add; a damaged file adds nothing."""
    card, config = front_matter(folder / "README.md"), {}
    with suppress(CorruptFileError, OSError):
        config = read_json(folder / "config.json") if folder.is_dir() else {}
    licence = card.get("license")
    info = replace(
        info,
        model_type=info.model_type or _text(config.get("model_type")),
        architectures=info.architectures or tuple(filter(None, map(_text, _list(config.get("architectures"))))),
        task=info.task or _text(card.get("pipeline_tag")),
        library=info.library or _text(card.get("library_name")),
        licence=info.licence or (", ".join(map(str, _list(licence))) or None),
    )
    index = card.get("model-index")
    results = tuple(item for item in _list(index) if isinstance(item, dict))
    return ModelPage(info, card=card, results=results, from_source=False)


def front_matter(readme: Path) -> dict[str, Any]:
    """The YAML block at the top of a model card; ``{}`` where there is none, or none that can be read."""
    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            match = _FRONT.match(file.read(LARGEST))
    except OSError:
        return {}
    if match is None:
        return {}
    import yaml  # rarely needed

    try:
        found = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date that is none
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
