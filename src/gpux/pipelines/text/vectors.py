"""Vectors of texts after they are computed: how similar two are, and smaller number types for an index.

The functions and their names are those of sentence-transformers 5.7 (``util/similarity.py`` and
``util/quantization.py``), on numpy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel

Floats = NDArray[np.float32]
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
#: A norm below this counts as this, as in ``torch.nn.functional.normalize``.
_SMALLEST_NORM = np.float32(1e-12)


@dataclass(frozen=True)
class SimilarityFunction:
    """One function in two forms."""

    matrix: Callable[[Floats, Floats], Floats]  #: of float32 [a, dim] and [b, dim] to [a, b]
    pairwise: Callable[[Floats, Floats], Floats]  #: of float32 [n, dim] and [n, dim] to [n]


def normalized(vectors: Floats) -> Floats:
    """Rows at length 1."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: Floats = (vectors / np.maximum(norms, _SMALLEST_NORM)).astype(np.float32, copy=False)
    return found


def _dot(a: Floats, b: Floats) -> Floats:
    found: Floats = a @ b.T
    return found


def _dot_pairwise(a: Floats, b: Floats) -> Floats:
    found: Floats = (a * b).sum(axis=-1)
    return found


def _euclidean(a: Floats, b: Floats) -> Floats:
    found: Floats = -np.sqrt(np.square(a - b).sum(axis=-1))
    return found


def _manhattan(a: Floats, b: Floats) -> Floats:
    found: Floats = -np.abs(a - b).sum(axis=-1)
    return found


def _by_rows(distance: Callable[[Floats, Floats], Floats]) -> Callable[[Floats, Floats], Floats]:
    """A distance of every two rows, one row of ``a`` at a time, so that no array has three axes."""

    def matrix(a: Floats, b: Floats) -> Floats:
        return np.stack([distance(row, b) for row in a]) if len(a) else np.empty((0, len(b)), np.float32)

    return matrix


#: name -> function; larger is more similar, so that the distances are negative
SIMILARITIES: dict[str, SimilarityFunction] = {
    "cosine": SimilarityFunction(
        lambda a, b: _dot(normalized(a), normalized(b)), lambda a, b: _dot_pairwise(normalized(a), normalized(b))
    ),
    "dot": SimilarityFunction(_dot, _dot_pairwise),
    "euclidean": SimilarityFunction(_by_rows(_euclidean), _euclidean),
    "manhattan": SimilarityFunction(_by_rows(_manhattan), _manhattan),
}


def similarity_name(model: StoredModel, default: Similarity, given: str | None = None) -> str:
    """The name of a model's similarity: the given one, ``similarity_fn_name`` of the repository, or the default.

    Raises:
        UsageError: there is no function of the given name.
        UnsupportedError: there is no function of the repository's name.
    """
    if given is not None:
        if given not in SIMILARITIES:
            raise UsageError(f"similarity is {given!r}", hint=f"It may be {', '.join(SIMILARITIES)}.")
        return given
    name = model.read_json("config_sentence_transformers.json").get("similarity_fn_name") or default
    if name not in SIMILARITIES:
        raise UnsupportedError(
            f"{model.id} compares vectors by {name!r}, which gpux does not have",
            hint=f"Choose one of {', '.join(SIMILARITIES)}: pipeline(…, similarity='cosine').",
            model=model.id,
        )
    return str(name)


def as_vectors(values: ArrayLike, what: str) -> Floats:
    """One vector or several as float32 [n, dim].

    Raises:
        InputError: the values are not numbers, or have more than two axes.
    """
    try:
        found = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise InputError(
            f"{what} is not an array of numbers: {exc}", hint="Give the vectors that encode() returned."
        ) from exc
    if found.ndim not in (1, 2):
        raise InputError(f"{what} has {found.ndim} axes, not 1 (a vector) or 2 (vectors)")
    return found[None] if found.ndim == 1 else found


def compare(name: str, first: ArrayLike, second: ArrayLike, *, pairwise: bool = False) -> Floats:
    """The similarity of every two vectors float32 [a, b], or with ``pairwise`` of those at the same place [n].

    Args:
        name: of the function, a key of :data:`SIMILARITIES`.
        first: a vector, or several.
        second: a vector, or several of the same size.
        pairwise: compare the first with the first, the second with the second …

    Raises:
        InputError: the sizes of the vectors differ, or with ``pairwise`` their numbers.
    """
    a, b = as_vectors(first, "the first array"), as_vectors(second, "the second array")
    if a.shape[1] != b.shape[1]:
        raise InputError(
            f"vectors of the sizes {a.shape[1]} and {b.shape[1]} cannot be compared",
            hint="Encode both with the same model and the same truncate_dim.",
        )
    if pairwise and len(a) != len(b):
        raise InputError(
            f"{len(a)} and {len(b)} vectors are not pairs", hint="Compare every two of them with similarity()."
        )
    function = SIMILARITIES[name]
    return (function.pairwise if pairwise else function.matrix)(a, b)


def check_vector_precision(precision: str) -> None:
    """Refuse an unknown type of numbers.

    Raises:
        UsageError: it is none of :data:`PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}", hint=f"It may be {', '.join(PRECISIONS)}.")


def quantize_vectors(vectors: Floats, precision: Precision, *, ranges: ArrayLike | None = None) -> NDArray[Any]:
    """Vectors in a smaller type of numbers, as ``sentence_transformers.util.quantize_embeddings``.

    Args:
        vectors: float32 [n, dim].
        precision: ``int8`` and ``uint8``: 256 steps between the smallest and the largest value of each dimension.
            ``binary`` and ``ubinary``: one bit for each dimension, 1 if it is above zero, 8 in a byte.
        ranges: float32 [2, dim], the smallest and largest value of each dimension for ``int8`` and ``uint8``; by
            default those of ``vectors``, which says little about a few vectors.

    Returns:
        [n, dim] of the named type; int8 or uint8 [n, dim / 8] for bits, the last byte filled up with zeros.

    Raises:
        UsageError: no such precision, or ``ranges`` of another shape.
    """
    check_vector_precision(precision)
    if precision == "float32" or not len(vectors):
        return vectors.astype({"float32": np.float32, "int8": np.int8, "binary": np.int8}.get(precision, np.uint8))
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    limits = np.stack([vectors.min(axis=0), vectors.max(axis=0)]) if ranges is None else np.asarray(ranges, np.float32)
    if limits.shape != (2, vectors.shape[1]):
        raise UsageError(
            f"ranges has the shape {limits.shape}, not (2, {vectors.shape[1]})",
            hint="Give np.stack([vectors.min(axis=0), vectors.max(axis=0)]) of many vectors.",
        )
    steps = (limits[1] - limits[0]) / 255
    levels = np.clip(np.floor((vectors - limits[0]) / np.where(steps == 0, 1, steps)), 0, 255)
    found: NDArray[Any] = levels.astype(np.uint8) if precision == "uint8" else (levels - 128).astype(np.int8)
    return found
