"""Text, segments and words from the tokens that a Whisper model generated.

The answers are those of ``_decode_asr`` in transformers' ``tokenization_whisper.py``: tokens of overlapping windows are
joined where they agree, a pair of timestamp tokens is a segment, and words are split at spaces, or at characters in
languages without spaces. Unlike there, the language is known from the generation, whose tokens do not repeat it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gpux.errors import UnsupportedError
from gpux.pipelines.audio.languages import LANGUAGES, UNSPACED
from gpux.pipelines.text.tokenization import Tokenizer

#: What is returned with the text: nothing, segments, or words.
Timestamps = bool | Literal["word"] | None
#: Begin and end of a token, in seconds.
Span = tuple[float, float]

_TIMESTAMP = re.compile(r"<\|\d+\.\d+\|>")
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
#: Punctuation that belongs to the word after it, and to the word before it.
_OPENING, _CLOSING = "\"'“¡¿([{-", "\"'.。,，!！?？:：”)]}、"


class WhisperVocabulary:
    """The tokens of a Whisper tokenizer that are no text.

    Raises:
        UnsupportedError: the tokenizer has no ``<|notimestamps|>``, after which timestamps begin, and no unknown token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        last = self._id("<|notimestamps|>")
        if last is None:
            raise UnsupportedError(
                "the tokenizer has no token <|notimestamps|>, so it is not that of a Whisper model",
                hint="Compare tokenizer.json with that of the original model.",
            )
        self.first_timestamp = last + 1  #: 0.00 seconds
        self.special = frozenset(tokenizer.named_special_ids)
        self.end = tokenizer.named_special("eos_token")
        self._previous, self._start = self._id("<|startofprev|>"), self._id("<|startoftranscript|>")

    def _id(self, token: str) -> int | None:
        """As ``convert_tokens_to_ids`` of transformers: the unknown token stands for what is not there."""
        found = self._tokenizer.backend.token_to_id(token)
        return self._tokenizer.named_special("unk_token") if found is None else found

    def language(self, token: int) -> str | None:
        """The name of the language that a token stands for."""
        return LANGUAGES.get(self.decode([token])[2:-2])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without timestamps; special tokens have their names."""
        return _TIMESTAMP.sub("", self._tokenizer.decode(tokens))

    def without_prompt(self, tokens: Sequence[int]) -> Sequence[int]:
        """Tokens after the text that the decoder was given as previous; all tokens, without such a text."""
        if not tokens or tokens[0] != self._previous:
            return tokens
        start = next((place for place, token in enumerate(tokens) if token == self._start), len(tokens))
        return tokens[start:]


@dataclass
class _Chunk:
    """A segment while it is read."""

    language: str | None
    begin: float | None = None
    end: float | None = None
    text: str = ""
    words: list[dict[str, Any]] = field(default_factory=list)


class Transcript:
    """Joins the tokens of one window after the other to a text.

    Args:
        vocabulary: of the model's tokenizer.
        timestamps: what to return with the text.
        return_language: return the language of each segment or word.
        precision: seconds of one timestamp token.
        window: seconds that the encoder reads. transformers 4.57 takes 30 for every model.
    """

    def __init__(
        self,
        vocabulary: WhisperVocabulary,
        timestamps: Timestamps,
        *,
        return_language: bool = False,
        precision: float = 0.02,
        window: float = 30.0,
    ) -> None:
        self._vocabulary, self._precision, self._window = vocabulary, precision, window
        self._timestamps, self._returns_language = timestamps, return_language
        self._words = timestamps == "word"
        self._language: str | None = None
        self._chunks: list[_Chunk] = []
        self._chunk = _Chunk(None)
        self._offset = 0.0  #: seconds before this window
        self._open: list[list[int]] = []  #: text tokens of the present segment, by window
        self._open_times: list[list[Span]] = []
        self._skips = False  #: the next timestamp is the second of a pair in an overlap

    def know_language(self, name: str) -> None:
        """Set the language of what is added from now on; that of the first window is kept."""
        if self._language is None:
            self._language = self._chunk.language = name

    def add(
        self,
        tokens: Sequence[int],
        times: Sequence[float] = (),
        stride: tuple[float, float, float] | None = None,
    ) -> None:
        """Add the tokens of one window.

        Args:
            tokens: as generated.
            times: for words, the end of each token in seconds.
            stride: length of the window, and what it overlaps at its left and right, in seconds; None: the whole sound.
        """
        reading = _Window(self, self._vocabulary.without_prompt(tokens), times, stride)
        if stride is not None:
            self._offset -= stride[1]
        reading.read()
        if stride is not None:
            self._offset += stride[0] - stride[2]
        if reading.tokens:
            self._keep(reading)
        elif not any(self._open):
            self._chunk = _Chunk(self._language)
            self._open, self._open_times = [], []

    def finish(self) -> tuple[str, list[dict[str, Any]] | None]:
        """The text, and the segments or words with their times if they were requested."""
        if self._open:
            self._close()
        text = "".join(chunk.text for chunk in self._chunks)
        if self._words:
            return text, [word for chunk in self._chunks for word in chunk.words]
        if not self._timestamps and not self._returns_language:
            return text, None
        return text, [self._shown(chunk) for chunk in self._chunks]

    def _shown(self, chunk: _Chunk) -> dict[str, Any]:
        found: dict[str, Any] = {"language": chunk.language} if self._returns_language else {}
        if self._timestamps:
            found["timestamp"] = (chunk.begin, chunk.end)
        return {**found, "text": chunk.text}

    def _switch(self, language: str, window: _Window) -> None:
        """Continue in a language; without timestamps, what was read in another one is a segment of its own."""
        if self._language and language != self._language and not self._timestamps:
            self._keep(window)
            self._close()
        self._chunk.language = self._language = language

    def _keep(self, window: _Window) -> None:
        self._open.append(window.tokens)
        if self._words:
            self._open_times.append(window.times)

    def _close(self) -> None:
        """The present segment is complete."""
        tokens, times = joined(self._open, self._open_times)
        chunk = self._chunk
        chunk.text = self._vocabulary.decode(tokens)
        if self._words:
            chunk.words = self._word_times(tokens, times)
        self._chunks.append(chunk)
        self._open, self._open_times = [], []
        self._chunk = _Chunk(self._language)

    def _word_times(self, tokens: Sequence[int], times: Sequence[Span]) -> list[dict[str, Any]]:
        more = {"language": self._language} if self._returns_language else {}
        return [
            {"text": text, "timestamp": (times[places[0]][0], times[places[-1]][1]), **more}
            for text, places in words(self._vocabulary, tokens, unspaced=self._language in UNSPACED)
        ]


class _Window:
    """Reads the tokens of one window into a transcript."""

    def __init__(
        self,
        transcript: Transcript,
        tokens: Sequence[int],
        ends: Sequence[float],
        stride: tuple[float, float, float] | None,
    ) -> None:
        self._into, self._all, self._ends = transcript, tokens, ends
        self._vocabulary, self._precision = transcript._vocabulary, transcript._precision
        self.tokens: list[int] = []  #: text tokens of the present segment
        self.times: list[Span] = []
        self._base = 0.0  #: seconds of the decoder's earlier windows, where one list has the tokens of several
        self._newest = self._before = 0.0  #: the two newest timestamps
        begin = self._vocabulary.first_timestamp
        length, left, right = stride or (0.0, 0.0, 0.0)
        self._first = left / self._precision + begin if left else begin  #: timestamps before it are in the overlap
        self._last = self._last_outside(length - right) if right else None  #: this one and later ones are too

    def _last_outside(self, end: float) -> int | None:
        begin, found = self._vocabulary.first_timestamp, None
        for token in reversed(self._all):
            if token >= begin:
                if found is not None and (token - begin) * self._precision < end:
                    break
                found = token
        return found

    def read(self) -> None:
        """Read all tokens."""
        for place, token in enumerate(self._all):
            if token in self._vocabulary.special:
                language = self._vocabulary.language(token)
                if language is not None:
                    self._switch(language)
            elif token >= self._vocabulary.first_timestamp:
                self._timestamp(place, token)
            else:
                self.tokens.append(token)
                if self._into._words:
                    begin = self._ends[place - 1] if place else 0.0
                    self.times.append((self._at(begin), self._at(self._ends[place])))

    def _switch(self, language: str) -> None:
        into = self._into
        closes = bool(into._language) and language != into._language and not into._timestamps
        into._switch(language, self)
        if closes:
            self.tokens, self.times = [], []

    def _at(self, seconds: float) -> float:
        return round(seconds + self._into._offset, 2)

    def _timestamp(self, place: int, token: int) -> None:
        """A timestamp begins or ends a segment, unless it is in an overlap."""
        into = self._into
        time = self._seconds(place, token)
        if self._last is not None and token >= self._last:
            into._skips = True
        elif into._skips or (into._open and token < self._first):
            into._skips = False
        elif into._chunk.begin is None:
            into._chunk.begin = time
        elif time != into._chunk.begin:  # a repeated timestamp stays a begin
            into._chunk.end = time
            into._keep(self)
            into._close()
            self.tokens, self.times = [], []

    def _seconds(self, place: int, token: int) -> float:
        """The time of a timestamp; a smaller one than before begins the decoder's next window."""
        begin = self._vocabulary.first_timestamp
        timestamp = (token - begin) * self._precision
        if timestamp < self._newest:
            single = place >= 2 and not (self._all[place - 1] >= begin and self._all[place - 2] >= begin)
            if single:
                self._base += self._into._window
            else:
                self._newest = self._before
                self._base += self._before
        self._before, self._newest = self._newest, timestamp
        return round(timestamp + self._into._offset + self._base, 2)


def joined(windows: Sequence[list[int]], times: Sequence[list[Span]] = ()) -> tuple[list[int], list[Span]]:
    """The tokens of overlapping windows as one list, cut in the middle of what two neighbours have in common.

    The overlap is the shift of two lists with the largest share of equal tokens, two at least; where times are given,
    the times of equal tokens must not decrease.
    """
    tokens, spans = list(windows[0]), list(times[0]) if times else []
    found: list[int] = []
    found_spans: list[Span] = []
    for number, right in enumerate(windows[1:], 1):
        right_spans = times[number] if times else []
        left_middle, right_middle = _overlap(tokens, right, spans, right_spans)
        found += tokens[:left_middle]
        found_spans += spans[:left_middle]
        tokens, spans = right[right_middle:], right_spans[right_middle:]
    return found + tokens, found_spans + spans


def _overlap(left: list[int], right: list[int], left_times: list[Span], right_times: list[Span]) -> tuple[int, int]:
    """Where to cut two lists."""
    best, cut = 0.0, (len(left), 0)
    first, second = np.array(left), np.array(right)
    for shift in range(1, len(left) + len(right)):
        begin, end = max(0, len(left) - shift), min(len(left), len(left) + len(right) - shift)
        other, other_end = max(0, shift - len(left)), min(len(right), shift)
        equal = first[begin:end] == second[other:other_end]
        if left_times:
            places = np.nonzero(equal)[0]
            matches = sum(left_times[begin + place] <= right_times[other + place] for place in places)
        else:
            matches = int(equal.sum())
        share = matches / shift + shift / 10000.0
        if matches > 1 and share > best:
            best, cut = share, ((begin + end) // 2, (other + other_end) // 2)
    return cut


def words(
    vocabulary: WhisperVocabulary, tokens: Sequence[int], *, unspaced: bool = False
) -> list[tuple[str, list[int]]]:
    """The words of text tokens, punctuation included, each with the places of its tokens.

    Args:
        vocabulary: decodes them.
        tokens: without timestamps.
        unspaced: the language has no spaces: each character is a word.
    """
    found: list[tuple[str, list[int]]] = []
    for text, places in _characters(vocabulary, tokens):
        special = vocabulary.end is not None and tokens[places[0]] >= vocabulary.end
        begins = special or text.startswith(" ") or text.strip() in _PUNCTUATION
        if unspaced or begins or not found:
            found.append((text, places))
        else:
            found[-1] = (found[-1][0] + text, found[-1][1] + places)
    return _with_punctuation(found)


def _characters(vocabulary: WhisperVocabulary, tokens: Sequence[int]) -> Iterable[tuple[str, list[int]]]:
    """The shortest runs of tokens that are whole characters."""
    whole, given = vocabulary.decode(tokens), 0
    run: list[int] = []
    for place in range(len(tokens)):
        run.append(place)
        text = vocabulary.decode([tokens[index] for index in run])
        broken = text.find(_BROKEN)
        if broken < 0 or whole[given + broken : given + broken + 1] == _BROKEN:
            yield text, run
            run, given = [], given + len(text)


def _with_punctuation(found: list[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    """Opening punctuation joined with the word after it, and closing punctuation with the word before it."""
    after = len(found) - 1
    for place in range(len(found) - 2, -1, -1):
        text, places = found[place]
        if text.startswith(" ") and text.strip() in _OPENING:
            found[after] = (text + found[after][0], places + found[after][1])
            found[place] = ("", [])
        else:
            after = place
    before = 0
    for place in range(1, len(found)):
        text, places = found[place]
        if not found[before][0].endswith(" ") and text in _CLOSING:
            found[before] = (found[before][0] + text, found[before][1] + places)
            found[place] = ("", [])
        else:
            before = place
    return [(text, places) for text, places in found if text and places]
