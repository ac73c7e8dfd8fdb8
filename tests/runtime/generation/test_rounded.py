"""A head in 8 bits: its bounds hold for any matrix and any input, and what it tells are the best tokens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpux.errors import CorruptFileError
from gpux.runtime.generation import rounded_graph, rounded_head
from gpux.runtime.generation.head import Head
from gpux.runtime.generation.rounded import rounded
from gpux.runtime.generation.rounded_head import RoundedHead
from gpux.runtime.generation.scorer import Scorer

Array = NDArray[np.float32]
NEVER = -np.inf


def write(folder: Path, matrix: Array, *, offset: int = 12) -> Head:
    """A head that lies behind something else."""
    file = folder / "weights"
    file.write_bytes(b"\1" * offset + np.ascontiguousarray(matrix, np.float32).tobytes())
    return Head(file, offset, matrix.shape)  # type: ignore[arg-type]  # of rank 2


def opened(folder: Path, matrix: Array) -> RoundedHead:
    found = RoundedHead.of(write(folder, matrix), 1)
    assert found is not None
    return found


def scored(found: RoundedHead, hidden: Array, best: int) -> Array:
    scorer = Scorer(found)
    scorer.prepare(len(hidden))
    scorer.hidden[:] = hidden
    return scorer.scores(best).copy()


def matrix_of(seed: int, words: int = 700, size: int = 40) -> Array:
    """Columns and rows of very different sizes, as trained heads have, zeros among them."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(words, size)) * np.exp(rng.normal(size=size)) * np.exp(0.3 * rng.normal(size=(words, 1)))
    found[:, 3] *= 200
    found[:, 5] = 0
    found[7] = 0
    return found.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 50]), st.floats(-3, 3))
def test_the_best_are_among_those_that_have_a_score(
    tmp_path_factory: pytest.TempPathFactory, kind: int, seed: int, best: int, size: float
) -> None:
    matrix = matrix_of(kind)
    found = opened(tmp_path_factory.mktemp("head"), matrix)
    rng = np.random.default_rng(seed)
    hidden = (rng.standard_t(2, size=(3, matrix.shape[1])) * 10**size).astype(np.float32)
    scores = scored(found, hidden, best)
    exact = hidden.astype(np.float64) @ matrix.T.astype(np.float64)
    for row, wanted in zip(scores, exact, strict=True):
        order = np.argsort(-wanted)[:best]
        assert np.isfinite(row[order]).all()
        given_any = np.isfinite(row)
        lengths = np.linalg.norm(matrix, axis=1).max() * np.linalg.norm(hidden, axis=1).max()
        np.testing.assert_allclose(row[given_any], wanted[given_any], atol=1e-5 * lengths)


def test_few_tokens_have_a_score(tmp_path: Path) -> None:
    found = opened(tmp_path, matrix_of(0, 5000, 64))
    hidden = np.random.default_rng(1).normal(size=(20, 64)).astype(np.float32)
    counts = np.isfinite(scored(found, hidden, 1)).sum(axis=1)
    assert counts.min() >= 1
    assert np.median(counts) < 50
    assert found.pays


@pytest.mark.parametrize("best", [1, 2])
def test_bounds_are_wide_enough_where_rounding_turns_the_order(tmp_path: Path, best: int) -> None:
    """Two rows whose numbers are all rounded away from each other, and as far as Cauchy-Schwarz allows."""
    size = 64
    matrix = np.zeros((700, size + 1), np.float32)
    matrix[0, :size], matrix[1, :size] = 10.499, 10.501  # in units of the scale that the last column sets for both
    matrix[1, 0] -= 0.3  # by which the first row is the better one
    matrix[:2, size] = 127
    others = matrix[:2, size] @ matrix[:2, size] - (matrix[:2, :size] ** 2).sum(axis=0)
    matrix[2, :size] = np.sqrt(others) * np.where(np.arange(size) % 2, 1, -1)  # columns of one size, a score of 0
    found = opened(tmp_path, matrix)
    whole = rounded(found.head)
    assert whole is not None
    hidden = (1 / whole[1].columns)[None]
    hidden[:, size] = 0
    exact = hidden[0].astype(np.float64) @ matrix.T.astype(np.float64)
    scores = scored(found, hidden, best)[0]
    assert exact.argmax() == 0
    assert scores.argmax() == 0
    assert np.isfinite(scores[np.argsort(-exact)[:best]]).all()


def test_what_ties_with_the_best_has_its_score(tmp_path: Path) -> None:
    matrix = matrix_of(2)
    hidden = np.random.default_rng(3).normal(size=(1, matrix.shape[1])).astype(np.float32)
    first, second = np.argsort(-(matrix @ hidden[0]))[:2]
    matrix[[100, 400, 600]] = matrix[second]
    found = scored(opened(tmp_path, matrix), hidden, 2)[0]
    assert found[first] > found[second]
    assert len({found[token] for token in (second, 100, 400, 600)}) == 1


def test_the_next_call_forgets_the_last_one(tmp_path: Path) -> None:
    found = opened(tmp_path, matrix_of(4, 3000, 48))
    scorer = Scorer(found)
    scorer.prepare(2)
    rng = np.random.default_rng(5)
    for _ in range(5):
        scorer.hidden[:] = rng.normal(size=(2, 48))
        scores = scorer.scores(1).copy()
        np.testing.assert_array_equal(scores, scored(found, scorer.hidden, 1))
    scorer.prepare(3)
    scorer.hidden[:] = rng.normal(size=(3, 48))
    np.testing.assert_array_equal(scorer.scores(4), scored(found, scorer.hidden, 4))


def test_scores_that_are_all_alike_are_all_given(tmp_path: Path) -> None:
    matrix = np.tile(matrix_of(6)[:1], (700, 1))
    found = opened(tmp_path, matrix)
    hidden = np.ones((2, matrix.shape[1]), np.float32)
    hidden[1] = 0
    np.testing.assert_allclose(scored(found, hidden, 1), hidden @ matrix.T, rtol=1e-5)
    assert found.pays
    scored(found, hidden, 1)
    assert not found.pays, "reading all rows one by one is slower than a graph that does"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_hidden(tmp_path: Path, bad: float) -> None:
    matrix = matrix_of(8)
    hidden = np.ones((2, matrix.shape[1]), np.float32)
    hidden[0, 4] = bad
    with np.errstate(invalid="ignore"):
        found = scored(opened(tmp_path, matrix), hidden, 1)
    assert not np.isfinite(found[0]).any()
    assert found[1].max() == np.float32(found[1][np.argmax(matrix @ hidden[1])])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_left_alone(tmp_path: Path, bad: float) -> None:
    matrix = matrix_of(9)
    matrix[300, 2] = bad
    assert RoundedHead.of(write(tmp_path, matrix), 1) is None


def test_a_head_that_is_too_large_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded_head, "_LARGEST", 700 * 40 - 1)
    assert RoundedHead.of(write(tmp_path, matrix_of(9)), 1) is None


def test_a_head_that_memory_is_too_small_for_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = write(tmp_path, matrix_of(9))
    monkeypatch.setattr(rounded_head, "available_memory", lambda: head.nbytes - 1)
    assert RoundedHead.of(head, 1) is None
    monkeypatch.setattr(rounded_head, "available_memory", lambda: head.nbytes)
    assert RoundedHead.of(head, 1) is not None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status, which Linux has")
def test_it_holds_a_quarter_of_the_heads_memory(tmp_path: Path) -> None:
    program = f"""
import gc
from pathlib import Path
import numpy as np
from gpux.runtime.generation.head import Head
from gpux.runtime.generation.rounded_head import RoundedHead
shape = (32768, 1024)
np.random.default_rng(0).normal(size=shape).astype(np.float32).tofile({str(tmp_path / "head")!r})
small = Path({str(tmp_path / "small")!r})
small.write_bytes(bytes(64 * 64 * 4))
RoundedHead.of(Head(small, 0, (64, 64)), 1)  # what is imported and set up once
def held():
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024
before = held()
found = RoundedHead.of(Head(Path({str(tmp_path / "head")!r}), 0, shape), 1)
print(found.nbytes, held() - before)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    counted, held = map(int, found.stdout.split())
    assert 32768 * 1024 <= counted <= 1.02 * 32768 * 1024
    assert held < 1.5 * counted


def test_a_processor_that_multiplies_otherwise_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums that saturate, as where 8-bit products are added in 16 bits, are far from the bounds."""

    def saturating(matrix: NDArray[np.int8], *others: Any) -> bytes:
        return rounded_graph.graph_of(np.clip(matrix, -100, 100), *others)

    monkeypatch.setattr(rounded_head, "graph_of", saturating)
    assert RoundedHead.of(write(tmp_path, matrix_of(9)), 1) is None


def test_numbers_leave_room_for_sums_of_two_products_in_16_bits() -> None:
    assert np.iinfo(np.int16).max >= 2 * 127 * (2 * rounded_graph.LEVELS + 1)


def test_rows_and_pieces_are_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = matrix_of(10)
    head = write(tmp_path, matrix)
    monkeypatch.setattr("gpux.runtime.generation.head._PIECE", 4 * 40 * 64)
    pieces = list(head.pieces())
    assert [start for start, _ in pieces] == list(range(0, 700, 64))
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), matrix)
    np.testing.assert_array_equal(head.rows([699, 0, 0, 5]), matrix[[699, 0, 0, 5]])
    hidden = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    np.testing.assert_allclose(head.scores(hidden), hidden @ matrix.T, rtol=1e-3, atol=1e-3)
    assert head.nbytes == matrix.nbytes


def test_logits_that_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpux.runtime.generation.head._PIECE", 4 * 40 * 64)
    matrix = matrix_of(10)
    head = write(tmp_path, matrix)
    hidden = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    logits = hidden @ matrix.T
    assert head.made(logits, hidden)
    assert not head.made(logits[:, :-1], hidden)
    logits[2, 699] += 1e-4 * np.linalg.norm(hidden[2]) * np.linalg.norm(matrix[699])
    assert not head.made(logits, hidden)
    logits[2, 699] = np.nan
    assert not head.made(logits, hidden)


def test_without_preadv_it_seeks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.preadv", raising=False)
    matrix = matrix_of(10)
    np.testing.assert_array_equal(write(tmp_path, matrix).rows([5, 1]), matrix[[5, 1]])


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    head = write(tmp_path, matrix_of(10))
    with head.path.open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(CorruptFileError, match="shorter than it was") as caught:
        head.rows([600])
    assert "gpux verify" in str(caught.value.hint)
