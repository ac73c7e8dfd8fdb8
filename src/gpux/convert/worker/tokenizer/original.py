"""The tokenizer that a repository's files describe, as its own library reads them: what a tokenizer.json is held to."""

from __future__ import annotations

import unicodedata
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from gpux.convert.worker.tokenizer.sentencepiece_models import describe
from gpux.convert.worker.tokenizer.template import takes_pairs

#: Of the words that a vocabulary lacks, which may be thousands, these many are asked for.
_EDGES = 20


class SlowTokenizer:
    """A tokenizer of transformers that is written in Python, as the proof asks it.

    Args:
        slow: the tokenizer.
        target: ask for the target language of a translation model.
        decodes: False where its way back is that of another vocabulary.
    """

    def __init__(self, slow: Any, *, target: bool = False, decodes: bool = True) -> None:
        self.slow = slow
        self.specials: tuple[str, ...] = tuple(map(str, slow.all_special_tokens))
        codes = list(getattr(slow, "supported_language_codes", ()))[:2]
        self.edges = (*_without_id(slow), *(f"{code} hello" for code in codes))
        self.blank: int | None = slow.pad_token_id if hasattr(slow, "word_delimiter_token") else None
        self.pairs = takes_pairs(slow)
        added = {} if target else slow.added_tokens_decoder  # whose ids are those of the source language
        self.added = {token.content: index for index, token in added.items()}
        self._target = target
        self._decodes = decodes and type(slow).__name__ != "VitsTokenizer"  # it speaks, and writes nothing
        if hasattr(slow, "fix_text"):
            # CLIP is trained on texts that ftfy mended, above all to NFC; without ftfy transformers splits words as
            # BERT does instead, which is another tokenizer.
            slow.fix_text = partial(unicodedata.normalize, "NFC") if _is_clip(slow) else slow.fix_text

    def encode(self, text: str, pair: str | None = None) -> tuple[list[int], list[int] | None]:
        """Ids with special tokens, and token types where the tokenizer has them."""
        found = self.slow(text_target=text, text_pair_target=pair) if self._target else self.slow(text, pair)
        return list(found["input_ids"]), found.get("token_type_ids")

    def decode(self, ids: list[int]) -> str | None:
        """The text without special tokens; of CTC all of them, for the blank is one."""
        if not self._decodes:
            return None
        text: str = self.slow.decode(ids, skip_special_tokens=self.blank is None, clean_up_tokenization_spaces=False)
        return text


def _without_id(slow: Any) -> tuple[str, ...]:
    """Words that the vocabulary lacks although its sentencepiece model finds them."""
    found = describe(slow)
    pieces = found.without_id[:_EDGES] if found is not None else ()
    return tuple(piece.replace("▁", " ").strip() for piece in pieces)


def _is_clip(slow: Any) -> bool:
    return type(slow).__name__ == "CLIPTokenizer"


def open_slow(source: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """The Python tokenizer; None where transformers has none for these files."""
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source, use_fast=False, local_files_only=True, trust_remote_code=trust_remote_code
    )
    return None if found.is_fast else found


def open_fast(source: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """What transformers makes of the files with the tokenizers library; None where it has no converter for them."""
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source, use_fast=True, local_files_only=True, trust_remote_code=trust_remote_code
    )
    return found if found.is_fast else None
