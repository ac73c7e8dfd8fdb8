"""Variants of models of sounds whose graph is one convolution, so that tests need no converter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, StoredFile, StoredModel, TensorSpec
from tests.pipelines.ctc_cases import VOCABULARY

#: Samples of a frame, and from one to the next: those of wav2vec2.
FRAME, STEP, RATE = 400, 320, 16000
WAV2VEC2 = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}


def weights(outputs: int) -> NDArray[np.float32]:
    """[outputs, 1, FRAME]."""
    return np.random.default_rng(outputs).standard_normal((outputs, 1, FRAME)).astype(np.float32)


def logits(samples: NDArray[np.float32], outputs: int) -> NDArray[np.float64]:
    """[frames, outputs] of samples as they are, in numpy."""
    values = samples.astype(np.float64)
    values = (values - values.mean()) / np.sqrt(values.var() + 1e-7)
    frames = np.lib.stride_tricks.sliding_window_view(values, FRAME)[::STEP]
    return np.asarray(frames @ weights(outputs)[:, 0].T.astype(np.float64))


def stored(
    folder: Path,
    task: str,
    *,
    outputs: int = 4,
    name: str = "logits",
    pooled: bool = False,
    config: dict[str, Any] | None = None,
    files: dict[str, Any] | None = None,
) -> StoredModel:
    """A variant whose graph reads ``input_values`` [batch, samples] and gives [batch, frames, outputs].

    Args:
        folder: written to.
        task: that the variant is stored for.
        outputs: of each frame.
        name: of the graph's output.
        pooled: give the mean of the frames, [batch, outputs].
        config: over the one of wav2vec2.
        files: JSON files by their names without ``.json``, over those of Wav2Vec2's extractor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Unsqueeze", ["input_values", "axis"], ["one"]),
        helper.make_node("Conv", ["one", "w"], ["frames"], strides=[STEP]),
        helper.make_node("Transpose", ["frames"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["rows", "axis"], [name], keepdims=0)
        if pooled
        else helper.make_node("Identity", ["rows"], [name]),
    ]
    shape: list[int | str] = ["batch", outputs] if pooled else ["batch", "frames", outputs]
    graph = helper.make_graph(
        nodes,
        "sounds",
        [helper.make_tensor_value_info("input_values", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights(outputs), "w"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    written = {
        "config": {"model_type": "wav2vec2", "id2label": {str(i): f"L{i}" for i in range(outputs)}, **(config or {})},
        "preprocessor_config": WAV2VEC2,
        **(files or {}),
    }
    for file, content in written.items():
        (folder / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")
    spec = GraphSpec(
        "model",
        "model.onnx",
        (TensorSpec("input_values", "float32", ("batch", "samples")),),
        (TensorSpec(name, "float32", tuple(shape)),),
    )
    names: Sequence[str] = ("model.onnx", *(f"{file}.json" for file in written))
    listed = tuple(StoredFile(each, (folder / each).stat().st_size, "") for each in names)
    manifest = Manifest(
        "local", "tests/sounds", "0" * 40, task, "fp32", "optimum", (spec,), listed, CallSpec(), Proof("proven"), {}
    )
    return StoredModel(folder, manifest)


def speech(folder: Path, **settings: Any) -> StoredModel:
    """A model with a CTC output, whose tokenizer has these settings."""
    tokenizer = {"tokenizer_class": "Wav2Vec2CTCTokenizer", **settings}
    return stored(
        folder,
        "automatic-speech-recognition",
        outputs=len(VOCABULARY),
        files={"vocab": VOCABULARY, "tokenizer_config": tokenizer},
    )
