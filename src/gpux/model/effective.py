"""The mark of a tokenizer that was written as the reference library builds it.

A converter opens the tokenizer of a repository with transformers, which applies ``tokenizer_config.json``,
``special_tokens_map.json`` and ``added_tokens.json``, and writes the result as ``tokenizer.json``. The special tokens,
limits and sides of the result are in the variant's ``tokenizer_config.json``, with the key :data:`EFFECTIVE`. The rules
of the tokenizer's class must not be applied to such files again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Key of ``tokenizer_config.json``; its value names the library and version, such as ``transformers 4.57.6``.
EFFECTIVE = "gpux_effective"


def is_effective(config: Mapping[str, Any]) -> bool:
    """Whether the tokenizer beside this ``tokenizer_config.json`` was written in its effective form."""
    return EFFECTIVE in config
