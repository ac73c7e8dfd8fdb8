"""Labels of the caller's choice for texts, as ``pipeline("zero-shot-classification")`` of transformers 4.57 answers.

A model of natural language inference reads the text with a sentence that contains the label, and scores whether the
text implies it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, Parts
from gpux.pipelines.batching import arrives
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.text.base import as_texts
from gpux.pipelines.text.text_classification import SequenceClassifier
from gpux.pipelines.text.windows import Window, encode, windows
from gpux.runtime.numeric import softmax

log = logging.getLogger(__name__)
_TEMPLATE = "This example is {}."


class HypothesisOptions(CallOptions, total=False):
    """Options of zero-shot-classification, without the labels."""

    hypothesis_template: Annotated[str, Option("sentence with {} in place of a label", default=_TEMPLATE)]
    multi_label: Annotated[bool, Option("score each label for itself; else the scores add up to 1", default=False)]


class ZeroShotClassificationOptions(HypothesisOptions, total=False):
    """Options of zero-shot-classification."""

    candidate_labels: Annotated[str | Sequence[str], Option("the labels, in a list or with commas between them")]


class ZeroShotClassificationArguments(ZeroShotClassificationOptions, OpenOptions, total=False):
    """Keywords of :class:`ZeroShotClassificationPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    labels: list[str]
    hypotheses: list[str]
    alone: bool  #: each label has a score for itself


@dataclass(frozen=True)
class _Text(Parts):
    """A text with a pair for each label."""

    text: str


class ZeroShotClassificationPipeline(SequenceClassifier):
    """Labels of the caller's choice for texts.

    >>> classify = ZeroShotClassificationPipeline(model)
    >>> classify("The printer is on fire!", candidate_labels=["urgent", "can wait"])
    {'sequence': 'The printer is on fire!', 'labels': ['urgent', 'can wait'], 'scores': [0.98, 0.02]}
    """

    task: ClassVar[str] = "zero-shot-classification"
    model_task: ClassVar[str] = "text-classification"
    call_options: ClassVar[type] = ZeroShotClassificationOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[ZeroShotClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        self._entailment = self._entailment_index(model.read_json("config.json"))

    def __call__(
        self,
        inputs: str | Iterable[str],
        candidate_labels: str | Sequence[str] | None = None,
        **options: Unpack[HypothesisOptions],
    ) -> Any:
        """The labels of each text, most likely first.

        Args:
            inputs: a text, or several.
            candidate_labels: the labels, in a list or in a string with commas between them.
            options: see :class:`ZeroShotClassificationOptions`.

        Returns:
            ``{"sequence": str, "labels": [str], "scores": [float]}`` for a text, a list of such dicts for several.

        Raises:
            InputError: an input is not a text, or the graph cannot read it with a label.
            UsageError: an unknown option, no label, or a template without a place for it.
        """
        given: dict[str, Any] = {**options}
        if candidate_labels is not None:
            given["candidate_labels"] = candidate_labels
        if arrives(inputs):
            return self(inputs, **given)  # a generator of answers
        answers = self.run(inputs, given)
        return answers[0] if isinstance(inputs, str) else answers

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """The sentence of each label."""
        labels = _labels(options.get("candidate_labels"))
        template = options.get("hypothesis_template")
        template = _TEMPLATE if template is None else template
        try:
            hypotheses = [str(template).format(label) for label in labels]
        except (LookupError, ValueError, AttributeError) as exc:
            raise _not_a_template(template) from exc
        if not isinstance(template, str) or hypotheses[0] == template:
            raise _not_a_template(template)
        return _Resolved(labels, hypotheses, bool(options.get("multi_label")) or len(labels) == 1)

    def preprocess(self, inputs: Any, options: _Resolved) -> list[_Text]:
        """A pair of each text and each label's sentence; of a long text its end is cut, and never the sentence."""
        return [
            _Text([self._pair(text, sentence, index) for sentence in options.hypotheses], text)
            for index, text in enumerate(as_texts(inputs))
        ]

    def _pair(self, text: str, sentence: str, index: int) -> Window:
        if not text:
            raise InputError(f"text {index} is empty", index=index)
        whole = encode(self.tokenizer, (text, sentence), index=index)
        pair = windows(whole, self._limit(), cut=0, left=self.tokenizer.cuts_left, index=index)[0]
        self._check_length([pair])
        return pair

    def postprocess(self, prepared: _Text, output: Sequence[NDArray[Any]], options: _Resolved) -> dict[str, Any]:
        """The labels of a text, from the logits [labels of the model] of each of its pairs."""
        logits = np.stack(output).astype(np.float32)
        if options.alone:
            against = logits.shape[1] - 1 if self._entailment == 0 else 0
            scores = softmax(logits[:, [against, self._entailment]])[:, 1]
        else:
            scores = softmax(logits[:, self._entailment])
        order = scores.argsort()[::-1]
        return {
            "sequence": prepared.text,
            "labels": [options.labels[place] for place in order],
            "scores": scores[order].tolist(),
        }

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each label."""
        return [AnswerRow(label, score) for label, score in zip(answer["labels"], answer["scores"], strict=True)]

    def _entailment_index(self, config: Mapping[str, Any]) -> int:
        """The place of the model's label whose name begins with "entail"; the last one without such a label."""
        by_name = config.get("label2id") or {label: place for place, label in enumerate(self.labels)}
        for name, place in by_name.items():
            if str(name).lower().startswith("entail"):
                return int(place)
        log.warning(
            "no label of %s is named entailment, and the last one is used: %s", self.model.id, ", ".join(self.labels)
        )
        return len(self.labels) - 1


def _labels(given: Any) -> list[str]:
    if isinstance(given, str):
        given = [label.strip() for label in given.split(",") if label.strip()]
    if isinstance(given, Mapping) or not isinstance(given, Iterable) or isinstance(given, bytes):
        given = [] if given is None else [given]
    labels = list(given)
    if not labels or not all(isinstance(label, str) and label for label in labels):
        raise UsageError(
            f"candidate_labels is {labels}" if labels else "zero-shot-classification needs candidate_labels",
            hint='For example candidate_labels=["urgent", "can wait"].',
        )
    return labels


def _not_a_template(template: Any) -> UsageError:
    return UsageError(
        f"hypothesis_template is {template!r}, without a place for one label", hint=f"For example {_TEMPLATE!r}."
    )
