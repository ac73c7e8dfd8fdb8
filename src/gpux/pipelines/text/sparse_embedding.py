"""Sparse vectors of texts (SPLADE): a weight for each vocabulary entry, as ``SparseEncoder`` of sentence-transformers.

The pooling is that of ``sentence_transformers/sparse_encoder/modules/splade_pooling.py`` of 5.7: ``log(1 + max(0, x))``
of each logit of a masked language model, then the largest or the sum over the tokens of a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, check_positive
from gpux.pipelines.options import Option
from gpux.pipelines.text.base import TextOptions, TextPipeline, as_texts
from gpux.pipelines.text.sentence import SparseConfig, read_sparse_config, transformer_folder
from gpux.pipelines.text.tokenization import Tokenizer, Tokens
from gpux.pipelines.text.vectors import similarity_name
from gpux.runtime.session import Session

Floats = NDArray[np.float32]

POOLINGS, ACTIVATIONS = ("max", "sum"), ("relu", "log1p_relu")
#: Vocabulary entries of an answer that are printed.
_SHOWN = 8


@dataclass(frozen=True)
class SparseVector:
    """The entries of a vector that are not zero, as ``SparseEmbedding`` of fastembed."""

    indices: NDArray[np.int64]  #: of vocabulary entries, ascending: [entries]
    values: Floats  #: their weights: [entries]

    def __len__(self) -> int:
        return len(self.indices)

    def as_dict(self) -> dict[int, float]:
        """Index -> weight."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))

    def as_object(self) -> dict[str, NDArray[Any]]:
        """The two arrays by name, as vector databases take them."""
        return {"indices": self.indices, "values": self.values}

    def to_dict(self) -> dict[str, list[Any]]:
        """JSON-able: ``indices`` and ``values`` as lists."""
        return {"indices": self.indices.tolist(), "values": self.values.tolist()}

    def dense(self, size: int) -> Floats:
        """The whole vector, float32 [size].

        Raises:
            InputError: an index is beyond the size.
        """
        if len(self) and self.indices[-1] >= size:
            raise InputError(f"the vector has the index {self.indices[-1]}, beyond the size {size}")
        found = np.zeros(size, np.float32)
        found[self.indices] = self.values
        return found


class SparseEmbeddingOptions(TextOptions, total=False):
    """Options of sparse-embedding."""

    prompt_name: Annotated[str | None, Option("one of the repository's prompts, by name")]
    prompt: Annotated[str | None, Option("a text put before every input, instead of a named prompt")]
    max_active_dims: Annotated[int | None, Option("the largest weights to keep; by default all")]
    pooling: Annotated[Literal["max", "sum"] | None, Option("over tokens; by default as the repository says, else max")]
    activation: Annotated[
        Literal["relu", "log1p_relu"] | None,
        Option("of logits; log1p_relu has a second logarithm; by default as the repository says, else relu"),
    ]


class SparseEmbeddingArguments(SparseEmbeddingOptions, OpenOptions, total=False):
    """Keywords of :class:`SparseEmbeddingPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    pool: Callable[[Floats], Floats]
    kept: int | None
    opening: str
    limits: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Pooled(Tokens):
    """The tokens of a text, and how they are pooled, which depends on the options of the call."""

    pool: Callable[[Floats], Floats]


class SparseEmbeddingPipeline(TextPipeline):
    """Weights of vocabulary entries for texts, of a masked language model that was trained for them.

    >>> embed = SparseEmbeddingPipeline(model)
    >>> embed.encode(["a cat"])
    [SparseVector(indices=array([ 1037,  4937, …]), values=array([0.31, 1.92, …]))]
    >>> embed.decode(embed.encode("a cat"), top_k=2)
    [('cat', 1.92), ('kitten', 0.88)]
    """

    task: ClassVar[str] = "sparse-embedding"
    model_task: ClassVar[str] = "fill-mask"
    call_options: ClassVar[type] = SparseEmbeddingOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[SparseEmbeddingArguments]) -> None:
        super().__init__(model, **arguments)
        size = model.read_json("config.json").get("vocab_size")
        self.outputs = (self._score_output(3, size if isinstance(size, int) else None),)
        _ = self._repository  # its errors come now

    def __call__(
        self, inputs: str | Iterable[str], **options: Unpack[SparseEmbeddingOptions]
    ) -> SparseVector | list[SparseVector]:
        """The same as :meth:`encode`."""
        return self.encode(inputs, **options)

    @overload
    def encode(  # type: ignore[overload-overlap]  # a text is an iterable of texts too, and comes first
        self, texts: str, **options: Unpack[SparseEmbeddingOptions]
    ) -> SparseVector: ...
    @overload
    def encode(self, texts: Iterable[str], **options: Unpack[SparseEmbeddingOptions]) -> list[SparseVector]: ...
    def encode(
        self, texts: str | Iterable[str], **options: Unpack[SparseEmbeddingOptions]
    ) -> SparseVector | list[SparseVector]:
        """One sparse vector per text.

        Args:
            texts: one text, or several.
            options: see :class:`SparseEmbeddingOptions`.

        Returns:
            A :class:`SparseVector` for one text, a list of them for several, in their order.

        Raises:
            InputError: an input is not a text, has no tokens, or is too long with ``truncation=False``.
            UsageError: no prompt of that name, or an option that is unknown or out of range.
        """
        found: list[SparseVector] = self.run(texts, options)
        return found[0] if isinstance(texts, str) else found

    @overload
    def encode_query(  # type: ignore[overload-overlap]  # a text is an iterable of texts too, and comes first
        self, texts: str, **options: Unpack[SparseEmbeddingOptions]
    ) -> SparseVector: ...
    @overload
    def encode_query(self, texts: Iterable[str], **options: Unpack[SparseEmbeddingOptions]) -> list[SparseVector]: ...
    def encode_query(
        self, texts: str | Iterable[str], **options: Unpack[SparseEmbeddingOptions]
    ) -> SparseVector | list[SparseVector]:
        """:meth:`encode` with the repository's prompt ``query``, where the call names no other."""
        return self.encode(texts, **self._prompted(options, "query"))

    @overload
    def encode_document(  # type: ignore[overload-overlap]  # a text is an iterable of texts too, and comes first
        self, texts: str, **options: Unpack[SparseEmbeddingOptions]
    ) -> SparseVector: ...
    @overload
    def encode_document(
        self, texts: Iterable[str], **options: Unpack[SparseEmbeddingOptions]
    ) -> list[SparseVector]: ...
    def encode_document(
        self, texts: str | Iterable[str], **options: Unpack[SparseEmbeddingOptions]
    ) -> SparseVector | list[SparseVector]:
        """:meth:`encode` with the repository's prompt ``document``, where the call names no other."""
        return self.encode(texts, **self._prompted(options, "document"))

    def decode(self, vector: SparseVector, *, top_k: int | None = None) -> list[tuple[str, float]]:
        """The vocabulary entries of a vector with their weights, largest first.

        Args:
            vector: of :meth:`encode`.
            top_k: entries at most; by default all.

        Raises:
            UsageError: ``top_k`` is below 1.
        """
        check_positive(top_k=top_k)
        order = np.argsort(-vector.values, kind="stable")[:top_k]
        names = self.tokenizer.backend.id_to_token
        return [
            (names(index) or f"[{index}]", weight)
            for index, weight in zip(vector.indices[order].tolist(), vector.values[order].tolist(), strict=True)
        ]

    @property
    def similarity_fn_name(self) -> str:
        """How vectors are compared: ``dot`` unless the repository says ``cosine``, ``euclidean`` or ``manhattan``.

        Raises:
            UnsupportedError: the repository names another function.
        """
        return similarity_name(self.model, "dot")

    def similarity(
        self, first: SparseVector | Sequence[SparseVector], second: SparseVector | Sequence[SparseVector]
    ) -> Floats:
        """The similarity of every two vectors, by :attr:`similarity_fn_name`, as float32 [first, second]."""
        a, b = _vectors(first), _vectors(second)
        size = max((int(vector.indices[-1]) + 1 for vector in (*a, *b) if len(vector)), default=1)
        dense = np.stack([vector.dense(size) for vector in a]) if a else np.empty((0, size), np.float32)
        columns = [_compared(self.similarity_fn_name, dense, vector) for vector in b]
        return np.stack(columns, axis=1) if columns else np.empty((len(a), 0), np.float32)

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Check the options, and look the prompt up."""
        check_positive(max_active_dims=options.get("max_active_dims"), max_length=options.get("max_length"))
        config = replace(
            self._repository,
            pooling=options.get("pooling") or self._repository.pooling,
            activation=options.get("activation") or self._repository.activation,
        )
        for name, value, known in (
            ("pooling", config.pooling, POOLINGS),
            ("activation", config.activation, ACTIVATIONS),
        ):
            if value not in known:
                raise UsageError(f"{name} is {value!r}", hint=f"It may be {', '.join(known)}.")
        limits = {
            "truncation": options.get("truncation", True),
            "max_length": options.get("max_length"),
            "limit": config.sentence.max_seq_length,
        }
        opening = config.sentence.prompt(options.get("prompt"), options.get("prompt_name"))
        pool = _POOLS[config.pooling, config.activation]
        return _Resolved(pool, options.get("max_active_dims"), opening, limits)

    def preprocess(self, inputs: str | Iterable[str], options: _Resolved) -> list[Tokens]:
        """Tokens of each text, after the prompt."""
        texts = [options.opening + text for text in as_texts(inputs)]
        tokens = self._tokenize(texts, **options.limits)
        return [_Pooled(text.ids, text.type_ids, options.pool) for text in tokens]

    def forward(self, batch: Sequence[Tokens], session: Session) -> Sequence[NDArray[Any]]:
        """The weights float32 [vocabulary] of each text."""
        (output,) = self.outputs
        found: list[Floats] = [np.empty(0, np.float32)] * len(batch)
        for places, logits, mask in self._runs(batch, session, output):
            for place, row, count in zip(places, logits, mask.sum(axis=1), strict=True):
                text = batch[place]
                assert isinstance(text, _Pooled)
                found[place] = text.pool(row[:count].astype(np.float32, copy=False))
        return found

    def postprocess(self, prepared: Tokens, output: Floats, options: _Resolved) -> SparseVector:
        """The entries that are not zero, or the largest of them."""
        indices = np.flatnonzero(output)
        if options.kept is not None and len(indices) > options.kept:
            largest = np.argsort(-output[indices], kind="stable")[: options.kept]
            indices = np.sort(indices[largest])
        return SparseVector(indices.astype(np.int64), output[indices])

    def to_json(self, answer: SparseVector) -> dict[str, list[Any]]:
        """``{"indices": […], "values": […]}``."""
        return answer.to_dict()

    def render(self, answer: Any) -> list[AnswerRow]:
        """The largest weights with their vocabulary entries."""
        vector = SparseVector(np.array(answer["indices"], np.int64), np.array(answer["values"], np.float32))
        rows = [AnswerRow(token, weight) for token, weight in self.decode(vector, top_k=_SHOWN)]
        more = len(vector) - len(rows)
        return [*rows, AnswerRow(f"… and {more} more")] if more else rows or [AnswerRow("no weights")]

    @cached_property
    def _repository(self) -> SparseConfig:
        return read_sparse_config(self.model)

    def _prompted(self, options: SparseEmbeddingOptions, name: str) -> SparseEmbeddingOptions:
        given = {**self._options, **options}
        named = given.get("prompt") is not None or given.get("prompt_name") is not None
        return options if named else {**options, "prompt_name": name}

    def _open_tokenizer(self) -> Tokenizer:
        return Tokenizer(self.model, subfolder=transformer_folder(self.model))


def _largest(logits: Floats) -> Floats:
    """``log(1 + max(0, x))`` of the largest logit of each entry: the logarithm keeps their order."""
    found: Floats = np.log1p(np.maximum(logits.max(axis=0), 0))
    return found


def _sum(logits: Floats) -> Floats:
    found: Floats = np.log1p(np.maximum(logits, 0)).sum(axis=0)
    return found


def _largest_twice(logits: Floats) -> Floats:
    found: Floats = np.log1p(_largest(logits))
    return found


def _sum_twice(logits: Floats) -> Floats:
    found: Floats = np.log1p(np.log1p(np.maximum(logits, 0))).sum(axis=0)
    return found


#: (pooling, activation) -> function of logits [tokens, vocabulary] to weights [vocabulary]
_POOLS: dict[tuple[str, str], Callable[[Floats], Floats]] = {
    ("max", "relu"): _largest,
    ("sum", "relu"): _sum,
    ("max", "log1p_relu"): _largest_twice,
    ("sum", "log1p_relu"): _sum_twice,
}


def _vectors(given: SparseVector | Sequence[SparseVector]) -> list[SparseVector]:
    found = [given] if isinstance(given, SparseVector) else list(given)
    for index, vector in enumerate(found):
        if not isinstance(vector, SparseVector):
            raise InputError(
                f"vector {index} is {type(vector).__name__}, not a SparseVector",
                hint="Give the vectors that encode() returned.",
                index=index,
            )
    return found


def _compared(name: str, dense: Floats, vector: SparseVector) -> Floats:
    """The similarity of dense vectors [n, size] to a sparse one, [n]: only its own entries are read in pairs."""
    own, values = dense[:, vector.indices].astype(np.float64), vector.values.astype(np.float64)
    if name == "manhattan":
        rest = np.abs(dense).sum(axis=1, dtype=np.float64) - np.abs(own).sum(axis=1)
        return _floats(-(np.maximum(rest, 0) + np.abs(own - values).sum(axis=1)))
    dot = own @ values
    squares, square = np.square(dense, dtype=np.float64).sum(axis=1), float(np.square(values).sum())
    if name == "euclidean":
        return _floats(-np.sqrt(np.maximum(squares - 2 * dot + square, 0)))
    if name == "cosine":
        return _floats(dot / np.maximum(np.sqrt(squares), 1e-12) / max(math.sqrt(square), 1e-12))
    return _floats(dot)


def _floats(values: NDArray[Any]) -> Floats:
    return values.astype(np.float32, copy=False)
