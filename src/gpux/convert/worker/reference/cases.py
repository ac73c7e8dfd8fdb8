"""Writes reference cases, one ``.npz`` file each, in the format of :mod:`gpux.proof.cases`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Largest size of one case's arrays in bytes; logits of a large vocabulary are large.
LARGEST = 128_000_000

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Call:
    """One run of one graph, and the original's outputs for it."""

    graph: str
    inputs: Arrays
    outputs: Arrays  #: of the original; an output of the graph that is missing here is not compared
    carry: dict[str, tuple[int, str]] = field(default_factory=dict)  #: input -> (number of an earlier call, output)
    masks: Arrays = field(default_factory=dict)  #: output -> booleans over its leading axes: what is compared


@dataclass(frozen=True)
class Case:
    """A sequence of calls; ``length`` is the largest number of tokens, for models of text."""

    name: str
    calls: tuple[Call, ...]
    length: int | None = None


def write_case(folder: Path, case: Case) -> Path:
    """Write ``NAME.npz`` and return its path."""
    plan: dict[str, Any] = {"calls": [{"graph": call.graph, "carry": call.carry} for call in case.calls]}
    if case.length is not None:
        plan["length"] = case.length
    arrays: Arrays = {"plan": np.frombuffer(json.dumps(plan).encode(), np.uint8)}
    for number, call in enumerate(case.calls):
        for kind, values in (("in", call.inputs), ("out", call.outputs), ("mask", call.masks)):
            arrays |= {f"{number}:{kind}:{name}": value for name, value in values.items()}
    file = folder / f"{case.name}.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub mistakes the names for its own option
    return file
