"""Reference answers of ``transformers.pipeline`` for models that generate text: greedy, or with beams.

An answer is compared character by character, so it ends before the first token whose score is nearly that of another:
there, the rounding of another library decides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_inputs import Question, rewritten, written
from gpux.convert.worker.reference.answers_library import Opened, Original, jsonable

#: New tokens of an answer, at most and at least.
MOST, FEWEST = 12, 3
#: Parameters from which the first answer is short.
LARGE = 1_000_000_000
#: Scores differ clearly by this, relative to the larger of 1 and the largest score: five times the tolerance of graphs.
CLEAR = 5e-4
#: Seeds of the noise under which an answer with beams stays the same.
SEEDS = (1, 2)


def open_decoder(original: Original) -> Opened:
    """``pipeline("text-generation")``."""
    tokenizer = original.open_tokenizer()
    template = getattr(tokenizer, "chat_template", None)
    if template is not None and "strftime_now" in str(template):
        template = None  # its prompts have the date of today
    texts = original.texts(limit=original.limit() - MOST)
    return _opened(original, list(written(texts, template)))


def open_encoder_decoder(original: Original) -> Opened:
    """``pipeline("text2text-generation")``."""
    return _opened(original, list(rewritten(original.texts())))


def _opened(original: Original, questions: list[Question]) -> Opened:
    asker = Asker(original, len(questions))
    return Opened(CALL, questions, asker.ask)


class Asker:
    """Asks a pipeline for answers as long as the time and the scores of tokens allow."""

    def __init__(self, original: Original, count: int) -> None:
        self._original, self._pipe = original, original.open_pipeline()
        self._count = count
        self._per_token: float | None = None  #: seconds of processor time
        self._tokens: dict[str, int] = {}  #: of each question, the same when it is asked again
        self._first = 4 if original.model.num_parameters() > LARGE else MOST

    def ask(self, question: Question) -> tuple[Question, Any] | None:
        """The question with its number of new tokens, and the answer; None if not even the first token is clear."""
        items = _items(question.inputs)
        tokens = self._tokens.setdefault(question.name, self._affordable(len(items)))
        options = {**question.options, "do_sample": False}
        began = time.process_time()
        for item in items:
            tokens = self._clear(item, {**options, "max_new_tokens": tokens}) if tokens else 0
        if not tokens:
            return None
        asked = replace(question, options={**options, "max_new_tokens": tokens})
        answer = jsonable(self._pipe(question.inputs, **asked.options))
        self._per_token = (time.process_time() - began) / (2 * len(items) * tokens)
        return asked, answer

    def _affordable(self, items: int) -> int:
        if self._per_token is None:
            return self._first
        seconds = self._original.left() / max(1, self._count - len(self._tokens))
        found = int(seconds / max(1e-9, 2 * items * self._per_token))
        return min(MOST, found) if found >= FEWEST else 0

    def _clear(self, item: Any, options: Mapping[str, Any]) -> int:
        """The number of new tokens that any rounding leaves as they are; at most that of the options."""
        if self._beams(options) > 1:
            return self._clear_with_beams(item, options)
        margins = Margins()
        self._pipe(item, **options, logits_processor=LogitsProcessorList([margins]))
        return int(options["max_new_tokens"] if margins.clear is None else margins.clear)

    def _clear_with_beams(self, item: Any, options: Mapping[str, Any]) -> int:
        most = int(options["max_new_tokens"])
        for count in filter(None, (most, most // 2)):
            answers = [
                self._pipe(item, **{**options, "max_new_tokens": count}, logits_processor=LogitsProcessorList(changed))
                for changed in ([], *([Noise(seed)] for seed in SEEDS))
            ]
            if all(answer == answers[0] for answer in answers):
                return count
        return 0

    def _beams(self, options: Mapping[str, Any]) -> int:
        config = getattr(self._pipe, "generation_config", None) or self._original.model.generation_config
        return int(options.get("num_beams") or getattr(config, "num_beams", None) or 1)


class Margins(LogitsProcessor):  # type: ignore[misc]  # untyped
    """Counts the tokens before the first one whose score is nearly that of another."""

    def __init__(self) -> None:
        self.clear: int | None = None  #: None: all
        self._count = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Look at the scores [rows, vocabulary] of the next token."""
        best = scores.float().topk(min(2, scores.shape[-1])).values
        if self.clear is None and bool((best[:, 0] - best[:, -1] <= _scale(scores)).any()):
            self.clear = self._count
        self._count += 1
        return scores


class Noise(LogitsProcessor):  # type: ignore[misc]  # untyped
    """Changes each score by up to twice what may differ."""

    def __init__(self, seed: int) -> None:
        self._numbers = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Change the scores [rows, vocabulary] of the next token."""
        noise = 2 * torch.rand(scores.shape, generator=self._numbers) - 1
        return scores + (2 * _scale(scores) * noise).to(scores.dtype)


def _scale(scores: torch.Tensor) -> float:
    finite = scores[scores.isfinite()]
    return CLEAR * max(1.0, float(finite.abs().max()) if finite.numel() else 1.0)


def _items(inputs: Any) -> list[Any]:
    """The inputs that are answered one by one; a chat is one input."""
    chat = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], dict)
    return inputs if isinstance(inputs, list) and not chat else [inputs]
