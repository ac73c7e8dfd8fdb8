"""What a request may call a stored model, and what the list of models says."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpux.errors import CorruptFileError, ModelNotFoundError, UnsupportedTaskError
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.server import names as module
from gpux.server.names import Names
from gpux.store import Store
from tests.pipelines.conftest import stored


def put(
    root: Path,
    id: str,
    precision: str = "fp32",
    *,
    task: str = "text-generation",
    commit: str = "a" * 40,
    scheme: str = "hf",
    revision: str | None = None,
    own_task: bool = True,
) -> StoredModel:
    """Commit a variant of one small file to a store."""
    store = Store(root)
    with store.staging() as staging:
        (staging.path / "onnx").mkdir()
        (staging.path / "onnx/model.onnx").write_bytes(b"graph")
        manifest = stored(staging.path, task).manifest
        changes = {"scheme": scheme, "id": id, "commit": commit, "precision": precision, "own_task": own_task}
        made = staging.commit(replace(manifest, **changes))
    store.record_ref(scheme, id, id, revision, commit)
    return made


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    monkeypatch.setattr(module, "FRESH", 0.0)
    return Names(tmp_path)


def test_a_model_is_found_by_every_form_of_its_name(names: Names, tmp_path: Path) -> None:
    exact = put(tmp_path, "org/name")
    small = put(tmp_path, "org/name", "int4")
    old = put(tmp_path, "org/name", commit="b" * 40, revision="v1")
    for name in ("org/name", "org/name:latest", "hf:org/name", "org/name:fp32", "org/name@" + "a" * 40):
        assert names.find(name) == exact
    assert names.find("org/name:int4") == names.find("hf:org/name:int4") == small
    assert names.find("org/name@v1") == names.find("org/name@bbbbbbb") == names.find("org/name@v1:latest") == old


def test_a_local_model_is_found_by_its_path_and_by_the_name_of_its_folder(
    names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = put(tmp_path, str(tmp_path / "models" / "small"), scheme="local")
    for name in ("./models/small", str(tmp_path / "models/small"), "small", "small:latest", "small:fp32"):
        assert names.find(name) == model
    assert [one.name for one in names.listing()] == ["small"]
    other = put(tmp_path, str(tmp_path / "other" / "small"), scheme="local")
    with pytest.raises(ModelNotFoundError, match="2 stored models are in folders that are named 'small'") as caught:
        names.find("small")
    assert caught.value.details["near"] == [model.id, other.id]
    assert names.find("./other/small") == other
    assert [one.name for one in names.listing()] == [str(tmp_path / "models/small"), str(tmp_path / "other/small")]


def test_every_name_of_the_list_finds_its_model(names: Names, tmp_path: Path) -> None:
    put(tmp_path, "org/name")
    put(tmp_path, "org/name", "int4")
    put(tmp_path, "org/name", commit="b" * 40, revision="v1")
    put(tmp_path, "org/other", "int8", task="text-ranking")
    put(tmp_path, str(tmp_path / "small"), "int4", scheme="local")
    found = {one.name: one for one in names.listing()}
    assert list(found) == ["org/name", "org/name:int4", "org/name@bbbbbbbbbbbb", "org/other", "small"]
    assert [name for name, one in found.items() if one.default] == ["org/name", "org/other", "small"]
    assert all(names.find(name) == one.model for name, one in found.items())
    assert (found["org/other"].task, found["org/other"].precision) == ("text-classification", "int8")
    assert found["small"].bytes > 0 and found["small"].created > 0


def test_a_wrong_name_is_answered_with_similar_ones(names: Names, tmp_path: Path) -> None:
    put(tmp_path, "org/mini-model")
    with pytest.raises(ModelNotFoundError, match="'org/mini-modle' is not stored") as caught:
        names.find("org/mini-modle")
    assert caught.value.details["near"] == ["org/mini-model"]
    assert names.find(caught.value.details["near"][0])
    for name in ("org/mini-model:int4", "org/mini-model@v9", "llama3:8b", "a b", "", "..", "x" * 5000, "https://h/x/y"):
        with pytest.raises(ModelNotFoundError):
            names.find(name)


def test_a_model_of_another_task_is_refused_with_both_tasks(names: Names, tmp_path: Path) -> None:
    put(tmp_path, "org/name", task="fill-mask")
    with pytest.raises(UnsupportedTaskError, match="stored for fill-mask, and this request needs text-generation"):
        names.find("org/name", ("text-generation",))


def test_of_two_tasks_the_one_that_the_request_needs_is_found(names: Names, tmp_path: Path) -> None:
    own = put(tmp_path, "org/name", task="fill-mask")
    other = put(tmp_path, "org/name", task="feature-extraction", own_task=False)
    assert names.find("org/name") == own
    assert names.find("org/name", ("sentence-similarity",)) == other


def test_a_damaged_model_is_named_as_damaged(names: Names, tmp_path: Path) -> None:
    model = put(tmp_path, "org/name")
    (model.path / "manifest.json").write_text("{")
    with pytest.raises(CorruptFileError, match="'org/name' is damaged") as caught:
        names.find("org/name")
    assert str(tmp_path) not in f"{caught.value} {caught.value.hint}"
    assert len(names.damaged()) == 1


def test_what_another_process_pulls_chooses_or_removes_is_seen(names: Names, tmp_path: Path) -> None:
    assert names.listing() == ()
    exact = put(tmp_path, "org/name")
    assert names.find("org/name") == exact
    small = put(tmp_path, "org/name", "int4")
    Store(tmp_path).choose_precision(ModelRef.parse("org/name"), "int4")
    assert names.find("org/name") == small
    assert [one.name for one in names.listing() if one.default] == ["org/name"]
    Store(tmp_path).removal_plan([exact, small]).execute()
    with pytest.raises(ModelNotFoundError):
        names.find("org/name")
    assert names.listing() == ()
    again = put(tmp_path, "org/name")
    assert names.find("org/name") == again


def test_a_new_model_is_found_although_the_store_was_just_read(tmp_path: Path) -> None:
    names = Names(tmp_path)
    names.listing()
    model = put(tmp_path, "org/name")
    assert names.find("org/name") == model


def test_an_entry_of_the_list_is_found_although_the_store_was_just_read(tmp_path: Path) -> None:
    names = Names(tmp_path)
    names.listing()
    model = put(tmp_path, str(tmp_path / "small"), scheme="local")
    assert (names.listed("small").name, names.listed("small").model) == ("small", model)


def test_two_records_in_the_same_moment_are_both_seen(names: Names, tmp_path: Path) -> None:
    """The second one, of what the name stands for, leaves the folder with the time of the first."""
    model = put(tmp_path, "org/name")
    (folder,) = (tmp_path / "refs/hf").iterdir()
    (folder / "default.json").rename(tmp_path / "kept.json")
    moment = time.time_ns()
    os.utime(folder, ns=(moment, moment))
    assert [one.default for one in names.listing()] == [False]
    (tmp_path / "kept.json").rename(folder / "default.json")
    os.utime(folder, ns=(moment, moment))
    assert [one.default for one in names.listing()] == [True]
    assert names.find("org/name") == model


def test_a_look_up_reads_no_manifest_again(tmp_path: Path) -> None:
    names = Names(tmp_path)
    first = put(tmp_path, "org/name-0")
    for number in range(1, 40):
        copy = tmp_path / "models/hf" / f"org--name-{number}" / first.path.relative_to(first.path.parents[1])
        shutil.copytree(first.path, copy)
        manifest = copy / "manifest.json"
        manifest.write_text(manifest.read_text().replace("org/name-0", f"org/name-{number}"))
        Store(tmp_path).record_ref("hf", f"org/name-{number}", f"org/name-{number}", None, "a" * 40)
    time.sleep(0.06)  # so that the folders have another time than a later change
    names.find("org/name-7")
    names.find("org/name-8")
    generation = names.generation
    for manifest in tmp_path.glob("models/*/*/*/*/manifest.json"):
        manifest.write_text("{")  # the folders stay as they are
    assert names.find("org/name-9").id == "org/name-9"
    assert names.generation == generation
