"""What a reduced precision costs: the answers of the reduced graphs against those of the float32 ones.

Measures, each over all probes (:mod:`gpux.quantize.probes`):

* ``cosine_mean``, ``cosine_min``: of vectors; token vectors are pooled as the variant's sentence-transformers files
  say, by their mean without any;
* ``kl``, ``top1``: of outputs that are logits, Kullback-Leibler divergence from float32 in nats per position, and the
  share of positions with the same best class;
* ``logits_cosine``: mean over positions, of logits less their mean: where all classes are nearly equal, ``kl`` is
  small whatever the answer;
* ``perplexity_ratio``: of decoders, over the sentences' own next tokens;
* ``relative_error``: of an output with a single number, against the largest of 1 and the numbers of float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import ProofError, UnsupportedError
from gpux.model.precisions import find_precision
from gpux.model.variant import StoredModel
from gpux.pipelines.text.sentence import MODES, read_sentence_config
from gpux.proof.cases import Runner
from gpux.quantize.probes import Answers, Probe, ask
from gpux.runtime.numeric import log_softmax
from gpux.system.cancel import CancelToken

Floats = NDArray[np.floating[Any]]

#: Bytes of answers that are kept of one comparison; of logits beyond it some positions are left out.
KEPT_BYTES = 256_000_000
_TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")


def keep_answers(probes: Sequence[Probe], run: Runner, folder: Path, cancel: CancelToken) -> None:
    """Ask the float32 graphs, and write what they answer to ``folder``, a file per probe.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, probe in enumerate(probes):
        cancel.check()
        found = {f"{call}:{name}": array for (call, name), array in _thinned(ask(probe, run), len(probes)).items()}
        np.savez(folder / f"{number}.npz", **found)  # type: ignore[arg-type]  # numpy's stub takes names for options


def measure_loss(
    model: StoredModel, probes: Sequence[Probe], run: Runner, folder: Path, cancel: CancelToken
) -> dict[str, float]:
    """Ask the reduced graphs, and compare with what :func:`keep_answers` wrote.

    Args:
        model: the float32 variant.
        probes: the same as then.
        run: runs the reduced graphs.
        folder: the same as then.
        cancel: ends the comparison.

    Returns:
        Measure -> value; see the module.

    Raises:
        ProofError: an answer is missing, of another shape, not finite where float32 is, or nothing can be compared.
        CancelledError: ``cancel`` was set.
    """
    tally, pooling = _Tally(), _pooling(model)
    for number, probe in enumerate(probes):
        cancel.check()
        answers = _thinned(ask(probe, run), len(probes))
        with np.load(folder / f"{number}.npz") as reference:
            for key in reference.files:
                call, name = key.split(":", 1)
                actual = answers.get((int(call), name))
                _compare(tally, probe, int(call), name, _finite(name, actual, reference[key]), pooling)
    if not tally.found():
        raise ProofError(f"{model.id} has no outputs by which precisions could be compared")
    return tally.found()


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
    """Collects numbers per measure."""

    cosines: list[float] = field(default_factory=list)
    divergences: list[Floats] = field(default_factory=list)
    angles: list[float] = field(default_factory=list)  #: cosines of logits
    same: list[NDArray[np.bool_]] = field(default_factory=list)
    surprise: list[tuple[Floats, Floats]] = field(default_factory=list)  #: of next tokens, float32 and reduced, in nats
    errors: list[float] = field(default_factory=list)

    def found(self) -> dict[str, float]:
        """The measures that there is anything for."""
        values: dict[str, float] = {}
        if self.cosines:
            values |= {"cosine_mean": float(np.mean(self.cosines)), "cosine_min": min(self.cosines)}
        if self.divergences:
            values["kl"] = float(np.concatenate(self.divergences).mean())
            values["logits_cosine"] = float(np.mean(self.angles))
            values["top1"] = float(np.concatenate(self.same).mean())
        if self.surprise:
            before, after = (np.concatenate(part).mean() for part in zip(*self.surprise, strict=True))
            values["perplexity_ratio"] = float(np.exp(after - before))
        if self.errors:
            values["relative_error"] = max(self.errors)
        return values


def _finite(name: str, actual: NDArray[Any] | None, expected: NDArray[Any]) -> tuple[Floats, Floats]:
    """Both as float64, the reduced one first."""
    if actual is None or actual.shape != expected.shape:
        shape = None if actual is None else actual.shape
        raise ProofError(f"the reduced graph answers {name} in shape {shape}, float32 in {expected.shape}")
    finite = np.isfinite(expected)
    if not np.isfinite(actual[finite]).all():
        raise ProofError(
            f"the reduced graph's {name} overflows: numbers that are not finite where float32 has finite ones",
            measure=name,
        )
    return np.where(finite, actual, 0).astype(np.float64), np.where(finite, expected, 0).astype(np.float64)


def _compare(
    tally: _Tally, probe: Probe, call: int, name: str, pair: tuple[Floats, Floats], pooling: Iterable[str]
) -> None:
    actual, expected = pair
    mask = probe.case.calls[call].masks.get(name)
    if mask is not None:
        actual, expected = actual[mask], expected[mask]
    if not expected.size:
        return
    classes = 1 if name == "logits" and expected.ndim == 4 else expected.ndim - 1  # segmentation: [batch, class, y, x]
    if name.endswith("logits") and expected.ndim > 1 and expected.shape[classes] > 1:
        _compare_logits(tally, probe, np.moveaxis(actual, classes, -1), np.moveaxis(expected, classes, -1))
    elif expected.size == len(expected):
        difference = np.abs(actual - expected).max()
        tally.errors.append(float(difference / max(1.0, np.abs(expected).max())))
    else:
        if probe.ids is not None and name in _TOKEN_VECTORS and expected.ndim == 3:
            actual, expected = (_pooled(array, pooling) for array in (actual, expected))
        tally.cosines += _cosines(actual.reshape(len(actual), -1), expected.reshape(len(expected), -1))


def _compare_logits(tally: _Tally, probe: Probe, actual: Floats, expected: Floats) -> None:
    before, after = log_softmax(expected), log_softmax(actual)
    tally.divergences.append((np.exp(before) * (before - after)).sum(-1).ravel())
    centred = (array - array.mean(axis=-1, keepdims=True) for array in (actual, expected))
    tally.angles += _cosines(*(array.reshape(-1, array.shape[-1]) for array in centred))
    tally.same.append((before.argmax(-1) == after.argmax(-1)).ravel())
    ids = probe.ids
    if ids is not None and expected.ndim == 3 and ids.max() < expected.shape[-1] and _is_decoder(probe):
        kept = _kept(len(ids), expected.shape[1])
        scored = kept[kept < len(ids) - 1]
        following = ids[scored + 1]
        rows = np.arange(len(scored))
        tally.surprise.append((-before[0, rows, following], -after[0, rows, following]))


def _is_decoder(probe: Probe) -> bool:
    """Whether the next token is what the logits are of."""
    call = probe.case.calls[-1]
    return any(name.startswith(("past", "cache")) for name in call.inputs)


def _cosines(actual: Floats, expected: Floats) -> list[float]:
    """Per row; rows of zeros are equal to each other alone."""
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


def _thinned(answers: Answers, probes: int) -> Answers:
    """Large outputs per token at some positions only, so that all answers together stay within ``KEPT_BYTES``."""
    budget = KEPT_BYTES // max(1, probes)
    found: Answers = {}
    for key, array in answers.items():
        rows = max(1, int(budget // max(1, array[:, 0].nbytes))) if array.ndim == 3 else 0
        large = key[1] == "logits" and array.ndim == 3 and rows < array.shape[1]
        found[key] = array[:, _kept(array.shape[1], rows)] if large else array
    return found


def _kept(length: int, rows: int) -> NDArray[np.int64]:
    """So many positions of a length, evenly."""
    return np.linspace(0, length - 1, min(rows, length)).round().astype(np.int64)
