"""Reference cases: inputs of a variant's graphs and the original model's outputs for them, one ``NAME.npz`` each.

The converter's worker writes them from the original model. A case is a sequence of calls of graphs; its array ``plan``
(UTF-8 bytes of a JSON object) has

* ``calls``: for each call its ``graph``, and ``carry``: input -> [number of an earlier call, name of its output], which
  passes on a key-value cache or an encoder's output;
* ``length``: the largest number of tokens in the case, where a threshold of the model depends on it.

The arrays of call 0 are ``0:in:<input>``, ``0:out:<output>`` (the original's output) and ``0:mask:<output>`` (booleans
over the leading axes: the positions that are compared; all without a mask). A file without a plan is one call of the
graph ``model`` with the arrays ``in:<input>`` and ``out:<output>``.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from gpux.errors import CorruptFileError, ProofError
from gpux.model.variant import StoredModel

Arrays = Mapping[str, NDArray[Any]]
#: Runs a graph, by its name: named input arrays to named output arrays.
Runner = Callable[[str, Arrays], Arrays]

#: The folder of a variant that holds its kept cases.
FOLDER = "proof"
#: The folder in the reference folder with the cases of a small random model of the same configuration.
SMALL_FOLDER = "small"
#: The graph that a file without a plan calls.
MODEL = "model"


@dataclass(frozen=True)
class Call:
    """One run of one graph, and the original's outputs for it."""

    graph: str
    inputs: Arrays
    outputs: Arrays  #: of the original; an output of the graph that is missing here is not compared
    carry: Mapping[str, tuple[int, str]] = field(default_factory=dict)  #: input -> (number of an earlier call, output)
    masks: Arrays = field(default_factory=dict)  #: output -> booleans over its leading axes: what is compared


@dataclass(frozen=True)
class ReferenceCase:
    """A sequence of calls."""

    name: str
    calls: tuple[Call, ...]
    length: int | None = None  #: tokens


def read_case(file: Path) -> ReferenceCase:
    """Read one reference case.

    Raises:
        CorruptFileError: the file cannot be read as a case.
    """
    try:
        with file.open("rb") as raw, NpzFile(raw, allow_pickle=False) as arrays:
            return _parse(file.stem, {name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise CorruptFileError(f"{file} is not a reference case: {exc}", hint="Run `gpux verify`.") from exc


def _parse(name: str, arrays: Arrays) -> ReferenceCase:
    if "plan" not in arrays:
        return ReferenceCase(name, (Call(MODEL, _named(arrays, "in:"), _named(arrays, "out:")),))
    plan = json.loads(arrays["plan"].tobytes())
    calls = tuple(
        Call(
            call["graph"],
            _named(arrays, f"{number}:in:"),
            _named(arrays, f"{number}:out:"),
            {target: (int(source[0]), str(source[1])) for target, source in call.get("carry", {}).items()},
            _named(arrays, f"{number}:mask:"),
        )
        for number, call in enumerate(plan["calls"])
    )
    return ReferenceCase(name, calls, plan.get("length"))


def _named(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def write_case(case: ReferenceCase, file: Path) -> None:
    """Write a case so that :func:`read_case` reads the same."""
    plan = {"calls": [{"graph": call.graph, "carry": call.carry} for call in case.calls], "length": case.length}
    arrays: dict[str, NDArray[Any]] = {"plan": np.frombuffer(json.dumps(plan).encode(), np.uint8)}
    for number, call in enumerate(case.calls):
        kinds: dict[str, Arrays] = {"in": call.inputs, "out": call.outputs, "mask": call.masks}
        for kind, values in kinds.items():
            arrays |= {f"{number}:{kind}:{name}": array for name, array in values.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for options


def kept_cases(model: StoredModel) -> tuple[ReferenceCase, ...]:
    """The cases that are stored with a variant; empty for one without (``proof: shipped``).

    Raises:
        CorruptFileError: a case cannot be read.
    """
    names = [case.name for case in model.manifest.proof.cases if case.kept]
    return tuple(read_case(model.path / FOLDER / f"{name}.npz") for name in names)


def run_calls(case: ReferenceCase, run: Runner) -> Iterator[Arrays]:
    """The outputs of each call, in order.

    Raises:
        ProofError: a call needs an output that the earlier call did not give.
    """
    earlier: list[Arrays] = []
    for call in case.calls:
        inputs = inputs_of(call, earlier)
        if inputs is None:
            missing = [name for number, name in call.carry.values() if name not in earlier[number]]
            raise ProofError(f"the graph {call.graph} needs {', '.join(missing)}, which no earlier call gave")
        earlier.append(run(call.graph, inputs))
        yield earlier[-1]


def inputs_of(call: Call, earlier: Sequence[Arrays]) -> Arrays | None:
    """The call's own inputs and those carried from earlier calls; None where an earlier call lacks such an output."""
    if any(name not in earlier[number] for number, name in call.carry.values()):
        return None
    return {**call.inputs, **{target: earlier[number][name] for target, (number, name) in call.carry.items()}}


def with_outputs_of(case: ReferenceCase, run: Runner) -> ReferenceCase:
    """The case with the graphs' own outputs in place of the original's.

    Raises:
        ProofError: as :func:`run_calls`.
    """
    calls = [
        replace(call, outputs={name: outputs[name] for name in call.outputs if name in outputs})
        for call, outputs in zip(case.calls, run_calls(case, run), strict=True)
    ]
    return replace(case, calls=tuple(calls))
