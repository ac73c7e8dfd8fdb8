from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpux.processors.audio.extractor import build
from tests.processors.audio.cases import CASES, Case
from tests.processors.audio.sounds import tones

GOLDENS = Path(__file__).parent / "goldens.npz"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_features_equal_those_of_transformers(case: Case) -> None:
    found = build(case.class_name, case.settings, "org/name")(
        tones(case.seconds, case.rate), attention_mask=case.attention_mask
    )
    with np.load(GOLDENS) as goldens:
        expected = {name.partition("/")[2]: goldens[name] for name in goldens if name.startswith(f"{case.name}/")}
    assert set(found.inputs) == set(expected)
    for name, reference in expected.items():
        value = found.inputs[name]
        kept = value[..., :: case.keep] if reference.dtype.kind == "f" else value
        assert kept.shape == reference.shape
        np.testing.assert_allclose(kept, reference, rtol=0, atol=1e-5, err_msg=name)
