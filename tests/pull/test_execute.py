"""Candidates in order: converters that refuse, fail or write wrong graphs, and the error if all fail; no toolchain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux import Settings, Store, errors, explain_model, pull_model
from gpux.runtime.graphs import Graphs
from gpux.system.progress import Event, Warned
from tests.pull.conftest import Make

WRONG = {"off": 1.0}


def test_the_next_converter_is_tried_after_a_failure(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(first=WRONG, second={"refuses": "is tired"}, third={})
    heard: list[Event] = []

    model = pull_model(folder, settings=settings, progress=heard.append)

    assert (model.manifest.recipe, model.manifest.proof.status) == ("third", "proven")
    (message,) = [event.message for event in heard if isinstance(event, Warned)]
    assert "differs from the original" in message and message.endswith("third is next")


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
def test_nothing_is_stored_if_all_candidates_fail(
    stubs: Make, settings: Settings, folder: Path, how: dict[str, Any], kind: type[errors.GpuxError]
) -> None:
    stubs(**how)
    with pytest.raises(kind) as caught:
        pull_model(folder, settings=settings)
    assert type(caught.value) is kind
    assert Store(settings.store).models() == []
    if len(how) > 1:
        assert all(f"{name}: " in caught.value.message for name in how)


def test_a_graph_that_is_right_up_to_a_threshold_refuses_longer_inputs(
    stubs: Make, settings: Settings, folder: Path
) -> None:
    stubs(only={**WRONG, "wrong_from": 21})

    model = pull_model(folder, settings=settings)

    assert model.manifest.proof.limit is not None
    assert model.manifest.call_spec.max_length == 20
    names = [spec.name for spec in model.graph().inputs]
    with Graphs.of(model, device="cpu") as graphs:
        graphs.run("model", {name: np.ones((1, 20), np.int64) for name in names})
        with pytest.raises(errors.InputError, match="the limit of the graph is 20"):
            graphs.run("model", {name: np.ones((1, 21), np.int64) for name in names})


def test_a_converter_without_its_toolchain_is_skipped(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(a={"missing": True}, b={})
    assert pull_model(folder, settings=settings).manifest.recipe == "b"


def test_a_missing_toolchain_is_reported_first_and_after_failures(
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


def test_a_stored_variant_is_not_converted_again(stubs: Make, settings: Settings, folder: Path) -> None:
    found = stubs(a={})
    assert pull_model(folder, settings=settings) == pull_model(folder, settings=settings)
    assert found["a"].calls == 1


def test_explain_converts_nothing(stubs: Make, settings: Settings, folder: Path) -> None:
    found = stubs(a={"refuses": "is tired"}, b={"missing": True})
    plan = explain_model(folder, settings=settings)
    assert [(c.name, c.usable, c.ready) for c in plan.candidates] == [
        ("shipped", False, False),
        ("a", False, False),
        ("b", True, False),
    ]
    assert plan.missing == {"b": "Install b."}
    assert isinstance(plan.refusal, errors.ToolchainMissingError)
    assert found["b"].calls == 0
    assert json.loads(json.dumps(plan.to_dict()))["candidates"][1]["reason"] == "a is tired"
    stubs(a={"refuses": "is tired"})
    assert isinstance(explain_model(folder, settings=settings).refusal, errors.UnsupportedTaskError)


def test_an_unknown_precision(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(a={})
    with pytest.raises(errors.UsageError, match="no precision 'int3'") as caught:
        pull_model(folder, settings=settings, precision="int3")
    assert "int8" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("task", "hint"), [("fill-maks", "Did you mean 'fill-mask'?"), ("poetry", "https://huggingface.co/tasks")]
)
def test_an_unknown_task(stubs: Make, settings: Settings, folder: Path, task: str, hint: str) -> None:
    stubs(a={})
    with pytest.raises(errors.UsageError, match=f"no task '{task}'") as caught:
        pull_model(folder, settings=settings, task=task)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("task", ["masked-im", "zero-shot-audio-classification", "semantic-segmentation"])
def test_a_task_that_only_a_converter_names_is_not_unknown(settings: Settings, folder: Path, task: str) -> None:
    with pytest.raises(errors.UnsupportedTaskError, match="cannot be converted for"):
        pull_model(folder, settings=settings, task=task)


def test_an_unknown_device_is_an_error_for_every_precision(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(a={})
    with pytest.raises(errors.DeviceError, match="'gpux' is not a device"):
        pull_model(folder, settings=settings, device="gpux")
    pull_model(folder, settings=settings, device="cuda")  # not needed for a precision that is named


def test_the_automatic_precision_of_an_encoder_on_the_cpu_is_fp32(
    stubs: Make, settings: Settings, folder: Path
) -> None:
    stubs(a={})
    assert pull_model(folder, settings=settings, precision="auto", device="cpu").manifest.precision == "fp32"
