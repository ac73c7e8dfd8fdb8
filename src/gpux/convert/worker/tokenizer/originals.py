"""The tokenizer of a repository, as its own library reads it: the reference for a tokenizer.json."""

from __future__ import annotations

import unicodedata
from functools import partial
from pathlib import Path
from typing import Any

import tiktoken
from tiktoken.load import load_tiktoken_bpe
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import TikTokenConverter

from gpux.convert.worker.tokenizer.converters import describe, takes_pairs
from gpux.model.json_file import read_json

#: Number of words that are tried of those that a vocabulary lacks, which may be thousands.
_EDGES = 20


class SlowTokenizer:
    """A tokenizer of transformers that is written in Python, for :func:`differences`.

    Args:
        slow: the tokenizer.
        target: encode texts of the target language of a translation model.
        decodes: False if it decodes with another vocabulary.
    """

    def __init__(self, slow: Any, *, target: bool = False, decodes: bool = True) -> None:
        self.slow = slow
        self.specials: tuple[str, ...] = tuple(map(str, slow.all_special_tokens))
        codes = list(getattr(slow, "supported_language_codes", ()))[:2]
        self.edges = (*_without_id(slow), *(f"{code} hello" for code in codes))
        self.blank: int | None = slow.pad_token_id if hasattr(slow, "word_delimiter_token") else None
        self.pairs = takes_pairs(slow)
        added = {} if target else slow.added_tokens_decoder  # these have the ids of the source language
        self.added = {token.content: index for index, token in added.items()}
        self._target = target
        # VITS is a model of speech, which does not generate text.
        self._decodes = decodes and type(slow).__name__ != "VitsTokenizer"
        if hasattr(slow, "fix_text"):
            # CLIP was trained on texts normalized by ftfy, mostly to NFC; without ftfy transformers splits words as
            # BERT does, which is another tokenizer.
            slow.fix_text = partial(unicodedata.normalize, "NFC") if _is_clip(slow) else slow.fix_text

    def encode(self, text: str, pair: str | None = None) -> tuple[list[int], list[int] | None]:
        """Ids with special tokens, and token types if the tokenizer has them."""
        found = self.slow(text_target=text, text_pair_target=pair) if self._target else self.slow(text, pair)
        return list(found["input_ids"]), found.get("token_type_ids")

    def decode(self, ids: list[int]) -> str | None:
        """The text without special tokens; for CTC with them, since the blank is one."""
        if not self._decodes:
            return None
        text: str = self.slow.decode(ids, skip_special_tokens=self.blank is None, clean_up_tokenization_spaces=False)
        return text


def _without_id(slow: Any) -> tuple[str, ...]:
    """Words that the sentencepiece model has and the vocabulary lacks."""
    found = describe(slow)
    pieces = found.without_id[:_EDGES] if found is not None else ()
    return tuple(piece.replace("▁", " ").strip() for piece in pieces)


def _is_clip(slow: Any) -> bool:
    return type(slow).__name__ == "CLIPTokenizer"


def open_slow(source: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """The Python tokenizer; None if transformers has none for these files."""
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source, use_fast=False, local_files_only=True, trust_remote_code=trust_remote_code
    )
    return None if found.is_fast else found


def open_fast(source: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """The tokenizer that transformers converts the files to; None if it has no converter for them."""
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source, use_fast=True, local_files_only=True, trust_remote_code=trust_remote_code
    )
    return found if found.is_fast else None


class RankTokenizer:
    """tiktoken's files, as Llama 3 was published with: each line is a token in base64 and its rank.

    The tokenizer as the tiktoken library reads it, and the tokenizer.json from the same file. The file does not contain
    the pattern that splits texts; transformers' converter has the one of Llama 3.

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
        """Ids; special tokens in the text are matched, as in transformers."""
        first = self._encoding.encode(text, allowed_special="all")
        return first + (self._encoding.encode(pair, allowed_special="all") if pair else []), None

    def decode(self, ids: list[int]) -> str:
        """The text without special tokens."""
        special = self._encoding.special_tokens_set
        kept = [index for index in ids if self._encoding.decode([index]) not in special]
        text: str = self._encoding.decode(kept)
        return text


def _special_ids(file: Path, first: int) -> dict[str, int]:
    """Special tokens, in the order of their ids, which follow the ranks without a gap.

    Raises:
        ValueError: the ids have gaps, which the format does not support.
    """
    config = read_json(file)
    listed = {int(index): token["content"] for index, token in config.get("added_tokens_decoder", {}).items()}
    ids = {listed[index]: index for index in sorted(listed)}
    if list(ids.values()) != list(range(first, first + len(ids))):
        raise ValueError("the ids of its special tokens do not follow those of the vocabulary")
    return ids
