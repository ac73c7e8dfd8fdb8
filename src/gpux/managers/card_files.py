"""The page of a model whose files are on this machine, from its README.md and config.json.

``huggingface_hub.ModelCard`` is not used: its import takes ten times as long as that of yaml (1.2 s against 0.12 s on
two busy cores), it reads a README.md of any size, and it raises for front matter that is not a dict.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpux.errors import CorruptFileError
from gpux.model.info import ModelInfo, ModelPage
from gpux.model.json_file import read_json

LARGEST = 4 << 20  #: characters of a README.md that are read
_FRONT = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)


def cached_page(info: ModelInfo, folder: Path) -> ModelPage:
    """``info`` completed from the files in ``folder``; a damaged file is ignored."""
    card, config = front_matter(folder / "README.md"), {}
    with suppress(CorruptFileError, OSError):
        config = read_json(folder / "config.json") if folder.is_dir() else {}
    license = card.get("license")
    info = replace(
        info,
        model_type=info.model_type or _text(config.get("model_type")),
        architectures=info.architectures or tuple(filter(None, map(_text, _list(config.get("architectures"))))),
        task=info.task or _text(card.get("pipeline_tag")),
        library=info.library or _text(card.get("library_name")),
        license=info.license or (", ".join(map(str, _list(license))) or None),
    )
    index = card.get("model-index")
    results = tuple(item for item in _list(index) if isinstance(item, dict))
    return ModelPage(info, card=card, results=results, from_source=False)


def front_matter(readme: Path) -> dict[str, Any]:
    """The YAML block at the top of a model card; ``{}`` without a readable one."""
    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            match = _FRONT.match(file.read(LARGEST))
    except OSError:
        return {}
    if match is None:
        return {}
    import yaml  # deferred for start-up: pull and info of a Hub model do not need it

    try:
        found = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: an invalid date
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
