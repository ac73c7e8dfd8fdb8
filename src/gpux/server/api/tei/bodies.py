"""Bodies of text-embeddings-inference's paths.

Source of the names: ``router/src/http/types.rs`` of text-embeddings-inference 1.9. Each has ``model`` too, which that
server does not have: it serves one model.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from gpux.errors import UsageError

T = TypeVar("T")


class Named(msgspec.Struct, kw_only=True):
    """What every body may have; keys that are not known have no effect, as there."""

    model: str | None = None  #: reference of a stored model; null: see the server's ``--tei-model``


class Truncated(Named, kw_only=True):
    """A body with texts that may be longer than the model reads."""

    truncate: bool | None = None  #: cut such a text; false: refuse it; null: cut it
    truncation_direction: str | None = None  #: ``Right``; the other one is refused

    def truncation(self) -> bool:
        """Whether long texts are cut.

        Raises:
            UsageError: they are to be cut on the left.
        """
        if (self.truncation_direction or "right").lower() != "right":
            raise UsageError("texts are cut on the right", hint="Omit it.", param="truncation_direction")
        return self.truncate is not False


class EmbedBody(Truncated, kw_only=True):
    """Of ``/embed``."""

    inputs: str | list[Any]
    normalize: bool = True
    prompt_name: str | None = None
    dimensions: int | None = None


class TokensBody(Truncated, kw_only=True):
    """Of ``/embed_all`` and ``/embed_sparse``."""

    inputs: str | list[Any]
    prompt_name: str | None = None


class PredictBody(Truncated, kw_only=True):
    """Of ``/predict``: a text, ``[text]``, a pair ``[text, text]``, or a list of such lists."""

    inputs: str | list[Any]
    raw_scores: bool = False


class RerankBody(Truncated, kw_only=True):
    """Of ``/rerank``."""

    query: str
    texts: list[Any]
    raw_scores: bool = False
    return_text: bool = False


class SimilarityInputs(msgspec.Struct):
    """Of ``/similarity``."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Truncated, kw_only=True):
    """Of ``/similarity``."""

    prompt_name: str | None = None


class SimilarityBody(Named, kw_only=True):
    """Of ``/similarity``."""

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None


class TokenizeBody(Named, kw_only=True):
    """Of ``/tokenize``."""

    inputs: str | list[Any]
    add_special_tokens: bool = True
    prompt_name: str | None = None


class DecodeBody(Named, kw_only=True):
    """Of ``/decode``."""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True


def read(given: dict[str, Any], kind: type[T]) -> T:
    """A decoded body as a value of its type.

    Raises:
        UsageError: a field is missing or of another type.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"invalid request: {error}") from error


def texts_of(inputs: str | list[Any], name: str = "inputs") -> list[str]:
    """The texts of a body.

    Raises:
        UsageError: there are none, or one is empty or no text.
    """
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not texts:
        raise UsageError(f"{name} is empty", hint="Send at least one text.", param=name, empty=True)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(
                f"{name}[{index}] is not a text", hint="Send texts: token ids are those of one tokenizer.", param=name
            )
        if not text:
            raise UsageError(f"{name}[{index}] is empty", hint="Remove it.", param=name, empty=True)
    return texts
