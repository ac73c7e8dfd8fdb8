"""Labels of texts, as ``transformers.pipeline("text-classification")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError
from gpux.inspect.architecture import summarize
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, check_positive
from gpux.pipelines.labels import Floats, Function, find_function, read_labels
from gpux.pipelines.options import Option
from gpux.pipelines.text.base import TextOptions, TextPipeline, tokenizer_options
from gpux.pipelines.text.tokenization import TextInput, Tokens


class TextClassificationOptions(TextOptions, total=False):
    """Options of text-classification."""

    top_k: Annotated[int | None, Option("labels in an answer; None: all; not given: the best one, not in a list")]
    function_to_apply: Annotated[
        Literal["softmax", "sigmoid", "none"] | None,
        Option("from logits to scores; by default as the model's configuration implies"),
    ]
    padding: Annotated[bool | str, Option("accepted as in transformers, and ignored", default=True)]


class TextClassificationArguments(TextClassificationOptions, OpenOptions, total=False):
    """Keywords of :class:`TextClassificationPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    function: Function
    top_k: int | Literal["best"] | None
    tokenizer: dict[str, Any]


class SequenceClassifier(TextPipeline):
    """A pipeline on a graph that gives one row of scores for each text or pair: [labels]."""

    def __init__(self, model: StoredModel, **arguments: Any) -> None:  # a subclass names their types
        super().__init__(model, **arguments)
        config = model.read_json("config.json")
        self.labels = read_labels(config)  #: in the order of the scores
        logits = self._score_output(2, len(self.labels))
        self.outputs = (logits,)
        self._check_width(logits, self.labels)
        self._pad_as_the_graph_reads(config)

    def _pad_as_the_graph_reads(self, config: Mapping[str, Any]) -> None:
        """Padding that does not change which token a classifier scores.

        A decoder scores the last token that is not ``pad_token_id`` of its configuration, whatever the tokenizer pads
        with; without such an id, and in xlnet, the last of the row. Rows of the latter are not padded.
        """
        if config.get("model_type") == "xlnet":
            self._pads = False
        elif summarize(config).kind == "decoder":
            pad = _pad_token(config)
            self._pads = self._pads and pad is not None
            self._pad_id = self._pad_id if pad is None else pad


class TextClassificationPipeline(SequenceClassifier):
    """Labels with scores for texts and pairs of texts.

    >>> classify = TextClassificationPipeline(model)
    >>> classify("I love it")
    [{'label': 'POSITIVE', 'score': 0.999}]
    """

    task: ClassVar[str] = "text-classification"
    call_options: ClassVar[type] = TextClassificationOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[TextClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        self._function = _default_function(model.read_json("config.json"), len(self.labels))

    def __call__(self, inputs: Any, **options: Unpack[TextClassificationOptions]) -> Any:
        """Labels, best first, with their scores.

        Args:
            inputs: a text, a pair ``{"text": …, "text_pair": …}``, or several of them.
            options: see :class:`TextClassificationOptions`.

        Returns:
            ``[{"label": str, "score": float}]`` for a text, ``{"label", "score"}`` for a pair, a list of such dicts for
            several inputs. With ``top_k`` each dict is replaced by a list of dicts, and a text's is not wrapped again.

        Raises:
            InputError: an input is neither a text nor a pair, or too long with ``truncation=False``.
            UsageError: an unknown option, or ``top_k`` or ``function_to_apply`` is invalid.
        """
        answers = self.run(inputs, options)
        if not isinstance(inputs, (str, dict)):
            return answers
        # transformers wraps the answer to a single text unless this very call names top_k
        return [answers[0]] if isinstance(inputs, str) and "top_k" not in options else answers[0]

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Check ``top_k`` and look the function up."""
        check_positive(top_k=options.get("top_k"))
        function = find_function(options.get("function_to_apply"), self._function)
        limits = tokenizer_options(options, "tokenizer_kwargs")
        return _Resolved(function, options.get("top_k", "best"), limits)

    def preprocess(self, inputs: Any, options: _Resolved) -> list[Tokens]:
        """Tokens of each text or pair."""
        texts = [_text(item, index) for index, item in enumerate(_items(inputs))]
        return self._tokenize(texts, **options.tokenizer)

    def postprocess(self, prepared: Tokens, output: NDArray[Any], options: _Resolved) -> Any:
        """The best label, or the ``top_k`` best in a list, from the logits [labels]."""
        scores = options.function(output.astype(np.float32, copy=False))
        if options.top_k == "best":
            return self._entry(scores, int(scores.argmax()))
        return [self._entry(scores, int(index)) for index in np.argsort(-scores, kind="stable")[: options.top_k]]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each label."""
        entries = answer if isinstance(answer, list) else [answer]
        return [AnswerRow(entry["label"], entry["score"]) for entry in entries]

    def _entry(self, scores: Floats, index: int) -> dict[str, Any]:
        return {"label": self.labels[index], "score": float(scores[index])}


def _pad_token(config: Mapping[str, Any]) -> int | None:
    """``pad_token_id`` of the configuration, or of the part that processes text."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and isinstance(part.get("pad_token_id"), int):
            return int(part["pad_token_id"])
    return None


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
    """A text or a pair; transformers also accepts a pair as ``[[text, pair]]``."""
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
