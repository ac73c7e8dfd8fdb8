"""Converters that need no toolchain, and a folder with a model that they convert."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux import errors
from gpux.convert.answer_case import AnswerSet, write_answers
from gpux.convert.base import ConversionReport, ConversionRequest, Converter, Refusal
from gpux.model.variant import CallSpec, Threshold
from gpux.runtime.session import Session
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from tests.models.bert import bert_repository
from tests.models.bert_onnx import export_bert
from tests.pull.answer_cases import Reference, answers_of


class Stub(Converter):
    """Writes the tiny BERT's graph; the reference is the graph's own answer, shifted by ``off`` from ``wrong_from``.

    ``answers`` are the answer cases that it writes; ``tokenizer`` is the content of the tokenizer.json that it writes.
    """

    name = "stub"

    def __init__(self, name: str, **how: Any) -> None:
        self.name = name  # type: ignore[misc]
        self.how = how
        self.proves_others = bool(how.get("proves_others"))  # type: ignore[misc]
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
        graphs = request.graphs or {"model": "model.onnx"}
        if not request.graphs:
            export_bert(request.source, request.output / "model.onnx")
        with Session(request.output / graphs["model"], device="cpu") as session:
            for length in (5, 17, 40):
                _write_case(request.reference, session, length, self._shift(length))
        if "answers" in self.how:
            write_answers(self.how["answers"], request.reference)
        if "tokenizer" in self.how and not request.graphs:
            (request.output / "tokenizer.json").write_text(self.how["tokenizer"], encoding="utf-8")
        threshold = Threshold("sliding_window", 20, {"model": {"input_ids": 1, "attention_mask": 1}})
        return ConversionReport(graphs, CallSpec(max_length=64), {"stub": "1"}, 0.1, thresholds=(threshold,))

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
def reference(tmp_path: Path) -> Reference:
    """The answers of the tiny BERT for a task, in the place of those of the reference library."""

    def compute(task: str, **changes: Any) -> AnswerSet:
        return answers_of(tmp_path / "right", tmp_path / "right-home", task, **changes)

    return compute


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bert_repository(tmp_path / "source", "fill-mask")
