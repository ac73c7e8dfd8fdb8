from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UnsupportedTaskError, UsageError
from gpux.pipelines.audio.audio_classification import AudioClassificationPipeline
from gpux.pipelines.audio.audio_feature_extraction import AudioFeatureExtractionPipeline
from gpux.pipelines.audio.audio_frame_classification import AudioFrameClassificationPipeline
from gpux.pipelines.audio.audio_xvector import AudioXVectorPipeline
from gpux.pipelines.audio.base import least_samples, samples_per_frame
from gpux.pipelines.audio.ctc import Chunk, cut
from gpux.pipelines.audio.ctc_tokenizer import open_ctc_tokenizer
from gpux.pipelines.audio.speech_recognition import AutomaticSpeechRecognitionPipeline
from gpux.pipelines.registry import pipeline_class, pipeline_of
from gpux.pull.open import pipeline
from gpux.runtime.numeric import sigmoid, softmax
from tests.pipelines.audio_graphs import FRAME, RATE, STEP, logits, speech, stored
from tests.pipelines.ctc_cases import CASES, VOCABULARY
from tests.processors.audio.sounds import tones

GOLDENS = json.loads((Path(__file__).parent / "ctc_goldens.json").read_text(encoding="utf-8"))


@pytest.fixture
def transcribe(tmp_path: Path) -> Iterator[AutomaticSpeechRecognitionPipeline]:
    with AutomaticSpeechRecognitionPipeline(speech(tmp_path / "speech"), threads=1) as pipe:
        yield pipe


@pytest.fixture
def classify(tmp_path: Path) -> Iterator[AudioClassificationPipeline]:
    with AudioClassificationPipeline(stored(tmp_path / "labels", "audio-classification", pooled=True)) as pipe:
        yield pipe


def best(samples: NDArray[np.float32]) -> list[int]:
    return [int(index) for index in logits(samples, len(VOCABULARY)).argmax(axis=-1)]


# CTC


@pytest.mark.parametrize("name", CASES)
def test_frames_are_decoded_as_by_transformers(tmp_path: Path, name: str) -> None:
    vocabulary, settings, ids = CASES[name]
    model = stored(tmp_path, "automatic-speech-recognition", files={"vocab": vocabulary, "tokenizer_config": settings})
    found = open_ctc_tokenizer(model).decode(ids)
    assert found.text == GOLDENS[name]["text"]
    assert [[piece.text, piece.start, piece.end] for piece in found.chars] == GOLDENS[name]["chars"]
    if "phonemes" not in name:
        assert [[piece.text, piece.start, piece.end] for piece in found.words] == GOLDENS[name]["words"]


def test_speech_is_the_best_token_of_each_frame(transcribe: AutomaticSpeechRecognitionPipeline) -> None:
    decoder = open_ctc_tokenizer(transcribe.model)
    for sound in (tones(1.37), tones(0.4, seed=1)):
        assert transcribe(sound) == {"text": decoder.decode(best(sound)).text}


def test_times_are_those_of_the_frames(transcribe: AutomaticSpeechRecognitionPipeline) -> None:
    sound = tones(0.9)
    decoded = open_ctc_tokenizer(transcribe.model).decode(best(sound))
    for kind, pieces in (("char", decoded.chars), ("word", decoded.words)):
        chunks = transcribe(sound, return_timestamps=kind)["chunks"]
        assert [chunk["text"] for chunk in chunks] == [piece.text for piece in pieces]
        expected = [(piece.start * STEP / RATE, piece.end * STEP / RATE) for piece in pieces]
        assert [chunk["timestamp"] for chunk in chunks] == expected


def reference_chunks(count: int, length: int, left: int, right: int) -> list[tuple[int, int, int, int]]:
    """Start, samples and strides of each chunk, by the rule of ``chunk_iter`` in transformers 4.57."""
    found = []
    for start in range(0, count, length - left - right):
        last = start + length >= count
        size = min(length, count - start)
        before, after = (0 if start == 0 else left), (0 if last else right)
        if size > before:
            found.append((start, size, before, after))
        if last:
            break
    return found


@pytest.mark.parametrize("count", [1, 99, 100, 101, 160, 180, 181, 199, 200, 1000, 1037])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (20, 20), (30, 10), (0, 25), (40, 0)])
def test_chunks_are_cut_as_by_transformers(count: int, left: int, right: int) -> None:
    samples = np.arange(count, dtype=np.float32)
    for block in (7, 100, 5000):
        blocks = (samples[at : at + block] for at in range(0, count, block))
        found = [(int(c.samples[0]), len(c.samples), c.left, c.right) for c in cut(blocks, 100, left, right)]
        assert found == reference_chunks(count, 100, left, right)


def test_chunks_are_joined_without_their_strides(transcribe: AutomaticSpeechRecognitionPipeline) -> None:
    sound = tones(5.03)
    step, stride = 16000, 3200  # of samples: 1 s with 0.2 s on both sides
    ids: list[int] = []
    for start, size, left, right in reference_chunks(len(sound), step, stride, stride):
        frames = best(sound[start : start + size])
        total = round(size / STEP)
        ids += frames[round(left / size * total) : total - round(right / size * total)]
    expected = open_ctc_tokenizer(transcribe.model).decode(ids).text
    assert transcribe(sound, chunk_length_s=1, stride_length_s=0.2) == {"text": expected}
    assert transcribe([sound, sound], chunk_length_s=1.0, stride_length_s=(0.2, 0.2), batch_size=3) == [
        {"text": expected},
        {"text": expected},
    ]


def test_a_long_file_is_read_in_chunks_in_bounded_memory(
    transcribe: AutomaticSpeechRecognitionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = tones(150.0)
    soundfile.write(tmp_path / "long.wav", sound, RATE, subtype="FLOAT")
    sizes: list[int] = []
    prepare = transcribe.prepare
    monkeypatch.setattr(transcribe, "prepare", lambda samples, i=0: sizes.append(len(samples)) or prepare(samples, i))
    found = transcribe(tmp_path / "long.wav")
    assert max(sizes) == 30 * RATE
    assert found == transcribe(sound, chunk_length_s=30)
    sizes.clear()
    transcribe(tones(59.0))
    transcribe(sound, chunk_length_s=0)
    assert sizes == [59 * RATE, 150 * RATE]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_timestamps": True}, "return_timestamps is True"),
        ({"return_timestamps": "segment"}, "return_timestamps is 'segment'"),
        ({"chunk_length_s": 1, "stride_length_s": 0.5}, "not longer than its strides"),
        ({"chunk_length_s": -1}, "chunk_length_s=-1"),
        ({"chunk_length_s": "long"}, "chunk_length_s='long'"),
        ({"chunk_length_s": 2, "stride_length_s": (0.1, 0.1, 0.1)}, "stride_length_s="),
        ({"stride_length_s": 1}, "without chunk_length_s"),
        ({"chunk_length_s": 0.001, "stride_length_s": 0}, "not longer than its strides"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"language": "english"}, "a model with a CTC output has no option language"),
        ({"num_beams": 3}, "a model with a CTC output has no option num_beams"),
        ({"languages": "english"}, "has no option languages"),
    ],
    ids=str,
)
def test_invalid_options_of_speech_are_refused(
    transcribe: AutomaticSpeechRecognitionPipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        transcribe(tones(0.5), **options)


def test_a_model_whose_frames_have_no_known_length_has_no_times(tmp_path: Path) -> None:
    files = {"vocab": VOCABULARY}
    model = stored(tmp_path, "automatic-speech-recognition", outputs=16, config={"model_type": "mctct"}, files=files)
    with AutomaticSpeechRecognitionPipeline(model) as pipe:
        assert set(pipe(tones(0.5))) == {"text"}
        for options in ({"return_timestamps": "char"}, {"chunk_length_s": 3}):
            with pytest.raises(UsageError, match="type mctct"):
                pipe(tones(0.5), **options)


def test_a_language_model_of_a_repository_is_named_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with AutomaticSpeechRecognitionPipeline(speech(tmp_path, processor_class="Wav2Vec2ProcessorWithLM")) as pipe:
        assert pipe(tones(0.5))["text"]
    assert "has a language model for its decoder, which gpux does not use" in caplog.text


def test_another_tokenizer_of_speech_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="a tokenizer of the class LasrTokenizer"):
        AutomaticSpeechRecognitionPipeline(speech(tmp_path, tokenizer_class="LasrTokenizer"))


def test_phonemes_have_times_and_no_words(tmp_path: Path) -> None:
    with AutomaticSpeechRecognitionPipeline(speech(tmp_path, tokenizer_class="Wav2Vec2PhonemeCTCTokenizer")) as pipe:
        found = pipe(tones(0.3), return_timestamps="char")
        assert found["text"] == " ".join(chunk["text"] for chunk in found["chunks"])
        with pytest.raises(UsageError, match="phonemes have no words"):
            pipe(tones(0.3), return_timestamps="word")


# Labels, vectors, frames


def test_labels_are_those_of_the_logits(classify: AudioClassificationPipeline) -> None:
    sounds = [tones(0.7), tones(0.3, seed=1), tones(0.7, seed=2)]
    for sound, answer in zip(sounds, classify(sounds, top_k=None), strict=True):
        plain = logits(sound, 4).mean(axis=0)
        scores = softmax(plain)
        order = np.argsort(-scores)
        assert [entry["label"] for entry in answer] == [f"L{index}" for index in order]
        np.testing.assert_allclose([entry["score"] for entry in answer], scores[order], atol=1e-5)
    one = classify(sounds[0], top_k=2, function_to_apply="sigmoid")
    np.testing.assert_allclose(
        [entry["score"] for entry in one], np.sort(sigmoid(logits(sounds[0], 4).mean(axis=0)))[::-1][:2], atol=1e-5
    )
    none = classify(sounds[0], function_to_apply="none")
    np.testing.assert_allclose(none[0]["score"], logits(sounds[0], 4).mean(axis=0).max(), atol=1e-4)


def test_sounds_of_every_kind_give_the_same_labels(classify: AudioClassificationPipeline, tmp_path: Path) -> None:
    sound = tones(0.7)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    expected = classify(sound)
    raw = {"raw": sound, "sampling_rate": RATE}
    with (tmp_path / "a.wav").open("rb") as file:
        given = [str(tmp_path / "a.wav"), (tmp_path / "a.wav").read_bytes(), file, raw]
        assert [classify(one) for one in given] == [expected] * 4
        file.seek(0)
        assert classify(given) == [expected] * 4
    assert list(classify(one for one in [sound, raw])) == [expected] * 2


def test_the_place_of_a_bad_sound_is_named(classify: AudioClassificationPipeline, tmp_path: Path) -> None:
    for bad, message in (
        (tones(0.5)[: FRAME - 1], f"sound 1 has 399 samples, and the model needs {FRAME} at least"),
        (np.zeros(0, np.float32), "sound 1 has no samples"),
        (np.full(800, np.nan, np.float32), "sound 1 has a sample that is not finite"),
        (tmp_path / "missing.wav", "sound 1 .*missing.wav.* cannot be read"),
        (7, "sound 1 is int"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            classify([tones(0.5), bad])
        assert caught.value.details["index"] == 1
    kept = dict(classify.iter_answers([tones(0.5), np.zeros(0, np.float32), tones(0.5)], on_error="keep"))
    assert isinstance(kept[1], InputError)
    assert kept[0] == kept[2] == classify(tones(0.5))


def test_a_sound_at_an_address_is_fetched_where_the_pipeline_is_opened_for_it(tmp_path: Path) -> None:
    model = stored(tmp_path, "audio-classification", pooled=True)
    soundfile.write(tmp_path / "sound.flac", tones(0.5), RATE)
    body = (tmp_path / "sound.flac").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/sound.flac" else 404)
            self.end_headers()
            if self.path == "/sound.flac":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pipeline("audio-classification", model) as pipe, pytest.raises(InputError) as refused:
            pipe(f"{address}/sound.flac")
        assert "allow_urls=True" in str(refused.value.hint)
        with pipeline("audio-classification", model, allow_urls=True) as pipe:
            assert pipe(f"{address}/sound.flac") == pipe(body)
            with pytest.raises(InputError, match=r"sound 1: .*404") as missing:
                pipe([body, f"{address}/other.flac"])
        server.shutdown()
    assert missing.value.details["index"] == 1


def test_invalid_options_of_labels_are_refused(classify: AudioClassificationPipeline) -> None:
    for options in ({"top_k": 0}, {"function_to_apply": "tanh"}):
        with pytest.raises(UsageError):
            classify(tones(0.5), **options)  # type: ignore[arg-type]


def test_vectors_of_sounds_are_the_hidden_states(tmp_path: Path) -> None:
    model = stored(tmp_path, "feature-extraction", name="last_hidden_state")
    assert pipeline_of(model) is AudioFeatureExtractionPipeline
    with pipeline("audio-feature-extraction", model, return_arrays=True) as pipe:
        np.testing.assert_allclose(pipe(tones(0.5))[0], logits(tones(0.5), 4), atol=1e-4)
        assert np.shape(pipe(tones(0.5), return_arrays=False)) == (1, 24, 4)


def test_a_pipeline_of_texts_is_refused_for_a_model_of_sounds(tmp_path: Path) -> None:
    model = stored(tmp_path, "feature-extraction", name="last_hidden_state")
    with pytest.raises(UnsupportedTaskError) as caught:
        pipeline("feature-extraction", model)
    assert 'pipeline("audio-feature-extraction"' in str(caught.value.hint)


def test_speakers_have_one_vector(tmp_path: Path) -> None:
    with AudioXVectorPipeline(stored(tmp_path / "a", "audio-xvector", name="embeddings", pooled=True)) as pipe:
        np.testing.assert_allclose(pipe(tones(0.5)), logits(tones(0.5), 4).mean(axis=0), atol=1e-4)
        assert len(pipe.render(pipe.answers([tones(0.5)])[0])) == 1
    with pytest.raises(UnsupportedError, match="needs embeddings"):
        AudioXVectorPipeline(stored(tmp_path / "b", "audio-xvector", pooled=True))


def test_frames_have_scores_and_spans(tmp_path: Path) -> None:
    sound = tones(1.0)
    with AudioFrameClassificationPipeline(stored(tmp_path, "audio-frame-classification", outputs=2)) as pipe:
        found = pipe(sound)
        scores = sigmoid(logits(sound, 2))
        np.testing.assert_allclose(found["scores"], scores, atol=1e-5)
        assert found["labels"] == ["L0", "L1"]
        marked = np.zeros_like(scores, dtype=bool)
        for span in found["spans"]:
            first, end = (round(time * len(scores)) for time in span["timestamp"])
            marked[first:end, found["labels"].index(span["label"])] = True
        np.testing.assert_array_equal(marked, scores >= 0.5)
        assert "spans" not in pipe(sound, threshold=None)
        with pytest.raises(UsageError, match="threshold is 2"):
            pipe(sound, threshold=2)


@pytest.mark.parametrize("task", ["automatic-speech-recognition", "audio-classification", "audio-xvector"])
def test_pipelines_of_sounds_say_that_they_take_sounds(task: str) -> None:
    assert pipeline_class(task).takes == "audio"


def test_the_shortest_sound_follows_from_the_convolutions() -> None:
    assert least_samples({"model_type": "wav2vec2"}) == FRAME
    assert least_samples({"model_type": "whisper"}) == 1
    assert samples_per_frame({"model_type": "hubert"}) == STEP
    assert samples_per_frame({"model_type": "sew"}) == STEP
    assert samples_per_frame({"model_type": "wav2vec2-bert"}) == STEP
    assert samples_per_frame({"model_type": "mctct"}) is None


def test_a_chunk_knows_its_strides() -> None:
    (only,) = cut(iter([np.zeros(5, np.float32)]), 100, 20, 20)
    assert (len(only.samples), only.left, only.right) == (5, 0, 0)
    assert isinstance(only, Chunk)
