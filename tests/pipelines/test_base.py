"""What all pipelines share: opening, options, pickling, closing, and the replay of the proof."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Unpack

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import gpux.pull.open
from gpux import Settings, pipeline
from gpux.errors import (
    CorruptFileError,
    DeviceError,
    GpuxError,
    InputError,
    NumericError,
    ProofError,
    SessionError,
    UnsupportedError,
    UnsupportedTaskError,
    UsageError,
)
from gpux.model.variant import Proof, ProofCase, StoredFile, StoredModel
from gpux.pipelines.base import AnswerRow, Parts, Pipeline
from gpux.pipelines.batching import kept, overlapped, plan, windows
from gpux.pipelines.options import CallOptions, Option, json_schema
from gpux.pipelines.registry import pipeline_class, pipelines
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from gpux.proof.replay import replays_file
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.onnx_runtime import runtime_version
from tests.pipelines.conftest import Build, stored


def test_opening_by_task_by_alias_and_by_the_model_s_own_task(build: Build) -> None:
    model = build()
    for task in ("feature-extraction", "sentence-embedding", None):
        with pipeline(task, model=model, device="cpu") as pipe:
            assert isinstance(pipe, FeatureExtractionPipeline)
            assert repr(pipe) == "<FeatureExtractionPipeline tests/tiny-bert@0000000 on cpu>"
            assert pipe.memory_bytes > 0


def test_a_model_stored_for_another_task(build: Build) -> None:
    with pytest.raises(UnsupportedTaskError, match="stored for feature-extraction, not for fill-mask") as caught:
        pipeline("fill-mask", model=build())
    assert caught.value.hint == "Run `gpux pull tests/tiny-bert --task fill-mask`."


def test_an_unknown_task_is_refused_before_anything_is_pulled() -> None:
    with pytest.raises(UnsupportedTaskError, match=r"'juggling'; there is one for.*feature-extraction, fill-mask"):
        pipeline("juggling", model="org/name", settings=Settings.from_env(offline=True))


def test_no_model() -> None:
    with pytest.raises(UsageError, match="no model"):
        pipeline("fill-mask")


def test_an_unknown_option(build: Build) -> None:
    with pytest.raises(UsageError, match="no option speed") as caught:
        pipeline(model=build(), speed=11)
    assert caught.value.hint is not None and "truncation" in caught.value.hint


def test_a_device_that_is_not_available(build: Build) -> None:
    with pytest.raises(DeviceError):
        pipeline(model=build(), device="hardcore-cpu")


def test_a_device_by_number(build: Build) -> None:
    with pipeline(model=build(), device=-1) as pipe, pickle.loads(pickle.dumps(pipe)) as copy:
        assert (pipe.device, copy.device) == ("cpu", "cpu")


def test_a_missing_file(build: Build) -> None:
    """Without this check a missing config.json would silently give a model without label names."""
    model = build("text-classification")
    files = tuple(StoredFile(name, 1, "0" * 64) for name in ("config.json", "tokenizer.json", "proof/small.npz"))
    model = StoredModel(model.path, dataclasses.replace(model.manifest, files=files))
    pipeline(model=model).close()
    (model.path / "tokenizer.json").unlink()
    with pytest.raises(CorruptFileError, match=r"tests/tiny-bert has lost tokenizer\.json of ") as caught:
        pipeline(model=model)
    assert caught.value.hint == "Run `gpux verify --repair`."


def test_a_reference_is_opened_with_its_revision(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model, requested = build(), []

    def open_model(ref: Any, **options: Any) -> StoredModel:
        requested.append((str(ref), options["task"], options["revision"]))
        return model

    monkeypatch.setattr(gpux.pull.open, "open_model", open_model)
    pipeline("sentence-similarity", model="org/name", revision="v1").close()
    assert requested == [("org/name", "feature-extraction", "v1")]


def test_the_registry_lists_built_in_pipelines_and_returns_copies() -> None:
    known = pipelines()
    assert {"feature-extraction", "text-classification", "fill-mask"} <= known.keys()
    known.clear()
    assert pipelines()
    for task in pipelines():
        assert pipeline_class(task).task == task


def test_two_pipelines_for_one_task() -> None:
    points = [EntryPoint("a", value, "gpux.pipelines") for value in ("x:X", "y:Y")]
    with pytest.raises(GpuxError, match="two packages register the task 'a': x:X and y:Y"):
        pipelines(points)
    assert pipelines([points[0], points[0]]).keys() == {"a"}


def test_a_pipeline_pickles_as_its_model_and_options(build: Build) -> None:
    with pipeline(model=build(), device="cpu", threads=1, return_arrays=True) as pipe:
        data = pickle.dumps(pipe)
        assert len(data) < 5_000
        with pickle.loads(data) as copy:
            assert copy.session is not pipe.session
            assert copy.session.threads == 1
            assert np.array_equal(copy("fox"), pipe("fox"))


def test_unpickling_without_the_model_s_folder_opens_the_same_commit(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    with pipeline(model=model) as pipe:
        data = pickle.dumps(pipe)
    elsewhere = stored(Path(shutil.move(model.path, model.path.with_name("elsewhere"))), model.task)
    requested = []

    def open_model(ref: Any, **_: Any) -> StoredModel:
        requested.append(str(ref))
        return elsewhere

    monkeypatch.setattr(gpux.pull.open, "open_model", open_model)
    with pickle.loads(data) as copy:
        assert copy.model is elsewhere
    assert requested == [f"tests/tiny-bert@{'0' * 40}:fp32"]


def test_a_closed_pipeline_raises(build: Build) -> None:
    with pipeline(model=build()) as pipe:
        pass
    pipe.close()
    with pytest.raises(SessionError, match="closed"):
        pipe("fox")


def proven(model: StoredModel, *, version: str, shift: float = 0.0) -> StoredModel:
    """The model with one kept proof case, recorded with the given version of onnxruntime."""
    feed = {name: np.ones((1, 4), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    with FeatureExtractionPipeline(model) as pipe:
        answer = pipe.session.run(feed)["last_hidden_state"] + np.float32(shift)
    (model.path / "proof").mkdir()
    arrays = {f"in:{name}": array for name, array in feed.items()}
    np.savez(model.path / "proof" / "small.npz", **arrays, **{"out:last_hidden_state": answer})
    case = ProofCase("small", {}, 0.0, 1e-4, kept=True)
    return stored(model.path, model.task, proof=Proof("proven", (case,), {}, version, "CPUExecutionProvider"))


def test_the_proof_is_replayed_once_per_onnxruntime(build: Build) -> None:
    model = proven(build(), version="1.0.0")
    FeatureExtractionPipeline(model).close()
    assert json.loads(replays_file(model).read_text()) == [[runtime_version(), "CPUExecutionProvider"]]
    assert replays_file(model).name == "model.replays.json"
    shutil.rmtree(model.path / "proof")  # a second replay would miss it
    FeatureExtractionPipeline(model).close()


def test_the_runtime_and_device_of_the_proof_need_no_replay(build: Build) -> None:
    model = proven(build(), version=runtime_version())
    FeatureExtractionPipeline(model).close()
    assert not replays_file(model).exists()


def test_answers_that_differ_from_the_proof_are_an_error(build: Build) -> None:
    model = proven(build(), version="1.0.0", shift=0.5)
    with pytest.raises(ProofError, match="other outputs here than when it was proven"):
        FeatureExtractionPipeline(model)
    assert not replays_file(model).exists()


def test_a_damaged_file_of_replays_is_replaced(build: Build) -> None:
    model = proven(build(), version="1.0.0")
    replays_file(model).write_text("{")
    FeatureExtractionPipeline(model).close()
    assert json.loads(replays_file(model).read_text())


def test_a_replay_that_cannot_be_recorded_is_repeated(build: Build) -> None:
    model = proven(build(), version="1.0.0")
    replays_file(model).mkdir()  # a folder in place of the file, which root cannot write either
    FeatureExtractionPipeline(model).close()
    assert list(replays_file(model).parent.glob("*.replays.json.*")) == []


def test_batches_fit_their_budget() -> None:
    lengths = [3, 90, 10, 10, 500, 2, 40]
    batches = plan(lengths, budget=100)
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert batches[0] == [4]  # longer than the budget: alone
    for batch in batches[1:]:
        assert len(batch) * max(lengths[index] for index in batch) <= 100
    assert max(len(batch) for batch in plan([1] * 10, 100, largest=3)) == 3
    assert plan([], 100) == []


def test_overlapped_runs_are_in_order_and_stop_at_an_error() -> None:
    begun = []

    def run(item: int) -> int:
        begun.append(item)
        return 1 // (item - 5)

    assert list(overlapped(lambda item: item * 2, range(20), 4)) == [item * 2 for item in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(overlapped(run, range(100), 2))
    assert len(begun) < 20


class ScaledOptions(CallOptions, total=False):
    factor: Annotated[float, Option("what the sum is multiplied with", default=1.0)]
    unit: Annotated[Literal["m", "km"] | None, Option("unit of the answer")]


class SumPipeline(Pipeline):
    """A pipeline of arrays as another package would write it: three steps, and the options of a call."""

    task: ClassVar[str] = "sum"
    call_options: ClassVar[type] = ScaledOptions

    def __call__(self, inputs: Any, **options: Unpack[ScaledOptions]) -> Any:
        """Sums."""
        return super().__call__(inputs, **options)

    def preprocess(self, inputs: Sequence[Any], options: Any) -> list[dict[str, Any]]:
        return [{"x": np.asarray(item, np.float32)} for item in inputs]

    def postprocess(self, prepared: Any, output: Any, options: Any) -> float:
        return float(output["y"]) * float(options.get("factor", 1))


@pytest.fixture
def summing(tmp_path: Path) -> Iterator[SumPipeline]:
    """A graph that sums the numbers of each row."""
    shapes = [("x", ["batch", 3]), ("y", ["batch"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    graph = helper.make_graph([node], "sum", [x], [y], [axes])
    (tmp_path / "onnx").mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "onnx" / "model.onnx",
    )
    with SumPipeline(stored(tmp_path, "sum"), device="cpu", factor=2) as pipe:
        yield pipe


def test_a_pipeline_is_three_steps(summing: SumPipeline) -> None:
    rows = [[number, 1, 2] for number in range(50)]
    assert summing([np.array(row) for row in rows]) == [2 * sum(row) for row in rows]
    assert summing(np.array(rows[3]), factor=1) == 6
    assert summing([np.array(row) for row in rows], batch_size=7, factor=1) == [sum(row) for row in rows]
    assert summing.answers([np.array(rows[0])]) == [6.0]
    assert summing.render(6.0) == [AnswerRow("6.0")]
    assert summing([]) == []
    with pytest.raises(UnsupportedError, match="an answer of sum has no picture"):
        summing.picture(rows[0], 6.0)
    with pytest.raises(UsageError, match="batch_size is 0, and must be at least 1"):
        summing([], batch_size=0)


class RowsPipeline(SumPipeline):
    """Answers a table of any number of rows with the sums of its rows; a single row with its sum."""

    def preprocess(self, inputs: Sequence[Any], options: Any) -> list[Any]:
        rows = [[{"x": row} for row in np.atleast_2d(np.asarray(item, np.float32))] for item in inputs]
        return [each[0] if np.ndim(item) == 1 else Parts(each) for item, each in zip(inputs, rows, strict=True)]

    def postprocess(self, prepared: Any, output: Any, options: Any) -> Any:
        return [float(each["y"]) for each in output] if isinstance(prepared, Parts) else float(output["y"])


def test_an_input_of_several_parts_gets_the_list_of_their_outputs(summing: SumPipeline) -> None:
    with RowsPipeline(summing.model, device="cpu") as pipe:
        inputs = [[[1, 2, 3], [4, 5, 6]], [1, 1, 1], np.zeros((0, 3)), [[7, 8, 9]]]
        for batch_size in (None, 1, 3):
            assert pipe(inputs, batch_size=batch_size) == [[6.0, 15.0], 3.0, [], [24.0]]


def test_a_generator_of_inputs_gives_a_generator_of_answers(summing: SumPipeline) -> None:
    read: list[int] = []

    def rows() -> Iterator[Any]:
        for number in range(500):
            read.append(number)
            yield np.array([number, 1, 2])

    answers = summing(rows(), factor=1)
    assert inspect.isgenerator(answers) and read == []
    assert next(answers) == 3
    assert len(read) <= 64  # a window, not all
    assert list(answers) == [number + 3 for number in range(1, 500)]
    assert list(summing(iter([]))) == []
    with pytest.raises(UsageError, match="no option speed"):
        summing(rows(), speed=1)  # type: ignore[call-arg] # refused before an input is read
    assert len(read) == 500


def test_generators_of_every_kind_of_pipeline_answer_as_lists_do(build: Build) -> None:
    texts = [f"a fox {index} jumps" for index in range(70)]
    for task, options in (
        ("feature-extraction", {"return_arrays": True}),
        ("text-classification", {"top_k": 2}),
        ("fill-mask", {}),
    ):
        with pipeline(task, model=build(task, name=task), device="cpu") as pipe:
            items = [f"{text} [MASK]" for text in texts] if task == "fill-mask" else texts
            for one, other in zip(pipe((text for text in items), **options), pipe(items, **options), strict=True):
                if task == "feature-extraction":
                    assert np.allclose(one, other, atol=1e-5)
                else:
                    assert [entry["score"] for entry in one] == pytest.approx(
                        [entry["score"] for entry in other], abs=1e-5
                    )
            answers = [answer for _, answer in pipe.iter_answers(items, {"max_length": 8})]
            assert len(answers) == 70 and json.dumps(answers)


class PicturePipeline(SumPipeline):
    """A pipeline whose inputs are large."""

    takes: ClassVar[Any] = "image"
    together: ClassVar[list[int]] = []

    def __call__(self, inputs: Any, factor: float = 1.0, **options: Any) -> Any:
        return super().__call__(inputs, factor=factor, **options)

    def preprocess(self, inputs: Sequence[Any], options: Any) -> list[dict[str, Any]]:
        self.together.append(len(inputs))
        for index, item in enumerate(inputs):
            if item is None:
                raise InputError(f"picture {index} is missing", index=index)
        return super().preprocess(inputs, options)


def test_a_long_list_of_pictures_is_opened_in_parts(summing: SumPipeline) -> None:
    rows = [np.array([number, 1, 2]) for number in range(100)]
    with PicturePipeline(summing.model, device="cpu") as pipe:
        assert pipe(rows) == [number + 3 for number in range(100)]
        assert max(pipe.together) <= pipe.window_size < 100
        with pytest.raises(InputError, match="picture 77 is missing") as caught:
            pipe([*rows[:77], None])
        assert caught.value.details["index"] == 77
        assert list(pipe(iter(rows[:3]), 2.0)) == [6, 8, 10]  # an option that is given by position


def test_an_invalid_input_of_a_generator_is_named_by_its_place(build: Build) -> None:
    with pipeline(model=build("text-classification"), device="cpu") as pipe:
        texts = (7 if index == 150 else f"text {index}" for index in range(300))
        answers = pipe(texts)
        given = []
        with pytest.raises(InputError, match="input 150 is int, neither a text nor a pair") as caught:
            given.extend(answers)
        assert caught.value.details["index"] == 150
        assert 0 < len(given) <= 150


def test_errors_are_kept_beside_the_answers_to_the_other_inputs(build: Build) -> None:
    bad = {3, 40, 41, 42, 43, 44, 45, 46, 47, 48, 199}
    texts = [None if index in bad else f"a fox {index}" for index in range(200)]
    with pipeline(model=build("text-classification"), device="cpu") as pipe:
        found = dict(pipe.iter_answers(iter(texts), on_error="keep"))
        assert list(found) == list(range(200))
        assert {index for index, answer in found.items() if isinstance(answer, GpuxError)} == bad
        assert found[199].details["index"] == 199 and found[199].message.startswith("input 199 is NoneType")
        for index in (0, 39, 49, 198):
            assert found[index]["score"] == pytest.approx(pipe.answers([texts[index]])[0]["score"], abs=1e-6)
        with pytest.raises(InputError, match="input 3 is NoneType"):
            list(pipe.iter_answers(texts))
        with pytest.raises(UsageError, match="on_error is 'skip'"):
            pipe.iter_answers(texts, on_error="skip")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="top_k is 0"):  # an option is not an error of each input
            list(pipe.iter_answers(texts, {"top_k": 0}, on_error="keep"))
    with pytest.raises(SessionError, match="closed"):
        list(pipe.iter_answers(["fox"], on_error="keep"))


@pytest.mark.parametrize("window", [1, 7, 100])
def test_windows_grow_and_keep_order(window: int) -> None:
    parts = list(windows(range(500), window))
    assert [item for _, part in parts for item in part] == list(range(500))
    assert [start for start, _ in parts] == [part[0] for _, part in parts]
    assert max(len(part) for _, part in parts) <= window
    assert [len(part) for _, part in windows(["x" * 3_000_000] * 3, 100)] == [2, 1]


def test_errors_without_a_place_are_found_by_halving() -> None:
    def answer(items: Sequence[int]) -> list[int]:
        if any(item % 10 == 3 for item in items):
            raise NumericError("the outputs are NaN")
        return [item * 2 for item in items]

    found = kept(answer, range(100))
    for item, one in enumerate(found):
        assert isinstance(one, NumericError) if item % 10 == 3 else one == item * 2


def test_the_options_of_a_pipeline_are_listed() -> None:
    assert [option.to_dict() for option in SumPipeline.options()] == [
        {
            "name": "batch_size",
            "type": "int | None",
            "default": None,
            "help": "inputs of one run at most; by default, as many as fit the budget",
            "schema": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        {
            "name": "factor",
            "type": "float",
            "default": 1.0,
            "help": "what the sum is multiplied with",
            "schema": {"type": "number"},
        },
        {
            "name": "unit",
            "type": "Literal['m', 'km'] | None",
            "default": None,
            "help": "unit of the answer",
            "schema": {"anyOf": [{"enum": ["m", "km"]}, {"type": "null"}]},
        },
    ]
    keywords = inspect.signature(SumPipeline.__call__).parameters
    assert list(keywords) == ["self", "inputs", "batch_size", "factor", "unit"]
    assert (keywords["factor"].default, keywords["factor"].annotation) == (1.0, float)


def test_an_unknown_option_has_the_nearest_name_as_its_hint(summing: SumPipeline) -> None:
    with pytest.raises(UsageError, match="sum has no option factr") as caught:
        summing([], factr=1)  # type: ignore[call-arg]
    assert caught.value.hint == "Did you mean factor?"


@pytest.mark.parametrize("task", pipelines())
def test_every_option_has_help_and_a_place_in_the_signature(task: str) -> None:
    kind = pipeline_class(task)
    names = [option.name for option in kind.options()]
    assert names and all(option.help for option in kind.options())
    for method in (kind.__call__, kind.__init__):
        keywords = inspect.signature(method).parameters
        assert set(names) <= set(keywords)
        assert not [name for name, keyword in keywords.items() if keyword.kind is keyword.VAR_KEYWORD]


def test_options_of_generation_are_those_of_its_dataclass() -> None:
    listed = {option.name: option for option in pipeline_class("text-generation").options()}
    for field in dataclasses.fields(GenerationOptions):
        assert listed[field.name].default == field.default, field.name


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, Any], {"type": "object"}),
        (Mapping[str, Any], {"type": "object"}),
        (ScaledOptions, {"type": "object"}),
        (bool | Literal["left"], {"anyOf": [{"type": "boolean"}, {"enum": ["left"]}]}),
        (Any, {}),
        (Path, {}),
        (Path | None, {}),
    ],
)
def test_json_schemas_of_types(hint: Any, schema: dict[str, Any]) -> None:
    assert json_schema(hint) == schema


def test_running_a_stored_model_imports_no_heavy_library(build: Build, tmp_path: Path) -> None:
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(build()))
    code = """
import pickle, sys
from pathlib import Path
from gpux import pipeline
model = pickle.loads(Path(sys.argv[1]).read_bytes())
print(pipeline("feature-extraction", model=model).encode("fox").shape)
print({"torch", "transformers", "onnx", "huggingface_hub", "rich", "httpx2", "click", "jinja2"} & set(sys.modules))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pickle")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    assert run.stdout.split("\n")[:2] == ["(32,)", "set()"]
    assert run.stderr == ""
