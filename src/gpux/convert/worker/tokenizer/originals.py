"""The tokenizer that a repository's files describe, as its own library reads them: what a tokenizer.json is held to.

---
tiktoken's files: a token in base64 and its rank on each line, as Llama 3 was published with.

The file does not say how texts are split before; transformers' reader knows the pattern of the models that come so.
"""

from __future__ import annotations

import json
import unicodedata
from functools import partial
from pathlib import Path
from typing import Any

import tiktoken
from tiktoken.load import load_tiktoken_bpe
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import TikTokenConverter

from gpux.convert.worker.tokenizer.converters import describe, takes_pairs

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
        text: str = self._encoding.decode(kept)
        return text


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
