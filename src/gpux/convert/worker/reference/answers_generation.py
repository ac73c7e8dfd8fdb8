"""Reference answers of ``transformers.pipeline`` for models that generate text: greedy, or with beams.

An answer is compared character by character, so it ends before the first token whose score is nearly that of another:
there, the rounding of another library decides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_inputs import Question, rewritten, written
from gpux.convert.worker.reference.answers_library import Opened, Original, jsonable

#: New tokens of an answer, at most and at least.
MOST, FEWEST = 12, 3
#: Parameters -> new tokens of the first answer of a model that has more of them.
FIRST = {1_000_000_000: FEWEST, 50_000_000: 6, 0: MOST}
#: Scores differ clearly by this, relative to the larger of 1 and the largest score: five times the tolerance of graphs.
CLEAR = 5e-4
#: Stands for bytes that are no character.
BROKEN = "\N{REPLACEMENT CHARACTER}"
#: gpux does not remove spaces before punctuation, which the pipeline does to answers of decoders; it also removes the
#: punctuation after a prompt that ends with a space.
AS_DECODED = {"clean_up_tokenization_spaces": False}
DECODER = "text-generation"
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

    def __init__(self, original: Original, count: int, pipe: Any = None) -> None:
        self._original, self._pipe = original, pipe or original.open_pipeline()
        self._count = count
        self._per_token: float | None = None  #: seconds of processor time
        self._tokens: dict[str, int] = {}  #: of each question, the same when it is asked again
        size = original.model.num_parameters()
        self._first = next(count for least, count in FIRST.items() if size > least)
        #: transformers 5 decodes the new tokens of a decoder alone, which loses the space before them
        self._decodes_alone = original.task == DECODER and int(version("transformers").partition(".")[0]) > 4

    def ask(self, question: Question) -> tuple[Question, Any] | None:
        """The question with its number of new tokens, and the answer; None if not even the first token is clear."""
        items = _items(question.inputs)
        tokens = self._tokens.setdefault(question.name, self._affordable(len(items)))
        began, runs = time.process_time(), 0
        options = {**question.options, "do_sample": False}
        answers: list[Any] = []
        for item in items:
            if not tokens or self._masks_the_start(item):
                return None
            answer, clear = self._try(item, {**options, "max_new_tokens": tokens})
            runs += tokens
            self._per_token = (time.process_time() - began) / runs
            answers = [*answers, answer] if clear == tokens else []
            tokens = clear
        options["max_new_tokens"] = tokens
        if not tokens:
            return None
        if len(answers) < len(items):
            answers = [self._write(item, options, []) for item in items]
            runs += len(items) * tokens
        self._per_token = (time.process_time() - began) / runs
        return replace(question, options=options), jsonable(self._joined(question.inputs, answers))

    def _joined(self, inputs: Any, answers: list[Any]) -> Any:
        """The answer to a batch, whose inputs the pipeline answers one by one."""
        if _items(inputs) is not inputs:
            return answers[0]
        return answers if self._original.task == DECODER else [answer[0] for answer in answers]

    def _masks_the_start(self, item: Any) -> bool:
        """Whether transformers would mask the only token, with which it begins the answer to a text without tokens."""
        if self._original.task != DECODER or not isinstance(item, str):
            return False
        config = self._original.model.generation_config
        masks = config.bos_token_id is None or config.bos_token_id == config.pad_token_id != config.eos_token_id
        return masks and not self._original.open_tokenizer()(item)["input_ids"]

    def _affordable(self, items: int) -> int:
        if self._per_token is None:
            return self._first
        seconds = self._original.left() / max(1, self._count - len(self._tokens))
        found = int(seconds / max(1e-9, items * self._per_token))
        return min(MOST, found) if found >= FEWEST else 0

    def _try(self, item: Any, options: Mapping[str, Any]) -> tuple[Any, int]:
        """An answer, and the number of its tokens that no rounding changes and that are whole characters."""
        if self._beams(options) > 1:
            return self._try_beams(item, options)
        margins = Margins()
        answer = self._write(item, options, [margins])
        most = int(options["max_new_tokens"])
        clear = most if margins.clear is None else margins.clear
        if self._original.task == DECODER and BROKEN in _new_text(answer):
            clear = min(clear, self._whole(margins))
        return answer, clear

    def _whole(self, margins: Margins) -> int:
        """The number of new tokens that end before a character of which some bytes are missing."""
        tokenizer, sequence = self._original.open_tokenizer(), margins.sequence
        start = margins.start if margins.start is not None else len(sequence)
        if BROKEN in tokenizer.decode(sequence[:start]):
            return 0
        ends = (end for end in range(len(sequence), start, -1) if BROKEN not in tokenizer.decode(sequence[:end]))
        return next(ends, start) - start

    def _try_beams(self, item: Any, options: Mapping[str, Any]) -> tuple[Any, int]:
        most = int(options["max_new_tokens"])
        for count in filter(None, (most, most // 2)):
            fewer = {**options, "max_new_tokens": count}
            answers = [self._write(item, fewer, changed) for changed in ([], *([Noise(seed)] for seed in SEEDS))]
            if all(answer == answers[0] for answer in answers):
                return answers[0], count
        return None, 0

    def _write(self, item: Any, options: Mapping[str, Any], processors: list[Any]) -> Any:
        """The pipeline's answer to one input, as transformers 4 decodes it."""
        if not self._decodes_alone:
            return self._pipe(item, **options, **AS_DECODED, logits_processor=LogitsProcessorList(processors))
        margins = Margins()
        plain = {name: value for name, value in options.items() if name != "return_full_text"}
        made = self._pipe(
            item, **plain, return_tensors=True, logits_processor=LogitsProcessorList([margins, *processors])
        )
        prompt = self._decoded(margins.sequence[: margins.start])
        texts = [self._decoded(one["generated_token_ids"])[len(prompt) :] for one in made]
        full = options.get("return_full_text", True)
        return [{"generated_text": _continued(item, text) if full else text} for text in texts]

    def _decoded(self, ids: list[int]) -> str:
        return str(self._original.open_tokenizer().decode(ids, skip_special_tokens=True, **AS_DECODED))

    def _beams(self, options: Mapping[str, Any]) -> int:
        config = getattr(self._pipe, "generation_config", None) or self._original.model.generation_config
        return int(options.get("num_beams") or getattr(config, "num_beams", None) or 1)


class Margins(LogitsProcessor):  # type: ignore[misc]  # untyped
    """Counts the tokens before the first one whose score is nearly that of another."""

    def __init__(self) -> None:
        self.clear: int | None = None  #: None: all
        self.start: int | None = None  #: tokens of the prompt
        self.sequence: list[int] = []  #: of the first row: the prompt and the new tokens
        self._count = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Look at the scores [rows, vocabulary] of the next token."""
        best = scores.float().topk(min(2, scores.shape[-1]))
        if self.clear is None and bool((best.values[:, 0] - best.values[:, -1] <= _scale(scores)).any()):
            self.clear = self._count
        self.start = input_ids.shape[1] if self.start is None else self.start
        self.sequence = [*input_ids[0].tolist(), int(best.indices[0, 0])]
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


def _continued(item: Any, text: str) -> Any:
    """The prompt with the answer, in the form of the prompt: a text or messages."""
    if isinstance(item, str):
        return item + text
    if item[-1]["role"] == "assistant":
        return [*item[:-1], {**item[-1], "content": item[-1]["content"] + text}]
    return [*item, {"role": "assistant", "content": text}]


def _new_text(answer: Any) -> str:
    """The end of an answer, whether it is a text or messages."""
    found = answer[0]["generated_text"]
    return found if isinstance(found, str) else str(found[-1]["content"])


def _items(inputs: Any) -> list[Any]:
    """The inputs that are answered one by one; a chat is one input."""
    chat = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], dict)
    return inputs if isinstance(inputs, list) and not chat else [inputs]
