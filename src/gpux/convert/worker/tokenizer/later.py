"""Tokenizer files that transformers 5 wrote, opened with transformers 4, which refuses two things in them.

``extra_special_tokens`` may be a list, which was ``additional_special_tokens``; and the class ``TokenizersBackend`` is
``PreTrainedTokenizerFast`` which takes the parts of ``tokenizer.json`` as they are (transformers 5.23).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from gpux.model.json_file import read_json

CONFIG = "tokenizer_config.json"
#: The class of transformers 5 for every ``tokenizer.json``.
BACKEND = "TokenizersBackend"
#: Endings of the files that tokenizers are read from.
_SUFFIXES = frozenset({".json", ".jinja", ".txt", ".model", ".spm", ".tiktoken", ".py"})


def is_later(folder: Path) -> bool:
    """Whether this process has transformers 4, and the folder what only transformers 5 reads."""
    if not transformers.__version__.startswith("4."):
        return False
    config = read_json(folder / CONFIG)
    return config.get("tokenizer_class") == BACKEND or isinstance(config.get("extra_special_tokens"), list)


def open_later(folder: Path, *, trust_remote_code: bool) -> Any:
    """The tokenizer of a folder for which :func:`is_later` holds; raises anything."""
    config = read_json(folder / CONFIG)
    with tempfile.TemporaryDirectory(prefix="gpux-tokenizer-") as name:
        for file in folder.iterdir():
            if file.is_file() and file.suffix in _SUFFIXES:
                shutil.copyfile(file, Path(name, file.name))
        Path(name, CONFIG).write_text(json.dumps(_earlier(config)), encoding="utf-8")
        return transformers.AutoTokenizer.from_pretrained(
            name, local_files_only=True, trust_remote_code=trust_remote_code
        )


def _earlier(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as transformers 4 writes it."""
    found = dict(config)
    if isinstance(found.get("extra_special_tokens"), list):
        found["additional_special_tokens"] = found.pop("extra_special_tokens")
    if found.get("tokenizer_class") == BACKEND:
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
        found.pop("add_prefix_space", None)
    return found
