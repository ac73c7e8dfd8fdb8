"""Answers of ``/v1/audio``, by a small speech model on spoken digits."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile

from gpux.server.api.openai.audio import TranscriptionRequest, TranslationRequest
from gpux.server.api.openai.parameters import parameters
from gpux.server.api.openai.transcripts import as_srt, as_vtt
from tests.server.running import EMBEDDER, SPEECH, Running

SOUND = (Path(__file__).parents[3] / "docs/notebooks/digits.flac").read_bytes()
TEXT = "three one four one five"
VERBOSE = {"response_format": "verbose_json"}


def wav(samples: Any, rate: int = 16_000, format: str = "WAV") -> bytes:
    """A file of a sound."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format)
    return file.getvalue()


def post(server: Running, path: str = "transcriptions", sound: bytes = SOUND, **fields: Any) -> httpx2.Response:
    """The response to a form; ``name__`` stands for ``name[]``."""
    data = {name.replace("__", "[]"): value for name, value in fields.items()}
    files = {"file": ("../../etc/passwd.flac", sound)}
    return server.post(f"/v1/audio/{path}", data={"model": SPEECH, **data}, files=files)


def error(response: httpx2.Response, status: int = 400) -> dict[str, Any]:
    """The error of a response in the shape of the API."""
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def test_the_formats_of_a_transcript(server: Running) -> None:
    assert post(server).json() == {"text": TEXT}
    assert post(server, response_format="text").text == TEXT + "\n"
    subtitles = post(server, response_format="srt").text
    assert re.fullmatch(rf"1\n00:00:00,000 --> 00:00:03,\d{{3}}\n{TEXT}\n\n", subtitles)
    web = post(server, response_format="vtt")
    assert web.headers["content-type"].startswith("text/vtt")
    assert web.text.startswith("WEBVTT\n\n00:00:00.000 --> ")


def test_verbose_json_has_segments_and_words_as_requested(server: Running) -> None:
    found = post(server, **VERBOSE).json()
    assert (found["task"], found["language"], found["text"]) == ("transcribe", "english", TEXT)
    assert found["duration"] == pytest.approx(4.14, abs=0.02)
    assert found["usage"] == {"type": "duration", "seconds": 5}
    [segment] = found["segments"]
    assert list(segment) == (
        [
            "id",
            "seek",
            "start",
            "end",
            "text",
            "tokens",
            "temperature",
            "avg_logprob",
            "compression_ratio",
            "no_speech_prob",
        ]
    )
    assert segment["text"].strip() == TEXT
    assert -2 < segment["avg_logprob"] < 0
    assert 0 <= segment["no_speech_prob"] <= 1
    both = post(server, **VERBOSE, timestamp_granularities__=["word", "segment"]).json()
    assert (both["segments"], [one["word"] for one in both["words"]]) == (found["segments"], TEXT.split())
    words = post(server, **VERBOSE, timestamp_granularities__=["word"]).json()
    assert "segments" not in words
    assert words["words"] == both["words"]


def test_words_have_the_times_at_which_they_are_spoken(server: Running) -> None:
    words = post(server, **VERBOSE, timestamp_granularities__=["word"]).json()["words"]
    heard = ((0.45, 0.8), (1.15, 1.55), (1.8, 2.2), (2.5, 2.9), (3.2, 3.55))  # by the energy of the sound
    for word, (begin, end) in zip(words, heard, strict=True):
        middle = (begin + end) / 2
        assert word["start"] < middle < word["end"], word
    assert [one["end"] for one in words[:-1]] == [one["start"] for one in words[1:]]


def test_a_sound_of_several_windows_has_segments_in_order(server: Running) -> None:
    samples, rate = soundfile.read(io.BytesIO(SOUND))
    found = post(server, sound=wav(np.tile(samples, 3), rate), **VERBOSE).json()
    starts = [one["start"] for one in found["segments"]]
    assert starts == sorted(starts)
    assert len({one["seek"] for one in found["segments"]}) > 1
    assert found["duration"] == pytest.approx(3 * len(samples) / rate, abs=0.02)


def test_every_parameter_is_supported_or_refused_by_its_name(server: Running) -> None:
    published = """file model chunking_strategy include keywords known_speaker_names known_speaker_references language
    languages prompt response_format stream temperature timestamp_granularities"""
    assert {one.name for one in parameters(TranscriptionRequest)} == set(published.split())
    translation = {one.name for one in parameters(TranslationRequest)}
    assert translation == {"file", "model", "prompt", "response_format", "temperature"}
    for one in parameters(TranscriptionRequest):
        if one.status == "refused":
            assert error(post(server, **{one.name: "true"}))["param"] == one.name
    for fields in ({"stream": "false"}, {"language": "en"}, {"temperature": "0"}, {"prompt": ""}):
        assert post(server, **fields).json() == {"text": TEXT}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "xml"}, "response_format"),
        ({"temperature": "2"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"language": "de"}, "language"),
        ({"timestamp_granularities__": ["word"]}, "timestamp_granularities"),
        ({**VERBOSE, "timestamp_granularities__": ["char"]}, "timestamp_granularities[0]"),
        ({"model": EMBEDDER}, "model"),
        ({"unheard_of": "1"}, "unheard_of"),
    ],
)
def test_an_invalid_parameter_is_named(server: Running, fields: dict[str, Any], param: str) -> None:
    assert error(post(server, **fields))["param"] == param


def test_a_model_of_english_does_not_translate(server: Running) -> None:
    assert error(post(server, "translations"))["param"] == "model"


@pytest.mark.parametrize(
    "sound",
    [
        b"these are words, not waves",
        b"",
        wav(np.zeros(0, np.float32)),
        SOUND[:3000],
        wav(np.zeros(7200 * 8000, np.float32), 8000, "FLAC"),  # two hours in some 180 KB
    ],
    ids=["text", "nothing", "no samples", "cut off", "two hours"],
)
def test_a_file_that_is_no_sound_is_refused_and_the_worker_survives(server: Running, sound: bytes) -> None:
    found = error(post(server, sound=sound))
    assert found["param"] == "file"
    assert "passwd" not in found["message"]
    assert post(server).json() == {"text": TEXT}


def test_forms_without_one_file_are_refused(server: Running) -> None:
    def send(**parts: Any) -> dict[str, Any]:
        return error(server.post("/v1/audio/transcriptions", **parts))

    other = {"model": (None, SPEECH), "sound": ("a.flac", SOUND)}
    assert send(files=other)["param"] == "sound"
    assert send(files={"model": (None, SPEECH), "file": (None, "talk.flac")})["param"] == "file"
    assert send(files={"model": (None, SPEECH)})["param"] == "file"
    assert send(files={"file": ("a.flac", SOUND)})["param"] == "model"


def test_pages_of_other_origins_cannot_send_sounds(server: Running) -> None:
    answer = server.post(
        "/v1/audio/transcriptions", data={"model": SPEECH}, files={"file": SOUND}, headers={"origin": "null"}
    )
    assert answer.status_code == 403


def test_subtitles_of_long_sounds_have_hours_and_no_arrows_in_texts() -> None:
    segments = [{"timestamp": (3599.9996, 7325.25), "text": " a --> b\nc"}]
    assert as_srt(segments) == "1\n01:00:00,000 --> 02:02:05,250\na -> b c\n\n"
    assert as_vtt(segments) == "WEBVTT\n\n01:00:00.000 --> 02:02:05.250\na -> b c\n\n"
