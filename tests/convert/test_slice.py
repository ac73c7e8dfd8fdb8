"""Architectures of all kinds: pulled from a folder, proven, stored, opened and run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpux.model.tasks import canonical
from gpux.model.variant import StoredModel, TensorSpec
from gpux.proof.replay import replay
from gpux.runtime.graphs import Graphs
from tests.models import zoo
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain

#: Model type, the zoo's name of the task, the graphs that must be there.
SLICE = (
    ("bert", "fill-mask", {"model"}),
    ("modernbert", "feature-extraction", {"model"}),
    ("xlm-roberta", "token-classification", {"model"}),
    ("xlnet", "text-classification", {"model"}),
    ("llama", "text-classification", {"model"}),
    ("gpt2", "text-generation-with-past", {"model"}),
    ("llama", "text-generation-with-past", {"model"}),
    ("qwen2", "text-generation-with-past", {"model"}),
    ("mixtral", "text-generation-with-past", {"model"}),
    ("t5", "text2text-generation-with-past", {"encoder", "decoder"}),
    ("whisper", "automatic-speech-recognition-with-past", {"encoder", "decoder"}),
    ("vit", "image-classification", {"model"}),
    ("clip", "zero-shot-image-classification", {"model"}),
    ("wav2vec2", "automatic-speech-recognition", {"model"}),
)


@pytest.fixture(scope="module", autouse=True)
def built(zoo_models: ZooModels) -> None:
    """The models of the slice, written by one process."""
    zoo_models.build(*(zoo.folder_name(model_type, task) for model_type, task, _ in SLICE))


@pytest.mark.parametrize(("model_type", "task", "graphs"), SLICE, ids=[" ".join(entry[:2]) for entry in SLICE])
def test_an_architecture(zoo_models: ZooModels, model_type: str, task: str, graphs: set[str]) -> None:
    model = zoo_models.pull(model_type, task)

    assert model.manifest.proof.status == "proven"
    assert model.manifest.proof.cases
    assert model.task == canonical(task)
    assert {graph.name for graph in model.manifest.graphs} == graphs
    with Graphs.of(model, device="cpu") as opened:
        assert replay(model, opened.run)
        check_first_graph(model, opened)


def check_first_graph(model: StoredModel, graphs: Graphs) -> None:
    """One run at other sizes has finite outputs."""
    name = "encoder" if "encoder" in graphs.names else "model"
    answer = graphs.run(name, {spec.name: made(spec) for spec in model.graph(name).inputs})
    assert all(np.isfinite(array).all() for array in answer.values() if array.dtype.kind == "f")


def made(spec: TensorSpec) -> Any:
    """Small values of the declared shape: an empty cache, ones for masks and tokens, zeros for images and audio."""
    shape = [size if isinstance(size, int) else free_size(spec, axis) for axis, size in enumerate(spec.shape)]
    floating = spec.dtype.startswith("float")
    return np.zeros(shape, spec.dtype) if floating or spec.name == "position_ids" else np.ones(shape, spec.dtype)


def free_size(spec: TensorSpec, axis: int) -> int:
    if axis == 0:
        return 1
    if spec.name.startswith("past_key_values"):
        return 0
    sizes = {"pixel_values": (1, 3, 32, 32), "input_values": (1, 4000), "input_features": (1, 16, 3000)}
    return sizes.get(spec.name, (1, 6, 6, 6))[axis]
