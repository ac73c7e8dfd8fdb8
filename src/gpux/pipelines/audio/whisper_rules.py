"""Which tokens may follow when a Whisper model generates timestamps, and how a list of tokens is split at them.

The rules are those of ``WhisperTimeStampLogitsProcessor`` and ``_retrieve_segment`` of transformers, which follow
OpenAI's ``whisper/decoding.py`` and ``whisper/transcribe.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpux.pipelines.audio.whisper_settings import WhisperSettings
from gpux.runtime.generation.choose.processors import Ids, Processor, Scores

#: Frames of features for one place of the encoder's output.
FRAMES = 2
#: Seconds of one frame of features, and of one timestamp.
FEATURE_SECONDS, TIME_SECONDS = 0.01, 0.02


def timestamp_rules(settings: WhisperSettings) -> Processor:
    """A processor that lets timestamps come in pairs, in order, first of all, and when they are likely together."""
    first, end, never = settings.first_timestamp, settings.end, settings.no_timestamps
    limit = None if settings.most_initial is None else first + settings.most_initial + 1

    def process(scores: Scores, ids: Ids, prompt: int) -> None:
        if never is not None:
            scores[never] = -np.inf
        made = ids[prompt:]
        stamped = made >= first
        after = bool(stamped[-1:].any())
        twice = made.size < 2 or bool(stamped[-2])
        if after and twice:
            scores[first:] = -np.inf
        elif after:
            scores[:end] = -np.inf
        if stamped.any():
            newest = int(made[stamped][-1])
            scores[first : newest if after and not twice else newest + 1] = -np.inf
        if not made.size:
            scores[:first] = -np.inf
            scores[limit if limit is not None else scores.size :] = -np.inf
        times, texts = scores[first:], scores[:first]
        best = times.max(initial=-np.inf)
        if best > -np.inf and best + np.log(np.exp(times - best).sum()) > texts.max(initial=-np.inf):
            texts[:] = -np.inf

    return process


@dataclass(frozen=True)
class Segment:
    """A part of a window's tokens that belongs together; times are in seconds from the beginning of the sound."""

    begin: float
    end: float
    places: slice  #: of its tokens among the window's


def split(tokens: Sequence[int], settings: WhisperSettings, seek: int, frames: int) -> tuple[list[Segment], int]:
    """The segments of a window, and the frames by which to advance: to the last timestamp if text is cut off after it.

    Args:
        tokens: of the window, without the end token.
        settings: of the model.
        seek: frame where the window begins.
        frames: of the sound in the window.
    """
    first, offset = settings.first_timestamp, seek * TIME_SECONDS / FRAMES
    stamped = [token >= first for token in tokens]
    ends = [place + 1 for place in range(len(tokens) - 1) if stamped[place] and stamped[place + 1]]
    if not ends:
        last = float(int(frames * FEATURE_SECONDS / TIME_SECONDS))
        stamps = [token - first for token in tokens if token >= first]
        if stamps and stamps[-1]:
            last = stamps[-1]
        return [Segment(offset, offset + last * TIME_SECONDS, slice(0, len(tokens)))], frames
    single = stamped[-2:] == [False, True]
    if single:
        ends.append(len(tokens))
    else:
        ends[-1] += 1
    found = []
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        last_place = end - 1 if single or end != ends[-1] else end - 2
        times = [(tokens[place] - first) * TIME_SECONDS for place in (begin, last_place)]
        found.append(Segment(offset + times[0], offset + times[1], slice(begin, end)))
    advance = frames if single else (tokens[ends[-1] - 2] - first) * FRAMES
    return found, advance if advance > 0 else frames
