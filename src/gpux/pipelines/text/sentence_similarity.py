"""How similar sentences are to a source sentence, as the Hub's task sentence-similarity answers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Unpack, cast

import numpy as np

from gpux.errors import InputError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, Parts
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.text.encoding import EncodeOptions, Encoding, EncodingPipeline, Floats
from gpux.pipelines.text.objects import as_objects, check_keys, text_of, texts_of
from gpux.pipelines.text.tokenization import Tokens
from gpux.pipelines.text.vectors import Similarity, compare, similarity_name
from gpux.runtime.session import Session

_SOURCE, _SENTENCES = "source_sentence", "sentences"
_EXAMPLE = '{"source_sentence": "…", "sentences": ["…", "…"]}'


class SentenceSimilarityOptions(CallOptions, EncodeOptions, total=False):
    """Options of sentence-similarity; those of a pipeline are the defaults of its ``encode`` too."""

    similarity: Annotated[
        Similarity | None, Option("how vectors are compared; by default as the repository says, else by cosine")
    ]


class SentenceSimilarityArguments(SentenceSimilarityOptions, OpenOptions, total=False):
    """Keywords of :class:`SentenceSimilarityPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    similarity: str
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class _Sentence(Tokens):
    """The tokens of a text, and how they are pooled, which depends on the options of the call."""

    encoding: Encoding


class SentenceSimilarityPipeline(EncodingPipeline):
    """How similar sentences are, and their vectors.

    >>> compare = SentenceSimilarityPipeline(model)
    >>> compare({"source_sentence": "a cat", "sentences": ["a kitten", "an engine"]})
    [0.788, 0.125]
    >>> compare.similarity(compare.encode(["a cat"]), compare.encode(["a kitten", "an engine"]))  # float32 [1, 2]
    """

    task: ClassVar[str] = "sentence-similarity"
    model_task: ClassVar[str] = "feature-extraction"
    call_options: ClassVar[type] = SentenceSimilarityOptions
    input_keys: ClassVar[Sequence[str]] = ("source_sentence", "sentences")
    window: ClassVar[int | None] = 64  #: each input has several texts

    def __init__(self, model: StoredModel, **arguments: Unpack[SentenceSimilarityArguments]) -> None:
        super().__init__(model, **arguments)
        similarity_name(model, "cosine", arguments.get("similarity"))

    def __call__(
        self, inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]], **options: Unpack[SentenceSimilarityOptions]
    ) -> Any:
        """The similarity of each sentence to the source sentence, in the order of the sentences.

        Args:
            inputs: ``{"source_sentence": text, "sentences": [text, …]}``, or several of them.
            options: see :class:`SentenceSimilarityOptions`.

        Returns:
            A list of floats, or a list of such lists for several inputs. Larger is more similar: ``euclidean`` and
            ``manhattan`` are negative distances.

        Raises:
            InputError: an input has not this form; a text has no tokens, or is too long with ``truncation=False``.
            UnsupportedError: the repository has a module that gpux does not support.
            UsageError: an unknown or invalid option.
        """
        answers = self.run(inputs, options)
        return answers[0] if isinstance(inputs, (Mapping, str)) else answers

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Look the similarity and the prompt up."""
        name = similarity_name(self.model, "cosine", options.get("similarity"))
        return _Resolved(name, self._encoding(_encode_options(options)))

    def preprocess(self, inputs: Any, options: _Resolved) -> list[Parts]:
        """The tokens of each source sentence, followed by those of its sentences."""
        found = []
        for index, item in enumerate(as_objects(inputs, _EXAMPLE)):
            check_keys(item, (_SOURCE, _SENTENCES), index, _EXAMPLE)
            texts = [text_of(item, _SOURCE, index, _EXAMPLE), *texts_of(item, [_SENTENCES], index, _EXAMPLE)]
            try:
                tokens = self._sentence_tokens(texts, options.encoding)
            except InputError as exc:  # its index is that of the text
                details = {**exc.details, "index": index}
                raise InputError(f"input {index}: {exc.message}", hint=exc.hint, **details) from exc
            found.append(Parts([_Sentence(text.ids, text.type_ids, options.encoding) for text in tokens]))
        return found

    def forward(self, batch: Sequence[Tokens], session: Session) -> Sequence[Any]:
        """The pooled vector of each text, before the layers after the pooling."""
        first = cast(_Sentence, batch[0])
        return self._pool(first.encoding)(batch, session)

    def shared_by(self, prepared: Tokens) -> Hashable:
        """How the vectors of tokens are pooled."""
        return self._pool(cast(_Sentence, prepared).encoding)

    def postprocess(self, prepared: Parts, output: list[Floats], options: _Resolved) -> list[float]:
        """The similarities to the first of the pooled vectors."""
        vectors = options.encoding.finished(np.stack(output))
        return [float(score) for score in compare(options.similarity, vectors[0], vectors[1:])[0]]

    @property
    def encode_defaults(self) -> EncodeOptions:
        """The options of the pipeline that are options of ``encode``."""
        return _encode_options(self._options)

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each sentence, in their order."""
        return [AnswerRow(f"sentence {place}", score) for place, score in enumerate(answer, 1)]


def _encode_options(options: Mapping[str, Any]) -> EncodeOptions:
    return cast(EncodeOptions, {name: options[name] for name in options if name in EncodeOptions.__annotations__})
