"""Scores of pairs of texts, and texts ranked by them, as ``CrossEncoder`` of sentence-transformers 5.7 gives them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, Parts, check_positive
from gpux.pipelines.batching import BatchBudget
from gpux.pipelines.options import Option
from gpux.pipelines.text.base import TextOptions, as_texts
from gpux.pipelines.text.objects import as_objects, check_keys, text_of, texts_of
from gpux.pipelines.text.sentence import SentenceConfig, read_ranking_config
from gpux.pipelines.text.text_classification import SequenceClassifier
from gpux.pipelines.text.tokenization import TextInput, Tokens, check_unicode
from gpux.runtime.numeric import sigmoid, softmax

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Activation = Literal["sigmoid", "identity", "tanh", "relu"]

_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "sigmoid": sigmoid,
    "identity": lambda scores: scores,
    "tanh": np.tanh,
    "relu": lambda scores: np.maximum(scores, 0),
}
_QUERY, _DOCUMENTS = "query", ("documents", "texts")
_EXAMPLE = '{"query": "…", "documents": ["…", "…"]}'


class TextRankingOptions(TextOptions, total=False):
    """Options of text-ranking."""

    top_k: Annotated[int | None, Option("the best documents of an answer; by default all")]
    return_documents: Annotated[bool, Option("put the text of each document into the answer", default=False)]
    activation_fn: Annotated[
        Activation | None,
        Option("from logits to scores; by default as the repository says, else sigmoid for one label"),
    ]
    apply_softmax: Annotated[bool, Option("softmax over several labels, after the activation", default=False)]
    prompt_name: Annotated[str | None, Option("one of the repository's prompts, by name")]
    prompt: Annotated[str | None, Option("a text put before every query, instead of a named prompt")]


class TextRankingArguments(TextRankingOptions, OpenOptions, total=False):
    """Keywords of :class:`TextRankingPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    activation: Callable[[Floats], Floats]
    softmax: bool
    top_k: int | None
    return_documents: bool
    opening: str
    limits: Mapping[str, Any]


@dataclass(frozen=True)
class _Ranked(Parts):
    """The tokens of each pair of a query and a document."""

    documents: Sequence[str]


class TextRankingPipeline(SequenceClassifier):
    """Texts ranked by a cross-encoder, which reads each of them together with the query.

    >>> ranking = TextRankingPipeline(model)
    >>> ranking.rank("How many people live in Berlin?", ["Berlin has 3.5 million inhabitants.", "Berlin has museums."])
    [{'corpus_id': 0, 'score': 8.6}, {'corpus_id': 1, 'score': 1.1}]
    >>> ranking.predict([("How many people live in Berlin?", "Berlin has museums.")])  # float32 [1]
    """

    task: ClassVar[str] = "text-ranking"
    model_task: ClassVar[str] = "text-classification"
    call_options: ClassVar[type] = TextRankingOptions
    input_keys: ClassVar[Sequence[str]] = ("query", "documents")
    window: ClassVar[int | None] = 64  #: each input has several texts
    #: A call has often a hundred passages, and the next call as many: a session of one thread per run pays early.
    budget: ClassVar[BatchBudget] = replace(SequenceClassifier.budget, one_thread_from=2_048)

    def __init__(self, model: StoredModel, **arguments: Unpack[TextRankingArguments]) -> None:
        super().__init__(model, **arguments)
        _ = self._repository  # its errors come now

    def __call__(
        self, inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]], **options: Unpack[TextRankingOptions]
    ) -> Any:
        """The documents of a query, best first; the same as :meth:`rank`, for inputs that are objects.

        Args:
            inputs: ``{"query": text, "documents": [text, …]}``, or several of them; ``texts`` is another name of
                ``documents``.
            options: see :class:`TextRankingOptions`.

        Returns:
            A list as of :meth:`rank`, or a list of such lists for several inputs.

        Raises:
            InputError: an input has not this form; a text is not valid Unicode, or a pair too long with
                ``truncation=False``.
            UnsupportedError: the model has several labels, which give no order.
            UsageError: an unknown or invalid option.
        """
        answers = self.run(inputs, options)
        return answers[0] if isinstance(inputs, (Mapping, str)) else answers

    def rank(self, query: str, documents: Iterable[str], **options: Unpack[TextRankingOptions]) -> list[dict[str, Any]]:
        """The documents, best first.

        Args:
            query: what is looked for.
            documents: any number of texts.
            options: see :class:`TextRankingOptions`.

        Returns:
            ``[{"corpus_id": int, "score": float}]``, where ``corpus_id`` is the place among ``documents``; with
            ``return_documents`` each also has ``text``. Documents with equal scores keep their order.

        Raises:
            InputError: the query or a document is not a text, or a pair is too long with ``truncation=False``.
            UnsupportedError: the model has several labels, which give no order.
            UsageError: an unknown or invalid option.
        """
        if not isinstance(query, str):
            raise InputError(f"the query is {type(query).__name__}, not a text")
        found: list[dict[str, Any]] = self.run(
            {_QUERY: query, _DOCUMENTS[0]: as_texts(documents, "document")}, options
        )[0]
        return found

    def predict(self, pairs: Any, **options: Unpack[TextRankingOptions]) -> Any:
        """The score of each pair of texts.

        Args:
            pairs: ``(first, second)``, or several of them.
            options: see :class:`TextRankingOptions`; ``top_k`` and ``return_documents`` do not apply.

        Returns:
            float32 [pairs] for a model with one label, else [pairs, labels]; without the first axis for one pair.

        Raises:
            InputError: an input is not a pair of texts, or too long with ``truncation=False``.
            UsageError: an unknown or invalid option.
        """
        merged = self._merged(options)
        resolved = self.resolve(merged)
        texts, single = _pairs(pairs)
        tokens = self._pair_tokens(texts, resolved)
        outputs = self.run_batches(tokens, batch_size=merged.get("batch_size"))
        if not outputs:
            return np.empty((0,) if self.one_label else (0, len(self.labels)), np.float32)
        scores = self._scores(np.stack(outputs), resolved)
        return scores[0] if single else scores

    @property
    def one_label(self) -> bool:
        """Whether the model has one score, which gives an order."""
        return len(self.labels) == 1

    @property
    def activation_fn(self) -> str:
        """The function from logits to scores where a call names none: ``sigmoid``, ``identity`` …"""
        return self._default_activation

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Check the options, and look the activation and the prompt up."""
        check_positive(top_k=options.get("top_k"), max_length=options.get("max_length"))
        name = options.get("activation_fn") or self._default_activation
        if name not in _ACTIVATIONS:
            raise UsageError(f"activation_fn is {name!r}", hint=f"It may be {', '.join(_ACTIVATIONS)}.")
        return _Resolved(
            _ACTIVATIONS[name],
            bool(options.get("apply_softmax")),
            options.get("top_k"),
            bool(options.get("return_documents")),
            self._repository.prompt(options.get("prompt"), options.get("prompt_name")),
            {
                "truncation": options.get("truncation", True),
                "max_length": options.get("max_length"),
                "limit": self._repository.max_seq_length,
            },
        )

    def preprocess(self, inputs: Any, options: _Resolved) -> list[_Ranked]:
        """The tokens of the pairs of each query and its documents."""
        if not self.one_label:
            raise UnsupportedError(
                f"{self.model.id} has the labels {', '.join(self.labels)}, and documents are ranked by one score",
                hint="Call predict(pairs) for the scores of all labels.",
                model=self.model.id,
            )
        found = []
        for index, item in enumerate(as_objects(inputs, _EXAMPLE)):
            check_keys(item, (_QUERY, *_DOCUMENTS), index, _EXAMPLE)
            query = text_of(item, _QUERY, index, _EXAMPLE)
            documents = texts_of(item, _DOCUMENTS, index, _EXAMPLE)
            found.append(_Ranked(self._pair_tokens([(query, text) for text in documents], options), documents))
        return found

    def postprocess(self, prepared: _Ranked, output: list[Floats], options: _Resolved) -> list[dict[str, Any]]:
        """The documents in the order of their scores."""
        if not output:
            return []
        scores = self._scores(np.stack(output), options)
        best = np.argsort(-scores, kind="stable")[: options.top_k]
        return [
            {
                "corpus_id": int(place),
                "score": float(scores[place]),
                **({"text": prepared.documents[place]} if options.return_documents else {}),
            }
            for place in best
        ]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each document: its text, or its place."""
        return [AnswerRow(entry.get("text", f"document {entry['corpus_id']}"), entry["score"]) for entry in answer]

    def _pair_tokens(self, pairs: Sequence[tuple[str, str]], options: _Resolved) -> list[Tokens]:
        texts: list[TextInput] = [(options.opening + first, second) for first, second in pairs]
        return self._tokenize(texts, **options.limits)

    def _scores(self, logits: Floats, options: _Resolved) -> Floats:
        """The scores [pairs], or [pairs, labels], from the logits [pairs, labels]."""
        scores = options.activation(logits.astype(np.float32, copy=False))
        if options.softmax:
            scores = softmax(scores)
        return scores[:, 0] if self.one_label else scores

    @cached_property
    def _repository(self) -> SentenceConfig:
        """Limits and prompts of sentence-transformers' files."""
        return read_ranking_config(self.model)

    @cached_property
    def _default_activation(self) -> str:
        """As the repository's files say, else sigmoid for one label and none for several.

        A class of the repository's own code is not run: as in sentence-transformers without ``trust_remote_code``, the
        default counts.
        """
        config = self.model.read_json("config.json")
        settings = self.model.read_json("config_sentence_transformers.json")
        inner = config.get("sentence_transformers")
        named = settings.get("activation_fn") or (inner.get("activation_fn") if isinstance(inner, Mapping) else None)
        named = named or config.get("sbert_ce_default_activation_function")
        if isinstance(named, str):
            short = named.rpartition(".")[2].lower()
            if named.startswith("torch.") and short in _ACTIVATIONS:
                return short
            if named.startswith("torch."):
                raise UnsupportedError(
                    f"{self.model.id} has the activation {named}, which gpux does not support",
                    hint=f"Name another one: activation_fn={'|'.join(_ACTIVATIONS)}.",
                    model=self.model.id,
                )
            log.warning("the activation %s of %s is the repository's own code and is not used", named, self.model.id)
        return "sigmoid" if self.one_label else "identity"


def _pairs(pairs: Any) -> tuple[list[tuple[str, str]], bool]:
    """Pairs of texts from one pair or several, and whether it was one."""
    if isinstance(pairs, (str, bytes, Mapping)) or not isinstance(pairs, Iterable):
        raise InputError(f"pairs of texts are expected, and {type(pairs).__name__} was given", hint=_PAIR)
    items = list(pairs)
    single = len(items) == 2 and all(isinstance(item, str) for item in items)
    found = []
    for index, item in enumerate([items] if single else items):
        match item:
            case (str() as first, str() as second) | [str() as first, str() as second]:
                found.append((first, second))
            case _:
                raise InputError(f"input {index} is not a pair of texts", hint=_PAIR, index=index)
    check_unicode(found, "pair")
    return found, single


_PAIR = 'Give ("question", "passage"), or a list of such pairs.'
