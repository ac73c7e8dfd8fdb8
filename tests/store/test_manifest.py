from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.errors import ManifestError
from gpux.model.variant import AnswerProof, CallSpec, Manifest, Proof, ProofCase, StoredFile
from gpux.store import read_manifest, write_manifest
from tests.store.variants import manifest

FILE = StoredFile("model.onnx", 3, "0" * 64)


def full(**changes: Any) -> Manifest:
    return manifest(files=(FILE,), created="2026-01-02T03:04:05+00:00", license="mit", **changes)


def case(difference: float, tolerance: float = 1e-4) -> Proof:
    return Proof("inexact", (ProofCase("short", {"x": (1,)}, difference, tolerance, False),))


@pytest.mark.parametrize("value", [full(), full(call_spec=CallSpec()), full(proof=Proof("shipped"), graphs=())])
def test_round_trip_is_exact(tmp_path: Path, value: Manifest) -> None:
    path = tmp_path / "manifest.json"
    assert write_manifest(path, value) == value
    read = read_manifest(path)
    assert read == value
    assert read.to_dict() == value.to_dict()
    assert isinstance(read.graphs, tuple)


ANSWERS = AnswerProof("failed", 3, 0.5, {"transformers": "4.57.6"}, "tokens/plain: token 2 is 7, and 8 is right")


def test_the_proof_of_answers_is_read_as_it_was_written(tmp_path: Path) -> None:
    value = full(proof=Proof("inexact", answers=ANSWERS))
    write_manifest(tmp_path / "manifest.json", value)
    assert read_manifest(tmp_path / "manifest.json").proof.answers == ANSWERS


def test_a_manifest_without_answers_is_read(tmp_path: Path) -> None:
    write_manifest(tmp_path / "new.json", full(proof=Proof("proven")))
    content = json.loads((tmp_path / "new.json").read_text())
    del content["proof"]["answers"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert read_manifest(tmp_path / "manifest.json").proof.answers is None


@pytest.mark.parametrize("difference", [math.inf, -math.inf, math.nan])
def test_an_infinite_or_nan_difference_is_null_and_read_as_infinite(tmp_path: Path, difference: float) -> None:
    path = tmp_path / "manifest.json"
    write_manifest(path, full(proof=case(difference)))
    assert json.loads(path.read_text())["proof"]["cases"][0]["max_abs_diff"] is None
    (read,) = read_manifest(path).proof.cases
    assert read.max_abs_diff == math.inf
    assert not read.passed


@pytest.mark.parametrize(
    "value",
    [
        full(proof=case(0.0, tolerance=math.inf)),
        full(versions={"torch": 2}),
        full(call_spec=CallSpec(max_length=np.int64(512))),  # type: ignore[arg-type]
        full(task=""),
        full(schema=3),
        manifest(files=()),
        manifest(files=(FILE, FILE)),
    ],
)
def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path, value: Manifest) -> None:
    with pytest.raises(ManifestError):
        write_manifest(tmp_path / "manifest.json", value)
    assert not (tmp_path / "manifest.json").exists()


def test_a_manifest_is_written_once(tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.json", full())
    with pytest.raises(FileExistsError):
        write_manifest(tmp_path / "manifest.json", full())


def change(path: str, value: Any) -> str:
    """The JSON of a valid manifest with one value replaced, or removed for ``...``."""
    data = json.loads(json.dumps(full().to_dict()))
    *parents, last = path.split(".")
    place = data
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(data)


DAMAGED = {
    "empty": "",
    "half": json.dumps(full().to_dict())[:200],
    "list": "[]",
    "number": "3",
    "nan": change("proof.cases.0.tolerance", math.nan),
    "overflow": change("proof.cases.0.tolerance", 0).replace('"tolerance": 0', '"tolerance": 1e999'),
    "deep": "[" * 100_000,
    "schema missing": change("schema", ...),
    "schema text": change("schema", "1"),
    "schema bool": change("schema", True),
    "schema zero": change("schema", 0),
    "id missing": change("id", ...),
    "id null": change("id", None),
    "id empty": change("id", ""),
    "size text": change("files.0.size", "3"),
    "size bool": change("files.0.size", True),
    "size negative": change("files.0.size", -1),
    "size float": change("files.0.size", 3.0),
    "sha short": change("files.0.sha256", "0"),
    "path outside": change("files.0.path", "../model.onnx"),
    "path absolute": change("files.0.path", "/etc/passwd"),
    "path of itself": change("files.0.path", "manifest.json"),
    "graph elsewhere": change("graphs.0.file", "other.onnx"),
    "graphs object": change("graphs", {}),
    "shape": change("graphs.0.inputs.0.shape", [1.5]),
    "padding": change("call_spec.padding_side", "middle"),
    "status": change("proof.status", "believed"),
    "tolerance null": change("proof.cases.0.tolerance", None),
    "versions": change("versions", {"torch": None}),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_a_manifest_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match=r"manifest\.json") as caught:
        read_manifest(path)
    assert caught.value.hint
    assert caught.value.details["path"] == str(path)


def test_missing_and_binary(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        read_manifest(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError):
        read_manifest(tmp_path / "manifest.json")


def test_newer_schema_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"schema": 7, "what": "ever"}))
    with pytest.raises(ManifestError, match="schema 7") as caught:
        read_manifest(path)
    assert "pip install -U gpux" in (caught.value.hint or "")


def test_schema_1_had_other_names_for_three_keys(tmp_path: Path) -> None:
    data = full().to_dict()
    names = {"call_spec": "driving", "license": "licence"}
    old = {names.get(key, key): value for key, value in data.items()} | {"schema": 1}
    for case in old["proof"]["cases"]:
        case["twin"] = case.pop("small_model")
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(old))
    assert read_manifest(path) == full()


def test_fields_that_came_later_or_earlier(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    data = full().to_dict() | {"added_later": 1}
    del data["license"]
    path.write_text(json.dumps(data))
    assert read_manifest(path).license is None
