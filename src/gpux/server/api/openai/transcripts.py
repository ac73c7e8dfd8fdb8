"""The forms of a transcript: ``verbose_json`` of OpenAI's API, and the subtitles srt and vtt.

The subtitles are written as ``whisper/utils.py`` of OpenAI's Whisper writes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

#: ``return_segments`` of the pipeline gives them
_DETAILS = ("text", "tokens", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob")


def verbose(found: Mapping[str, Any], text: str, *, words: bool, segments: bool, translate: bool) -> Mapping[str, Any]:
    """A transcript with its details.

    Args:
        found: the answer of the pipeline with ``return_segments``, and with ``return_timestamps="word"`` for words.
        text: of the whole sound.
        words: give the words.
        segments: give the segments.
        translate: the text is English, whatever was spoken.
    """
    answer: dict[str, Any] = {
        "task": "translate" if translate else "transcribe",
        "language": "english" if translate else found["language"] or "english",  # a model of English names none
        "duration": found["duration"],
        "text": text,
    }
    if segments:
        answer["segments"] = [_segment(number, one) for number, one in enumerate(found["segments"])]
    if words:
        answer["words"] = [_word(one, found["duration"]) for one in found["chunks"]]
    return {**answer, "usage": {"type": "duration", "seconds": math.ceil(found["duration"])}}


def _segment(number: int, segment: Mapping[str, Any]) -> dict[str, Any]:
    start, end = segment["timestamp"]
    return {
        "id": number,
        "seek": segment["seek"],
        "start": start,
        "end": end,
        **{name: segment[name] for name in _DETAILS},
    }


def _word(word: Mapping[str, Any], duration: float) -> dict[str, Any]:
    start, end = word["timestamp"]
    return {"word": word["text"].strip(), "start": start, "end": duration if end is None else end}


def as_srt(segments: Sequence[Mapping[str, Any]]) -> str:
    """Segments as SubRip subtitles."""
    return "".join(f"{number}\n{_span(one, ',')}\n{_line(one)}\n\n" for number, one in enumerate(segments, 1))


def as_vtt(segments: Sequence[Mapping[str, Any]]) -> str:
    """Segments as WebVTT subtitles."""
    return "WEBVTT\n\n" + "".join(f"{_span(one, '.')}\n{_line(one)}\n\n" for one in segments)


def _span(segment: Mapping[str, Any], mark: str) -> str:
    start, end = segment["timestamp"]
    return f"{_time(start, mark)} --> {_time(end, mark)}"


def _time(seconds: float, mark: str) -> str:
    whole = round(seconds * 1000)
    minutes, milliseconds = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"


def _line(segment: Mapping[str, Any]) -> str:
    """The text on one line, without the arrow that separates times."""
    return " ".join(segment["text"].split()).replace("-->", "->")
