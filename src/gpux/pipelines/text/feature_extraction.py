"""Token vectors as ``transformers.pipeline("feature-extraction")``, sentence vectors as sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions
from gpux.pipelines.options import Option
from gpux.pipelines.text.base import (
    TextOptions,
    TokenizerOptions,
    as_texts,
    tokenizer_options,
)
from gpux.pipelines.text.encoding import EncodingPipeline
from gpux.pipelines.text.tokenization import Tokens

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


class FeatureExtractionPipeline(EncodingPipeline):
    """Vectors of texts: of every token by calling the pipeline, of whole texts by :meth:`encode`.

    >>> embed = FeatureExtractionPipeline(model)
    >>> embed("hello")                       # [[[0.1, …], …]]: [1, tokens, hidden]
    >>> embed.encode(["hello", "world"])     # float32 [2, hidden]
    """

    task: ClassVar[str] = "feature-extraction"
    call_options: ClassVar[type] = FeatureExtractionOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[FeatureExtractionArguments]) -> None:
        super().__init__(model, **arguments)

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
        return answer.tolist() if isinstance(answer, np.ndarray) else answer

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


def _beginning(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.4f}" for value in values[:5]) + (" …" if len(values) > 5 else "")
