"""The JSON files that a variant is run with, checked before anything is converted or stored.

A broken file that transformers ignores, or that gpux does not read, is reported as a warning. Every other one is an
error: the variant could not be opened.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from gpux.errors import CorruptFileError
from gpux.inspect.modules import MODULES, parse_modules
from gpux.model.info import ModelInfo, SourceSnapshot
from gpux.model.json_file import load_json

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
#: transformers reads them only if tokenizer_config.json has no ``added_tokens_decoder``.
_LEGACY = ("special_tokens_map.json", "added_tokens.json")
_TEXT = ("tokenizer_config.json", "config_sentence_transformers.json")


def check_json_files(snapshot: SourceSnapshot, paths: Iterable[str], *, reads_text: bool, tokenizer: bool) -> None:
    """Read the JSON files of a snapshot.

    Args:
        snapshot: has the files.
        paths: of the files that become part of the variant.
        reads_text: the task has a pipeline, which reads the tokenizer's files and sentence-transformers' modules.
        tokenizer: read ``tokenizer.json`` too, which may be large.

    Raises:
        CorruptFileError: a file that is needed is not JSON, or has another kind of value; the message names it.
    """
    found = [path for path in paths if path.endswith(".json") and (tokenizer or not path.endswith(TOKENIZER))]
    modules = _module_folders(snapshot) if reads_text and MODULES in found else ()
    legacy = reads_text and not _lists_added_tokens(snapshot, found)
    for path in found:
        if path == MODULES:
            continue
        name, folder = PurePosixPath(path).name, str(PurePosixPath(path).parent)
        needed = path == "config.json" or (
            reads_text
            and (
                name in (*_TEXT, TOKENIZER)
                or (name in _LEGACY and legacy)
                or (name.startswith("sentence_") and name.endswith("_config.json"))
                or (name == "config.json" and folder in modules)
            )
        )
        _check(snapshot, path, needed=needed)


def _check(snapshot: SourceSnapshot, path: str, *, needed: bool) -> None:
    try:
        value = load_json(snapshot.path / path)
    except (CorruptFileError, OSError) as exc:
        why = str(exc).replace(str(snapshot.path / path), path)
        if needed:
            raise _corrupt(snapshot.info, path, why) from exc
        log.warning("%s of %s is ignored: %s", path, snapshot.info.id, why)
        return
    if needed and not isinstance(value, dict):
        raise _corrupt(snapshot.info, path, f"{path} is not a JSON object")


def _module_folders(snapshot: SourceSnapshot) -> tuple[str, ...]:
    try:
        modules = parse_modules(load_json(snapshot.path / MODULES))
    except CorruptFileError as exc:
        raise _corrupt(snapshot.info, MODULES, str(exc).replace(str(snapshot.path / MODULES), MODULES)) from exc
    return tuple(module.folder for module in modules)


def _lists_added_tokens(snapshot: SourceSnapshot, paths: Iterable[str]) -> bool:
    configs: list[Any] = []
    for path in paths:
        if path.endswith("tokenizer_config.json"):
            try:
                configs.append(load_json(snapshot.path / path))
            except (CorruptFileError, OSError):
                return False  # reported for that file
    return bool(configs) and all(isinstance(config, dict) and "added_tokens_decoder" in config for config in configs)


def _corrupt(info: ModelInfo, path: str, why: str) -> CorruptFileError:
    hint = (
        f"Correct {path}, and pull the folder again."
        if info.scheme == "local"
        else "The file is as the source has it: report this to the owner of the model."
    )
    return CorruptFileError(f"{info.id} cannot be stored: {why}", hint=hint, path=path)
