"""Answer cases for the tiny BERT: inputs, and its own answers in the place of the reference library's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpux import Settings, pipeline
from gpux.convert.answer_case import CALL, ENCODE, TOKENS, AnswerCase, AnswerSet
from gpux.pipelines.answerer import PipelineAnswerer
from tests.models.bert import bert_repository

VERSIONS = {"transformers": "4.57.6"}
TEXTS = ["the quick brown fox", "a cat", ""]
MASKED = "the quick [MASK] fox jumps over the lazy dog"
TOKEN_CASES = tuple(
    AnswerCase(f"tokens/{name}", TOKENS, inputs, None)
    for name, inputs in {
        "plain": "The quick brown fox",
        "empty": "",
        "specials": "a [SEP] b [CLS]",
        "long": "fox " * 100,
        "pair": ["the fox", "the dog"],
    }.items()
)
CALLS = {
    "fill-mask": (AnswerCase("call/mask", CALL, MASKED, None, {"top_k": 20}),),
    "text-classification": (
        AnswerCase("call/one", CALL, "a cat", None, {"top_k": None}),
        AnswerCase("call/several", CALL, TEXTS, None, {"top_k": None}),
        AnswerCase("call/pair", CALL, {"text": "a cat", "text_pair": "a dog"}, None),
    ),
    "feature-extraction": (
        AnswerCase("encode/unequal", ENCODE, TEXTS, None),
        AnswerCase("call/tokens", CALL, "a cat", None),
    ),
}
Reference = Callable[..., AnswerSet]


def answers_of(folder: Path, home: Path, task: str, **changes: Any) -> AnswerSet:
    """The answers of the tiny BERT, as it is."""
    bert_repository(folder, task, onnx=True, **changes)
    with pipeline(task, model=folder, settings=Settings.from_env(home=home)) as pipe:
        asked = PipelineAnswerer(pipe)
        cases = (*TOKEN_CASES, *CALLS[task])
        return AnswerSet(tuple(replace(case, expected=asked.answer(case)) for case in cases), VERSIONS)


def edited(folder: Path, **changes: Any) -> str:
    """The tokenizer.json of a folder with other values."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return json.dumps(content | changes)
