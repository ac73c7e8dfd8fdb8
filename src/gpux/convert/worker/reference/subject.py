"""Shared by the reference cases of all kinds of models: the original with its graphs, and how these are called."""

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

from gpux.convert.reference_case import ReferenceCase, write_case
from gpux.convert.worker.common.graphs import Exported, Signature
from gpux.convert.worker.reference.inputs import Arrays
from gpux.convert.worker.reference.lengths import LengthThreshold
from gpux.convert.worker.reference.small_model import NotShrinkableError, small_model
from gpux.system.worker_protocol import Refused

#: Largest size of one case's arrays in bytes; logits of a large vocabulary are large.
LARGEST = 128_000_000
#: Largest number of tokens for the original in full size; longer cases are run on a small model.
AFFORDABLE = 800
#: What torch and transformers raise for shapes that a model does not support.
SHAPE_ERRORS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, NotImplementedError)


@dataclass
class Subject:
    """The unpatched original, until it is released, and the graphs that are compared with it."""

    model: Any
    exported: Exported
    folder: Path  #: receives the cases
    signatures: dict[str, Signature]
    rng: np.random.Generator
    #: a small model's length -> the corresponding length in full size
    reached: Callable[[int], int] = field(default=lambda length: length)
    needs_small_model: bool = False
    small: Any = None  #: the small model, created when the original is released
    seed: int = 0
    #: called with the original, and the tokens that the graphs read at most, before it is released
    last: Callable[[Any, int | None], None] | None = None

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    def write(self, case: ReferenceCase) -> Path:
        """Write a case, with its length converted to one of the model in full size."""
        length = None if case.length is None else self.reached(case.length)
        file = self.folder / f"{case.name}.npz"
        write_case(ReferenceCase(case.name, case.calls, length), file)
        return file

    def release(self, findings: Findings) -> None:
        """Release the original before the graphs are run, after the small model was created from its configuration."""
        if findings.unaffordable and self.needs_small_model:
            with contextlib.suppress(NotShrinkableError):
                self.small = small_model(self.model, self.seed)
        if self.last is not None:
            self.last(self.model, findings.max_length)
        self.model = None
        gc.collect()


@dataclass
class Findings:
    """How the graphs were called, their limits, and the thresholds that need a small model."""

    padding_side: str = "right"
    max_length: int | None = None
    chunks_after_cache: bool = False
    chunk_rows: int | None = None
    position_inputs: bool = False
    limits: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    thresholds: list[LengthThreshold] = field(default_factory=list)
    #: those of ``thresholds`` that are too long for the original in full size
    unaffordable: list[LengthThreshold] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)  #: graph -> input -> axis of the tokens

    def call_spec(self) -> dict[str, Any]:
        """The fields of :class:`gpux.model.variant.CallSpec`."""
        names = ("padding_side", "max_length", "chunks_after_cache", "chunk_rows", "position_inputs", "limits")
        return {name: getattr(self, name) for name in names}

    def cap(self, graph: str, name: str, axis: int, size: int) -> None:
        """Limit the size of an axis of an input."""
        axes = self.limits.setdefault(graph, {}).setdefault(name, {})
        axes[str(axis)] = min(size, axes.get(str(axis), size))

    def shorten(self, length: int) -> None:
        """Limit the number of tokens in all graphs."""
        self.max_length = min(length, self.max_length or length)
        for graph, counted in self.counters.items():
            for name, axis in counted.items():
                self.cap(graph, name, axis, length)


def sort_thresholds(findings: Findings, found: list[LengthThreshold], limit: int | None, largest: int) -> None:
    """Sort thresholds into limits, those for the original in full size, and those for a small model.

    Args:
        findings: receives the result; its ``counters`` are set.
        found: the thresholds of the configuration.
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


def beyond(found: LengthThreshold) -> int:
    """A number of tokens well beyond a threshold, so that many tokens are outside a window."""
    return 2 * found.length + 5 if found.length < 64 else found.length + found.length // 2 + 5


def tokens_per_case(bytes_per_token: int) -> int:
    """The largest number of tokens in one case."""
    return max(4, LARGEST // max(1, bytes_per_token))


def run_model(model: Any, inputs: Mapping[str, NDArray[Any]], **options: Any) -> Mapping[str, Any]:
    """The outputs of a model, by the original's names."""
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.inference_mode():
        answer: Mapping[str, Any] = model(**tensors, **options, return_dict=True)
    return answer


def array(tensor: Any) -> NDArray[Any]:
    """The tensor as an array."""
    found: NDArray[Any] = tensor.numpy()
    return found


def refuse_random(first: Arrays, second: Arrays, what: str) -> None:
    """Compare the outputs of two runs with the same inputs.

    Raises:
        Refused: they differ.
    """
    for name, value in first.items():
        if value.shape != second[name].shape or not np.allclose(value, second[name], atol=1e-6, equal_nan=True):
            raise Refused(
                "conversion",
                f"not reproducible: the output {name} of {what} differs between runs with the same inputs, so that"
                " nothing can be proven",
            )
