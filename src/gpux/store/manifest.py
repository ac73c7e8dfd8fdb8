"""``manifest.json``: what a variant is, read back with every type checked.

The file is strict JSON: a difference that is infinite or not a number is written as ``null`` and read as infinity,
since JSON has neither.
"""

from __future__ import annotations

import json
import math
import os
import re
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from gpux.errors import ManifestError
from gpux.model.variant import Manifest, ProofCase, Recipe
from gpux.store.layout import is_inside

MANIFEST = "manifest.json"
SCHEMA = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_Value = TypeVar("_Value")


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.json``.

    Raises:
        ManifestError: it is not there, damaged, or of a schema that this version does not read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise _damaged(path, str(exc)) from exc
    return _parse(text, path)


def write_manifest(path: Path, manifest: Manifest) -> Manifest:
    """Write ``path`` anew, flushed to the disk; returns the manifest as it will be read back.

    Raises:
        ManifestError: the manifest holds a value that would not be read back.
        FileExistsError: ``path`` is there already: a manifest never changes.
    """
    text = _encode(path, manifest)
    readable = _parse(text, path)
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return readable


def decode(kind: type[_Value], data: Any) -> _Value:
    """A frozen value from its ``to_dict()``, every type checked; unknown keys are a newer version's and ignored.

    Raises:
        ValueError: something is missing or of another type; the message says where.
    """
    value: _Value = _decode(kind, data, "")
    return value


def timestamp() -> str:
    """Now, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _encode(path: Path, manifest: Manifest) -> str:
    data = manifest.to_dict()
    try:
        return json.dumps(data, indent=1, allow_nan=False) + "\n"
    except (ValueError, TypeError) as exc:
        raise ManifestError(f"the manifest for {path.parent.name} cannot be written: {exc}") from exc


def _parse(text: str, path: Path) -> Manifest:
    try:
        data = json.loads(text, parse_constant=_no_constant)
        _check_schema(data, path)
        manifest = decode(Manifest, data)
        _check_content(manifest)
    except (ValueError, RecursionError) as exc:
        raise _damaged(path, str(exc)) from exc
    return manifest


def _damaged(path: Path, why: str) -> ManifestError:
    hint = "`gpux prune` removes damaged variants; `gpux pull` makes them anew."
    return ManifestError(f"{path} is damaged: {why}", hint=hint, path=str(path))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_schema(data: Any, path: Path) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is not int or schema < 1:
        raise ValueError("it has no schema number")
    if schema > SCHEMA:
        raise ManifestError(
            f"{path} has schema {schema}, this version of gpux reads up to {SCHEMA}",
            hint="Upgrade gpux: `pip install -U gpux`.",
            path=str(path),
            schema=schema,
        )


def _check_content(manifest: Manifest) -> None:
    """What the types do not say: names stay inside, hashes are hashes, graphs are among the files."""
    promised = {file.path for file in manifest.files}
    if len(promised) != len(manifest.files):
        raise ValueError("a file is listed twice")
    for file in manifest.files:
        if not is_inside(file.path) or file.path == MANIFEST:
            raise ValueError(f"{file.path!r} is no name of a file in the variant's folder")
        if file.size < 0 or not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"size or sha256 of {file.path!r} is impossible")
    for graph in manifest.graphs:
        if graph.file not in promised:
            raise ValueError(f"graph {graph.name!r} is in {graph.file!r}, which is not among the files")
    if not all((manifest.scheme, manifest.id, manifest.commit, manifest.task, manifest.precision, manifest.recipe)):
        raise ValueError("scheme, id, commit, task, precision or recipe is empty")


def _decode(kind: Any, data: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _decode_fields(kind, data, where)
    decoder = _GENERIC.get(get_origin(kind))
    return decoder(kind, data, where) if decoder else _decode_scalar(kind, data, where)


def _decode_fields(kind: Any, data: Any, where: str) -> Any:
    given = _expect(dict, data, where)
    hints = _hints(kind)
    found = {}
    for field in fields(kind):
        inner = f"{where}.{field.name}".lstrip(".")
        if field.name in given:
            found[field.name] = _decode_field(kind, hints[field.name], given[field.name], field.name, inner)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{inner} is missing")
    return kind(**found)


def _decode_field(kind: Any, hint: Any, data: Any, name: str, where: str) -> Any:
    if kind is ProofCase and name == "max_abs_diff" and data is None:
        return math.inf
    return _decode(hint, data, where)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode_tuple(kind: Any, data: Any, where: str) -> tuple[Any, ...]:
    item = get_args(kind)[0]
    items = _expect(list, data, where)
    return tuple(_decode(item, value, f"{where}[{index}]") for index, value in enumerate(items))


def _decode_dict(kind: Any, data: Any, where: str) -> dict[str, Any]:
    item = get_args(kind)[1]
    return {key: _decode(item, value, f"{where}.{key}") for key, value in _expect(dict, data, where).items()}


def _decode_union(kind: Any, data: Any, where: str) -> Any:
    for choice in get_args(kind):
        if choice is type(None):
            if data is None:
                return None
            continue
        try:
            return _decode(choice, data, where)
        except ValueError:
            continue
    raise ValueError(f"{where} is {data!r}, expected {kind}")


def _decode_literal(kind: Any, data: Any, where: str) -> Any:
    if data not in get_args(kind):
        raise ValueError(f"{where} is {data!r}, expected one of {', '.join(map(repr, get_args(kind)))}")
    return data


def _decode_scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is Recipe:
        return Recipe(_expect(str, data, where))
    if kind is not float:
        return _expect(kind, data, where)
    if type(data) not in (int, float) or not math.isfinite(data):
        raise ValueError(f"{where} is {data!r}, expected a finite number")
    return float(data)


def _expect(kind: type[_Value], data: Any, where: str) -> _Value:
    if type(data) is not kind:  # exactly: True is an int to isinstance
        raise ValueError(f"{where or 'the manifest'} is {data!r:.60}, expected {kind.__name__}")
    found: _Value = data
    return found


_GENERIC: dict[Any, Callable[[Any, Any, str], Any]] = {
    tuple: _decode_tuple,
    dict: _decode_dict,
    Union: _decode_union,
    types.UnionType: _decode_union,
    Literal: _decode_literal,
}
