"""Ways tried in order: converters that refuse, fail or prove wrong, and what is said when none holds. No toolchain."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux import Settings, Store, errors, pull_model
from gpux.convert.base import ConversionReport, ConversionRequest, Converter, Refusal
from gpux.model.variant import Driving, Threshold
from gpux.pull.api import explain_model
from gpux.runtime.graphs import Graphs
from gpux.runtime.session import Session
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, ProgressCallback, Warned
from tests.models.bert import bert_repository
from tests.models.bert_onnx import export_bert

TASK = "fill-mask"


class Stub(Converter):
    """Writes the tiny BERT's graph; the reference is the graph's own answer, shifted by ``off`` from ``wrong_from``."""

    name = "stub"

    def __init__(self, name: str, **how: Any) -> None:
        self.name = name  # type: ignore[misc]
        self.how = how
        self.calls = 0

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        assert config["model_type"] == "bert"
        return Refusal(self.how["refuses"], True) if "refuses" in self.how else None

    def check_ready(self) -> None:
        if "missing" in self.how:
            raise errors.ToolchainMissingError("not there", hint=f"Install {self.name}.", toolchain=self.name)

    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        self.calls += 1
        if "fails" in self.how:
            raise self.how["fails"]
        export_bert(request.source, request.output / "model.onnx")
        with Session(request.output / "model.onnx", device="cpu") as session:
            for length in (5, 17, 40):
                _write_case(request.reference, session, length, self._shift(length))
        threshold = Threshold("sliding_window", 20, {"model": {"input_ids": 1, "attention_mask": 1}})
        return ConversionReport(
            {"model": "model.onnx"}, Driving(max_length=64), {"stub": "1"}, 0.1, thresholds=(threshold,)
        )

    def _shift(self, length: int) -> float:
        return float(self.how.get("off", 0.0)) if length >= self.how.get("wrong_from", 0) else 0.0


def _write_case(folder: Path, session: Session, length: int, shift: float) -> None:
    inputs = {spec.name: np.ones((2, length), np.int64) for spec in session.inputs}
    plan = np.frombuffer(json.dumps({"calls": [{"graph": "model"}], "length": length}).encode(), np.uint8)
    answers = {f"0:out:{name}": array + np.float32(shift) for name, array in session.run(inputs).items()}
    np.savez(folder / f"l{length}.npz", plan=plan, **{f"0:in:{k}": v for k, v in inputs.items()}, **answers)


Make = Callable[..., dict[str, Stub]]


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Make:
    def make(**how: dict[str, Any]) -> dict[str, Stub]:
        found = {name: Stub(name, **each) for name, each in how.items()}
        monkeypatch.setattr("gpux.pull.api.converters", lambda settings: found)
        return found

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bert_repository(tmp_path / "source", TASK)


WRONG = {"off": 1.0}


def test_the_next_converter_takes_over(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(first=WRONG, second={"refuses": "is tired"}, third={})
    heard: list[Event] = []

    model = pull_model(folder, settings=settings, progress=heard.append)

    assert (model.manifest.recipe, model.manifest.proof.status) == ("third", "proven")
    (said,) = [event.message for event in heard if isinstance(event, Warned)]
    assert "differs from the original" in said and said.endswith("third is next")


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"a": WRONG}, errors.ProofError),
        ({"a": WRONG, "b": WRONG}, errors.ProofError),
        ({"a": {"fails": errors.ConversionError("no operator", log=Path("log"))}}, errors.ConversionError),
        ({"a": {"fails": errors.UnsupportedTaskError("no head")}, "b": WRONG}, errors.ConversionError),
        ({"a": {"refuses": "is tired"}}, errors.UnsupportedTaskError),
    ],
)
def test_nothing_is_stored_where_nothing_holds(
    stubs: Make, settings: Settings, folder: Path, how: dict[str, Any], kind: type[errors.GpuxError]
) -> None:
    stubs(**how)
    with pytest.raises(kind) as caught:
        pull_model(folder, settings=settings)
    assert type(caught.value) is kind
    assert Store(settings.store).models() == []
    if len(how) > 1:
        assert all(f"{name}: " in caught.value.message for name in how)


def test_what_is_right_up_to_a_threshold_is_held_to_it(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(only={**WRONG, "wrong_from": 21})

    model = pull_model(folder, settings=settings)

    assert model.manifest.proof.limit is not None
    assert model.manifest.driving.max_length == 20
    names = [spec.name for spec in model.graph().inputs]
    with Graphs.of(model, device="cpu") as graphs:
        graphs.run("model", {name: np.ones((1, 20), np.int64) for name in names})
        with pytest.raises(errors.InputError, match="right up to 20"):
            graphs.run("model", {name: np.ones((1, 21), np.int64) for name in names})


def test_a_converter_without_its_toolchain_is_passed_over(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(a={"missing": True}, b={})
    assert pull_model(folder, settings=settings).manifest.recipe == "b"


def test_a_missing_toolchain_is_said_before_anything_and_after_failures(
    stubs: Make, settings: Settings, folder: Path
) -> None:
    stubs(a={"missing": True}, b={"refuses": "is tired"})
    with pytest.raises(errors.ToolchainMissingError) as first:
        pull_model(folder, settings=settings)
    assert first.value.details["toolchain"] == "a"
    stubs(a={"missing": True}, b=WRONG)
    with pytest.raises(errors.ProofError) as second:
        pull_model(folder, settings=settings)
    assert "Install a." in str(second.value.hint)


def test_one_converter_by_name(stubs: Make, settings: Settings, folder: Path) -> None:
    found = stubs(a={}, b={})
    assert pull_model(folder, settings=settings, converter="b").manifest.recipe == "b"
    assert (found["a"].calls, found["b"].calls) == (0, 1)
    assert pull_model(folder, settings=settings, converter="b").manifest.recipe == "b"
    assert found["b"].calls == 1
    with pytest.raises(errors.UsageError, match="no converter 'c'"):
        pull_model(folder, settings=settings, converter="c")


def test_the_same_is_never_converted_twice(stubs: Make, settings: Settings, folder: Path) -> None:
    found = stubs(a={})
    assert pull_model(folder, settings=settings) == pull_model(folder, settings=settings)
    assert found["a"].calls == 1


def test_an_explanation_runs_nothing(stubs: Make, settings: Settings, folder: Path) -> None:
    found = stubs(a={"refuses": "is tired"}, b={"missing": True})
    told = explain_model(folder, settings=settings)
    assert [(way.name, way.serves) for way in told.plan.ways] == [("shipped", False), ("a", False), ("b", True)]
    assert told.missing == {"b": "Install b."}
    assert told.refusal is None
    assert found["b"].calls == 0
    assert json.loads(json.dumps(told.to_dict()))["ways"][1]["reason"] == "a is tired"
    stubs(a={"refuses": "is tired"})
    assert isinstance(explain_model(folder, settings=settings).refusal, errors.UnsupportedTaskError)


def test_a_precision_that_nobody_knows(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(a={})
    with pytest.raises(errors.UsageError, match="no precision 'int3'") as caught:
        pull_model(folder, settings=settings, precision="int3")
    assert "int8" in str(caught.value.hint)


def test_the_automatic_precision_of_an_encoder_on_the_cpu_is_exact(
    stubs: Make, settings: Settings, folder: Path
) -> None:
    stubs(a={})
    assert pull_model(folder, settings=settings, precision="auto", device="cpu").manifest.precision == "fp32"
