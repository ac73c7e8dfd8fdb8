"""Many requests at once: each answer as the same request alone, in a shared batch and in turns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpux.pipelines.generation.concurrent import ConcurrentGenerator
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.runtime.generation.results import Generation
from tests.pipelines.writer import writer
from tests.runtime.generation.tiny_graphs import Kind

PROMPTS = ["a cat", "the quick brown fox jumps", "b", "hello world, hello", "xyz", "a cat sat"]


@pytest.fixture(params=["growing", "shared"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def pipe(tmp_path: Path, kind: Kind) -> Iterator[TextGenerationPipeline]:
    with TextGenerationPipeline(writer(tmp_path, kind), device="cpu", eos_token_id=[]) as made:
        yield made


@pytest.fixture
def generator(pipe: TextGenerationPipeline) -> Iterator[ConcurrentGenerator]:
    with pipe.concurrent(max_rows=4) as made:
        yield made


def told(answers: tuple[Generation, ...]) -> list[Any]:
    return [(one.text, one.tokens, one.finish_reason, one.stopped_by) for one in answers]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "seed": 5, "num_return_sequences": 3},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "logprobs": 2},
        {"stop": ["a", "o"]},
        {"num_beams": 2},
        {"prompt_lookup_tokens": 3},
    ],
    ids=str,
)
def test_every_answer_is_that_of_the_request_alone(
    pipe: TextGenerationPipeline, generator: ConcurrentGenerator, kind: Kind, options: dict[str, Any]
) -> None:
    alone = [pipe.generate([one], max_new_tokens=15, reuse_prefix=False, **options)[0] for one in PROMPTS]
    together = generator.generate(PROMPTS, max_new_tokens=15, **options)
    assert [told(answers) for answers in together] == [told(answers) for answers in alone]
    assert generator.batches is (kind == "shared")
