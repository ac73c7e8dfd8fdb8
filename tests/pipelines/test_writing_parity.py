"""Texts as ``transformers.pipeline`` writes them: decoders, encoder-decoders, their tasks, languages and beams."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpux import pipeline
from gpux.convert.host.pip import interpreter
from tests.models import zoo
from tests.pipelines import writing_reference
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain

TEXT = "The quick brown fox jumps over the lazy dog."
WITH_PAST = "text2text-generation-with-past"
#: Zoo's model type, its task, the pipeline's task, inputs, options.
CALLS: tuple[tuple[str, str, str, Any, dict[str, Any]], ...] = (
    ("gpt2", "text-generation-with-past", "text-generation", TEXT, {"do_sample": False, "max_new_tokens": 12}),
    (
        "gpt2",
        "text-generation-with-past",
        "text-generation",
        [TEXT, "Hello"],
        {"num_beams": 3, "do_sample": False, "max_new_tokens": 8, "return_full_text": False},
    ),
    ("t5", WITH_PAST, "text2text-generation", [TEXT, "Hello"], {"num_beams": 1, "max_new_tokens": 12}),
    ("t5", WITH_PAST, "text2text-generation", TEXT, {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 9}),
    (
        "t5",
        WITH_PAST,
        "text2text-generation",
        TEXT,
        {"encoder_no_repeat_ngram_size": 1, "num_beams": 1, "max_new_tokens": 12},
    ),
    (
        "t5",
        WITH_PAST,
        "text2text-generation",
        TEXT,
        {"encoder_no_repeat_ngram_size": 2, "num_beams": 2, "max_new_tokens": 9},
    ),
    ("t5", WITH_PAST, "summarization", TEXT, {"num_beams": 2, "max_new_tokens": 9}),
    ("longt5", WITH_PAST, "text2text-generation", ["Hi", TEXT], {"num_beams": 1, "max_new_tokens": 9}),
    ("m2m_100", WITH_PAST, "translation", TEXT, {"num_beams": 1, "max_new_tokens": 9}),
    ("m2m_100", WITH_PAST, "translation_en_to_fr", TEXT, {"max_new_tokens": 9}),
)


@pytest.fixture(scope="module")
def folders(zoo_models: ZooModels) -> Path:
    return zoo_models.build(*sorted({zoo.folder_name(kind, task) for kind, task, *_ in CALLS}))


@pytest.fixture(scope="module")
def wanted(warm_toolchains: Path, folders: Path, computed_once: Callable[..., Any]) -> list[Any]:
    """The answers of transformers, in the order of the calls."""
    calls = [
        (task, str(folders / zoo.folder_name(kind, zoo_task)), inputs, options)
        for kind, zoo_task, task, inputs, options in CALLS
    ]
    answers: list[Any] = computed_once("writing", lambda: answered(warm_toolchains, calls))
    return answers


@pytest.mark.parametrize(
    "number", range(len(CALLS)), ids=[f"{call[0]}, {call[2]}, {number}" for number, call in enumerate(CALLS)]
)
def test_as_transformers(zoo_models: ZooModels, wanted: list[Any], number: int) -> None:
    kind, zoo_task, task, inputs, options = CALLS[number]
    with pipeline(task, model=zoo_models.pull(kind, zoo_task), device="cpu") as pipe:
        assert pipe(inputs, **options) == wanted[number]


def answered(warm_toolchains: Path, calls: Sequence[Any]) -> list[Any]:
    """The answers of transformers' pipelines to calls, each with task, folder, inputs and options."""
    program = [interpreter(warm_toolchains / "optimum"), "-I", writing_reference.__file__]
    done = subprocess.run(program, input=json.dumps(calls), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[Any] = json.loads(done.stdout)
    return answers
