"""Vectors of whole texts, as sentence-transformers' ``encode`` gives them: shared by the tasks that have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpux.errors import InputError, UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Forward, check_positive
from gpux.pipelines.batching import placed
from gpux.pipelines.options import Option, check_names, option_specs
from gpux.pipelines.text.base import TextPipeline, as_texts, hidden_size
from gpux.pipelines.text.sentence import (
    MODES,
    Layer,
    SentenceConfig,
    dense_layers,
    read_own_config,
    read_sentence_config,
    transformer_folder,
    without_prompt,
)
from gpux.pipelines.text.tokenization import Tokenizer, Tokens
from gpux.pipelines.text.vectors import (
    Precision,
    check_vector_precision,
    compare,
    normalized,
    quantize_vectors,
    similarity_name,
)
from gpux.runtime.session import Session
from gpux.runtime.token_outputs import linear_layers, sentence_output, token_output

Floats = NDArray[np.float32]
#: Texts that are tokenized together: enough to sort well, few enough to hold in memory.
_CHUNK = 4096


class EncodeOptions(TypedDict, total=False):
    """Options of :meth:`FeatureExtractionPipeline.encode`, with the names of sentence-transformers."""

    batch_size: Annotated[int | None, Option("texts of one run at most; by default, as many as fit the budget")]
    normalize: Annotated[
        bool | None,
        Option("True: vectors of length 1; False: skip a Normalize module; None: as the repository says"),
    ]
    normalize_embeddings: Annotated[bool, Option("sentence-transformers' name for normalize=True", default=False)]
    prompt_name: Annotated[str | None, Option("one of the repository's prompts, by name")]
    prompt: Annotated[str | None, Option("a text put before every input, instead of a named prompt")]
    truncation: Annotated[bool, Option("cut a text beyond max_seq_length; False: refuse it", default=True)]
    max_length: Annotated[int | None, Option("a smaller limit, in tokens")]
    truncate_dim: Annotated[int | None, Option("leading dimensions to keep; by default as the repository says")]


@dataclass(frozen=True)
class Encoding:
    """What one call of encode computes, after its options and the repository's files."""

    output: str  #: of the graph
    opening: str  #: the prompt
    pooling: tuple[str, ...]  #: modes; none where the output has one vector for each text
    skipped: int  #: leading tokens that are not pooled
    layers: tuple[Layer, ...]
    dimensions: int | None
    normalize: bool
    limits: Mapping[str, Any]  #: of tokens

    def finished(self, vectors: Floats) -> Floats:
        """Pooled vectors [texts, width] after the layers, the truncation and the normalization, in this order."""
        for layer in self.layers:
            vectors = layer(vectors)
        vectors = vectors[:, : self.dimensions]
        return normalized(vectors) if self.normalize else np.ascontiguousarray(vectors)


class EncodingPipeline(TextPipeline):
    """A pipeline whose graph gives vectors of tokens, or of whole texts, and :meth:`encode`, which needs either."""

    def __init__(self, model: StoredModel, **arguments: Any) -> None:  # a subclass names their types
        super().__init__(model, **arguments)
        outputs = self.session.outputs
        self._tokens_output = token_output(outputs)
        self._own_output = sentence_output(outputs, model.read_json("config.json"))
        found = self._tokens_output or self._own_output
        if found is None:
            raise UnsupportedError(
                f"the graph of {model.id} gives {', '.join(spec.name for spec in outputs)}, and {self.task} needs "
                "vectors of tokens, of rank 3, or of texts, of rank 2",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.model_task}`.",
                model=model.id,
            )
        self.outputs = (found,)

    @cached_property
    def sentence(self) -> SentenceConfig:
        """How :meth:`encode` computes one vector per text.

        Raises:
            UnsupportedError: the repository has a module that gpux does not support.
        """
        return read_own_config(self.model) if self._own_vectors else read_sentence_config(self.model)

    @cached_property
    def _own_vectors(self) -> bool:
        """Whether :meth:`encode` takes the vectors that the graph computes itself.

        They are those of the repository's modules, which exporters put into the graph. Where the repository has Dense
        modules, and the graph has fewer linear layers after its token vectors, it pools only.
        """
        if self._own_output is None or self._tokens_output is None:
            return self._own_output is not None
        dense = dense_layers(self.model)
        inside = linear_layers(self.session.path, self._tokens_output, self._own_output) if dense else None
        return inside is None or inside >= dense

    @property
    def max_seq_length(self) -> int | None:
        """Limit of tokens per text of :meth:`encode`, special tokens included; None without a limit."""
        return self._limit(limit=self.sentence.max_seq_length)

    @property
    def dimension(self) -> int:
        """Size of the vectors of :meth:`encode`."""
        if self._own_vectors and not isinstance(self._last_axis(str(self._own_output)), int):
            return len(self.encode("a"))
        width = self._width()
        for layer in self.sentence.layers:
            width = layer.width or width
        return min(width, self.encode_defaults.get("truncate_dim") or self.sentence.truncate_dim or width)

    @property
    def memory_bytes(self) -> int:
        """Approximate bytes of the loaded model: the size of its weights, those of the sentence layers included."""
        loaded: SentenceConfig | None = self.__dict__.get("sentence")  # not loaded just to be counted
        return super().memory_bytes + sum(layer.nbytes for layer in (loaded.layers if loaded else ()))

    @overload
    def encode(
        self, texts: str | Iterable[str], *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> Floats: ...
    @overload
    def encode(
        self, texts: str | Iterable[str], *, precision: Precision, **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]: ...
    def encode(
        self, texts: str | Iterable[str], *, precision: Precision = "float32", **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """One vector per text, as sentence-transformers' ``encode`` gives it.

        Args:
            texts: one text, or several.
            precision: ``int8``, ``uint8``, ``binary`` or ``ubinary`` for an index of smaller vectors, see
                :func:`gpux.pipelines.text.vectors.quantize_vectors`.
            options: see :class:`EncodeOptions`.

        Returns:
            float32 [dim] for one text, [texts, dim] for several, in their order; other types with ``precision``.

        Raises:
            InputError: an input is not a text, has no tokens, or is too long with ``truncation=False``.
            UnsupportedError: the repository has a module that gpux does not support, or excludes the prompt from the
                pooling of a graph that gives no token vectors.
            UsageError: no prompt of that name, or an option that is unknown or out of range.
        """
        check_vector_precision(precision)
        check_names("encode", options, [spec.name for spec in option_specs(EncodeOptions)])
        options = {**self.encode_defaults, **options}
        vectors = self._encoded(as_texts(texts), self._encoding(options), options.get("batch_size"))
        if precision != "float32":
            vectors = quantize_vectors(vectors, precision)
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_query(
        self, texts: str | Iterable[str], *, precision: Precision = "float32", **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """:meth:`encode` with the repository's prompt ``query``, or without one, where the call names no other."""
        return self.encode(texts, precision=precision, **self._prompted(options, "query"))

    def encode_document(
        self, texts: str | Iterable[str], *, precision: Precision = "float32", **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """:meth:`encode` with the repository's prompt ``document``, where the call names no other.

        Without such a prompt, none is used; ``passage`` is a prompt of some repositories that has to be named.
        """
        return self.encode(texts, precision=precision, **self._prompted(options, "document"))

    @property
    def encode_defaults(self) -> EncodeOptions:
        """Options of :meth:`encode` where a call does not give them."""
        return {}

    @property
    def similarity_fn_name(self) -> str:
        """How vectors are compared: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``, as the repository says.

        Raises:
            UnsupportedError: the repository names another function.
        """
        return similarity_name(self.model, "cosine", self._options.get("similarity"))

    def similarity(self, first: ArrayLike, second: ArrayLike) -> Floats:
        """The similarity of every two vectors, by :attr:`similarity_fn_name`; a distance is negative.

        Args:
            first: a vector [dim], or several [a, dim].
            second: the same, [b, dim].

        Returns:
            float32 [a, b].

        Raises:
            InputError: the arrays are not vectors of the same size.
        """
        return compare(self.similarity_fn_name, first, second)

    def similarity_pairwise(self, first: ArrayLike, second: ArrayLike) -> Floats:
        """The similarity of the vectors at the same place of two arrays [n, dim], as float32 [n].

        Raises:
            InputError: the arrays are not vectors of the same size and number.
        """
        return compare(self.similarity_fn_name, first, second, pairwise=True)

    def _prompted(self, options: EncodeOptions, name: str) -> EncodeOptions:
        """The options with a prompt of the repository, unless they name one."""
        given = {**self.encode_defaults, **options}
        named = given.get("prompt") is not None or given.get("prompt_name") is not None
        return options if named else {**options, "prompt_name": name}

    def _encoding(self, options: EncodeOptions) -> Encoding:
        """What a call of :meth:`encode` computes.

        Raises:
            UnsupportedError, UsageError: as :meth:`encode`.
        """
        check_positive(
            batch_size=options.get("batch_size"),
            max_length=options.get("max_length"),
            truncate_dim=options.get("truncate_dim"),
        )
        opening = self.sentence.prompt(options.get("prompt"), options.get("prompt_name"))
        skipped = self._prompt_tokens(opening)
        output, sentence = self._computed_from(skipped)
        layers = sentence.layers
        if options.get("normalize") is False:
            layers = tuple(layer for layer in layers if not layer.normalizes)
        return Encoding(
            output,
            opening=opening,
            pooling=() if output == self._own_output else sentence.pooling,
            skipped=skipped,
            layers=layers,
            dimensions=options.get("truncate_dim") or sentence.truncate_dim,
            normalize=bool(options.get("normalize") or options.get("normalize_embeddings")),
            limits={
                "truncation": options.get("truncation", True),
                "max_length": options.get("max_length"),
                "limit": sentence.max_seq_length,
            },
        )

    def _computed_from(self, skipped: int) -> tuple[str, SentenceConfig]:
        """The output from which vectors are computed, and how; a graph that pools by itself skips no tokens.

        Raises:
            UnsupportedError: tokens of a prompt have to be skipped, and the graph gives no token vectors.
        """
        if self._own_vectors and not skipped:
            return str(self._own_output), self.sentence
        if self._tokens_output is None:
            raise UnsupportedError(
                f"{self.model.id} does not pool the tokens of a prompt, and its graph pools all tokens",
                hint="Give texts without a prompt: encode(texts, prompt='').",
                model=self.model.id,
            )
        return self._tokens_output, read_sentence_config(self.model) if self._own_vectors else self.sentence

    def _encoded(self, texts: Sequence[str], encoding: Encoding, batch_size: int | None) -> Floats:
        """Vectors of texts [texts, dim]; long texts are tokenized first, some thousands at a time."""
        found: list[Floats] = [np.empty(0, np.float32)] * len(texts)
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        pool = self._pool(encoding)
        for start in range(0, len(order), _CHUNK):
            chunk = sorted(order[start : start + _CHUNK])
            try:
                tokens = self._sentence_tokens([texts[index] for index in chunk], encoding)
            except InputError as error:
                if not isinstance(error.details.get("index"), int):
                    raise
                raise placed(error, chunk[error.details["index"]]) from error
            for index, vector in zip(chunk, self.run_batches(tokens, batch_size=batch_size, forward=pool), strict=True):
                found[index] = vector
        return encoding.finished(np.stack(found) if found else np.empty((0, self._width()), np.float32))

    def _sentence_tokens(self, texts: Sequence[str], encoding: Encoding) -> list[Tokens]:
        """Tokens of texts, after the prompt."""
        prompted = [encoding.opening + text for text in texts] if encoding.opening else texts
        return self._tokenize(prompted, tokenizer=self.sentence_tokenizer, **encoding.limits)

    def _pool(self, encoding: Encoding) -> Forward:
        """A function of a batch of tokens to the vector of each text, before the layers after the pooling."""
        return _Pool(self, encoding.output, encoding.pooling, encoding.skipped)

    def _pooled(self, batch: Sequence[Tokens], session: Session, pool: _Pool) -> list[Floats]:
        found: list[Floats] = [np.empty(0, np.float32)] * len(batch)
        for places, array, mask in self._runs(batch, session, pool.output):
            kept = without_prompt(mask, pool.skipped) if pool.skipped else mask
            vectors = array.astype(np.float32, copy=False)
            if pool.modes:
                vectors = np.concatenate([MODES[mode](vectors, kept) for mode in pool.modes], axis=1)
            for place, vector in zip(places, vectors, strict=True):
                found[place] = vector
        return found

    def _prompt_tokens(self, prompt: str) -> int:
        if not prompt or self.sentence.include_prompt:
            return 0
        return self.sentence_tokenizer.prompt_length(prompt, self.max_seq_length)

    @cached_property
    def sentence_tokenizer(self) -> Tokenizer:
        """The tokenizer of :meth:`encode`, which may lower-case texts first.

        Raises:
            UnsupportedError: the repository has a module that gpux does not support.
        """
        if not self.sentence.lower_case:
            return self.tokenizer
        return Tokenizer(self.model, subfolder=self.sentence.folder, lower_case=True)

    def _open_tokenizer(self) -> Tokenizer:
        return Tokenizer(self.model, subfolder=transformer_folder(self.model))

    def _width(self) -> int:
        """Size of a vector before the layers after the pooling; 0 where neither graph nor configuration states it."""
        last = self._last_axis(str(self._own_output if self._own_vectors else self._tokens_output))
        size = last if isinstance(last, int) else hidden_size(self.model) or 0
        return size * (1 if self._own_vectors else len(self.sentence.pooling))

    def _last_axis(self, output: str) -> int | str | None:
        return next(spec.shape[-1] for spec in self.session.outputs if spec.name == output)


@dataclass(frozen=True)
class _Pool:
    """See :meth:`EncodingPipeline._pool`; equal where it computes the same, so that calls may share a batch."""

    pipeline: EncodingPipeline
    output: str
    modes: tuple[str, ...]
    skipped: int

    def __call__(self, batch: Sequence[Tokens], session: Session) -> list[Floats]:
        return self.pipeline._pooled(batch, session, self)
