"""What the reference is made of, and what comes out besides the cases: shared by every kind of model."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpux.convert.worker.common.graphs import Exported, Signature
from gpux.convert.worker.reference.cases import LARGEST, Arrays, Case, write_case
from gpux.convert.worker.reference.lengths import Found
from gpux.convert.worker.reference.small_model import NoTwinError, small_model
from gpux.system.worker_protocol import Refused

#: Tokens of a text in full size; what lies beyond is shown on a twin.
AFFORDABLE = 800
#: What torch and transformers raise for a shape that a model does not take.
SHAPE_ERRORS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, NotImplementedError)

Ask = Callable[..., Mapping[str, Any]]


@dataclass
class Subject:
    """The unpatched original, until it is let go of, and the graphs that must answer as it does."""

    model: Any
    exported: Exported
    folder: Path  #: takes the cases
    signatures: dict[str, Signature]
    rng: np.random.Generator
    reached: Callable[[int], int] = field(default=lambda length: length)  #: a twin's length -> one of full size
    wants_twin: bool = False
    small: Any = None  #: the twin's model, where one is needed; made when the original is let go of
    seed: int = 0

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    def write(self, case: Case) -> Path:
        """Write a case, its length as one of the model in full size."""
        length = None if case.length is None else self.reached(case.length)
        return write_case(self.folder, Case(case.name, case.calls, length))

    def release(self, findings: Findings) -> None:
        """Let go of the original, before anything runs the graphs; of its configuration a twin remains."""
        if findings.unaffordable and self.wants_twin:
            with contextlib.suppress(NoTwinError):
                self.small = small_model(self.model, self.seed)
        self.model = None
        gc.collect()


@dataclass
class Findings:
    """How the graphs were driven, up to where, and which lengths are still to be shown on a twin."""

    padding_side: str = "right"
    max_length: int | None = None
    chunks_after_cache: bool = False
    chunk_rows: int | None = None
    position_inputs: bool = False
    limits: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    thresholds: list[Found] = field(default_factory=list)
    unaffordable: list[Found] = field(default_factory=list)  #: of the thresholds
    counters: dict[str, dict[str, int]] = field(default_factory=dict)  #: graph -> input -> axis that counts the tokens

    def call_spec(self) -> dict[str, Any]:
        """As the parent's ``CallSpec`` has it."""
        names = ("padding_side", "max_length", "chunks_after_cache", "chunk_rows", "position_inputs", "limits")
        return {name: getattr(self, name) for name in names}

    def cap(self, graph: str, name: str, axis: int, size: int) -> None:
        """Nothing larger on that axis of that input."""
        axes = self.limits.setdefault(graph, {}).setdefault(name, {})
        axes[str(axis)] = min(size, axes.get(str(axis), size))

    def shorten(self, length: int) -> None:
        """Nothing longer on any axis that counts tokens."""
        self.max_length = min(length, self.max_length or length)
        for graph, counted in self.counters.items():
            for name, axis in counted.items():
                self.cap(graph, name, axis, length)


def sort_thresholds(findings: Findings, found: list[Found], limit: int | None, largest: int) -> None:
    """Sort them into what is capped, what is shown in full size, and what needs a twin.

    Args:
        findings: takes the answer; its ``counters`` are set.
        found: of the configuration.
        limit: tokens that the model has positions for.
        largest: tokens that one case may hold.
    """
    for one in found:
        if limit is not None and one.length >= limit:
            findings.shorten(limit)
        elif one.capped:
            findings.shorten(one.length)
        else:
            findings.thresholds.append(one)
            if beyond(one) > min(largest, AFFORDABLE):
                findings.unaffordable.append(one)


def beyond(found: Found) -> int:
    """Tokens clearly beyond a threshold: what slid out of a window has slid far."""
    return 2 * found.length + 5 if found.length < 64 else found.length + found.length // 2 + 5


def tokens_per_case(bytes_per_token: int) -> int:
    """How many tokens one case may hold."""
    return max(4, LARGEST // max(1, bytes_per_token))


def ask(model: Any, inputs: Mapping[str, NDArray[Any]], **options: Any) -> Mapping[str, Any]:
    """What a model answers to arrays, by the original's names."""
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.inference_mode():
        answer: Mapping[str, Any] = model(**tensors, **options, return_dict=True)
    return answer


def array(tensor: Any) -> NDArray[Any]:
    """A tensor as an array."""
    found: NDArray[Any] = tensor.numpy()
    return found


def refuse_random(first: Arrays, second: Arrays, what: str) -> None:
    """Refuse where the original, asked the same thing twice, answers differently.

    Raises:
        Refused: it does.
    """
    for name, value in first.items():
        if value.shape != second[name].shape or not np.allclose(value, second[name], atol=1e-6, equal_nan=True):
            raise Refused(
                "conversion",
                f"not reproducible: {what} answers the same input differently each time ({name}), so that nothing"
                " can be proven about it",
            )
