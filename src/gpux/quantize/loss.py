"""The loss of a precision: outputs of the quantized graphs compared with those of the float32 graphs.

Measures, each over all evaluation inputs (:mod:`gpux.quantize.evaluation`):

* ``cosine_mean``, ``cosine_min``: cosine similarity of vectors; token vectors are first pooled as in the variant's
  sentence-transformers files, or by their mean without such files;
* ``kl``: Kullback-Leibler divergence of logits from float32, in nats per position;
* ``top1``: share of positions whose most likely class is the same;
* ``logits_cosine``: mean over positions of the cosine similarity of logits minus their mean: where all classes are
  nearly equally likely, ``kl`` is small whatever the logits;
* ``perplexity_ratio``: perplexity of the sentences relative to float32, of decoders;
* ``relative_error``: largest difference of an output with a single number, relative to the largest of 1 and the
  numbers of float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import ProofError, UnsupportedError
from gpux.model.graph_io import is_cache_input
from gpux.model.precisions import find_precision
from gpux.model.variant import StoredModel
from gpux.pipelines.text.sentence import MODES, read_sentence_config
from gpux.proof.cases import Runner
from gpux.quantize.evaluation import EvaluationInput, Outputs, evaluate
from gpux.runtime.numeric import log_softmax
from gpux.system.cancel import CancelToken

Floats = NDArray[np.floating[Any]]

#: Bytes of outputs stored for one comparison; logits beyond it are compared at some positions only.
STORED_BYTES = 256_000_000
_TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")


def store_outputs(inputs: Sequence[EvaluationInput], run: Runner, folder: Path, cancel: CancelToken) -> None:
    """Run the float32 graphs, and write their outputs to ``folder``, one file per evaluation input.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(inputs):
        cancel.check()
        outputs = _thinned(evaluate(item, run), len(inputs))
        found = {f"{call}:{name}": array for (call, name), array in outputs.items()}
        np.savez(folder / f"{number}.npz", **found)  # type: ignore[arg-type]  # numpy's stub takes names for options


def measure_loss(
    model: StoredModel, inputs: Sequence[EvaluationInput], run: Runner, folder: Path, cancel: CancelToken
) -> dict[str, float]:
    """Run the quantized graphs, and compare their outputs with those of :func:`store_outputs`.

    Args:
        model: the float32 variant.
        inputs: the evaluation inputs given to :func:`store_outputs`.
        run: runs the quantized graphs.
        folder: the folder given to :func:`store_outputs`.
        cancel: cancels the comparison.

    Returns:
        Measure -> value; the measures are listed at the top of this module.

    Raises:
        ProofError: an output is missing, of another shape, not finite where float32 is, or no output can be compared.
        CancelledError: ``cancel`` was set.
    """
    tally, pooling = _Tally(), _pooling(model)
    for number, item in enumerate(inputs):
        cancel.check()
        outputs = _thinned(evaluate(item, run), len(inputs))
        with np.load(folder / f"{number}.npz") as reference:
            for key in reference.files:
                call, name = key.split(":", 1)
                actual = outputs.get((int(call), name))
                _compare(tally, item, int(call), name, _finite(name, actual, reference[key]), pooling)
    if not tally.measures():
        raise ProofError(f"{model.id} has no outputs on which precisions can be compared")
    return tally.measures()


def violations(loss: Mapping[str, float], precision: str) -> list[str]:
    """The measures beyond the limits of a precision, each in words; empty when the loss is within all limits."""
    limits = find_precision(precision).loss_limits or {}
    return [
        f"{name} is {value:.4g}, at {limits[name].bound} {limits[name].value:g} is allowed"
        for name, value in loss.items()
        if name in limits and not limits[name].holds(value)
    ]


@dataclass
class _Tally:
    """Values of each measure so far."""

    cosines: list[float] = field(default_factory=list)
    divergences: list[Floats] = field(default_factory=list)
    logits_cosines: list[float] = field(default_factory=list)
    same: list[NDArray[np.bool_]] = field(default_factory=list)
    surprise: list[tuple[Floats, Floats]] = field(default_factory=list)  #: of next tokens: float32, quantized; nats
    errors: list[float] = field(default_factory=list)

    def measures(self) -> dict[str, float]:
        """The measures that have values."""
        values: dict[str, float] = {}
        if self.cosines:
            values |= {"cosine_mean": float(np.mean(self.cosines)), "cosine_min": min(self.cosines)}
        if self.divergences:
            values["kl"] = float(np.concatenate(self.divergences).mean())
            values["logits_cosine"] = float(np.mean(self.logits_cosines))
            values["top1"] = float(np.concatenate(self.same).mean())
        if self.surprise:
            before, after = (np.concatenate(part).mean() for part in zip(*self.surprise, strict=True))
            values["perplexity_ratio"] = float(np.exp(after - before))
        if self.errors:
            values["relative_error"] = max(self.errors)
        return values


def _finite(name: str, actual: NDArray[Any] | None, expected: NDArray[Any]) -> tuple[Floats, Floats]:
    """Both outputs as float64, the quantized one first; values that are not finite in float32 become 0 in both."""
    if actual is None or actual.shape != expected.shape:
        shape = None if actual is None else actual.shape
        raise ProofError(f"the quantized graph's output {name} has shape {shape}, and float32's {expected.shape}")
    finite = np.isfinite(expected)
    if not np.isfinite(actual[finite]).all():
        raise ProofError(
            f"the quantized graph's output {name} overflows: it has infinities or NaN where float32 has finite numbers",
            measure=name,
        )
    return np.where(finite, actual, 0).astype(np.float64), np.where(finite, expected, 0).astype(np.float64)


def _compare(
    tally: _Tally, item: EvaluationInput, call: int, name: str, pair: tuple[Floats, Floats], pooling: Iterable[str]
) -> None:
    actual, expected = pair
    mask = item.case.calls[call].masks.get(name)
    if mask is not None:
        actual, expected = actual[mask], expected[mask]
    if not expected.size:
        return
    classes = 1 if name == "logits" and expected.ndim == 4 else expected.ndim - 1  # segmentation: [batch, class, y, x]
    if name.endswith("logits") and expected.ndim > 1 and expected.shape[classes] > 1:
        _compare_logits(tally, item, np.moveaxis(actual, classes, -1), np.moveaxis(expected, classes, -1))
    elif expected.size == len(expected):
        difference = np.abs(actual - expected).max()
        tally.errors.append(float(difference / max(1.0, np.abs(expected).max())))
    else:
        if item.ids is not None and name in _TOKEN_VECTORS and expected.ndim == 3:
            actual, expected = (_pooled(array, pooling) for array in (actual, expected))
        tally.cosines += _cosines(actual.reshape(len(actual), -1), expected.reshape(len(expected), -1))


def _compare_logits(tally: _Tally, item: EvaluationInput, actual: Floats, expected: Floats) -> None:
    before, after = log_softmax(expected), log_softmax(actual)
    tally.divergences.append((np.exp(before) * (before - after)).sum(-1).ravel())
    centered = (array - array.mean(axis=-1, keepdims=True) for array in (actual, expected))
    tally.logits_cosines += _cosines(*(array.reshape(-1, array.shape[-1]) for array in centered))
    tally.same.append((before.argmax(-1) == after.argmax(-1)).ravel())
    ids = item.ids
    if ids is not None and expected.ndim == 3 and ids.max() < expected.shape[-1] and _predicts_next_token(item):
        positions = _positions(len(ids), expected.shape[1])
        scored = positions[positions < len(ids) - 1]
        following = ids[scored + 1]
        rows = np.arange(len(scored))
        tally.surprise.append((-before[0, rows, following], -after[0, rows, following]))


def _predicts_next_token(item: EvaluationInput) -> bool:
    """Whether the logits are those of a decoder: its graph has a KV cache."""
    call = item.case.calls[-1]
    return any(is_cache_input(name) for name in call.inputs)


def _cosines(actual: Floats, expected: Floats) -> list[float]:
    """Cosine similarity per row; of a row of zeros 1 with an equal row, else 0."""
    norms = np.linalg.norm(actual, axis=1) * np.linalg.norm(expected, axis=1)
    products = (actual * expected).sum(axis=1)
    same = (actual == expected).all(axis=1)
    return [float(value) for value in np.where(same, 1.0, products / np.where(norms > 0, norms, 1.0))]


def _pooled(tokens: Floats, modes: Iterable[str]) -> Floats:
    mask = np.ones(tokens.shape[:2], np.int64)
    return np.concatenate([MODES[mode](tokens.astype(np.float32), mask) for mode in modes], axis=1).astype(np.float64)


def _pooling(model: StoredModel) -> tuple[str, ...]:
    try:
        return read_sentence_config(model).pooling
    except UnsupportedError:
        return ("mean",)


def _thinned(outputs: Outputs, inputs: int) -> Outputs:
    """The outputs, large logits at some positions only, so that those of all inputs fit into ``STORED_BYTES``."""
    budget = STORED_BYTES // max(1, inputs)
    found: Outputs = {}
    for key, array in outputs.items():
        rows = max(1, int(budget // max(1, array[:, 0].nbytes))) if array.ndim == 3 else 0
        large = key[1] == "logits" and array.ndim == 3 and rows < array.shape[1]
        found[key] = array[:, _positions(array.shape[1], rows)] if large else array
    return found


def _positions(length: int, count: int) -> NDArray[np.int64]:
    """At most ``count`` evenly spaced positions of a length."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(np.int64)
