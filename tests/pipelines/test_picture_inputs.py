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
