"""The plan of a pull: its files and needs, and that a dry run, an explanation and the pull follow the same plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpux import Settings, errors, explain_model, plan_model, pull_model
from gpux.cli.main import run
from tests.models.bert import bert_repository
from tests.pull.conftest import Make


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return bert_repository(tmp_path / "shipped", "fill-mask", onnx=True)


REFUSES = {"refuses": "is tired"}
MISSING = {"missing": True}
PROVES = {"proves_others": True}
#: converters, keywords, the kind of the plan, and the recipe of the variant or the error
CASES: dict[str, tuple[bool, dict[str, Any], dict[str, Any], str | None, str | type[errors.GpuxError]]] = {
    "shipped": (True, {"a": {}}, {}, "shipped", "shipped"),
    "shipped, although no converter supports the model": (True, {"a": REFUSES}, {}, "shipped", "shipped"),
    "converted": (False, {"a": REFUSES, "b": {}}, {}, "convert", "b"),
    "converted although it ships ONNX": (True, {"a": {}}, {"convert": True}, "convert", "a"),
    "by one converter": (True, {"a": {}, "b": {}}, {"converter": "b"}, "convert", "b"),
    "by a converter whose name is a prefix": (False, {"a": {}}, {"converter": "aa"}, None, errors.UsageError),
    "no converter supports it": (False, {"a": REFUSES}, {}, None, errors.UnsupportedTaskError),
    "the requested one does not": (
        True,
        {"a": REFUSES, "b": {}},
        {"converter": "a"},
        None,
        errors.UnsupportedTaskError,
    ),
    "another toolchain is missing": (False, {"a": MISSING, "b": {}}, {}, "convert", "b"),
    "its toolchain is missing": (False, {"a": MISSING}, {}, "convert", errors.ToolchainMissingError),
    "quantized from shipped": (True, {"a": {}}, {"precision": "int8", "allow_inexact": True}, "quantize", "shipped"),
    "an alias": (True, {"a": {}}, {"precision": "INT8", "allow_inexact": True}, "quantize", "shipped"),
    "another alias": (True, {"a": {}}, {"precision": "q8", "allow_inexact": True}, "quantize", "shipped"),
    "quantized from converted": (False, {"a": {}}, {"precision": "int8", "allow_inexact": True}, "quantize", "a"),
    "nothing to quantize": (False, {"a": REFUSES}, {"precision": "int8"}, None, errors.UnsupportedTaskError),
    "nothing to quantize with": (False, {"a": MISSING}, {"precision": "q4"}, "quantize", errors.ToolchainMissingError),
    "a precision that is not made": (True, {"a": {}}, {"precision": "bnb4"}, None, errors.NoWeightsError),
    "proven": (True, {"a": PROVES}, {"prove": True}, "shipped", "shipped"),
    "to be proven without its toolchain": (
        True,
        {"a": PROVES | MISSING, "b": {}},
        {"prove": True},
        "convert",
        errors.ToolchainMissingError,
    ),
    "cannot be proven, is converted": (True, {"a": {}}, {"prove": True}, "convert", "a"),
    "cannot be proven": (True, {"a": REFUSES}, {"prove": True}, None, errors.UnsupportedError),
    "automatic": (True, {"a": {}}, {"precision": "auto", "device": "cpu"}, "shipped", "shipped"),
}


@pytest.mark.parametrize("case", CASES)
def test_dry_run_explain_and_pull_agree(
    case: str, stubs: Make, settings: Settings, folder: Path, shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ships, how, keywords, kind, outcome = CASES[case]
    stubs(**how)
    source = shipped if ships else folder

    if outcome is errors.UsageError:
        for call in (plan_model, explain_model, pull_model):
            with pytest.raises(errors.UsageError):
                call(source, settings=settings, **keywords)
        return
    plan = plan_model(source, settings=settings, **keywords)
    explained = explain_model(source, settings=settings, **keywords)
    code, error = dry_run(capsys, source, keywords)
    try:
        model = pull_model(source, settings=settings, **keywords)
    except errors.GpuxError as exc:
        assert type(exc) is outcome
        for refusal in (plan.refusal, explained.refusal):
            assert refusal is not None and (type(refusal), refusal.to_dict()) == (type(exc), exc.to_dict())
        assert (code, error) == (exc.exit_code, exc.to_dict())
        assert plan.kind == kind or plan.kind is None
    else:
        assert (plan.refusal, explained.refusal, code, error) == (None, None, 0, None)
        assert plan.kind == kind
        assert model.manifest.recipe.base == outcome
        assert (model.task, model.manifest.precision) == (plan.task, plan.precision)
    assert explained.candidates == plan.candidates


def dry_run(capsys: pytest.CaptureFixture[str], source: Path, keywords: dict[str, Any]) -> tuple[int, Any]:
    """Exit code and error of the command with these keywords."""
    command = ["pull", str(source), "--dry-run"]
    if keywords.get("convert") or "converter" in keywords:
        command = ["convert", str(source), "--explain"]
    for name, value in keywords.items():
        if name != "convert":
            command += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    code = run([*command, "--json"])
    return code, json.loads(capsys.readouterr().out)["error"]


def test_the_plan_of_a_stored_variant(stubs: Make, settings: Settings, shipped: Path) -> None:
    stubs(a={})
    model = pull_model(shipped, settings=settings)

    plan = plan_model(shipped, settings=settings)
    explained = explain_model(shipped, settings=settings)

    assert (plan.kind, plan.stored, plan.files, plan.candidates) == ("stored", model, (), ())
    assert (explained.kind, [c.name for c in explained.candidates]) == ("stored", ["shipped", "a"])
    assert plan_model(shipped, settings=settings, force=True).kind == "shipped"
    assert plan_model(shipped, settings=settings, convert=True).kind == "convert"


def test_a_stored_fp32_variant_is_quantized_without_a_download(stubs: Make, settings: Settings, shipped: Path) -> None:
    stubs(a={})
    before = plan_model(shipped, settings=settings, precision="int8")
    pull_model(shipped, settings=settings)

    plan = plan_model(shipped, settings=settings, precision="int8")

    assert before.files and not plan.files
    assert plan.base is not None and plan.base.stored is not None
    assert plan.space[0].needed < before.space[0].needed


def test_a_proof_needs_the_original_weights(stubs: Make, settings: Settings, shipped: Path) -> None:
    stubs(a=PROVES)

    plain = plan_model(shipped, settings=settings)
    proven = plan_model(shipped, settings=settings, prove=True)

    more = {file.path for file in proven.files} - {file.path for file in plain.files}
    assert more == {"model.safetensors"}
    assert proven.ready[0].prover == "a"


def test_too_little_disk_space_and_memory(
    stubs: Make, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs(a={})
    monkeypatch.setattr("gpux.pull.plan.available_memory", lambda: 1000)
    memory = plan_model(folder, settings=settings)
    assert isinstance(memory.refusal, errors.OutOfMemoryError)
    assert memory.memory is not None and memory.memory.available == 1000
    assert plan_model(folder, settings=settings, ignore_memory=True).refusal is None
    monkeypatch.setattr("gpux.pull.needs.RESERVE", 10**18)
    assert isinstance(plan_model(folder, settings=settings).refusal, errors.DiskFullError)
    ignored = plan_model(folder, settings=settings, ignore_memory=True, ignore_disk_space=True)
    assert ignored.refusal is None and not ignored.space[0].fits


def test_a_refused_dry_run_prints_the_error_of_the_pull(
    stubs: Make, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stubs(a=REFUSES)

    codes = [run(["pull", str(folder), *options]) for options in ([], ["--dry-run"])]
    out, err = capsys.readouterr()

    assert codes[0] == codes[1] == errors.UnsupportedTaskError.exit_code
    assert "a is tired" in out
    (first, second) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert first == second
