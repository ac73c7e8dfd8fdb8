"""Answers to questions from a text, as ``pipeline("question-answering")`` of transformers 4.57 gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, Parts, check_positive
from gpux.pipelines.batching import arrives, placed
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.text.base import TextPipeline
from gpux.pipelines.text.objects import as_objects
from gpux.pipelines.text.tokenization import Tokens, check_unicode
from gpux.pipelines.text.windows import Window, encode, windows
from gpux.runtime.session import Session

#: Tokens of a window where the tokenizer allows more, and those that two windows share.
_LENGTH, _STRIDE = 384, 128
_OUTPUTS = ("start_logits", "end_logits")
_EXAMPLE = '{"question": "…", "context": "…"}'
_HINT = f'An input is {_EXAMPLE}, or a question with the option context="…".'
_MASKED = np.float32(-10_000.0)  #: logit of a token that cannot be in an answer

Floats = NDArray[np.float32]


class AnsweringOptions(CallOptions, total=False):
    """Options of question-answering, without the context of questions."""

    top_k: Annotated[int | None, Option("answers to a question; more than 1: in a list", default=1)]
    max_answer_len: Annotated[int | None, Option("tokens of an answer at most", default=15)]
    handle_impossible_answer: Annotated[bool, Option("answer '' if the text seems to have no answer", default=False)]
    align_to_words: Annotated[bool, Option("answers begin and end with whole words", default=True)]
    max_seq_len: Annotated[
        int | None, Option("tokens of a window, with the question; by default 384 or the model's limit")
    ]
    doc_stride: Annotated[int | None, Option("tokens that two windows of a long text share; by default 128")]
    max_question_len: Annotated[int | None, Option("accepted as in transformers, and ignored", default=64)]
    padding: Annotated[bool | str, Option("accepted as in transformers, and ignored", default="do_not_pad")]


class QuestionAnsweringOptions(AnsweringOptions, total=False):
    """Options of question-answering."""

    context: Annotated[str | Sequence[str] | None, Option("the text with the answer, for inputs that are questions")]


class QuestionAnsweringArguments(QuestionAnsweringOptions, OpenOptions, total=False):
    """Keywords of :class:`QuestionAnsweringPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    context: Any
    top_k: int
    longest: int
    impossible: bool
    align: bool
    length: int
    stride: int


@dataclass(frozen=True)
class _Question(Parts):
    """A question with the windows of its text."""

    context: str


class QuestionAnsweringPipeline(TextPipeline):
    """Answers to questions, each a part of a text.

    >>> answer = QuestionAnsweringPipeline(model)
    >>> answer(question="Where do I live?", context="My name is Wolfgang and I live in Berlin")
    {'score': 0.919, 'start': 34, 'end': 40, 'answer': 'Berlin'}
    """

    task: ClassVar[str] = "question-answering"
    input_keys: ClassVar[Sequence[str]] = ("question", "context")
    call_options: ClassVar[type] = QuestionAnsweringOptions
    outputs: Sequence[str] = _OUTPUTS

    def __init__(self, model: StoredModel, **arguments: Unpack[QuestionAnsweringArguments]) -> None:
        super().__init__(model, **arguments)
        present = {spec.name for spec in self.session.outputs}
        if not present.issuperset(_OUTPUTS):
            raise UnsupportedError(
                f"the graph of {model.id} gives {', '.join(sorted(present))}, and {self.task} needs "
                f"{' and '.join(_OUTPUTS)}",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.task}`.",
                model=model.id,
            )
        self._cls = self.tokenizer.special_id("cls_token")

    def __call__(
        self,
        inputs: Any = None,
        context: str | Sequence[str] | None = None,
        *,
        question: str | Sequence[str] | None = None,
        **options: Unpack[AnsweringOptions],
    ) -> Any:
        """The most likely answers to each question.

        Args:
            inputs: ``{"question": str, "context": str}``, or several; or questions, with their ``context``.
            context: the text of all questions, or a list with one for each.
            question: a question, or several; in place of ``inputs``.
            options: see :class:`QuestionAnsweringOptions`.

        Returns:
            ``{"score": float, "start": int, "end": int, "answer": str}``, with ``start`` and ``end`` in characters of
            the context; with ``top_k`` above 1 a list of them, best first, if there are several; for several questions
            a list of those. An impossible answer is ``""``, at 0 to 0.

        Raises:
            InputError: a question or a context is missing, empty or not a text, or a question leaves no place for its
                text.
            UsageError: an unknown option, or a number that is too small or too large.
        """
        if (inputs is None) == (question is None):
            raise InputError(
                "question-answering needs a question and a context",
                hint='For example pipe(question="Where is it?", context="It is here.").',
            )
        given: dict[str, Any] = {**options, **({} if context is None else {"context": context})}
        items = inputs if question is None else question
        if arrives(items):
            return self(items, **given)  # a generator of answers
        answers = self.run(_items(items), given)
        return answers[0] if len(answers) == 1 else answers

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Check the numbers, and set those that follow from the tokenizer."""
        names = ("top_k", "max_answer_len", "max_seq_len")
        check_positive(**{name: options.get(name) for name in names})
        limit = self.tokenizer.limit
        length = options.get("max_seq_len") or min(_LENGTH, limit or _LENGTH)
        stride = options.get("doc_stride")
        stride = min(length // 2, _STRIDE) if stride is None else stride
        if not 0 <= stride <= length:
            raise UsageError(
                f"doc_stride is {stride}, and max_seq_len is {length}", hint=f"Choose from 0 to {length // 2}."
            )
        return _Resolved(
            options.get("context"),
            options.get("top_k") or 1,
            options.get("max_answer_len") or 15,
            bool(options.get("handle_impossible_answer")),
            options.get("align_to_words") is not False,
            self._limit(max_length=length) or length,
            stride,
        )

    def preprocess(self, inputs: Any, options: _Resolved) -> list[_Question]:
        """Each question with the windows of its text."""
        items = _items(inputs)
        contexts = options.context
        if isinstance(contexts, (list, tuple)) and len(contexts) != len(items):
            raise InputError(f"{len(items)} questions and {len(contexts)} contexts were given")
        found = []
        for index, item in enumerate(items):
            context = contexts[index] if isinstance(contexts, (list, tuple)) else contexts
            question, text = _question(item, context, index)
            parts = self._windows(question, text, options, index)
            self._check_length(parts)
            found.append(_Question(parts, text))
        return found

    def _windows(self, question: str, context: str, options: _Resolved, index: int) -> list[Window]:
        """The question is first, or last where the tokenizer pads texts on the left."""
        pair = (question, context) if self._context else (context, question)
        whole = encode(self.tokenizer, pair, index=index)
        left = self.tokenizer.cuts_left
        return windows(whole, options.length, stride=options.stride, cut=self._context, left=left, index=index)

    @property
    def _context(self) -> int:
        """Number of the context in a pair: 1, or 0 where the tokenizer pads texts on the left."""
        return 0 if self.tokenizer.pads_left else 1

    def forward(self, batch: Sequence[Tokens], session: Session) -> Sequence[NDArray[Any]]:
        """The logits float32 [tokens, 2] of each window: of an answer's first token, and of its last."""
        found: list[NDArray[Any]] = [np.empty(0)] * len(batch)
        for places in self._together(batch):
            both, mask = self._run_rows([batch[place] for place in places], session, _OUTPUTS)
            result, mask = self._begun(np.stack(both, axis=-1).astype(np.float32), mask)
            for place, row, count in zip(places, result, mask.sum(axis=1), strict=True):
                found[place] = row[:count]
        return found

    def postprocess(self, prepared: _Question, output: Sequence[Floats], options: _Resolved) -> Any:
        """The best answer, or the ``top_k`` best in a list, from the logits of each window."""
        answers: dict[str, dict[str, Any]] = {}  #: by their text in lower case
        null = 1_000_000.0
        for window, logits in zip(prepared.parts, output, strict=True):
            start, end, allowed = self._probabilities(window, logits)
            null = min(null, float(start[0] * end[0]))
            start[0] = end[0] = 0.0
            most = options.top_k * 2 + 10 if options.align else options.top_k  # some become equal by whole words
            words = window.word_places(self._context) if options.align else {}
            for first, last, score in _spans(start, end, allowed, most, options.longest):
                _add(answers, prepared.context, *_characters(window, words, first, last), score)
        found = list(answers.values())
        if options.impossible:
            found.append({"score": null, "start": 0, "end": 0, "answer": ""})
        best = sorted(found, key=lambda answer: -float(answer["score"]))[: options.top_k]
        return best[0] if len(best) == 1 else best

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each answer."""
        entries = answer if isinstance(answer, list) else [answer]
        return [AnswerRow(entry["answer"], entry["score"]) for entry in entries]

    def _probabilities(self, window: Window, logits: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Of each token to be an answer's first and its last, and whether it may be either.

        The tokens of the context may, and the classifying token, whose probability is that of no answer. Where the
        tokenizer pads on the left, transformers allows all tokens, those of the question too.
        """
        everything = self._context == 0
        allowed = np.array([everything or sequence == 1 for sequence in window.sequences])
        if self._cls is not None:
            allowed |= np.array(window.ids) == self._cls
        masked = np.where(allowed[:, None], logits, _MASKED)
        found = np.exp(masked - masked.max(axis=0))
        found /= found.sum(axis=0)
        return found[:, 0].copy(), found[:, 1].copy(), allowed


def _characters(window: Window, words: Mapping[int, tuple[int, int]], first: int, last: int) -> tuple[int, int]:
    """The characters of an answer: of its whole words, if they are known, else of its tokens."""
    begin, stop = (words.get(-1 if word is None else word) for word in (window.words[first], window.words[last]))
    if begin is not None and stop is not None:
        return begin[0], stop[1]
    return window.offsets[first][0], window.offsets[last][1]


def _spans(
    start: Floats, end: Floats, allowed: NDArray[np.bool_], most: int, longest: int
) -> list[tuple[int, int, float]]:
    """First token, last token and probability of the likeliest spans of so many tokens at most.

    Spans of probability 0, which transformers gives in no particular order, are left out unless there is no other.
    """
    size = len(start)
    width = min(longest, size)
    reach = np.arange(size)[:, None] + np.arange(width)
    scores = np.where(reach < size, start[:, None] * end[np.minimum(reach, size - 1)], np.float32(0.0)).ravel()
    best = _highest(scores, most)
    spans = [(int(place) // width, int(place) // width + int(place) % width, float(scores[place])) for place in best]
    kept = [span for span in spans if span[1] < size and allowed[span[0]] and allowed[span[1]]]
    return [span for span in kept if span[2] > 0] or kept[:1]


def _highest(scores: Floats, most: int) -> NDArray[np.intp]:
    """The places of the largest numbers, largest first."""
    if most == 1:
        return np.array([scores.argmax()])
    if len(scores) <= most:
        return np.argsort(-scores)
    found = np.argpartition(-scores, most)[:most]
    return found[np.argsort(-scores[found])]


def _add(answers: dict[str, dict[str, Any]], context: str, begin: int, stop: int, score: float) -> None:
    """Add an answer, or its probability to that of the same text, in whatever case it is written."""
    text = context[begin:stop]
    known = answers.setdefault(text.lower(), {"score": 0.0, "start": begin, "end": stop, "answer": text})
    known["score"] += score


def _items(inputs: Any) -> list[Any]:
    if isinstance(inputs, (str, Mapping)):
        return [inputs]
    if isinstance(inputs, bytes) or not isinstance(inputs, Iterable):
        raise InputError(f"a question with its context is expected, and {type(inputs).__name__} was given", hint=_HINT)
    return list(inputs)


def _question(item: Any, context: Any, index: int) -> tuple[str, str]:
    """The question and the context of an input."""
    if isinstance(item, str) and context is None and item.lstrip().startswith("{"):
        (item,) = as_objects(item, _EXAMPLE)  # as on the command line
    given = item if isinstance(item, Mapping) else {"question": item}
    text = given.get("context")
    return _part("question", given.get("question"), index), _part("context", context if text is None else text, index)


def _part(name: str, value: Any, index: int) -> str:
    if not isinstance(value, str) or not value:
        found = "is missing" if value is None else "is empty" if value == "" else f"is {type(value).__name__}, not str"
        raise InputError(f"input {index}: the {name} {found}", hint=_HINT, index=index)
    try:
        check_unicode([value], f"the {name} of input")
    except InputError as error:
        raise placed(error, index) from error
    return value
