"""Reference cases of a variant: the kept ones, and their calls run on graphs.

:mod:`gpux.convert.reference_case` has the file format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from gpux.convert.reference_case import Arrays, Call, ReferenceCase, read_case
from gpux.errors import ProofError
from gpux.model.variant import StoredModel

#: Runs a graph, by its name: named input arrays to named output arrays.
Runner = Callable[[str, Arrays], Arrays]

#: The folder of a variant that holds its kept cases.
FOLDER = "proof"
#: The folder in the reference folder with the cases of a small random model of the same configuration.
SMALL_FOLDER = "small"


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
