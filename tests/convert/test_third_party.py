"""A converter of another package: one module, one entry point, its own toolchain, and the proof that gpux makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gpux.convert.base import ConversionRequest
from gpux.convert.host.converter import ToolchainConverter
from gpux.convert.registry import converters, find_toolchain
from gpux.convert.spec import ConverterSpec
from gpux.errors import ProofError, ToolchainMissingError, UnsupportedArchitectureError
from gpux.proof.comparison import prove
from gpux.pull.api import pull_model
from gpux.runtime.graphs import Graphs
from gpux.system.settings import Settings
from tests.convert.wheels import write_wheel
from tests.models.bert import bert_repository

MODULE = """
from collections.abc import Callable, Iterator
from pathlib import Path

from gpux.convert.spec import ConverterSpec

SPEC = ConverterSpec(
    name="doubling",
    worker=Path(__file__).with_name("doubling_worker.py"),
    architectures=lambda: {"doubler": ["feature-extraction"]},
    requirements=("doubling-exporter==1.0",),
    modules=("doubling_exporter",),
    packages=("doubling-exporter",),
)
"""
#: The toolchain has no onnx and no numpy: the worker copies a graph and a case that the test prepared.
WORKER = """
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from gpux.system.worker_protocol import Refused, serve

HERE = Path(__file__).parent


def answer(request, events):
    if request["command"] == "versions":
        return {"versions": {name: importlib.import_module(name).VERSION for name in request["modules"]}}
    events.stage("export", "Doubling")
    if not (Path(request["source"]) / "model.safetensors").is_file():
        raise Refused("no_weights", "there are no weights")
    import doubling_exporter

    shutil.copy(HERE / "model.onnx", request["output"])
    shutil.copy(HERE / "batch.npz", request["reference"])
    return {"graphs": {"model": "model.onnx"}, "versions": {"doubling-exporter": doubling_exporter.VERSION}}


serve(answer)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed distribution with a converter."""
    folder = tmp_path / "site"
    write_package(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("doubling_converter", None)


def write_package(folder: Path) -> None:
    folder.mkdir()
    (folder / "doubling_converter.py").write_text(MODULE)
    (folder / "doubling_worker.py").write_text(WORKER)
    info = folder / "doubling_converter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: doubling-converter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gpux.converters]\ndoubling = doubling_converter:SPEC\n")
    write_graph(folder / "model.onnx", factor=2.0)
    inputs = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(folder / "batch.npz", **{"in:values": inputs, "out:doubled": 2 * inputs})  # type: ignore[arg-type]


def write_graph(file: Path, factor: float) -> None:
    values = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 3])
    doubled = helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 3])
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    node = helper.make_node("Mul", ["values", "factor"], ["doubled"])
    graph = helper.make_graph([node], "doubler", [values], [doubled], [constant])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), file)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "doubler"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "doubler"}))
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of toolchains in which the command line has installed the one of the package, by its only wheel."""
    folder = tmp_path_factory.mktemp("doubling")
    write_package(folder / "site")
    write_wheel(folder / "wheels", "doubling-exporter", "1.0", "doubling_exporter", 'VERSION = "1.0"\n')
    command = [sys.executable, "-m", "gpux", "toolchain", "install", "doubling", "--yes"]
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels")}
    own = {"PYTHONPATH": str(folder / "site"), "GPUX_HOME": str(folder / "home"), "HOME": str(folder / "home")}
    environment = {**os.environ, **pip, **own, "GPUX_TOOLCHAINS": str(folder / "toolchains")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder / "toolchains"


def test_its_model_is_pulled_and_proven(package: Path, source: Path, installed: Path) -> None:
    settings = Settings.from_env()
    assert list(converters(settings))[-1] == "doubling", "gpux's own converters come first"
    with pytest.raises(ToolchainMissingError) as missing:
        pull_model(source, task="feature-extraction")
    assert missing.value.details["toolchain"] == "doubling"
    settings = settings.with_overrides(toolchains=installed)
    assert find_toolchain("doubling", settings).versions() == {"doubling_exporter": "1.0"}
    model = pull_model(source, task="feature-extraction", settings=settings)
    assert (model.manifest.recipe, model.manifest.evidence) == ("doubling", "graph proven")
    assert model.manifest.proof.answers is not None
    assert "has no tokenizer.json" in model.manifest.proof.answers.reason
    assert [case.name for case in model.manifest.proof.cases][:1] == ["batch"]


def test_a_graph_that_answers_otherwise_is_not_stored(package: Path, source: Path, installed: Path) -> None:
    write_graph(package / "model.onnx", factor=2.1)
    with pytest.raises(ProofError):
        pull_model(source, task="feature-extraction", settings=Settings.from_env(toolchains=installed))


def test_a_model_that_its_table_does_not_list(package: Path, source: Path) -> None:
    (source / "config.json").write_text(json.dumps({"model_type": "tripler"}))
    with pytest.raises(UnsupportedArchitectureError, match="doubling does not support the model type 'tripler'"):
        pull_model(source, task="feature-extraction")


TRACING_WORKER = """
from pathlib import Path

import torch
from transformers import AutoModel

from gpux.convert.worker.common.graphs import Exported
from gpux.convert.worker.reference.write import write_reference
from gpux.system.worker_protocol import serve


def answer(request, events):
    source, output, reference = (Path(request[name]) for name in ("source", "output", "reference"))

    def load_original():
        return AutoModel.from_pretrained(source, local_files_only=True).float().eval()

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = load_original()

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    ids = torch.ones(2, 7, dtype=torch.int64)
    axes = {0: "batch", 1: "length"}
    names = ["input_ids", "attention_mask"]
    torch.onnx.export(
        Encoder(), (ids, ids), str(output / "model.onnx"), input_names=names, output_names=["last_hidden_state"],
        dynamic_axes={name: axes for name in [*names, "last_hidden_state"]}, dynamo=False,
    )
    exported = Exported("feature-extraction", {"model": output / "model.onnx"}, type(load_original()))
    found = write_reference(load_original, exported, reference, request["seed"])
    return {"graphs": {"model": "model.onnx"}, **found, "versions": {"torch": torch.__version__}}


serve(answer)
"""


@pytest.mark.toolchain
def test_a_worker_can_have_its_reference_cases_written(
    tmp_path: Path, warm_python: Path, settings: Settings, make_request: Callable[..., ConversionRequest]
) -> None:
    worker = tmp_path / "tracing_worker.py"
    worker.write_text(TRACING_WORKER)
    spec = ConverterSpec("tracing", worker, lambda: {"bert": ["feature-extraction"]}, requirements=("torch",))
    request = make_request(bert_repository(tmp_path / "bert", "feature-extraction"))
    report = ToolchainConverter(spec, settings, python=warm_python).convert(request)
    assert report.call_spec.max_length is not None
    with Graphs(request.output, report.graphs) as graphs:
        proof = prove(request.reference, graphs.run, "fp32", thresholds=report.thresholds)
    assert proof.status == "proven"
    assert {"batch", "short", "padded", "longest"} <= {case.name for case in proof.cases}
