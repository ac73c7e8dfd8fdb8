"""Labels of texts, as ``transformers.pipeline("text-classification")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.text.base import TextPipeline, check_positive, tokenizer_options
from gpux.pipelines.text.tokenization import TextInput
from gpux.runtime.numeric import softmax

Floats = NDArray[np.float32]


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^-x)."""
    return (1.0 / (1.0 + np.exp(-logits))).astype(np.float32, copy=False)


_FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "sigmoid": sigmoid,
    "softmax": softmax,
    "none": lambda logits: logits,
}


class TextClassificationPipeline(TextPipeline):
    """Labels with scores for texts and pairs of texts.

    >>> classify = TextClassificationPipeline(model)
    >>> classify("I love it")
    [{'label': 'POSITIVE', 'score': 0.999}]
    """

    task: ClassVar[str] = "text-classification"
    call_options: ClassVar[frozenset[str]] = frozenset(
        {"top_k", "function_to_apply", "truncation", "max_length", "padding", "batch_size"}
    )

    def __init__(self, model: StoredModel, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        config = model.read_json("config.json")
        self.labels = _labels(config)
        self._logits = self._score_output(2, len(self.labels))
        self._function = _default_function(config, len(self.labels))
        self._check_width(len(self.labels))

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Labels, best first, with their scores.

        Args:
            inputs: a text, a pair ``{"text": …, "text_pair": …}``, or several of them.
            options: ``top_k`` (how many labels; None for all), ``function_to_apply`` (``softmax``, ``sigmoid``,
                ``none``; by default what the model's configuration says), ``truncation``, ``max_length``,
                ``batch_size``; ``padding`` is taken for the sake of transformers, and changes nothing.

        Returns:
            ``[{"label", "score"}]`` for a text, ``{"label", "score"}`` for a pair, a list of such dicts for several
            inputs. With ``top_k`` a list of dicts takes the place of each dict, and a text's is not wrapped again.

        Raises:
            InputError: an input is neither text nor pair, or too long with ``truncation=False``.
            UsageError: ``top_k`` or ``function_to_apply`` is out of range.
        """
        chosen = self._merged(options)
        check_positive(top_k=chosen.get("top_k"))
        function = self._chosen_function(chosen.get("function_to_apply"))
        several = not isinstance(inputs, (str, dict))
        texts = [_text(item, index) for index, item in enumerate(_items(inputs))]
        tokens = self._tokenize(texts, **tokenizer_options(chosen, "tokenizer_kwargs"))
        rows = self._run_each(tokens, self._logits, batch_size=chosen.get("batch_size"))
        answers = [self._answer(function(row.astype(np.float32, copy=False)), chosen) for row in rows]
        if several:
            return answers
        # transformers wraps the answer to a single text unless this very call names top_k
        return [answers[0]] if isinstance(inputs, str) and "top_k" not in options else answers[0]

    def _answer(self, scores: Floats, options: dict[str, Any]) -> Any:
        if "top_k" not in options:
            best = int(scores.argmax())
            return {"label": self.labels[best], "score": float(scores[best])}
        order = np.argsort(-scores, kind="stable")[: options["top_k"]]
        return [{"label": self.labels[i], "score": float(scores[i])} for i in order]

    def _chosen_function(self, name: str | None) -> Callable[[Floats], Floats]:
        key = self._function if name is None else str(name).lower()
        if key not in _FUNCTIONS:
            raise UsageError(f"function_to_apply is {name!r}", hint=f"It may be {', '.join(_FUNCTIONS)}.")
        return _FUNCTIONS[key]

    def _check_width(self, count: int) -> None:
        width = next(spec.shape[1] for spec in self.session.outputs if spec.name == self._logits)
        if isinstance(width, int) and width != count:
            raise UnsupportedError(
                f"the graph of {self.model.id} gives {width} scores, and its config.json has {count} labels"
            )


def _labels(config: dict[str, Any]) -> list[str]:
    """Labels in the order of the scores; ``LABEL_0`` … where the configuration names none, as transformers."""
    named = config.get("id2label")
    if named:
        by_index = {int(index): str(label) for index, label in named.items()}
        return [by_index.get(index, f"LABEL_{index}") for index in range(max(by_index) + 1)]
    return [f"LABEL_{index}" for index in range(int(config.get("num_labels") or 2))]


def _default_function(config: dict[str, Any], labels: int) -> str:
    kind = config.get("problem_type")
    if kind == "regression":
        return "none"
    return "sigmoid" if kind == "multi_label_classification" or labels == 1 else "softmax"


def _items(inputs: Any) -> list[Any]:
    if isinstance(inputs, (str, dict)):
        return [inputs]
    if isinstance(inputs, bytes) or not isinstance(inputs, Iterable):
        raise InputError(f"a text or a pair of texts is expected, and {type(inputs).__name__} was given")
    return list(inputs)


def _text(item: Any, index: int) -> TextInput:
    """A text or a pair; transformers also takes a pair as ``[[text, pair]]``."""
    if isinstance(item, str):
        return item
    if isinstance(item, dict) and set(item) <= {"text", "text_pair"} and isinstance(item.get("text"), str):
        pair = item.get("text_pair")
        if pair is None:
            return str(item["text"])
        item = [[item["text"], pair]]
    match item:
        case [[str() as first, str() as second]]:
            return (first, second)
    raise InputError(
        f"input {index} is {type(item).__name__}, neither a text nor a pair",
        hint='A pair is {"text": "…", "text_pair": "…"}.',
        index=index,
    )
