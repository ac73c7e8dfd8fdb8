"""Pipelines of pictures: what they open, and how they refuse it, on a graph that averages each channel."""

from __future__ import annotations

import io
import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from gpux import pipeline
from gpux.errors import InputError
from gpux.model.variant import StoredModel
from tests.pipelines.conftest import stored
from tests.pipelines.picture_models import videos


def _png(color: tuple[int, int, int], size: tuple[int, int] = (9, 7)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


RED, BLUE = _png((255, 0, 0)), _png((0, 0, 255))


@pytest.fixture
def model(tmp_path: Path) -> StoredModel:
    """Labels red, green and blue, by the mean of each channel."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    mean = helper.make_node("ReduceMean", ["pixel_values", "axes"], ["logits"], keepdims=0)
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([mean], "mean", [pixels], [logits], [axes])
    folder = tmp_path / "model"
    (folder / "onnx").mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "onnx/model.onnx"
    )
    config = {"model_type": "vit", "id2label": {"0": "red", "1": "green", "2": "blue"}}
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return stored(folder, "image-classification")


@pytest.fixture
def address() -> Iterator[str]:
    """A server of one red picture."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(RED)))
            self.end_headers()
            self.wfile.write(RED)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/red.png"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def moving(tmp_path: Path) -> StoredModel:
    return videos(tmp_path / "moving")


def test_videos_are_frames_from_the_start(moving: StoredModel, tmp_path: Path) -> None:
    """The first ones, or every second; of a file, an array or pictures."""
    colors = [(255, 0, 0), (254, 0, 0), (0, 0, 255), (0, 0, 254), (0, 0, 253), (0, 0, 252)]  # a GIF merges equal frames
    frames = [Image.new("RGB", (9, 7), color) for color in colors]
    file = tmp_path / "moving.gif"
    frames[0].save(file, save_all=True, append_images=frames[1:])
    array = np.stack([np.asarray(frame) for frame in frames])
    with pipeline("video-classification", model=moving) as classify:
        for video in (file, str(file), file.read_bytes(), array, frames, tuple(frames), list(array)):
            assert _best(classify(video)) == "red"
            assert _best(classify(video, frame_sampling_rate=2)) == "blue"
        assert [_best(answer) for answer in classify([file, array[3:]])] == ["red", "blue"]
        assert [_best(answer) for answer in classify([frames, frames[3:]])] == ["red", "blue"]
        found = classify(frames, top_k=2)
    means = np.array([2, 0, 1]) / 3 * 2 - 1
    expected = np.exp(means) / np.exp(means).sum()
    assert [entry["label"] for entry in found] == ["red", "blue"]
    np.testing.assert_allclose([entry["score"] for entry in found], expected[[0, 2]], atol=1e-2)


def test_too_few_frames_and_other_inputs_are_named(moving: StoredModel) -> None:
    """By the place of the video."""
    frame = Image.new("RGB", (9, 7))
    with pipeline("video-classification", model=moving) as classify:
        with pytest.raises(InputError, match="picture 1 has 2 frames, and 3 are needed"):
            classify([[frame] * 3, [frame] * 2])
        with pytest.raises(InputError, match="picture 0 has 1 frame, and 3"):
            classify(RED)
        with pytest.raises(InputError, match="picture 0 is of type int"):
            classify([[frame, frame, 3]])
        with pytest.raises(InputError, match="picture 0 is not a moving picture") as refused:
            classify(b"\0\0\0\x1cftypisom")
        assert "mp4" in str(refused.value.hint)


def _best(answer: Any) -> str:
    return str(answer[0]["label"])


def test_each_kind_of_input_is_one_picture(model: StoredModel, tmp_path: Path) -> None:
    """And a list, a tuple or a generator of them is several."""
    file = tmp_path / "red.jpg"
    file.write_bytes(RED)
    with pipeline("image-classification", model=model) as classify:
        array = np.zeros((5, 4, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
        for given in (file, str(file), RED, io.BytesIO(RED), Image.open(file), array, array / 255):
            assert _best(classify(given)) == "red"
        assert [_best(answer) for answer in classify([RED, BLUE])] == ["red", "blue"]
        assert [_best(answer) for answer in classify(iter((BLUE, RED)))] == ["blue", "red"]


def test_addresses_are_fetched_only_when_asked_for(model: StoredModel, address: str) -> None:
    """The hint of the refusal, followed; also in a copy that was pickled."""
    with pipeline("image-classification", model=model) as classify, pytest.raises(InputError) as refused:
        classify(address)
    assert "allow_urls=True" in str(refused.value.hint)
    with pipeline("image-classification", model=model, allow_urls=True) as classify:
        assert _best(classify(address)) == "red"
        with pickle.loads(pickle.dumps(classify)) as copy:
            assert _best(copy(address)) == "red"


def test_a_bad_picture_among_others_is_named_by_its_place(model: StoredModel, tmp_path: Path) -> None:
    """Its path too."""
    file = tmp_path / "text.png"
    file.write_text("no picture")
    with pipeline("image-classification", model=model) as classify:
        with pytest.raises(InputError, match=r"picture 1 .*text\.png"):
            classify([RED, file, BLUE])
        with pytest.raises(InputError, match="picture 2 is of type int"):
            classify([RED, BLUE, 3])
        with pytest.raises(InputError, match="picture 0 is of type int"):
            classify(3)
