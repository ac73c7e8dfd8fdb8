"""Replay of the kept cases of a stored variant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpux.errors import CorruptFileError, ProofError
from gpux.model.variant import CallSpec, Manifest, Proof, StoredModel
from gpux.proof.cases import FOLDER
from gpux.proof.comparison import keep_cases, prove
from gpux.proof.replay import replay
from tests.proof.runners import X, double, triple, write_one_call


def stored(folder: Path, proof: Proof, precision: str = "fp32") -> StoredModel:
    manifest = Manifest("hf", "org/name", "a" * 40, "fill-mask", precision, "optimum", (), (), CallSpec(), proof, {})
    return StoredModel(folder, manifest)


@pytest.fixture
def proven(tmp_path: Path) -> StoredModel:
    """A variant with kept cases."""
    write_one_call(tmp_path / "reference", "short")
    write_one_call(tmp_path / "reference", "long", np.repeat(X, 9, axis=0))
    proof = prove(tmp_path / "reference", double, "fp32")
    (tmp_path / "variant").mkdir()
    keep_cases(tmp_path / "reference", proof, tmp_path / "variant")
    return stored(tmp_path / "variant", proof)


def test_a_replay_repeats_the_proof(proven: StoredModel) -> None:
    assert replay(proven, double) == proven.manifest.proof.cases


def test_other_outputs_are_an_error(proven: StoredModel) -> None:
    with pytest.raises(ProofError, match=r"org/name.* case (short|long) differs by 3\.00e\+00") as caught:
        replay(proven, triple)
    assert caught.value.hint


def test_the_replay_of_an_inexact_variant_only_measures(proven: StoredModel) -> None:
    inexact = replace(proven, manifest=replace(proven.manifest, proof=replace(proven.manifest.proof, status="inexact")))
    assert [each.passed for each in replay(inexact, triple)] == [False, False]


def test_a_missing_case_is_corrupt(proven: StoredModel) -> None:
    (proven.path / FOLDER / "short.npz").unlink()
    with pytest.raises(CorruptFileError, match="short"):
        replay(proven, double)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4", "q4f16"])
def test_a_shipped_variant_has_nothing_to_replay(tmp_path: Path, precision: str) -> None:
    assert replay(stored(tmp_path, Proof("shipped"), precision), triple) == ()
