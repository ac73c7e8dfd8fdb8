"""Results of the independent check: differences between stored graphs and the original, and skipped comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Largest allowed difference, relative to the larger of 1 and the largest reference value; gpux's proof allows half.
ALLOWED = 2e-4


@dataclass
class Verdict:
    """Collects comparisons; any difference above :data:`ALLOWED` makes the graphs wrong."""

    worst: float = 0.0  #: largest relative difference
    compared: int = 0
    wrong: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)  #: the original runs but onnxruntime raises: not a wrong result
    notes: list[str] = field(default_factory=list)

    def compare(
        self, what: str, actual: NDArray[Any] | None, expected: NDArray[Any], mask: NDArray[Any] | None = None
    ) -> None:
        """Compare one output; ``mask`` selects positions of its leading axes."""
        self.compared += 1
        if actual is None or actual.shape != expected.shape:
            self.wrong.append(f"{what}: shape {None if actual is None else actual.shape}, not {expected.shape}")
            return
        if mask is not None and expected.shape[: mask.ndim] == mask.shape:
            actual, expected = actual[mask], expected[mask]
        difference = _distance(actual, expected)
        self.worst = max(self.worst, difference)
        if not difference <= ALLOWED:
            self.wrong.append(f"{what}: {difference:.2e}")

    def to_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {
            "worst": self.worst,
            "compared": self.compared,
            "wrong": self.wrong[:6],
            "raised": self.raised[:6],
            "notes": self.notes[:6],
        }


def _distance(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    finite = np.isfinite(expected)
    if not np.array_equal(actual[~finite], expected[~finite], equal_nan=True) or not np.isfinite(actual[finite]).all():
        return float("inf")
    scale = max(1.0, float(np.abs(expected[finite]).max(initial=0.0)))
    found = np.abs(actual[finite].astype(np.float64) - expected[finite].astype(np.float64))
    return float(found.max(initial=0.0)) / scale
