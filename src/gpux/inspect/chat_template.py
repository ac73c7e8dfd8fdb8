"""The chat templates of a model's folder.

Places, as transformers' tokenizers and processors write them: ``chat_template.jinja`` beside
``additional_chat_templates/NAME.jinja``, else ``chat_template`` in ``tokenizer_config.json`` (a text, or a list of
``{"name", "template"}``), else ``chat_template.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpux.errors import CorruptFileError
from gpux.model.json_file import read_optional_json

_FOLDERS = ("chat_templates", "additional_chat_templates")


def chat_templates(folder: Path) -> dict[str, str]:
    """Name -> jinja2 source; ``default`` is the one that is used unless another is named.

    Raises:
        CorruptFileError: a file is not JSON, or not UTF-8.
    """
    found = _from_json(read_optional_json(folder / "chat_template.json").get("chat_template"))
    found |= _from_json(read_optional_json(folder / "tokenizer_config.json").get("chat_template"))
    return found | dict(_files(folder))


def chosen(templates: Mapping[str, str], *, tools: bool = False) -> str | None:
    """The source that is used unless another is named: ``tool_use`` if tools are given, or ``default``; else None."""
    for name in ("tool_use", "default") if tools else ("default",):
        if name in templates:
            return templates[name]
    return None


def _from_json(found: Any) -> dict[str, str]:
    """Templates of a JSON value: a text, a dict, or a list of names and templates."""
    if isinstance(found, str):
        return {"default": found}
    if isinstance(found, list):
        found = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
    if not isinstance(found, dict):
        return {}
    return {name: text for name, text in found.items() if isinstance(name, str) and isinstance(text, str)}


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for name in _FOLDERS:
        for file in sorted((folder / name).glob("*.jinja")):
            yield file.stem, _read(file)
    if (folder / "chat_template.jinja").is_file():
        yield "default", _read(folder / "chat_template.jinja")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise CorruptFileError(f"{file} is not UTF-8 text", hint="Run `gpux verify`.", path=file) from exc
