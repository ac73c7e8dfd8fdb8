"""From scores of classes and masks to segments of a picture, as transformers 4.57 computes them.

Some models have scores of each class at each pixel, and others have queries, each with scores of classes and one mask.
The functions are ``post_process_semantic_segmentation``, ``…_instance_segmentation`` and
``…_panoptic_segmentation`` of its image processors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpux.pipelines.vision.interpolation import bands, best_of, bilinear, nearest
from gpux.pipelines.vision.topk import unsorted_topk
from gpux.runtime.numeric import sigmoid, softmax

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Segment:
    """One part of a picture."""

    label: int  #: index of its class
    mask: Mask  #: [height, width] of the picture
    score: float | None = None


@dataclass(frozen=True)
class Queries:
    """The output of a model with queries."""

    classes: Floats  #: logits [queries, classes + 1]; the last class stands for no object
    masks: Floats  #: logits [queries, height, width]


def semantic(scores: Floats, size: tuple[int, int]) -> list[Segment]:
    """One segment for each class that is the best one of a pixel, by the number of the class.

    Args:
        scores: [classes, height, width], of any height and width.
        size: height and width of the picture.
    """
    best = np.empty(size, dtype=np.intp)
    for rows, band in bands(scores, size):
        best[rows] = best_of(band)
    return [Segment(int(label), best == label) for label in np.unique(best)]


def class_scores(found: Queries) -> Floats:
    """Scores [classes, height, width] at each pixel: those of the queries, weighted by their masks."""
    scores: Floats = np.einsum("qc,qhw->chw", softmax(found.classes)[:, :-1], sigmoid(found.masks), optimize=True)
    return scores


def panoptic(
    found: Queries, size: tuple[int, int], *, threshold: float, mask_threshold: float, overlap: float
) -> list[Segment]:
    """Segments that do not overlap: each pixel belongs to the query with the highest score times mask.

    Args:
        found: of the model.
        size: height and width of the picture.
        threshold: lowest score of a query.
        mask_threshold: lowest mask times score of the pixels that a query would have alone.
        overlap: a segment with a smaller share of the pixels that its query would have alone is dropped.
    """
    every = softmax(found.classes)
    labels, scores = every.argmax(axis=1), every.max(axis=1)
    kept = np.flatnonzero((labels != found.classes.shape[1] - 1) & (scores > np.float32(threshold)))
    if not len(kept):
        return []
    labels, scores = labels[kept], scores[kept]
    owner = np.empty(size, dtype=np.intp)
    alone = np.zeros(len(kept), dtype=np.int64)
    for rows, band in bands(sigmoid(found.masks[kept]), size):
        weighted = band * scores[:, None, None]
        owner[rows] = best_of(weighted)
        alone += (weighted >= np.float32(mask_threshold)).sum(axis=(1, 2))
    area = np.bincount(owner.ravel(), minlength=len(kept))
    return [
        Segment(int(labels[place]), owner == place, round(float(scores[place]), 6))
        for place in range(len(kept))
        if area[place] and alone[place] and float(np.float32(area[place]) / np.float32(alone[place])) > overlap
    ]


def instances(found: Queries, size: tuple[int, int], *, threshold: float) -> list[Segment]:
    """Segments of pairs of a query and a class; where they overlap, the later one has the pixels.

    Args:
        found: of the model.
        size: height and width of the picture.
        threshold: lowest score of a segment: that of its class, times the mean of its mask within it.
    """
    pairs, labels, queries = _best_pairs(found)
    inside = found.masks[queries] > 0
    means = (sigmoid(found.masks[queries]) * inside).sum(axis=(1, 2)) / (inside.sum(axis=(1, 2)) + np.float32(1e-6))
    scores = pairs * means.astype(np.float32)
    owner = np.full(size, -1, dtype=np.intp)
    whole: list[int] = []
    for place, mask in enumerate(inside):
        wide = nearest(mask, size)
        if wide.any() and float(scores[place]) >= threshold:
            owner[wide.astype(bool)] = place
            whole.append(place)
    return [Segment(int(labels[place]), owner == place, round(float(scores[place]), 6)) for place in whole]


def enlarged(found: Queries, size: tuple[int, int]) -> Queries:
    """With masks of this height and width."""
    return Queries(found.classes, bilinear(found.masks, size))


def _best_pairs(found: Queries) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
    """Score, class and query of as many pairs as there are queries."""
    scores = softmax(found.classes)[:, :-1]
    places = unsorted_topk(scores.reshape(-1), len(scores))
    return scores.reshape(-1)[places], places % scores.shape[1], places // scores.shape[1]
