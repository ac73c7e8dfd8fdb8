"""Reference cases: inputs of a variant's graphs and the original model's outputs for them, one ``NAME.npz`` each.

The converter's worker writes them from the original model, and :mod:`gpux.proof` compares the graphs with them. A case
is a sequence of calls of graphs; its array ``plan`` (UTF-8 bytes of a JSON object) has

* ``calls``: for each call its ``graph``, and ``carry``: input -> [number of an earlier call, name of its output], which
  passes on a key-value cache or an encoder's output;
* ``length``: the largest number of tokens in the case, where a threshold of the model depends on it.

The arrays of call 0 are ``0:in:<input>``, ``0:out:<output>`` (the original's output) and ``0:mask:<output>`` (booleans
over the leading axes: the positions that are compared; all without a mask). A file without a plan is one call of the
graph ``model`` with the arrays ``in:<input>`` and ``out:<output>``.

The worker imports this module in a toolchain, which has numpy and no gpux installed.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from gpux.errors import CorruptFileError

Arrays = Mapping[str, NDArray[Any]]

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
    """A sequence of calls; ``length`` is the largest number of tokens, for models of text."""

    name: str
    calls: tuple[Call, ...]
    length: int | None = None


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


def write_case(case: ReferenceCase, file: Path, *, compressed: bool = False) -> None:
    """Write a case so that :func:`read_case` reads the same.

    Args:
        case: the case.
        file: ``NAME.npz``; its folder is created if it is missing.
        compressed: smaller and slower to write; for cases that are kept.
    """
    plan = {"calls": [{"graph": call.graph, "carry": call.carry} for call in case.calls], "length": case.length}
    arrays: dict[str, NDArray[Any]] = {"plan": np.frombuffer(json.dumps(plan).encode(), np.uint8)}
    for number, call in enumerate(case.calls):
        kinds: dict[str, Arrays] = {"in": call.inputs, "out": call.outputs, "mask": call.masks}
        for kind, values in kinds.items():
            arrays |= {f"{number}:{kind}:{name}": array for name, array in values.items()}
    save = np.savez_compressed if compressed else np.savez
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        save(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for options
