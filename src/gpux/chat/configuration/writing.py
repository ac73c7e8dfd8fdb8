"""Changes of the file that keep its comments, its order and its spelling, by tomlkit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NEW = "# Configuration of the chat providers of `gpux serve`; docs/reference/settings.md lists the keys.\n"


def with_table(text: str, table: tuple[str, ...], values: Mapping[str, Any], removed: tuple[str, ...] = ()) -> str:
    """The text of a document in which a table has these values.

    Args:
        text: valid TOML; empty for a new file.
        table: its name: ``("providers", "ollama")``.
        values: of its keys, further tables as mappings.
        removed: its keys to remove.
    """
    import tomlkit  # optional: the extra `chat`; takes 100 ms to import, and is needed to write alone
    from tomlkit.container import OutOfOrderTableProxy
    from tomlkit.items import Table

    document = tomlkit.parse(text or _NEW)
    at: Any = document
    for place, name in enumerate(table):
        if name not in at:
            at[name] = tomlkit.table(is_super_table=place < len(table) - 1)
        at = at[name]
    assert isinstance(at, (Table, OutOfOrderTableProxy, dict))
    for name in removed:
        at.pop(name, None)
    for name, value in values.items():
        at[name] = _item(value)
    return tomlkit.dumps(document)


def _item(value: Any) -> Any:
    import tomlkit

    if isinstance(value, Mapping):
        item = tomlkit.inline_table()
        item.update({name: _item(one) for name, one in value.items()})
        return item
    return list(value) if isinstance(value, (tuple, list)) else value
