"""Where a sound has speech, by a silero voice activity model, so that no text is invented for silence.

The graph gives the probability of speech in each window of 512 samples at 16 kHz. Thresholds, defaults and the rules by
which windows become segments are those of ``get_speech_timestamps`` in faster-whisper 1.2 (MIT), which are silero's
own; the segments are equal. The sound is read in blocks, so memory does not grow with its length.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError, UsageError
from gpux.processors.audio.prepared import Samples
from gpux.runtime.session import Session

RATE = 16_000  #: Hz
WINDOW, CONTEXT = 512, 64  #: samples of a window, and of the one before it that the graph reads too
#: Windows of one run.
_WINDOWS = 1024
#: Milliseconds of a silence at which a segment that is too long may be cut.
_CUT_MS = 98


@dataclass(frozen=True)
class VadOptions:
    """How probabilities become segments.

    Args:
        threshold: probability from which a window is speech.
        neg_threshold: probability below which speech ends; by default ``threshold`` minus 0.15.
        min_speech_duration_ms: shorter segments are dropped.
        max_speech_duration_s: longer segments are cut.
        min_silence_duration_ms: a segment ends after so much silence.
        speech_pad_ms: what is kept before and after a segment.

    Raises:
        UsageError: a value is not a number, is negative, or not finite where it must be.
    """

    threshold: float = 0.5
    neg_threshold: float | None = None
    min_speech_duration_ms: float = 0
    max_speech_duration_s: float = math.inf
    min_silence_duration_ms: float = 2000
    speech_pad_ms: float = 400

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None and each.name == "neg_threshold":
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or math.isnan(value) or value < 0 or (math.isinf(value) and "max" not in each.name):
                raise UsageError(f"{each.name} of the voice activity is {value!r}", hint="Give a number of at least 0.")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Self:
        """Those of a call.

        Raises:
            UsageError: an unknown name, or an invalid value.
        """
        known = [each.name for each in fields(cls)]
        if unknown := sorted(set(given or {}) - set(known)):
            raise UsageError(f"vad_parameters has no {unknown[0]}", hint=f"It has: {', '.join(known)}.")
        return cls(**(given or {}))


class Span(NamedTuple):
    """A segment with speech, in samples."""

    start: int
    end: int


class VoiceActivity:
    """A silero model. Safe to use from many threads.

    Args:
        path: the ONNX file: of faster-whisper (inputs ``input``, ``h``, ``c``), or of silero-vad 5 and 6 (``input``,
            ``state``, ``sr``).

    Raises:
        SessionError: the file cannot be loaded.
        UnsupportedError: it has other inputs.
    """

    def __init__(self, path: Path) -> None:
        self._session = Session(path, device="cpu", threads=1)
        inputs = {spec.name for spec in (*self._session.inputs, *self._session.optional)}
        self._batched = inputs == {"input", "h", "c"}
        if not self._batched and inputs != {"input", "state", "sr"}:
            raise UnsupportedError(
                f"{path} has the inputs {', '.join(sorted(inputs))}, so it is not a silero voice activity model",
                hint="silero_vad_v6.onnx of faster-whisper and silero_vad.onnx of silero-vad are supported.",
            )

    def spans(self, blocks: Iterable[Samples], options: VadOptions) -> list[Span]:
        """The segments of a sound that have speech, in order.

        Args:
            blocks: of samples at 16 kHz.
            options: thresholds.
        """
        finder, total = _Finder(options), 0
        for rows, samples in self._windows(blocks):
            total += samples
            for probability in rows:
                finder.add(float(probability))
        return finder.finish(total)

    def _windows(self, blocks: Iterable[Samples]) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Probabilities of the next windows, and the samples that were read for them; silence is added at the end."""
        state: dict[str, NDArray[np.float32]] = {}
        context, held = np.zeros(CONTEXT, np.float32), np.zeros(0, np.float32)
        for block in blocks:
            held = np.concatenate([held, block])
            while len(held) >= WINDOW * _WINDOWS:
                taken, held = held[: WINDOW * _WINDOWS], held[WINDOW * _WINDOWS :]
                yield self._run(taken, context, state), len(taken)
                context = taken[-CONTEXT:]
        padded = np.pad(held, (0, WINDOW - len(held) % WINDOW))
        yield self._run(padded, context, state), len(held)

    def _run(self, samples: Samples, context: Samples, state: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        windows = samples.reshape(-1, WINDOW)
        before = np.concatenate([context[None], windows[:-1, -CONTEXT:]])
        rows = np.concatenate([before, windows], axis=1)
        if self._batched:
            given = state or {name: np.zeros((1, 1, 128), np.float32) for name in ("h", "c")}
            found = list(self._session.run({"input": rows, **given}).values())
            state.update(zip(("h", "c"), found[1:], strict=True))
            return found[0].reshape(-1)
        return np.concatenate([self._step(row, state) for row in rows])

    def _step(self, row: Samples, state: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        given = state or {"state": np.zeros((2, 1, 128), np.float32)}
        found = list(self._session.run({"input": row[None], "sr": np.array(RATE, np.int64), **given}).values())
        state["state"] = found[1]
        return found[0].reshape(-1)


class _Finder:
    """Turns probabilities, one for each window, into segments."""

    def __init__(self, options: VadOptions) -> None:
        self._options = options
        low = options.neg_threshold
        self._low = max(options.threshold - 0.15, 0.01) if low is None else low
        pad = RATE * options.speech_pad_ms / 1000
        self._pad, self._longest = pad, RATE * options.max_speech_duration_s - WINDOW - 2 * pad
        self._shortest = RATE * options.min_speech_duration_ms / 1000
        self._silence, self._cut = RATE * options.min_silence_duration_ms / 1000, RATE * _CUT_MS / 1000
        self._found: list[list[int]] = []
        self._start: int | None = None  #: of the present segment
        self._speaking = False
        self._quiet = 0  #: where the present silence began; 0: none
        self._last_quiet = self._next = 0  #: the last longer silence of the segment, and where speech began after it
        self._at = -WINDOW

    def add(self, probability: float) -> None:
        """The next window."""
        self._at += WINDOW
        at, speech = self._at, probability >= self._options.threshold
        if speech and self._quiet:
            self._quiet = 0
            if self._next < self._last_quiet:
                self._next = at
        if speech and not self._speaking:
            self._speaking, self._start = True, at
            return
        if self._speaking and self._start is not None and at - self._start > self._longest and self._shorten(at):
            return
        if probability < self._low and self._speaking:
            self._fall_quiet(at)

    def _shorten(self, at: int) -> bool:
        """End a segment that is too long; True: at this window, for want of a silence in it."""
        if self._last_quiet:
            after = self._next
            self._end(self._last_quiet)
            if after >= self._last_quiet:
                self._start = after
            else:
                self._speaking = False
            self._last_quiet = self._next = self._quiet = 0
            return False
        self._end(at)
        self._last_quiet = self._next = self._quiet = 0
        self._speaking = False
        return True

    def _fall_quiet(self, at: int) -> None:
        self._quiet = self._quiet or at
        if at - self._quiet > self._cut:
            self._last_quiet = self._quiet
        if at - self._quiet < self._silence:
            return
        if self._start is not None and self._quiet - self._start > self._shortest:
            self._end(self._quiet)
        self._start = None
        self._last_quiet = self._next = self._quiet = 0
        self._speaking = False

    def _end(self, end: int) -> None:
        if self._start is not None:
            self._found.append([self._start, end])
        self._start = None

    def finish(self, total: int) -> list[Span]:
        """The segments of a sound of so many samples, with what is kept around them."""
        if self._start is not None and total - self._start > self._shortest:
            self._end(total)
        found, pad = self._found, self._pad
        for place, span in enumerate(found):
            if place == 0:
                span[0] = int(max(0, span[0] - pad))
            if place == len(found) - 1:
                span[1] = int(min(total, span[1] + pad))
                continue
            following = found[place + 1]
            gap = following[0] - span[1]
            if gap < 2 * pad:
                span[1] += int(gap // 2)
                following[0] = int(max(0, following[0] - gap // 2))
            else:
                span[1] = int(min(total, span[1] + pad))
                following[0] = int(max(0, following[0] - pad))
        return [Span(*span) for span in found]


def kept(blocks: Iterable[Samples], spans: Sequence[Span]) -> Iterator[Samples]:
    """The samples of some segments, one after the other; ``spans`` are in order."""
    at, place = 0, 0
    for block in blocks:
        while place < len(spans) and spans[place].start < at + len(block):
            part = block[max(0, spans[place].start - at) : spans[place].end - at]
            if len(part):
                yield part
            if spans[place].end > at + len(block):
                break
            place += 1
        at += len(block)


class OriginalTimes:
    """Seconds of a sound, from those of its segments that were kept.

    Args:
        spans: the segments.
        rate: samples per second.
    """

    def __init__(self, spans: Sequence[Span], rate: int) -> None:
        self._rate = rate
        self._ends: list[int] = []  #: of each segment, in what was kept
        self._silences: list[float] = []  #: seconds that were left out before each segment
        silent = previous = 0
        for span in spans:
            silent += span.start - previous
            previous = span.end
            self._ends.append(span.end - silent)
            self._silences.append(silent / rate)

    def segment(self, begin: float | None, end: float | None) -> tuple[float | None, float | None]:
        """The times of a segment of text, which may reach over several segments of speech."""
        return (
            None if begin is None else self._original(begin, self._place(begin, end=False)),
            None if end is None else self._original(end, self._place(end, end=True)),
        )

    def word(self, begin: float, end: float) -> tuple[float, float]:
        """The times of a word, which is in the segment that holds its middle."""
        place = self._place((begin + end) / 2, end=False)
        return self._original(begin, place), self._original(end, place)

    def _original(self, seconds: float, place: int) -> float:
        return round(self._silences[place] + seconds, 2)

    def _place(self, seconds: float, *, end: bool) -> int:
        sample = int(seconds * self._rate)
        if end and sample in self._ends:
            return self._ends.index(sample)
        return min(bisect.bisect(self._ends, sample), len(self._ends) - 1)
