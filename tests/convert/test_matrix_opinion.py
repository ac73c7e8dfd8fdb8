"""The independent comparison of the coverage matrix finds wrong graphs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gpux import Settings, pull_model
from gpux.model.variant import StoredModel
from tests.models import zoo
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain

ROOT = Path(__file__).parents[2]
Ask = Callable[[StoredModel, Path, list[Path]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def python(warm_toolchains: Path) -> Path:
    return warm_toolchains / "optimum" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


@pytest.fixture
def ask(python: Path) -> Ask:
    def opinions(model: StoredModel, source: Path, graphs: list[Path]) -> list[dict[str, Any]]:
        same = {"folder": str(source), "call_spec": model.manifest.call_spec.to_dict()}
        requests = [json.dumps({**same, "graphs": {"model": str(graph)}}) + "\n" for graph in graphs]
        done = subprocess.run(
            [python, "-m", "scripts.coverage_opinion"],
            cwd=ROOT, input="".join(requests), check=True, capture_output=True, text=True,
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]

    return opinions


@pytest.mark.parametrize("entry", [("bert", "fill-mask"), ("gpt2", "text-generation-with-past")], ids=["bert", "gpt2"])
def test_changed_weights_are_found(
    entry: tuple[str, str], warm_toolchains: Path, zoo_models: ZooModels, ask: Ask, tmp_path: Path
) -> None:
    name = zoo.folder_name(*entry)
    source = zoo_models.build(name) / name
    settings = Settings.from_env(toolchains=warm_toolchains, offline=True)
    # Optimum's graphs are one file, without data beside it.
    model = pull_model(source, task=entry[1], settings=settings, converter="optimum")
    whole = model.path / model.graph().file
    changed = Path(shutil.copy(whole, tmp_path / "changed.onnx"))
    disturb(changed)

    good, bad = ask(model, source, [whole, changed])

    assert good["compared"] >= 4, good
    assert not good["wrong"]
    assert bad["wrong"]


def disturb(graph: Path) -> None:
    """Change one layer's weights a little."""
    model = onnx.load(graph)
    weight = next(found for found in model.graph.initializer if len(found.dims) == 2 and found.dims[0] == found.dims[1])
    changed = numpy_helper.to_array(weight) * np.float32(1.02)
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save(model, graph)
