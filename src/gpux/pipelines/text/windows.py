"""Texts longer than a model reads, as windows that overlap; each token with its place in the text.

The windows are those of the ``tokenizers`` library with ``enable_truncation`` (``Encoding::truncate`` and
``truncate_encodings`` of 0.22). That function changes the tokenizer, which is shared, and a text that is cut before its
special tokens are added loses the offsets that the post-processor corrects; so a text is encoded once, and cut here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from gpux.errors import InputError, UnsupportedError
from gpux.pipelines.text.tokenization import TextInput, Tokenizer, Tokens


@dataclass(frozen=True, slots=True)
class Window(Tokens):
    """Tokens of a text or a pair that the model reads at once, in their order, special tokens included.

    Attributes:
        offsets: first character of each token and the one behind its last, in its text or word; (0, 0) of a special
            token.
        special: whether the tokenizer added the token.
        words: number of each token's word, in its text; None for a special token.
        sequences: 0 for a token of the first text, 1 for one of the second; None for a special token.
    """

    offsets: list[tuple[int, int]]
    special: list[bool]
    words: list[int | None]
    sequences: list[int | None]

    def word_places(self, sequence: int) -> dict[int, tuple[int, int]]:
        """Number of each word of a text -> the characters of the part of it that is in this window."""
        found: dict[int, tuple[int, int]] = {}
        for word, number, (begin, end) in zip(self.words, self.sequences, self.offsets, strict=True):
            if number == sequence and word is not None:
                found[word] = (found[word][0] if word in found else begin, end)
        return found


def encode(tokenizer: Tokenizer, text: TextInput | Sequence[str], *, index: int = 0) -> Window:
    """A text, a pair in a tuple, or the words of a text in a list, as one window of any length; valid Unicode.

    Raises:
        InputError: it has no tokens.
        UnsupportedError: words, and the tokenizer cannot tell where a word begins.
    """
    words = not isinstance(text, (str, tuple))
    if words:
        _check_words(tokenizer)
    first, second = text if isinstance(text, tuple) else (text, None)
    found = tokenizer.backend.encode(first, second, is_pretokenized=words)
    if not found.ids:
        raise InputError(f"text {index} has no tokens: this tokenizer adds none to an empty text", index=index)
    return _whole(found)


def _whole(found: tokenizers.Encoding) -> Window:
    special = [bool(value) for value in found.special_tokens_mask]
    places = zip(special, found.sequence_ids, strict=True)
    sequences = [None if added else number or 0 for added, number in places]
    return Window(found.ids, found.type_ids, found.offsets, special, found.word_ids, sequences)


def windows(
    whole: Window, limit: int | None, *, stride: int = 0, cut: int = 0, left: bool = False, index: int = 0
) -> list[Window]:
    """The windows of a text: one of its parts is cut, and all other tokens are in each of them.

    Args:
        whole: all tokens.
        limit: tokens of a window at most; None: any number.
        stride: tokens that two windows share.
        cut: number of the text that is cut: 1 for the second of a pair.
        left: begin with the end of the text.
        index: of the input, for errors.

    Raises:
        InputError: the tokens that are not cut leave no room for others, or for fewer than the windows share.
    """
    if limit is None or len(whole) <= limit:
        return [whole]
    places = [place for place, sequence in enumerate(whole.sequences) if sequence == cut]
    room = limit - (len(whole) - len(places))
    if room < 1:
        raise InputError(
            f"text {index} has {len(whole) - len(places)} tokens that are not cut, and the limit is {limit}",
            hint="Shorten it.",
            index=index,
            tokens=len(whole),
            limit=limit,
        )
    if stride >= room:
        raise InputError(
            f"text {index}: windows of {limit} tokens have room for {room} of its tokens, and cannot share {stride}",
            hint=f"Let them share {room // 2}.",
            index=index,
        )
    first, last = places[0], places[-1] + 1
    return [
        _joined(whole, [*range(first), *range(first + begin, first + end), *range(last, len(whole))])
        for begin, end in _spans(len(places), room, stride, left=left)
    ]


def _spans(length: int, room: int, stride: int, *, left: bool) -> list[tuple[int, int]]:
    """Beginning and end of each window, up to the first one that reaches the other end of the text."""
    step = room - stride
    count = 1 + -(-(length - room) // step)
    if left:
        ends = [length - number * step for number in range(count)]
        return [(max(0, end - room), end) for end in ends]
    return [(number * step, min(length, number * step + room)) for number in range(count)]


def _joined(whole: Window, places: Sequence[int]) -> Window:
    return Window(
        [whole.ids[place] for place in places],
        [whole.type_ids[place] for place in places],
        [whole.offsets[place] for place in places],
        [whole.special[place] for place in places],
        [whole.words[place] for place in places],
        [whole.sequences[place] for place in places],
    )


def _check_words(tokenizer: Tokenizer) -> None:
    """Refuse words for a tokenizer whose words begin with a space that it does not add, as transformers does."""
    pre = tokenizer.backend.pre_tokenizer
    if isinstance(pre, ByteLevel) and not pre.add_prefix_space:
        raise UnsupportedError(
            "this tokenizer reads the space before a word as a part of it, so it reads no separate words",
            hint="Join the words with spaces, and give the text.",
        )
