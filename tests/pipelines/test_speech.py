"""Parts of speech recognition by encoder-decoders: transcripts, times of words, long sounds, voice activity."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray

from gpux.errors import UnsupportedError, UsageError
from gpux.pipelines.audio.alignment import median_filter, token_times, warp
from gpux.pipelines.audio.mel import LongMel, PaddedMel
from gpux.pipelines.audio.sequence import OpenedSound
from gpux.pipelines.audio.speech_recognition import AutomaticSpeechRecognitionPipeline
from gpux.pipelines.audio.transcript import Transcript, WhisperVocabulary
from gpux.pipelines.audio.voice_activity import OriginalTimes, Span, VadOptions, VoiceActivity, _Finder, kept
from gpux.pipelines.audio.whisper_rules import split, timestamp_rules
from gpux.pipelines.audio.whisper_settings import WhisperSettings
from gpux.pipelines.audio.whisper_windows import compression_ratio
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.processors.audio.extractor import build as build_extractor
from gpux.processors.audio.load import load_sound
from gpux.processors.audio.log_mel import WhisperExtractor
from tests.models.digits_onnx import digits
from tests.models.whisper import save_tokenizer
from tests.pipelines.conftest import Build, stored

GOLDENS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "speech_goldens.json").read_text(encoding="utf-8")
)
RATE = 16_000


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> WhisperVocabulary:
    folder = tmp_path_factory.mktemp("whisper")
    save_tokenizer(folder, multilingual=True)
    (folder / "config.json").write_text("{}")
    return WhisperVocabulary(Tokenizer(stored(folder, "automatic-speech-recognition")))


def settings(**values: Any) -> WhisperSettings:
    given: dict[str, Any] = {
        "model": "tests/whisper",
        "start": 101,
        "end": 100,
        "vocabulary": 1700,
        "places": 1500,
        "target_places": 96,
        "filter_width": 7,
        "no_timestamps": 110,
        "previous": 108,
        "heads": ((0, 0),),
        "languages": {"<|en|>": 102, "<|de|>": 103},
        "tasks": {"translate": 105, "transcribe": 106},
        "multilingual": True,
        "forced": [(1, None), (2, 106)],
        "most_initial": 50,
        "defaults": {},
    }
    return WhisperSettings(**{**given, **values})


def test_transcripts_are_those_of_transformers(vocabulary: WhisperVocabulary) -> None:
    for number, case in enumerate(GOLDENS["transcripts"]):
        transcript = Transcript(vocabulary, case["timestamps"], return_language=case["language"])
        for window in case["windows"]:
            stride = tuple(window["stride"]) if "stride" in window else None
            transcript.add(window["tokens"], window["times"], stride)
        text, chunks = transcript.finish()
        assert text == case["text"], number
        assert json.loads(json.dumps(chunks)) == case["chunks"], number


def test_a_tokenizer_without_timestamps_is_refused(tmp_path: Path) -> None:
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnsupportedError, match="notimestamps"):
        WhisperVocabulary(Tokenizer(stored(tmp_path, "automatic-speech-recognition")))


def test_the_cheapest_path_is_that_of_a_loop_over_rows_and_columns() -> None:
    for shape in ((1, 1), (1, 9), (9, 1), (6, 11), (11, 6)):
        costs = np.random.default_rng(sum(shape)).normal(size=shape).round(1)
        tokens, places = warp(costs)
        assert (tokens[0], places[0], tokens[-1], places[-1]) == (0, 0, shape[0] - 1, shape[1] - 1)
        steps = np.diff(tokens) + np.diff(places)
        assert ((steps == 1) | (steps == 2)).all()
        assert costs[tokens, places].sum() == pytest.approx(cheapest(costs), abs=1e-5)


def cheapest(costs: NDArray[np.float64]) -> float:
    total = np.full((costs.shape[0] + 1, costs.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for row in range(1, total.shape[0]):
        for column in range(1, total.shape[1]):
            before = min(total[row - 1, column - 1], total[row - 1, column], total[row, column - 1])
            total[row, column] = costs[row - 1, column - 1] + before
    return float(total[-1, -1])


def test_words_have_times_where_the_closing_timestamp_takes_the_whole_sound(tmp_path: Path) -> None:
    """transformers gives (0.0, 0.0) for every word of this model."""
    sound = Path(__file__).parents[2] / "docs" / "notebooks" / "digits.flac"
    with AutomaticSpeechRecognitionPipeline(digits(tmp_path / "digits")) as transcribe:
        words = transcribe(str(sound), return_timestamps="word")["chunks"]
    assert [word["text"].strip() for word in words] == ["three", "one", "four", "one", "five"]
    spoken = (0.6, 1.35, 2.0, 2.7, 3.4)  # the middle of each word, by the energy of the sound
    for word, middle in zip(words, spoken, strict=True):
        begin, end = word["timestamp"]
        assert begin < middle < end


def test_tokens_begin_where_their_attention_is() -> None:
    weights = np.full((3, 90), 0.01, np.float32)
    for token in range(3):
        weights[token, 30 * token : 30 * token + 30] = 1.0
    assert token_times([weights, weights], 90, 7).tolist() == pytest.approx([0.0, 0.6, 1.2], abs=0.02)
    assert token_times([weights[:1]], 90, 7).tolist() == [0.0]  # a single token has no deviation


def test_a_median_filter_mirrors_the_ends() -> None:
    assert median_filter(np.array([[5.0, 1, 2, 9, 3, 3]]), 3).tolist() == [[1, 2, 2, 3, 3, 3]]
    assert median_filter(np.array([[5.0, 1]]), 7).tolist() == [[5, 1]]


def scores(**high: float) -> NDArray[np.float32]:
    found = np.zeros(1700, np.float32)
    for name, value in high.items():
        found[int(name[1:])] = value
    return found


def test_timestamps_come_first_in_pairs_and_in_order() -> None:
    rules, first = timestamp_rules(settings()), 111

    def best(made: list[int], **high: float) -> int:
        row = scores(**high)
        rules(row, np.array([101, 102, *made]), 2)
        return int(row.argmax())

    assert best([], t7=9, t300=8, t120=7) == 120  # text, and times above the limit, are not allowed first
    assert best([120], t130=9, t7=8) == 7  # after one timestamp comes text
    assert best([120, 7, 140], t7=9, t150=8, t140=7, t100=1) == 150  # after text and a timestamp: another, or the end
    assert best([120, 7, 140], t120=9, t100=8) == 100  # times do not decrease
    assert best([120, 7, 140, 140], t140=9, t8=8) == 8
    assert best([120, 7], t110=9, t7=20) == 7  # <|notimestamps|> never
    assert best([120, 7], t7=3) >= first  # all timestamps together are likelier than one text token


def test_a_window_is_split_at_pairs_of_timestamps() -> None:
    model = settings()
    segments, advance = split([111, 5, 161, 161, 6, 211, 211, 7], model, 3000, 3000)
    assert [(segment.begin, segment.end, segment.places) for segment in segments] == [
        (30.0, 31.0, slice(0, 3)),
        (31.0, 32.0, slice(3, 7)),
    ]
    assert advance == 200  # frames up to the last pair; what follows is read again
    segments, advance = split([111, 5, 161, 161, 6, 211], model, 0, 2500)
    assert (len(segments), advance) == (2, 2500)  # a single timestamp at the end: no speech after it
    segments, advance = split([5, 6], model, 0, 1000)
    assert (segments[0].begin, segments[0].end, advance) == (0.0, 10.0, 1000)
    assert split([111, 111], model, 0, 1000)[1] == 1000  # a time of zero would not advance


def test_first_tokens_follow_the_files_and_the_call() -> None:
    model = settings()
    assert model.begin(language=103, named=False, task=None, timestamps=False) == [101, 103, 106, 110]
    assert model.begin(language=103, named=True, task="translate", timestamps=True) == [101, 103, 105]
    assert model.begin(language=103, named=True, task=None, timestamps=False) == [101, 103, 106, 110]
    assert settings(forced=[]).begin(language=102, named=False, task=None, timestamps=False) == [101, 102, 110]
    english = settings(languages=None, tasks=None, multilingual=False, forced=[])
    assert english.begin(language=None, named=False, task=None, timestamps=False) == [101, 110]
    assert (model.detects(None, None), model.detects("german", None), english.detects(None, None)) == (1, 0, 0)
    assert [model.language_token(name) for name in ("German", "de", "<|de|>")] == [103] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"language": "klingon"}, "has no language 'klingon'"),
        ({"language": "fr"}, "has no language 'fr'"),
        ({"task": "sing"}, "has no task 'sing'"),
    ],
)
def test_a_language_or_task_that_the_model_lacks_is_refused(call: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        settings().check(**{"language": None, "task": None, "timestamps": False, **call})
    assert caught.value.hint is not None
    assert "english, german" in caught.value.hint or "translate" in caught.value.hint
    with pytest.raises(UsageError, match="English only"):
        settings(multilingual=False).check(**{"language": None, "task": None, "timestamps": False, **call})


def test_repeated_text_has_a_high_ratio() -> None:
    assert compression_ratio([7, 8] * 40, 51865) > 5 > 1.2 > compression_ratio(list(range(0, 40_000, 800)), 51865)


def noise(seconds: float) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def cut(samples: NDArray[np.float32], size: int) -> Callable[[], Iterator[NDArray[np.float32]]]:
    return lambda: iter([samples[start : start + size] for start in range(0, len(samples), size)])


@pytest.fixture(scope="module")
def extractor() -> WhisperExtractor:
    found = build_extractor("WhisperFeatureExtractor", {"feature_size": 16}, "tests/whisper")
    assert isinstance(found, WhisperExtractor)
    return found


@pytest.mark.parametrize("size", [1_500, 5_000, 100_000, 10_000_000])
def test_features_in_windows_are_those_of_the_whole_sound(
    extractor: WhisperExtractor, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    samples = noise(31.2345) * np.linspace(0.01, 1, round(31.2345 * RATE), dtype=np.float32)
    whole = extractor.whole(samples).inputs["input_features"]
    for kept_frames in (0, 60_000):
        monkeypatch.setattr("gpux.pipelines.audio.mel._KEPT", kept_frames)
        mel = LongMel(cut(samples, size), extractor)
        assert mel.frames == whole.shape[1]
        for start, count in ((0, 3000), (700, 2423), (3000, 123)):
            assert np.array_equal(mel.window(start, count), whole[:, start : start + count])


def test_a_short_sound_is_padded_to_a_window(extractor: WhisperExtractor) -> None:
    mel = PaddedMel(noise(1.0), extractor)
    assert (mel.frames, mel.sounding, mel.window(2900, 100).shape) == (3000, 100, (16, 100))


def test_a_sound_is_cut_into_overlapping_chunks() -> None:
    samples = noise(25.0)
    sound = OpenedSound(cut(samples, 7_000), RATE)
    chunks = list(sound.chunks((10.0, 2.0, 1.0)))
    assert [chunk.stride for chunk in chunks] == [
        (10.0, 0.0, 1.0),
        (10.0, 2.0, 1.0),
        (10.0, 2.0, 1.0),
        (4.0, 2.0, 0.0),
    ]
    for number, chunk in enumerate(chunks):
        start = 7 * number * RATE
        assert np.array_equal(chunk.samples, samples[start : start + 10 * RATE])
    assert [len(chunk.samples) for chunk in OpenedSound(cut(samples[:RATE], 99), RATE).chunks((10, 2, 1))] == [RATE]


def test_segments_of_speech_are_those_of_faster_whisper() -> None:
    for number, case in enumerate(GOLDENS["speech"]):
        finder = _Finder(VadOptions.of(case["options"]))
        for probability in case["probabilities"]:
            finder.add(probability)
        assert [list(span) for span in finder.finish(case["samples"])] == case["segments"], number


def test_times_are_those_of_the_sound_with_its_silences() -> None:
    spans = [Span(2 * RATE, 5 * RATE), Span(10 * RATE, 12 * RATE)]
    samples = noise(13.0)
    parts = list(kept(cut(samples, 3_333)(), spans))
    assert np.array_equal(np.concatenate(parts), np.concatenate([samples[span.start : span.end] for span in spans]))
    times = OriginalTimes(spans, RATE)
    assert times.segment(0.0, 3.0) == (2.0, 5.0)  # the end of a segment is not the beginning of the next
    assert times.segment(3.0, None) == (10.0, None)
    assert times.word(2.8, 3.1) == (4.8, 5.1)
    assert times.word(2.9, 3.3) == (9.9, 10.3)


@pytest.mark.parametrize(
    "wrong", [{"threshold": "high"}, {"threshold": float("nan")}, {"speech_pad_ms": -1}, {"treshold": 0.5}]
)
def test_a_wrong_threshold_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        VadOptions.of(wrong)


def silero() -> Path:
    found = importlib.util.find_spec("faster_whisper")
    if found is None or found.origin is None:
        pytest.skip("faster-whisper, which has the model of silero, is not installed")
    return Path(found.origin).parent / "assets" / "silero_vad_v6.onnx"


def test_silence_has_no_speech_and_a_sentence_has(tmp_path: Path) -> None:
    detector = VoiceActivity(silero())
    silence = noise(9.0) * 1e-3
    assert detector.spans([silence], VadOptions()) == []
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    subprocess.run(["espeak-ng", "-w", tmp_path / "said.wav", "Hello world, this is a short test."], check=True)
    said = load_sound(tmp_path / "said.wav", RATE)
    sound = np.concatenate([silence, said, silence])
    (span,) = detector.spans(cut(sound, 10_000)(), VadOptions())
    assert abs(span.start - len(silence)) < RATE
    assert abs(span.end - len(silence) - len(said)) < RATE


def test_another_graph_is_not_a_voice_activity_model(build: Build) -> None:
    with pytest.raises(UnsupportedError, match="not a silero voice activity model"):
        VoiceActivity(build().path / "onnx" / "model.onnx")


@pytest.mark.parametrize(("window", "second"), [(30.0, 30.5), (5.0, 5.5)])
def test_times_of_later_windows_follow_from_the_window_of_the_model(
    vocabulary: WhisperVocabulary, window: float, second: float
) -> None:
    first = vocabulary.first_timestamp
    word = next(token for token in range(first) if vocabulary.decode([token]).strip())
    transcript = Transcript(vocabulary, True, window=window)
    # one window that ends with its only segment, then the next, whose times begin anew
    transcript.add([first + 50, word, first + 150, first + 25, word, first + 100], [], None)
    _, chunks = transcript.finish()
    assert chunks is not None
    assert [chunk["timestamp"] for chunk in chunks] == [(1.0, 3.0), (second, second + 1.5)]
