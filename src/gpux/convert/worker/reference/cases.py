"""Reference cases as the parent's proof reads them: sequences of graph calls, one ``.npz`` file each.

The format stands at the top of ``gpux/proof/cases.py``: the array ``plan`` holds JSON as UTF-8 bytes, the arrays of
call 0 are ``0:in:<input>``, ``0:out:<output>`` and ``0:mask:<output>``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bytes of one case's arrays; a row of a large vocabulary per token is a lot.
LARGEST = 128_000_000

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Call:
    """One run of one graph, and what the original answers."""

    graph: str
    inputs: Arrays
    outputs: Arrays  #: the original's; what is not here is not compared
    carry: dict[str, tuple[int, str]] = field(default_factory=dict)  #: input -> (an earlier call, its output)
    masks: Arrays = field(default_factory=dict)  #: output -> booleans over its leading axes: what counts


@dataclass(frozen=True)
class Case:
    """A sequence of calls; ``length`` is the tokens that it reaches, where the model works on tokens."""

    name: str
    calls: tuple[Call, ...]
    length: int | None = None


def write_case(folder: Path, case: Case) -> Path:
    """Write ``NAME.npz``; the answer is its path."""
    plan: dict[str, Any] = {"calls": [{"graph": call.graph, "carry": call.carry} for call in case.calls]}
    if case.length is not None:
        plan["length"] = case.length
    arrays: Arrays = {"plan": np.frombuffer(json.dumps(plan).encode(), np.uint8)}
    for number, call in enumerate(case.calls):
        for kind, values in (("in", call.inputs), ("out", call.outputs), ("mask", call.masks)):
            arrays |= {f"{number}:{kind}:{name}": value for name, value in values.items()}
    file = folder / f"{case.name}.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own option
    return file
