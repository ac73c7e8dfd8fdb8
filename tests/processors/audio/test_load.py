from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from gpux.errors import InputError
from gpux.processors.audio.load import load_sound, open_sound_blocks
from tests.processors.audio.sounds import tones

RATE = 16000


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, tones(1.1), RATE, subtype="FLOAT")
    return path


def test_path_bytes_and_file_object_give_the_same_samples(wav: Path) -> None:
    expected = tones(1.1)
    with wav.open("rb") as file:
        for sound in (wav, str(wav), wav.read_bytes(), file, io.BytesIO(wav.read_bytes()), _Pipe(wav.read_bytes())):
            found = load_sound(sound, RATE)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_formats_of_libsndfile_are_read(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tones(0.5), RATE)
    found = load_sound(tmp_path / name, RATE)
    assert abs(len(found) - 8000) < 2400  # mp3 has its frames padded
    assert 0.05 < float(np.abs(found).max()) < 1


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "DOUBLE", "ULAW"])
def test_sample_formats_of_wav_have_the_same_full_scale(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tones(0.2), RATE, subtype=subtype)
    error = np.abs(load_sound(tmp_path / "a.wav", RATE) - tones(0.2)).max()
    assert error < {"PCM_U8": 0.01, "ULAW": 0.02}.get(subtype, 1e-4)


def test_stereo_is_mixed_to_its_mean(tmp_path: Path) -> None:
    left, right = tones(0.3), tones(0.3, seed=1)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    for sound in (tmp_path / "a.wav", np.stack([left, right]), {"raw": np.stack([left, right]), "sampling_rate": RATE}):
        np.testing.assert_allclose(load_sound(sound, RATE), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int8", "uint8", "float64", "float16"])
def test_arrays_of_every_sample_type_have_a_full_scale_of_one(dtype: str) -> None:
    plain = tones(0.1)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        array: Any = plain.astype(kind)
    elif kind.kind == "u":
        array = np.round(plain * 127 + 128).astype(kind)
    else:
        array = np.round(plain * np.iinfo(kind).max).astype(kind)
    found = load_sound(array, RATE)
    assert found.dtype == np.float32
    assert np.abs(found - plain).max() < (0.01 if kind.itemsize == 1 else 1e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 192000])
def test_other_rates_are_resampled_by_soxr_hq(tmp_path: Path, rate: int) -> None:
    sound = tones(0.7, rate)
    soundfile.write(tmp_path / "a.wav", sound, rate, subtype="FLOAT")
    expected = soxr.resample(sound, rate, RATE, quality="HQ")
    np.testing.assert_array_equal(load_sound(tmp_path / "a.wav", RATE), expected)
    np.testing.assert_array_equal(load_sound({"array": sound, "sampling_rate": rate}, RATE), expected)


def test_blocks_together_are_the_sound_and_all_but_the_last_have_the_same_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tones(23.3, 44100), 44100)
    blocks = list(open_sound_blocks(tmp_path / "a.flac", RATE, 2.5))
    assert {len(block) for block in blocks[:-1]} == {40000}
    assert 0 < len(blocks[-1]) < 40000
    np.testing.assert_array_equal(np.concatenate(blocks), load_sound(tmp_path / "a.flac", RATE))


def test_blocks_of_a_sound_that_fills_them_exactly_end_without_an_empty_one() -> None:
    assert [len(block) for block in open_sound_blocks(tones(2.0), RATE, 0.5)] == [8000] * 4


def test_a_wav_stream_of_unknown_length_is_read_to_its_end(wav: Path) -> None:
    data = bytearray(wav.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    np.testing.assert_array_equal(load_sound(bytes(data), RATE), tones(1.1))


def _damaged(tmp_path: Path, kind: str) -> Any:
    sound = tones(0.4)
    spoiled = sound.copy()
    spoiled[123] = np.nan if kind == "nan" else np.inf
    path = tmp_path / f"{kind}.wav"
    if kind == "text":
        path.write_text("Not a sound. " * 40, encoding="utf-8")
    elif kind == "picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    elif kind == "empty file":
        path.write_bytes(b"")
    elif kind in ("cut", "header"):
        soundfile.write(path, sound, RATE)
        path.write_bytes(path.read_bytes()[: 3000 if kind == "cut" else 30])
    elif kind == "cut flac":
        soundfile.write(tmp_path / "a.flac", sound, RATE)
        path.write_bytes((tmp_path / "a.flac").read_bytes()[:4000])
    elif kind == "no samples":
        soundfile.write(path, sound[:0], RATE)
    elif kind in ("nan", "inf"):
        soundfile.write(path, spoiled, RATE, subtype="FLOAT")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "No such file"),
        ("folder", "cannot be read"),
        ("text", "cannot be read as a sound: Format not recognised"),
        ("picture", "cannot be read as a sound: Format not recognised"),
        ("empty file", "cannot be read as a sound"),
        ("cut", "is cut off: it has"),
        ("header", "cannot be read as a sound"),
        ("cut flac", "cannot be read as a sound|is cut off"),
        ("no samples", "has no samples"),
        ("nan", "has a sample that is not finite: nan at 123"),
        ("inf", "has a sample that is not finite: inf at 123"),
    ],
)
def test_a_bad_file_is_refused_by_its_name(tmp_path: Path, kind: str, message: str) -> None:
    path = _damaged(tmp_path, kind)
    for read in (load_sound, lambda *given: list(open_sound_blocks(*given))):
        with pytest.raises(InputError, match=message) as caught:
            read(path, RATE)
        assert str(path) in caught.value.message
    with pytest.raises(InputError) as caught:
        load_sound(path, RATE, 7)
    assert caught.value.details["index"] == 7


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(0, np.float32), "has no samples"),
        (np.array([0.0, np.nan]), "not finite: nan at 1"),
        (np.array([0.0, 1e300]), "not finite: 1e\\+300 at 1"),
        (np.zeros((1000, 2), np.float32), r"shape \[1000, 2\]"),
        (np.zeros((2, 3, 4), np.float32), r"shape \[2, 3, 4\]"),
        (np.zeros(10, np.int64), "samples of the type int64"),
        (np.zeros(10, np.complex64), "samples of the type complex64"),
        (np.array(["a"]), "samples of the type"),
        ({"array": np.zeros(10)}, "dict that has array"),
        ({"sampling_rate": RATE}, "dict that has sampling_rate"),
        ({"array": np.zeros(10), "sampling_rate": 0}, "sampling rate of 0"),
        ({"array": np.zeros(10), "sampling_rate": "16k"}, "sampling rate of '16k'"),
        ({"array": np.zeros(10), "sampling_rate": float("nan")}, "sampling rate of nan"),
        ({"array": np.ones(3), "sampling_rate": 192000}, "has 3 samples at 192000 Hz, which are none at 16000 Hz"),
        (3, "is int"),
        (None, "is NoneType"),
        ("https://localhost/a.wav", "is an address, which is fetched only when asked for"),
        (b"", "cannot be read as a sound"),
    ],
)
def test_a_bad_input_is_refused(sound: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^sound 3 .*{message}") as caught:
        load_sound(sound, RATE, 3)
    assert caught.value.details["index"] == 3


def test_hint_for_a_transposed_array_helps() -> None:
    array = np.stack([tones(0.1), tones(0.1)], axis=1)
    with pytest.raises(InputError) as caught:
        load_sound(array, RATE)
    assert caught.value.hint == "Transpose it: it must be [channels, samples]."
    assert len(load_sound(array.T, RATE)) == 1600


def test_a_container_without_pyav_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs PyAV") as caught:
        load_sound(b"\0\0\0\x20ftypM4A " + bytes(100), RATE)
    assert caught.value.hint is not None
    assert "pip install av" in caught.value.hint


class _Pipe:
    """Bytes that can only be read forwards."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)
