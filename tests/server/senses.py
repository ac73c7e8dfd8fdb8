"""Tiny stored models of the tasks that :func:`tests.server.running.fill` has none of: pictures, sounds, other texts."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from gpux.model.variant import CallSpec
from gpux.store import Store
from gpux.system.settings import Settings
from tests.models.bert import bert_repository
from tests.pipelines import audio_graphs, picture_models
from tests.pipelines.conftest import stored
from tests.pipelines.located.cases import CASES
from tests.pipelines.located.models import model_of
from tests.pipelines.summarizer import summarizer
from tests.server.running import put

PICTURES = "tests/pictures"  #: labels red, green and grey of pictures; see tests/pipelines/picture_models.py
FEATURES = "tests/features"  #: vectors of pictures
COMPARED = "tests/compared"  #: labels of the request for pictures; words are "red" and "green"
CAPTIONS = "tests/captions"  #: writes "a photo of red"
BRIGHTER = "tests/brighter"  #: pictures with twice the light
BOXES, SEGMENTS, DEPTHS = "tests/boxes", "tests/segments", "tests/depths"  #: the same for every picture
SOUNDS = "tests/sounds"  #: labels L0 to L3 of sounds
SPELLED = "tests/spelled"  #: letters of sounds, from a CTC output
SUMMARIES = "tests/summaries"  #: the letter that a text has most of; see tests/pipelines/summarizer.py
RANKER = "tests/ranker"  #: a BERT with one label
TOKENS, QUESTIONS = "tests/tokens", "tests/questions"  #: tiny BERTs with random weights

#: Task -> the model that answers it, as the checks of clients name them.
TASKS = {
    "audio-classification": SOUNDS,
    "automatic-speech-recognition": SPELLED,
    "image-classification": PICTURES,
    "image-segmentation": SEGMENTS,
    "image-to-image": BRIGHTER,
    "image-to-text": CAPTIONS,
    "object-detection": BOXES,
    "question-answering": QUESTIONS,
    "summarization": SUMMARIES,
    "text-ranking": RANKER,
    "token-classification": TOKENS,
    "translation": SUMMARIES,
    "zero-shot-image-classification": COMPARED,
}


def fill_senses(home: Path) -> None:
    """Store the models below a home folder."""
    store = Store(Settings.from_env({"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")}).store)
    located = {case.name: case for case in CASES}
    with TemporaryDirectory(prefix="gpux-senses-") as name:
        folder = Path(name)

        def bert(task: str) -> Path:
            return bert_repository(folder / task, task, onnx=True, safetensors=False)

        ranker = bert_repository(
            folder / "ranker", "text-classification", onnx=True, safetensors=False, labels=["relevant"]
        )
        for id, model in {
            PICTURES: picture_models.classifier(folder / "pictures"),
            FEATURES: picture_models.features(folder / "features"),
            COMPARED: picture_models.compared(folder / "compared"),
            CAPTIONS: picture_models.captions(folder / "captions"),
            BRIGHTER: picture_models.same_picture(folder / "brighter"),
            BOXES: model_of(located["object-detection/DetrImageProcessor"], folder / "boxes"),
            SEGMENTS: model_of(located["image-segmentation/SegformerImageProcessor"], folder / "segments"),
            DEPTHS: model_of(located["depth-estimation/DPTImageProcessor"], folder / "depths"),
            SOUNDS: audio_graphs.stored(folder / "sounds", "audio-classification", pooled=True),
            SPELLED: audio_graphs.speech(folder / "spelled"),
            SUMMARIES: summarizer(folder / "summaries"),
            RANKER: stored(ranker, "text-classification", call_spec=CallSpec(max_length=64)),
            TOKENS: stored(bert("token-classification"), "token-classification", call_spec=CallSpec(max_length=64)),
            QUESTIONS: stored(bert("question-answering"), "question-answering", call_spec=CallSpec(max_length=64)),
        }.items():
            put(store, model, id)


def png(red: int = 200, green: int = 10, blue: int = 10, size: tuple[int, int] = (8, 8)) -> bytes:
    """A picture of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size, (red, green, blue)).save(stream, "PNG")
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A picture of some bytes whose header says how large it is, as an image bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def gif(frames: int) -> bytes:
    """An animated picture of 1 x 1 pixels; 40 bytes a frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
    frame = b"\x21\xf9\x04\x00\x01\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\x00"
    return head + frame * frames + b"\x3b"


def wav(samples: NDArray[np.float32], rate: int = 16_000, format: str = "WAV") -> bytes:
    """A file of a sound."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format)
    return file.getvalue()


def tone(seconds: float = 1.0) -> bytes:
    """A wav file of a tone."""
    time = np.arange(round(16_000 * seconds)) / 16_000
    return wav((0.4 * np.sin(2 * np.pi * 440 * time)).astype(np.float32))
