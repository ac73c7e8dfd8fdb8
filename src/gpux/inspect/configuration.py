"""The configuration file of a model: its path and content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpux.errors import GpuxError
from gpux.inspect.formats import weight_formats
from gpux.inspect.reads import FileReads
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.json_file import parse_json
from gpux.model.values import Value
from gpux.system.hashing import hash_bytes

LARGEST = 16 << 20  #: maximum bytes of a configuration
#: Folders of a diffusers pipeline that contain the main model.
_MAIN_PARTS = ("transformer", "unet", "prior", "model")
#: Names of configuration files of other libraries.
_OTHERS = ("params.json", "model_config.json", "open_clip_config.json")


@dataclass(frozen=True)
class FoundConfig(Value):
    """A configuration, or why it is missing."""

    path: str | None = None  #: None if the model has no configuration
    values: Mapping[str, Any] = field(default_factory=dict)
    missing: str | None = None  #: why the values are missing; None if they were read
    notes: tuple[str, ...] = ()


def read_config(reads: FileReads, info: ModelInfo) -> FoundConfig:
    """Read the configuration of a model with one read; errors are returned in ``missing``."""
    path = config_path(info)
    if path is None:
        return FoundConfig(missing="the model has no config.json")
    notes = () if path == "config.json" else (f"the configuration is {path}, as there is no config.json at the top",)
    file = info.file(path)
    try:
        size = reads.size(path)
        if size > LARGEST:
            return FoundConfig(path, missing=f"{path} has {size} bytes", notes=notes)
        data = reads.read(path, 0, size)
    except GpuxError as exc:
        hint = f" {exc.hint}" if exc.hint else ""
        return FoundConfig(path, missing=f"{exc.message}.{hint}", notes=notes)
    values = _parsed(data)
    if isinstance(values, str):
        return FoundConfig(path, missing=f"{path} {values}", notes=notes)
    if file is not None and not is_intact(data, file):
        notes = (*notes, f"{path} does not have the hash that the Hub lists")
    return FoundConfig(path, values, notes=notes)


def config_path(info: ModelInfo) -> str | None:
    """``config.json`` at the top, else in the folder of the weights, else the one with the shortest path."""
    paths = [file.path for file in info.files]
    if "config.json" in paths:
        return "config.json"
    found = [path for path in paths if path.endswith("/config.json")]
    weights = {path.rpartition("/")[0] for path in paths if weight_formats([path])}
    order = {name: place for place, name in enumerate(_MAIN_PARTS)}

    def rank(path: str) -> tuple[bool, int, int, str]:
        folder = path.rpartition("/")[0]
        return folder not in weights, order.get(folder, len(order)), path.count("/"), path

    return min(found, key=rank, default=None) or next((name for name in _OTHERS if name in paths), None)


def is_intact(data: bytes, file: ModelFile) -> bool:
    """Whether the bytes have the hash of a file; True if the hash is unknown."""
    if file.sha256 is not None:
        return hash_bytes(data, "sha256") == file.sha256
    return file.blob_id is None or hash_bytes(data, "git-blob-sha1") == file.blob_id


def _parsed(data: bytes) -> dict[str, Any] | str:
    """The parsed object, or what is wrong with the file."""
    try:
        found = parse_json(data)
    except ValueError:
        start = data.lstrip()[:15].lower()
        return "is an HTML page instead of JSON" if start.startswith((b"<!doctype", b"<html")) else "is not JSON"
    return found if isinstance(found, dict) else "is not a JSON object"
