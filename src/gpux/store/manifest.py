"""``manifest.json``: the description of a variant, read back with every type checked.

The file is strict JSON: a difference that is infinite or NaN is written as ``null`` and read as infinity. Manifests of
schema 1, which had other names for three keys, are read too.
"""

from __future__ import annotations

import json
import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from gpux.errors import ManifestError
from gpux.model.values import from_builtins
from gpux.model.variant import MANIFEST_SCHEMA, Manifest
from gpux.store.layout import is_inside

MANIFEST = "manifest.json"
#: key in schema 1 -> key now; ``twin`` of proof cases is ``small_model``
_RENAMED = {"driving": "call_spec", "licence": "license"}

_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.json``.

    Raises:
        ManifestError: the file is missing, damaged, or has a schema that this version does not read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise _damaged(path, str(exc)) from exc
    return _parse(text, path)


def write_manifest(path: Path, manifest: Manifest) -> Manifest:
    """Write a ``manifest.json`` and flush it to the disk; returns the manifest as it will be read back.

    Raises:
        ManifestError: the manifest has a value that could not be read back.
        FileExistsError: ``path`` exists: manifests never change.
    """
    text = _encode(path, manifest)
    readable = _parse(text, path)
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return readable


def timestamp() -> str:
    """The present time, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _encode(path: Path, manifest: Manifest) -> str:
    data = manifest.to_dict()
    try:
        return json.dumps(data, indent=1, allow_nan=False) + "\n"
    except (ValueError, TypeError) as exc:
        raise ManifestError(f"the manifest for {path.parent.name} cannot be written: {exc}") from exc


def _parse(text: str, path: Path) -> Manifest:
    try:
        data = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        _check_schema(data, path)
        manifest = from_builtins(Manifest, _current(data))
        _check_content(manifest)
    except (ValueError, RecursionError) as exc:
        raise _damaged(path, str(exc)) from exc
    return manifest


def _current(data: dict[str, Any]) -> dict[str, Any]:
    """The content in the current schema, with infinity for differences stored as ``null``."""
    found = {_RENAMED.get(key, key): value for key, value in data.items()} | {"schema": MANIFEST_SCHEMA}
    proof = found.get("proof")
    cases = proof.get("cases") if isinstance(proof, dict) else None
    for case in cases if isinstance(cases, list) else ():
        if isinstance(case, dict):
            case.setdefault("small_model", case.pop("twin", False))
            if case.get("max_abs_diff", 0) is None:
                case["max_abs_diff"] = math.inf
    return found


def _damaged(path: Path, why: str) -> ManifestError:
    hint = "`gpux prune` removes damaged variants; `gpux pull` builds them again."
    return ManifestError(f"{path} is damaged: {why}", hint=hint, path=str(path))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_schema(data: Any, path: Path) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is not int or schema < 1:
        raise ValueError("no schema number")
    if schema > MANIFEST_SCHEMA:
        raise ManifestError(
            f"{path} has schema {schema}, this version of gpux reads up to {MANIFEST_SCHEMA}",
            hint="Upgrade gpux: `pip install -U gpux`.",
            path=str(path),
            schema=schema,
        )


def _check_content(manifest: Manifest) -> None:
    """Check what types cannot express: paths inside the folder, valid hashes, graphs among the files."""
    promised = {file.path for file in manifest.files}
    if len(promised) != len(manifest.files):
        raise ValueError("a file is listed twice")
    for file in manifest.files:
        if not is_inside(file.path) or file.path == MANIFEST:
            raise ValueError(f"{file.path!r} is not the name of a file in the folder of the variant")
        if file.size < 0 or not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"size or sha256 of {file.path!r} is invalid")
    for graph in manifest.graphs:
        if graph.file not in promised:
            raise ValueError(f"graph {graph.name!r} is in {graph.file!r}, which is not listed in files")
    if not all((manifest.scheme, manifest.id, manifest.commit, manifest.task, manifest.precision, manifest.recipe)):
        raise ValueError("scheme, id, commit, task, precision or recipe is empty")
