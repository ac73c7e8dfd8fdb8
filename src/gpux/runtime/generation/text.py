"""Streaming of text from tokens: whole characters, no part of a stop text, and nothing that later tokens change."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import regex
from tokenizers import Tokenizer

#: What a reader sees as one character: an extended grapheme cluster (Unicode's UAX #29).
_GRAPHEME = regex.compile(r"\X")
#: Last characters of graphemes that the next token often extends: a carriage return, marks, joiners, emoji and flags,
#: letters of the scripts from Hebrew to Tibetan, Myanmar and Hangul (U+0590 to U+11FF), and Khmer.
_EXTENDED = regex.compile(
    r"[\r\p{M}\p{So}\p{Grapheme_Cluster_Break=Extend}\p{Grapheme_Cluster_Break=ZWJ}\u0590-\u11ff\u1780-\u17ff]"
)
_LONGEST = 32  # characters; a longer grapheme is not a character of any language, and is not held back
_UNFINISHED = "\ufffd"  # decoders write it for bytes that are not a character, or not yet
_CONTEXT = 8  # tokens of the prompt that decide how the first new token is decoded


def last_grapheme(text: str) -> int:
    """Where the last grapheme begins, if later text may extend it; else the end of the text.

    Latin, Greek, Cyrillic, Han and Kana letters are not held back: those that may have marks come composed.
    """
    if not text or not _EXTENDED.match(text[-1]):
        return len(text)
    place = deque(_GRAPHEME.finditer(text), 1)[0].start()
    return place if len(text) - place <= _LONGEST else len(text)


class TextStream:
    """Pieces of one row's text. A piece is valid Unicode and ends between graphemes, as far as the text so far shows.

    The pieces together are the decoded text of all tokens, without that of the prompt, up to the first stop text: the
    one that is complete first, or the longer of two. It does not depend on token boundaries.

    Args:
        tokenizer: turns ids into text.
        stops: texts that end the generation; neither they nor a beginning of them is returned. The name of a special
            token stands for that token, too.
        prompt: the tokens before, which decide whether the first token begins with a space.
        skip_special_tokens: omit special tokens from the text.
        keep_special_tokens: names of those that stay nevertheless.
        stop_strings: texts that end the generation and are returned, with the rest of the token that completes them,
            as transformers' ``stop_strings``. They may begin in the prompt.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        prompt: Sequence[int] = (),
        *,
        skip_special_tokens: bool = True,
        keep_special_tokens: Sequence[str] = (),
        stop_strings: Sequence[str] = (),
    ) -> None:
        self._text = _Decoded(tokenizer, prompt, skip_special_tokens, keep_special_tokens)
        self._stops = tuple(stop for stop in stops if stop)
        self._kept_stops = _KeptStops(tokenizer, stop_strings, prompt, self._text.is_byte) if stop_strings else None
        self._held = ""
        self.stopped_by: str | None = None  #: the stop text that ended the row

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now, often empty in the middle of a character."""
        if self.stopped_by is not None:
            return ""
        name = self._text.special.get(token)
        if name is not None and name in self._stops:
            self._held += self._text.finish()
            return self._cut() or self._stop(len(self._held), name)
        self._held += self._text.push(token)
        if self._kept_stops is not None and (stop := self._kept_stops.push(token)) is not None:
            self._held += self._text.finish()
            return self._cut() or self._stop(len(self._held), stop)
        return self._cut() or self._release(min(_begun_stop(self._held, self._stops), last_grapheme(self._held)))

    def finish(self) -> str:
        """The text that was held back, after the last token."""
        if self.stopped_by is not None:
            return ""
        self._held += self._text.finish()
        return self._cut() or self._release(len(self._held))

    def _cut(self) -> str:
        """If there is a stop text, end there and return the text before it."""
        found = _first_stop(self._held, self._stops) if self.stopped_by is None else None
        return "" if found is None else self._stop(*found)

    def _stop(self, place: int, stop: str) -> str:
        self.stopped_by = stop
        piece, self._held = self._held[:place], ""
        return piece

    def _release(self, place: int) -> str:
        piece, self._held = self._held[:place], self._held[place:]
        return piece


class _KeptStops:
    """Finds stop texts in the decoded tokens, where special tokens have their names."""

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], prompt: Sequence[int], is_byte: Callable[[int], bool]
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._is_byte = is_byte
        #: in tokens of at least one byte; the first ones of a part may be decoded differently
        self._reach = max(len(stop.encode("utf-8", "surrogatepass")) for stop in stops) + _CONTEXT
        self._tokens = list(prompt)

    def push(self, token: int) -> str | None:
        """Add a token; the longest stop text that it completes."""
        self._tokens = self._ending([*self._tokens, token])
        before, text = self._decode(self._tokens[:-1]), self._decode(self._tokens)
        old = _agreeing(before, text)
        found = [stop for stop in self._stops if text.find(stop, max(0, old - len(stop) + 1)) >= 0]
        return max(found, key=len, default=None)

    def _ending(self, tokens: list[int]) -> list[int]:
        """The last tokens; a sequence of byte tokens as a whole, since a part of it may not be a character."""
        begin = max(0, len(tokens) - self._reach)
        while begin > 0 and self._is_byte(tokens[begin]):
            begin -= 1
        return tokens[begin:]

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False)


class _Decoded:
    """The text of tokens, as far as no later token can change it.

    A few tokens are decoded again with each new one, since the text of a token depends on the ones before it (a space
    after the first, a character in several tokens, ``##ing``). ``tokenizers.decoders.DecodeStream`` does the same, but
    fails after bytes that are not a character.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int], skip_special_tokens: bool, keep_special_tokens: Sequence[str]
    ) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special = {token: known.content for token, known in added.items() if known.special}
        kept = {token for token, name in self.special.items() if name in keep_special_tokens}
        self._skipped = self.special.keys() - kept if skip_special_tokens else set()
        self._skips = skip_special_tokens and not kept  # those that are skipped are not among the decoded tokens
        decoder = tokenizer.decoder
        self._has_bytes = decoder is not None and decoder.decode(["<0x41>"]) == "A"
        self._tokens = self._ending(prompt)
        self._before: str | None = self._decode()  #: the prompt's text, until the first piece is returned
        self._given = 0

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now."""
        if token in self._skipped or self._tokenizer.id_to_token(token) is None:
            return ""  # a model may have more tokens than its tokenizer, without a text
        self._tokens.append(token)
        if self.is_byte(token):  # an invalid byte also turns the bytes before it into replacement characters
            return ""
        text = self._decode()
        whole = not text.endswith(_UNFINISHED)
        piece = self._give(text, len(text) if whole else len(text) - 1)
        if whole and piece:
            self._tokens = [token]
            self._given = len(self._decode())
        return piece

    def finish(self) -> str:
        """The rest of the text, after the last token."""
        text = self._decode()
        return self._give(text, len(text))

    def _give(self, text: str, end: int) -> str:
        if self._before is not None:  # the prompt may end in the middle of a character
            self._given = _agreeing(self._before, text)
        if end <= self._given:
            return ""
        piece, self._given, self._before = text[self._given : end], end, None
        return piece

    def _ending(self, prompt: Sequence[int]) -> list[int]:
        """The last tokens of the prompt; a sequence of byte tokens as a whole, with the token before it."""
        shown = [token for token in prompt if token not in self._skipped]
        begin = max(len(shown) - _CONTEXT, 0)
        while begin > 0 and self.is_byte(shown[begin]):
            begin -= 1
        return shown[begin:]

    def is_byte(self, token: int) -> bool:
        """Whether a token stands for one byte, ``<0x41>``."""
        if not self._has_bytes:
            return False
        name = self._tokenizer.id_to_token(token)
        return name is not None and len(name) == 6 and name.startswith("<0x") and name.endswith(">")

    def _decode(self) -> str:
        return self._tokenizer.decode(self._tokens, skip_special_tokens=self._skips)


def _agreeing(one: str, other: str) -> int:
    """Length of the common prefix of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """The place and text of the stop text that is complete first; the longest of those that end there."""
    found = [(place + len(stop), place, stop) for stop in stops if (place := text.find(stop)) >= 0]
    return min(found)[1:] if found else None


def _begun_stop(text: str, stops: Sequence[str]) -> int:
    """The place where the longest ending begins that later text may complete to a stop text."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return len(text) - size
    return len(text)
