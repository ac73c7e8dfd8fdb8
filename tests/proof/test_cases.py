"""Calls of reference cases that build on earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpux.convert.reference_case import Call, ReferenceCase
from gpux.errors import ProofError
from gpux.proof.cases import with_outputs_of

Arrays = Mapping[str, Any]


def test_own_outputs_are_carried_to_later_calls() -> None:
    first = Call("encoder", {"x": np.ones(1)}, {"h": np.zeros(1)})
    case = ReferenceCase("two", (first, Call("decoder", {}, {"y": np.zeros(1)}, {"h": (0, "h")})))

    def run(graph: str, inputs: Arrays) -> Arrays:
        return {"h": inputs["x"] + 1} if graph == "encoder" else {"y": inputs["h"] + 1}

    own = with_outputs_of(case, run)

    assert [float(next(iter(call.outputs.values()))[0]) for call in own.calls] == [2.0, 3.0]
    with pytest.raises(ProofError, match="no earlier call gave"):
        with_outputs_of(replace(case, calls=(case.calls[0], replace(case.calls[1], carry={"h": (0, "no")}))), run)
