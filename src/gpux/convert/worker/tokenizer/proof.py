"""Compares a tokenizer.json with the tokenizer that it was converted from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tokenizers import Tokenizer

#: Ordinary texts: a tokenizer with other ids for one of these is not used.
SAMPLES = (
    "",
    "hello world",
    "The quick brown fox jumps over the lazy dog.",
    "Ein großer Hund läuft über die Straße; ÄÖÜ.",
    "Déjà vu, São Paulo, Łódź, Việt Nam, İstanbul.",
    "ﬁne Ω Ｆｕｌｌ ½ № ™ …",
    "Съешь же ещё этих мягких французских булок.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "天地玄黃 我爱北京天安门。",
    "こんにちは世界、カタカナとひらがな。",
    "안녕하세요 세계",
    "مرحبا بالعالم، كيف حالك؟",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "😀 👩‍👩‍👧 🇩🇪 ☕",
    "def f(x: int) -> int:\n    return x ** 2 + a[i]\n\treturn {'k': \"v\"}",
    "<html><body>a & b</body></html> http://x.org/?q=1&r=2#s user@mail.com",
    "two  spaces   and\ttab \n\n lines",
    "don't I'm they've we'd it's O'Neil",
    "1234567 3.14 2,718 1e-9 0x7F 50%",
    "Donaudampfschifffahrtsgesellschaftskapitän " + "ab" * 40,
)
#: Unusual texts, on which converted tokenizers often differ: a difference is a warning.
EDGES = (
    " leading",
    "  two leading",
    "trailing ",
    "trailing \n",
    "   ",
    "e\u0301 a\u0308 n\u0303",
    "a\u00a0b\u200bc\u00ad",
    "\x00\x07",
)
PAIRS = (("hello world", "die Straße."), ("我爱", ""))
#: Number of special tokens that are put into texts.
_SPECIALS = 8
_MARKS = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


class Original(Protocol):
    """The tokenizer that the repository describes, of any library."""

    @property
    def specials(self) -> Sequence[str]:
        """Texts of the special tokens."""

    @property
    def edges(self) -> Sequence[str]:
        """Further texts that a tokenizer.json may tokenize differently."""

    @property
    def blank(self) -> int | None:
        """The id that CTC puts between equal letters; None for tokenizers of texts."""

    @property
    def pairs(self) -> bool:
        """Whether a second text is tokenized too; else it is dropped."""

    @property
    def added(self) -> Mapping[str, int]:
        """Tokens that are matched in a text before it is split, with their ids."""

    def encode(self, text: str, pair: str | None = None) -> tuple[list[int], list[int] | None]:
        """Ids with special tokens, and token types if the tokenizer has them."""

    def decode(self, ids: list[int]) -> str | None:
        """The text without special tokens, except those of CTC; None if the tokenizer does not decode."""


@dataclass(frozen=True)
class Difference:
    """One text with other ids, or ids with another text."""

    what: str  #: ``ids``, ``types``, ``text``
    sample: str
    expected: Any
    found: Any
    edge: bool  #: an unusual text, or a difference in decoding

    def __str__(self) -> str:
        return f"{self.sample!r} has {self.what} {_short(self.expected)}, and in tokenizer.json {_short(self.found)}"


def differences(original: Original, tokenizer: Tokenizer) -> list[Difference]:
    """The differences of the two on all samples."""
    found = [
        Difference("id", token, index, tokenizer.token_to_id(token), False)
        for token, index in original.added.items()
        if tokenizer.token_to_id(token) != index
    ]
    for sample, pair, edge in _texts(original):
        ids, types = original.encode(sample, pair)
        encoding = tokenizer.encode(sample, pair)
        shown = sample if pair is None else f"{sample} | {pair}"
        if ids != encoding.ids:
            found.append(Difference("ids", shown, ids, encoding.ids, edge))
            continue
        if types is not None and types != encoding.type_ids:
            found.append(Difference("types", shown, types, encoding.type_ids, edge))
        if not edge and pair is None:
            found += _decoded(original, tokenizer, shown, ids)
    return found


def _texts(original: Original) -> Iterator[tuple[str, str | None, bool]]:
    yield from ((text, None, False) for text in SAMPLES)
    yield from ((first, second, False) for first, second in PAIRS if original.pairs)
    yield from ((text, None, True) for text in (*EDGES, *original.edges))
    specials = list(dict.fromkeys(original.specials))
    for token in [*specials[: _SPECIALS - 1], *specials[_SPECIALS - 1 :][-1:]]:
        yield from ((text, None, True) for text in (f"one {token} two", f"one{token}two", f"{token}{token} ."))


def _decoded(original: Original, tokenizer: Tokenizer, sample: str, ids: list[int]) -> Iterator[Difference]:
    for sequence in (ids, *_alignments(ids, original.blank)):
        expected = original.decode(sequence)
        if expected is None:
            return
        found = tokenizer.decode(sequence, skip_special_tokens=original.blank is None)
        if _plain(expected) != _plain(found):
            yield Difference("text", sample, expected, found, True)


def _alignments(ids: list[int], blank: int | None) -> Iterator[list[int]]:
    """Outputs of a CTC head for these letters: each repeated, with and without blanks."""
    if blank is not None:
        yield [index for index in ids for index in (index, index, blank)]
        yield [blank, *(index for index in ids for index in (index, index))]


def _plain(text: str) -> str:
    """The text without spaces around it and before punctuation, which ``clean_up_tokenization_spaces`` removes."""
    for mark in _MARKS:
        text = text.replace(mark, mark.strip() if mark == " ' " else mark[1:])
    return text.strip()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
