"""The planner: which task, which converters, and refusals that say what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from gpux.cancel import CancelToken
from gpux.convert.base import ConversionReport, ConversionRequest, Converter, Refusal
from gpux.convert.planner import choose_converters, choose_task
from gpux.errors import UnsupportedArchitectureError, UnsupportedTaskError, UsageError
from gpux.progress import ProgressCallback
from gpux.tasks import ALIASES, canonical, task_of_architectures
from gpux.types import ModelFile, ModelInfo


def info(*files: str, task: str | None = None, architectures: tuple[str, ...] = ()) -> ModelInfo:
    found = tuple(ModelFile(path, 1) for path in ("config.json", "model.safetensors", *files))
    # A name that says something else: nothing is derived from it.
    name = "org/gpt2-fill-mask-classifier"
    return ModelInfo("hf", name, name, files=found, task=task, architectures=architectures)


class Stub(Converter):
    name: ClassVar[str] = "stub"

    def __init__(self, refusal: Refusal | None = None, precisions: tuple[str, ...] = ("fp32",)) -> None:
        self._refusal = refusal
        self.precisions = precisions  # type: ignore[misc]

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        return self._refusal

    def check_ready(self) -> None:
        raise AssertionError("readiness is not the planner's business")

    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        raise AssertionError("nothing is converted")


@pytest.mark.parametrize(
    ("found", "asked", "expected"),
    [
        (info("modules.json", task="fill-mask", architectures=("BertForMaskedLM",)), "text-classification",
         "text-classification"),
        (info(task="fill-mask"), "sentiment-analysis", "text-classification"),
        (info("modules.json", task="sentence-similarity"), None, "feature-extraction"),
        (info("modules.json", task="fill-mask", architectures=("BertForMaskedLM",)), None, "feature-extraction"),
        (info(task="sentence-similarity"), None, "feature-extraction"),
        (info(task="text-ranking", architectures=("BertForSequenceClassification",)), None, "text-classification"),
        (info(task="fill-mask", architectures=("BertModel",)), None, "fill-mask"),
        (info(architectures=("BertForMaskedLM",)), None, "fill-mask"),
        (info(architectures=("RobertaForSequenceClassification",)), None, "text-classification"),
        (info(architectures=("MPNetModel",)), None, "feature-extraction"),
        (info(architectures=("GPT2LMHeadModel",)), None, "text-generation"),
        (info("sub/modules.json", architectures=("BertModel",)), None, "feature-extraction"),
    ],
)  # fmt: skip
def test_the_task_comes_from_the_request_or_the_files(found: ModelInfo, asked: str | None, expected: str) -> None:
    assert choose_task(found, asked) == expected


@pytest.mark.parametrize("architectures", [(), ("BertForPreTraining",)])
def test_no_task_to_be_found(architectures: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedTaskError, match=r"modules\.json") as caught:
        choose_task(info(architectures=architectures))
    assert "--task" in str(caught.value.hint)


def test_the_converters_that_take_it_in_their_order() -> None:
    no = Refusal("no", False)
    all_of_them = {"a": Stub(), "b": Stub(no), "c": Stub(), "d": Stub(precisions=("fp16",))}
    chosen = choose_converters("org/name", {"model_type": "bert"}, "fill-mask", "fp32", all_of_them)
    assert chosen == [all_of_them["a"], all_of_them["c"]]


@pytest.mark.parametrize(("knows", "kind"), [(True, UnsupportedTaskError), (False, UnsupportedArchitectureError)])
def test_refused_by_all(knows: bool, kind: type[Exception]) -> None:
    all_of_them = {"a": Stub(Refusal("has no heart", False)), "b": Stub(Refusal("is tired", knows))}
    with pytest.raises(kind, match=r"org/name \(model type bert\).* a has no heart; b is tired") as caught:
        choose_converters("org/name", {"model_type": "bert"}, "fill-mask", "fp32", all_of_them)
    assert type(caught.value) is kind


@pytest.mark.parametrize("all_of_them", [{}, {"a": Stub()}])
def test_a_precision_that_nobody_writes(all_of_them: dict[str, Converter]) -> None:
    with pytest.raises(UsageError, match="int3"):
        choose_converters("org/name", {}, "fill-mask", "int3", all_of_them)


def test_aliases_lead_to_names_that_are_no_aliases() -> None:
    assert not set(ALIASES.values()) & set(ALIASES)
    for alias, name in ALIASES.items():
        assert canonical(alias) == canonical(alias.upper().replace("-", "_")) == name == canonical(name)


def test_the_first_class_that_says_something_counts() -> None:
    assert task_of_architectures(["Something", "BertForMaskedLM", "BertModel"]) == "fill-mask"
    assert task_of_architectures(["Something"]) is None
