"""Token vectors as ``transformers.pipeline("feature-extraction")``, sentence vectors as sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError
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
    dense_layers,
    read_own_config,
    read_sentence_config,
    transformer_folder,
    without_prompt,
)
from gpux.pipelines.text.tokenization import Tokenizer, Tokens
from gpux.runtime.session import Session
from gpux.runtime.token_outputs import linear_layers, sentence_output, token_output

Floats = NDArray[np.float32]
#: Texts that are tokenized together: enough to sort well, few enough to hold in memory.
_CHUNK = 4096
#: Texts of a generator whose token vectors are held at once: 100 MB of lists for 256 tokens of 384 numbers each.
_TOKENS_WINDOW = 64


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
        outputs = self.session.outputs
        self._tokens_output = token_output(outputs)
        self._own_output = sentence_output(outputs, model.read_json("config.json"))
        found = self._tokens_output or self._own_output
        if found is None:
            raise UnsupportedError(
                f"the graph of {model.id} gives {', '.join(spec.name for spec in outputs)}, and {self.task} needs "
                "vectors of tokens, of rank 3, or of texts, of rank 2",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.task}`.",
                model=model.id,
            )
        self.outputs = (found,)

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
            UnsupportedError: the graph gives vectors of whole texts only.
            UsageError: an unknown or invalid option.
        """
        if self._tokens_output is None:
            raise UnsupportedError(
                f"the graph of {self.model.id} gives the vectors of whole texts only ({self._own_output})",
                hint="Call encode() for them.",
                model=self.model.id,
            )
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

    def answers(self, inputs: Sequence[Any], options: Mapping[str, Any] | None = None) -> list[Any]:
        """The vector of each text for a sentence-transformers model, or a graph that computes it itself; else the
        vectors of its tokens."""
        if not self._answers_sentences:
            return super().answers(inputs, options)
        merged = self._merged(options or {})
        limits = tokenizer_options(merged, "tokenize_kwargs")
        return list(self.encode(list(inputs), batch_size=merged.get("batch_size"), **limits).tolist())

    def to_json(self, answer: Any) -> Any:
        """Nested lists."""
        return np.asarray(answer).tolist()

    @property
    def _answers_sentences(self) -> bool:
        return self.model.has_file("modules.json") or self._own_output is not None

    @property
    def window_size(self) -> int:
        """Texts that :meth:`iter_answers` answers together at most: fewer, where every token has a vector."""
        return super().window_size if self._answers_sentences else _TOKENS_WINDOW

    @property
    def _call_window(self) -> int:
        return _TOKENS_WINDOW

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
            UnsupportedError: the repository has a module that gpux does not support, or excludes the prompt from the
                pooling of a graph that gives no token vectors.
            UsageError: no prompt of that name, or an option out of range.
        """
        check_positive(batch_size=batch_size, max_length=max_length, truncate_dim=truncate_dim)
        opening = self.sentence.prompt(prompt, prompt_name)
        skipped = self._prompt_tokens(opening)
        output, sentence = self._computed_from(skipped)
        vectors = self._pooled(
            [opening + text for text in as_texts(texts)],
            output,
            pooling=() if output == self._own_output else sentence.pooling,
            batch_size=batch_size,
            limits={"truncation": truncation, "max_length": max_length, "limit": sentence.max_seq_length},
            skipped=skipped,
        )
        for layer in sentence.layers:
            vectors = vectors if layer.normalizes and normalize is False else layer(vectors)
        vectors = vectors[:, : truncate_dim or sentence.truncate_dim]
        if normalize or normalize_embeddings:
            vectors = Normalize()(vectors)
        return vectors[0] if isinstance(texts, str) else np.ascontiguousarray(vectors)

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

    def _pooled(
        self,
        texts: Sequence[str],
        output: str,
        *,
        pooling: Sequence[str],
        batch_size: int | None,
        limits: dict[str, Any],
        skipped: int,
    ) -> Floats:
        """Vectors of texts [texts, dim] from an output; the first ``skipped`` tokens of each text are not pooled."""

        def pool(batch: Sequence[Tokens], session: Session) -> list[Floats]:
            found: list[Floats] = [np.empty(0, np.float32)] * len(batch)
            for places, array, mask in self._runs(batch, session, output):
                kept = without_prompt(mask, skipped) if skipped else mask
                hidden = array.astype(np.float32, copy=False)
                vectors = np.concatenate([MODES[mode](hidden, kept) for mode in pooling], axis=1) if pooling else hidden
                for place, vector in zip(places, vectors, strict=True):
                    found[place] = vector
            return found

        found: list[Floats] = [np.empty(0, np.float32)] * len(texts)
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        for start in range(0, len(order), _CHUNK):
            chunk = sorted(order[start : start + _CHUNK])  # so that an error names the place of its text
            tokens = self._tokenize([texts[i] for i in chunk], tokenizer=self.sentence_tokenizer, **limits)
            for index, vector in zip(chunk, self.run_batches(tokens, batch_size=batch_size, forward=pool), strict=True):
                found[index] = vector
        return np.stack(found) if found else np.empty((0, self._width()), np.float32)

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


def _beginning(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.4f}" for value in values[:5]) + (" …" if len(values) > 5 else "")
