from __future__ import annotations

import json
import math
import ntpath
import pickle
import posixpath
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.errors import CorruptFileError, UnsafePathError
from gpux.model.info import ModelFile, ModelInfo, ModelPage, Revision, SourceSnapshot
from gpux.model.values import Value, to_jsonable
from gpux.model.variant import (
    AnswerProof,
    CallSpec,
    GraphSpec,
    Manifest,
    Proof,
    ProofCase,
    StoredFile,
    StoredModel,
    TensorSpec,
    Threshold,
)

FILES = (ModelFile("config.json", 10, "b" * 40), ModelFile("model.safetensors", 90, "c" * 40, "d" * 64))
INFO = ModelInfo("hf", "org/name", "name", "a" * 40, "main", (*FILES, ModelFile("x", None)), ("safetensors",))
TENSOR = TensorSpec("input_ids", "int64", ("batch", None, 4))
GRAPHS = (GraphSpec("model", "model.onnx", (TENSOR,), ()), GraphSpec("decoder", "decoder.onnx", (), (TENSOR,)))
CASES = (ProofCase("short", {"input_ids": (1, 4)}, 1e-7, 1e-4, True), ProofCase("long", {}, 3e-7, 1e-4, False))
ANSWERS = AnswerProof("proven", 9, 2e-6, {"transformers": "4.57.6"})
PROOF = Proof("proven", CASES, {"torch": "2"}, "1.24", "CPUExecutionProvider", answers=ANSWERS)
MANIFEST = Manifest(
    scheme="hf",
    id="org/name",
    commit="a" * 40,
    task="fill-mask",
    precision="fp32",
    recipe="optimum",
    graphs=GRAPHS,
    files=(StoredFile("model.onnx", 7, "e" * 64), StoredFile("tokenizer.json", 2, "f" * 64)),
    call_spec=CallSpec("left", 512),
    proof=PROOF,
    versions={"optimum-onnx": "0.1.0"},
)
STORED = StoredModel(Path("variant"), MANIFEST)
VALUES: list[Value] = [
    FILES[0],
    Revision("refs/pr/1", "pull_request", "a" * 40),
    INFO,
    ModelPage(INFO, {"license": "mit"}, dtypes={"F32": 100}),
    SourceSnapshot(INFO, Path("snapshot"), ("config.json",)),
    TENSOR,
    GRAPHS[0],
    CallSpec(),
    CASES[0],
    Threshold("sliding_window", 8, {"model": {"input_ids": 1}}),
    ANSWERS,
    PROOF,
    StoredFile("model.onnx", 7, "e" * 64),
    MANIFEST.key,
    MANIFEST,
    STORED,
]
every_value = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)


def test_every_value_class_is_tested() -> None:
    assert {type(value) for value in VALUES} == set(Value.__subclasses__()) - _outside()


def _outside() -> set[type]:
    """Value classes of other modules."""
    return {kind for kind in Value.__subclasses__() if kind.__module__ not in ("gpux.model.info", "gpux.model.variant")}


@every_value
def test_to_dict_is_json(value: Value) -> None:
    data = value.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data


@every_value
def test_values_pickle(value: Value) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


@every_value
def test_values_are_frozen(value: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, None)


def test_to_dict_of_nested_values() -> None:
    data = STORED.to_dict()
    assert (data["path"], data["size"], data["id"], data["schema"]) == ("variant", 9, "org/name", 2)
    assert data["graphs"][0]["inputs"][0] == {"name": "input_ids", "dtype": "int64", "shape": ["batch", None, 4]}
    assert data["proof"]["cases"][0]["shapes"] == {"input_ids": [1, 4]}
    assert "path" not in MANIFEST.to_dict()


@pytest.mark.parametrize("difference", [math.inf, math.nan])
def test_a_difference_that_is_not_finite_is_valid_json(difference: float) -> None:
    proof = Proof("inexact", (ProofCase("short", {}, difference, 1e-4, True),)).to_dict()
    assert json.loads(json.dumps(proof, allow_nan=False)) == proof


def test_to_jsonable() -> None:
    assert to_jsonable({1: (Path("a"), {"b"}), "c": [None, 1.5, True]}) == {"1": ["a", ["b"]], "c": [None, 1.5, True]}


@pytest.mark.parametrize(
    ("file", "etag"), [(FILES[0], "b" * 40), (FILES[1], "d" * 64), (ModelFile("x", None), None)], ids=str
)
def test_etag(file: ModelFile, etag: str | None) -> None:
    assert file.etag == etag


def test_info_finds_files() -> None:
    assert INFO.size == 100
    assert INFO.file("config.json") is FILES[0]
    assert INFO.file("no.json") is None


@pytest.mark.parametrize(
    ("difference", "passed"), [(0.0, True), (1e-4, True), (1.1e-4, False), (math.inf, False), (math.nan, False)]
)
def test_a_case_passes_within_tolerance(difference: float, passed: bool) -> None:
    assert ProofCase("short", {}, difference, 1e-4, True).passed is passed


def test_the_largest_difference_counts() -> None:
    assert PROOF.max_abs_diff == 3e-7
    assert Proof("shipped").max_abs_diff is None


def test_stored_model() -> None:
    assert (STORED.id, STORED.commit, STORED.task, STORED.size) == ("org/name", "a" * 40, "fill-mask", 9)
    assert STORED.graph() is GRAPHS[0]
    assert STORED.graph("decoder") is GRAPHS[1]
    with pytest.raises(KeyError, match="encoder"):
        STORED.graph("encoder")


@pytest.mark.parametrize(("content", "found"), [(None, {}), ('{"a": 1}', {"a": 1}), ("[1]", {}), ("null", {})])
def test_read_json(tmp_path: Path, content: str | None, found: dict[str, Any]) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
    assert StoredModel(tmp_path, MANIFEST).read_json("x.json") == found


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": "\xff"}'])
def test_a_damaged_json_file_is_corrupt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"x\.json"):
        StoredModel(tmp_path, MANIFEST).read_json("x.json")


@pytest.mark.parametrize(
    "path",
    ["config.json", "onnx/model.onnx", "a/b/c", ".gitattributes", "a..b", "...", "a b", "ü/ñ", "~", "1_Pooling/c"],
)
def test_safe_paths(path: str) -> None:
    assert ModelFile(path, 1).path == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/abs",
        "//host/x",
        "a//b",
        "a/",
        "../x",
        "a/../../b",
        "a/..",
        "./a",
        "C:/x",
        "c:x",
        "1:x",
        "a\\b",
        "..\\x",
        "\\\\host\\x",
        "a\nb",
        "a\x00b",
        "\x1b[2J",
    ],
)
def test_unsafe_paths(path: str) -> None:
    with pytest.raises(UnsafePathError) as caught:
        ModelFile(path, 1)
    assert caught.value.details == {"file": path}
    assert "\n" not in caught.value.message


parts = st.lists(st.sampled_from(["..", ".", "", "a", "b:", "C:", "\\", "~", " ", "\x00", "a..", "..."]), max_size=6)


@given(st.one_of(st.text(), parts.map("/".join), parts.map("\\".join), parts.map("".join)))
def test_accepted_paths_stay_in_their_folder(path: str) -> None:
    try:
        ModelFile(path, 1)
    except UnsafePathError:
        return
    for flavour, root in ((posixpath, "/root"), (ntpath, "D:\\root")):
        reached = flavour.normpath(flavour.join(root, path))
        assert reached.startswith(root + flavour.sep), reached
