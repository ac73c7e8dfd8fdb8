"""Replays of proofs by ``gpux verify --proof``, and what the lists say is proven; no toolchain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpux import Settings, pull_model
from gpux.cli.main import run
from gpux.convert.answer_case import read_answers, write_answers
from gpux.errors import CorruptFileError, ProofError
from gpux.model.variant import StoredModel
from gpux.proof.cases import FOLDER
from gpux.upkeep.replays import replay_model
from tests.models.bert import bert_repository
from tests.pull.answer_cases import Reference, edited
from tests.pull.conftest import Make

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def model(stubs: Make, settings: Settings, reference: Reference, folder: Path) -> StoredModel:
    """A variant whose answers are proven."""
    stubs(only={"answers": reference("fill-mask")})
    return pull_model(folder, settings=settings)


def printed(capsys: Captured, *args: str, code: int = 0) -> tuple[str, str]:
    """What a command prints on standard output and standard error."""
    capsys.readouterr()
    assert run(list(args)) == code
    found = capsys.readouterr()
    return found.out, found.err


def entry(capsys: Captured, *args: str, code: int = 0) -> Any:
    """The only entry of the JSON document that the command prints."""
    (found,) = json.loads(printed(capsys, *args, "--json", code=code)[0])
    return found


def test_verify_replays_graphs_and_answers(model: StoredModel, capsys: Captured) -> None:
    out, _ = printed(capsys, "verify", "--proof")
    assert "3 cases, 6 answers on cpu: " in out
    replay = entry(capsys, "verify", "--proof")["replay"]
    assert (replay["graphs"], replay["answers"], replay["device"], replay["error"]) == (3, 6, "cpu", None)
    assert replay["max_abs_diff"] < 1e-4


@pytest.mark.parametrize(("change", "case"), [("normalizer", "tokens/plain"), ("post_processor", "tokens/plain")])
def test_a_tokenizer_that_was_edited_by_hand_is_named_with_the_first_id_that_differs(
    change: str, case: str, model: StoredModel, capsys: Captured
) -> None:
    (model.path / "tokenizer.json").write_text(edited(model.path, **{change: None}), encoding="utf-8")

    out, err = printed(capsys, "verify", "--proof", code=CorruptFileError.exit_code)

    assert "DAMAGED" in out and "DIFFERS" in out
    assert "tokenizer.json" in err
    assert f'{case}, input "The quick brown fox": token ' in err and "in the reference" in err
    found = entry(capsys, "verify", "--proof", code=CorruptFileError.exit_code)
    assert not found["ok"]
    assert found["replay"]["error"]["code"] == "proof"
    assert case in found["replay"]["error"]["cases"]


def test_a_damaged_tokenizer_cannot_be_replayed(model: StoredModel, capsys: Captured) -> None:
    (model.path / "tokenizer.json").write_text("{}")
    out, err = printed(capsys, "verify", "--proof", code=CorruptFileError.exit_code)
    assert "not replayed" in out and "tokenizer.json is not a tokenizer" in err


def test_an_intact_variant_that_answers_otherwise_fails_with_the_proofs_exit_code(
    model: StoredModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gpux.pipelines.text.tokenization.Tokenizer.tokens", lambda self, text: self([text], limit=3)[0]
    )
    out, err = printed(capsys, "verify", "--proof", code=ProofError.exit_code)
    assert "ok (" in out and "DIFFERS" in out
    assert "tokens/plain" in err and "1 proof does not hold" in err
    assert entry(capsys, "verify", "--proof", code=ProofError.exit_code)["ok"]


def test_one_failing_replay_does_not_hide_the_others(
    model: StoredModel, stubs: Make, settings: Settings, reference: Reference, tmp_path: Path, capsys: Captured
) -> None:
    stubs(only={"answers": reference("fill-mask")})
    other = pull_model(bert_repository(tmp_path / "other", "fill-mask", seed=0), settings=settings)
    (model.path / "tokenizer.json").write_text("{}")

    capsys.readouterr()
    assert run(["verify", "--proof", "--json"]) == CorruptFileError.exit_code
    entries = {found["path"]: found for found in json.loads(capsys.readouterr().out)}

    assert entries[str(model.path)]["replay"]["error"] is not None
    assert entries[str(other.path)]["replay"]["answers"] == 6


def test_a_variant_without_kept_answers_replays_its_graphs(model: StoredModel) -> None:
    answers = read_answers(model.path / FOLDER)
    assert answers is not None
    (model.path / FOLDER / "answers.json").unlink()
    assert replay_model(model).answers == 0
    write_answers(answers, model.path / FOLDER)
    assert replay_model(model).answers == 6


def test_lists_say_what_is_proven(
    model: StoredModel, settings: Settings, stubs: Make, tmp_path: Path, capsys: Captured
) -> None:
    out, _ = printed(capsys, "list")
    assert "answers proven" in out
    assert entry(capsys, "list")["evidence"] == "answers proven"
    assert entry(capsys, "list")["proof"]["answers"]["status"] == "proven"
    out, _ = printed(capsys, "info", model.id)
    assert "answers proven" in out


@pytest.mark.parametrize(
    ("how", "options", "said"),
    [
        ({}, {}, "graph proven"),
        ({"off": 1.0}, {"allow_inexact": True}, "inexact 1.0e+00"),
    ],
)
def test_other_proofs_are_named(
    how: dict[str, Any],
    options: dict[str, Any],
    said: str,
    stubs: Make,
    settings: Settings,
    folder: Path,
    capsys: Captured,
) -> None:
    stubs(only=how)
    pull_model(folder, settings=settings, **options)
    assert said in printed(capsys, "list")[0]


def test_shipped_onnx_is_named_so(settings: Settings, tmp_path: Path, capsys: Captured) -> None:
    pull_model(bert_repository(tmp_path / "model", "fill-mask", onnx=True), settings=settings)
    out, _ = printed(capsys, "list")
    assert "shipped" in out and "proven" not in out
    assert "nothing to replay" in printed(capsys, "verify", "--proof")[0]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_quantized_variant_is_never_proven_alone_and_keeps_its_token_ids(
    precision: str, model: StoredModel, settings: Settings, capsys: Captured
) -> None:
    reduced = pull_model(model.id, settings=settings, precision=precision, allow_inexact=True)

    assert reduced.manifest.evidence in ("fp32 proven", "inexact")
    rows = {row["precision"]: row for row in json.loads(printed(capsys, "list", "--json")[0])}
    assert rows["fp32"]["evidence"] == "answers proven"
    assert rows[precision]["evidence"] == reduced.manifest.evidence
    assert f"{reduced.manifest.evidence}; {precision} loss " in printed(capsys, "list")[0]
    answers = reduced.manifest.proof.answers
    assert answers is not None
    assert (answers.status, answers.cases) == ("not compared", 5)
    assert "differ by design" in answers.reason
    assert replay_model(reduced).answers == 5

    (reduced.path / "tokenizer.json").write_text(edited(reduced.path, normalizer=None), encoding="utf-8")
    found = replay_model(reduced, intact=False)
    assert found.error is not None and "tokens/plain" in found.error.message
