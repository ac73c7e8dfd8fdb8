"""Text from tokens as they come: whole characters, no part of a stop text, nothing that has to be taken back."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_JOINER = "\u200d"
_REGIONS = range(0x1F1E6, 0x1F200)  # two of them make a flag
_SKIN_TONES = range(0x1F3FB, 0x1F400)


class TextStream:
    """Pieces of one row's text. A piece is valid Unicode and ends between graphemes, as far as the text so far tells.

    Args:
        tokenizer: turns ids into text.
        stops: texts that end the generation; neither they nor a beginning of them is ever given out.
        prompt: the tokens before, which decide whether the first one begins with a space.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), prompt: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped_by: str | None = None  #: the stop text that came

    def push(self, token: int) -> str:
        """What can be given out now that this token came; often empty in the middle of a character."""
        if self.stopped_by is not None:
            return ""
        self._held += self._stream.step(self._tokenizer, token) or ""
        found = _first_stop(self._held, self._stops)
        if found is not None:
            place, self.stopped_by = found
            return self._release(place, rest="")
        return self._release(min(_begun_stop(self._held, self._stops), _last_grapheme(self._held)))

    def finish(self) -> str:
        """What was held back, when no token comes any more."""
        return "" if self.stopped_by is not None else self._release(len(self._held))

    def _release(self, place: int, rest: str | None = None) -> str:
        piece, self._held = self._held[:place], self._held[place:] if rest is None else rest
        return piece


def _first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Where the first stop text begins, and which it is; the longer of two that begin at one place."""
    found = [(place, -len(stop), stop) for stop in stops if (place := text.find(stop)) >= 0]
    return (min(found)[0], min(found)[2]) if found else None


def _begun_stop(text: str, stops: Sequence[str]) -> int:
    """Where the longest end of the text begins that may become a stop text."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return len(text) - size
    return len(text)


def _last_grapheme(text: str) -> int:
    """Where the last grapheme begins if more may still join it; the end of the text if it is plain ASCII.

    A small part of Unicode's UAX #29: marks, joiners, variation selectors, skin tones and flags.
    """
    if not text or text[-1].isascii():
        return len(text)
    place = len(text) - 1
    while place > 0 and (_joins(text[place]) or text[place - 1] == _JOINER or _is_second_region(text, place)):
        place -= 1
    return place


def _joins(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Mn", "Mc", "Me") or character == _JOINER or ord(character) in _SKIN_TONES
    )


def _is_second_region(text: str, place: int) -> bool:
    if ord(text[place]) not in _REGIONS:
        return False
    before = 0
    while before < place and ord(text[place - 1 - before]) in _REGIONS:
        before += 1
    return before % 2 == 1
