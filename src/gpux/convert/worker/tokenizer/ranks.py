"""tiktoken's files: a token in base64 and its rank on each line, as Llama 3 was published with.

The file does not say how texts are split before; transformers' reader knows the pattern of the models that come so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiktoken
from tiktoken.load import load_tiktoken_bpe
from transformers.convert_slow_tokenizer import TikTokenConverter


class RankTokenizer:
    """The tokenizer as the tiktoken library reads it, and the tokenizer.json made from the same file.

    Args:
        source: a folder with ``tokenizer.model``; its ``tokenizer_config.json`` names special tokens with their ids.
    """

    edges = ()
    blank = None
    pairs = True

    def __init__(self, source: Path) -> None:
        file = str(source / "tokenizer.model")
        ranks = load_tiktoken_bpe(file)
        ids = _special_ids(source / "tokenizer_config.json", len(ranks))
        self.specials = tuple(ids)
        self.added = ids
        converter = TikTokenConverter(vocab_file=file, additional_special_tokens=list(ids))
        self.tokenizer = converter.converted()
        self._encoding = tiktoken.Encoding(
            "model", pat_str=converter.pattern, mergeable_ranks=ranks, special_tokens=ids
        )

    def encode(self, text: str, pair: str | None = None) -> tuple[list[int], list[int] | None]:
        """Ids; special tokens in the text count as such, as transformers reads them."""
        first = self._encoding.encode(text, allowed_special="all")
        return first + (self._encoding.encode(pair, allowed_special="all") if pair else []), None

    def decode(self, ids: list[int]) -> str:
        """The text without special tokens."""
        special = self._encoding.special_tokens_set
        kept = [index for index in ids if self._encoding.decode([index]) not in special]
        return self._encoding.decode(kept)


def _special_ids(file: Path, first: int) -> dict[str, int]:
    """Special tokens, in the order of their ids, which follow the ranks without a gap.

    Raises:
        ValueError: the ids have gaps, which a tokenizer.json cannot have.
    """
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    listed = {int(index): token["content"] for index, token in config.get("added_tokens_decoder", {}).items()}
    ids = {listed[index]: index for index in sorted(listed)}
    if list(ids.values()) != list(range(first, first + len(ids))):
        raise ValueError("the ids of its special tokens do not follow those of the vocabulary")
    return ids
