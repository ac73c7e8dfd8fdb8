"""Token vectors as ``transformers.pipeline("feature-extraction")``, sentence vectors as sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, check_positive
from gpux.pipelines.options import Option
from gpux.pipelines.text.base import (
    TextOptions,
    TextPipeline,
    TokenizerOptions,
    as_texts,
    hidden_size,
    tokenizer_options,
)
from gpux.pipelines.text.sentence import (
    MODES,
    Normalize,
    SentenceConfig,
    read_sentence_config,
    transformer_folder,
    without_prompt,
)
from gpux.pipelines.text.tokenization import Tokenizer, Tokens
from gpux.runtime.session import Session

Floats = NDArray[np.float32]
#: Texts that are tokenized together: enough to sort well, few enough to hold in memory.
_CHUNK = 4096


class FeatureExtractionOptions(TextOptions, total=False):
    """Options of feature-extraction; :meth:`FeatureExtractionPipeline.encode` has its own keywords."""

    tokenize_kwargs: Annotated[
        TokenizerOptions | None, Option("truncation and max_length in a dict, as transformers accepts them")
    ]
    return_arrays: Annotated[bool, Option("numpy arrays instead of nested lists", default=False)]


class FeatureExtractionArguments(FeatureExtractionOptions, OpenOptions, total=False):
    """Keywords of :class:`FeatureExtractionPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    return_arrays: bool
    tokenizer: dict[str, Any]


class FeatureExtractionPipeline(TextPipeline):
    """Vectors of texts: of every token by calling the pipeline, of whole texts by :meth:`encode`.

    >>> embed = FeatureExtractionPipeline(model)
    >>> embed("hello")                       # [[[0.1, …], …]]: [1, tokens, hidden]
    >>> embed.encode(["hello", "world"])     # float32 [2, hidden]
    """

    task: ClassVar[str] = "feature-extraction"
    call_options: ClassVar[type] = FeatureExtractionOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[FeatureExtractionArguments]) -> None:
        super().__init__(model, **arguments)
        self.outputs = (self._vector_output(("last_hidden_state", "token_embeddings"), rank=3),)

    def __call__(self, inputs: str | Iterable[str], **options: Unpack[FeatureExtractionOptions]) -> Any:
        """The vector of every token, special tokens included, as ``transformers.pipeline`` gives it.

        Args:
            inputs: one text, or several.
            options: see :class:`FeatureExtractionOptions`.

        Returns:
            Nested lists [1, tokens, hidden] for one text, a list of such for several; with ``return_arrays`` float32
            arrays of that shape instead of nested lists.

        Raises:
            InputError: an input is not a text, too long, or has no tokens.
            UsageError: an unknown or invalid option.
        """
        answers = self.run(inputs, options)
        return answers[0] if isinstance(inputs, str) else answers

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Check the limits of tokens."""
        return _Resolved(bool(options.get("return_arrays")), tokenizer_options(options, "tokenize_kwargs"))

    def preprocess(self, inputs: str | Iterable[str], options: _Resolved) -> list[Tokens]:
        """Tokens of each text."""
        return self._tokenize(as_texts(inputs), **options.tokenizer)

    def postprocess(self, prepared: Tokens, output: NDArray[Any], options: _Resolved) -> Any:
        """The token vectors with a leading axis of length 1, as transformers has it."""
        return output[None] if options.return_arrays else output[None].tolist()

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """The vector of each text for a sentence-transformers model, the vectors of its tokens for any other."""
        if self.model.has_file("modules.json"):
            return list(self.encode(list(inputs)).tolist())
        return [np.asarray(answer).tolist() for answer in super().answers(inputs)]

    def render(self, answer: Any) -> list[AnswerRow]:
        """Size, norm and first numbers of a sentence vector, or a line for each token's vector."""
        if isinstance(answer[0], float):
            norm = math.sqrt(sum(value * value for value in answer))
            return [AnswerRow(f"{len(answer)} numbers of norm {norm:.4f}: {_beginning(answer)}")]
        return [AnswerRow(f"{len(token)} numbers: {_beginning(token)}") for token in answer[0]]

    @cached_property
    def sentence(self) -> SentenceConfig:
        """How :meth:`encode` computes one vector per text.

        Raises:
            UnsupportedError: the repository has a module that gpux does not support.
        """
        return read_sentence_config(self.model)

    @property
    def max_seq_length(self) -> int | None:
        """Limit of tokens per text of :meth:`encode`, special tokens included; None without a limit."""
        return self._limit(limit=self.sentence.max_seq_length)

    @property
    def dimension(self) -> int:
        """Size of the vectors of :meth:`encode`."""
        width = self._hidden_size() * len(self.sentence.pooling)
        for layer in self.sentence.layers:
            width = layer.width or width
        return min(width, self.sentence.truncate_dim or width)

    @property
    def memory_bytes(self) -> int:
        """Approximate bytes of the loaded model: the size of its weights, those of the sentence layers included."""
        loaded: SentenceConfig | None = self.__dict__.get("sentence")  # not loaded just to be counted
        return super().memory_bytes + sum(layer.nbytes for layer in (loaded.layers if loaded else ()))

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int | None = None,
        normalize: bool | None = None,
        normalize_embeddings: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncation: bool = True,
        max_length: int | None = None,
        truncate_dim: int | None = None,
    ) -> Floats:
        """One vector per text, as sentence-transformers' ``encode`` gives it.

        Args:
            texts: one text, or several.
            batch_size: texts of one run at most; by default, as many as fit the budget of tokens.
            normalize: True for vectors of length 1; False skips a Normalize module of the repository; None follows
                the repository.
            normalize_embeddings: sentence-transformers' name for ``normalize=True``.
            prompt_name: one of the repository's prompts, by name.
            prompt: a text put before every input, instead of a named prompt.
            truncation: cut a text beyond :attr:`max_seq_length`; False: refuse it.
            max_length: a smaller limit, in tokens.
            truncate_dim: leading dimensions to keep.

        Returns:
            float32 [dim] for one text, [texts, dim] for several, in their order.

        Raises:
            InputError: an input is not a text, has no tokens, or is too long with ``truncation=False``.
            UnsupportedError: the repository has a module that gpux does not support.
            UsageError: no prompt of that name, or an option out of range.
        """
        check_positive(batch_size=batch_size, max_length=max_length, truncate_dim=truncate_dim)
        opening = self.sentence.prompt(prompt, prompt_name)
        given = as_texts(texts)
        vectors = self._pooled(
            [opening + text for text in given],
            batch_size=batch_size,
            limits={"truncation": truncation, "max_length": max_length, "limit": self.sentence.max_seq_length},
            skipped=self._prompt_tokens(opening),
        )
        for layer in self.sentence.layers:
            vectors = vectors if layer.normalizes and normalize is False else layer(vectors)
        vectors = vectors[:, : truncate_dim or self.sentence.truncate_dim]
        if normalize or normalize_embeddings:
            vectors = Normalize()(vectors)
        return vectors[0] if isinstance(texts, str) else np.ascontiguousarray(vectors)

    def _pooled(self, texts: Sequence[str], *, batch_size: int | None, limits: dict[str, Any], skipped: int) -> Floats:
        """Pooled token vectors [texts, hidden × modes]; the first ``skipped`` tokens of each text are not pooled."""

        def pool(batch: Sequence[Tokens], session: Session) -> list[Floats]:
            found: list[Floats] = [np.empty(0, np.float32)] * len(batch)
            for places, output, mask in self._runs(batch, session, self.outputs[0]):
                kept = without_prompt(mask, skipped) if skipped else mask
                hidden = output.astype(np.float32, copy=False)
                vectors = np.concatenate([MODES[mode](hidden, kept) for mode in self.sentence.pooling], axis=1)
                for place, vector in zip(places, vectors, strict=True):
                    found[place] = vector
            return found

        width = self._hidden_size() * len(self.sentence.pooling)
        vectors = np.empty((len(texts), width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        for start in range(0, len(order), _CHUNK):
            chunk = sorted(order[start : start + _CHUNK])  # so that an error names the place of its text
            tokens = self._tokenize([texts[i] for i in chunk], tokenizer=self._sentence_tokenizer, **limits)
            vectors[chunk] = self.run_batches(tokens, batch_size=batch_size, forward=pool)
        return vectors

    def _prompt_tokens(self, prompt: str) -> int:
        if not prompt or self.sentence.include_prompt:
            return 0
        return self._sentence_tokenizer.prompt_length(prompt, self.max_seq_length)

    @cached_property
    def _sentence_tokenizer(self) -> Tokenizer:
        if not self.sentence.lower_case:
            return self.tokenizer
        return Tokenizer(self.model, subfolder=self.sentence.folder, lower_case=True)

    def _open_tokenizer(self) -> Tokenizer:
        return Tokenizer(self.model, subfolder=transformer_folder(self.model))

    def _hidden_size(self) -> int:
        declared = next(spec.shape[2] for spec in self.session.outputs if spec.name in self.outputs)
        return declared if isinstance(declared, int) else hidden_size(self.model) or 0


def _beginning(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.4f}" for value in values[:5]) + (" …" if len(values) > 5 else "")
