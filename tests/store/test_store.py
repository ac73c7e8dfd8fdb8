from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

import pytest

from gpux.errors import CancelledError, GpuxError, ManifestError, NotStoredError, StorageError
from gpux.model.reference import ModelRef
from gpux.model.variant import Proof
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.progress import BytesAdvanced, Event
from tests.store.variants import COMMIT, COMMITS, FILES, ID, can_exchange, commit, fill, manifest, names


def test_a_missing_store_is_empty(store: Store) -> None:
    ref = ModelRef("hf", ID)
    assert not store.models()
    assert not store.damaged()
    assert store.find("hf", ID, COMMIT) is None
    assert store.find_ref(ref) is None
    assert store.resolve_ref(ref) is None
    assert store.prune_plan().removals == ()
    assert store.removal_plan([]).execute() == 0
    with pytest.raises(NotStoredError):
        store.get(ref)
    assert not store.root.exists()


def test_commit(store: Store) -> None:
    model = commit(store)
    assert model.path.relative_to(store.root).as_posix() == (
        f"models/hf/org--name/{COMMIT}/feature-extraction--fp32--optimum"
    )
    assert names(model.path) == {*FILES, "manifest.json"}
    assert {file.path: file.size for file in model.manifest.files} == {name: len(data) for name, data in FILES.items()}
    assert model.manifest.created
    assert store.models() == [model]
    assert pickle.loads(pickle.dumps(store)).models() == [model]
    assert store.verify(model).ok
    assert (store.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert not list((store.root / "staging").iterdir())


def test_leaving_without_commit_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.staging() as staging:
        assert list(staging.path.iterdir()) == list(staging.scratch.iterdir()) == []
        fill(staging)
        1 / 0  # noqa: B018
    assert not list((store.root / "staging").iterdir())
    assert not store.models()


def test_the_first_of_two_equal_commits_is_kept(store: Store) -> None:
    first = commit(store)
    assert commit(store, files={"model.onnx": b"later"}) == first
    assert store.models() == [first]


def test_replace_commits_over_a_variant(store: Store) -> None:
    first = commit(store)
    second = commit(store, replace=True, files={"model.onnx": b"new"})
    assert second.path == first.path
    assert names(second.path) == {"model.onnx", "manifest.json"}
    assert store.models() == [second]
    assert not list(store.root.glob("*/*/model.onnx"))  # nothing left in staging or trash


@pytest.mark.parametrize("damage", ["manifest.json", "model.onnx"])
def test_a_damaged_variant_is_replaced(store: Store, damage: str) -> None:
    (commit(store).path / damage).unlink()
    second = commit(store, files={"model.onnx": b"new"})
    assert store.models() == [second]
    assert store.verify(second).ok


def test_commit_reports_bytes_and_can_be_cancelled(store: Store) -> None:
    events: list[Event] = []
    with store.staging() as staging:
        fill(staging)
        staging.commit(manifest(), progress=events.append)
    total = sum(map(len, FILES.values()))
    last = events[-1]
    assert isinstance(last, BytesAdvanced)
    assert astuple(last)[:3] == ("store", total, total)  # which file is last is up to the threads
    token = CancelToken()
    token.cancel()
    with store.staging() as staging:
        fill(staging)
        with pytest.raises(CancelledError):
            staging.commit(manifest(commit=COMMITS[1]), cancel=token)
    assert len(store.models()) == 1


def test_a_staging_is_committed_once(store: Store) -> None:
    with store.staging() as staging:
        fill(staging)
        staging.commit(manifest())
        with pytest.raises(StorageError, match="committed already"):
            staging.commit(manifest())


def test_a_missing_graph(store: Store) -> None:
    with pytest.raises(ManifestError, match=r"model\.onnx"):
        commit(store, files={"other.onnx": b""})
    assert not store.models()


@pytest.mark.parametrize("kind", ["symlink", "hard link"])
def test_links_are_refused(store: Store, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"x")
    with store.staging() as staging:
        link = staging.path / "model.onnx"
        link.symlink_to(source) if kind == "symlink" else link.hardlink_to(source)
        with pytest.raises(StorageError, match=r"model\.onnx is a link"):
            staging.commit(manifest())


def test_find_chooses(store: Store) -> None:
    int8 = commit(store, precision="int8")
    shipped = commit(store, recipe="shipped", proof=Proof("shipped"))
    older = commit(store, task="fill-mask", created="2020-01-01T00:00:00+00:00")
    newer = commit(store, task="fill-mask", recipe="other")
    best = commit(store)
    assert store.find("hf", ID, COMMIT, task="feature-extraction") == best
    assert store.find("hf", ID, COMMIT, precision="int8") == int8
    assert store.find("hf", ID, COMMIT, task="fill-mask") == newer != older
    assert store.find("hf", ID, COMMIT, task="fill-mask", precision="int8") is None
    assert store.find("hf", ID, COMMITS[1]) is None
    assert store.find("local", ID, COMMIT) is None
    store.removal_plan([best]).execute()
    assert store.find("hf", ID, COMMIT, task="feature-extraction") == shipped


def test_references_stand_for_what_the_last_pull_resolved(store: Store) -> None:
    old, new = (commit(store, id="openai-community/gpt2", commit=COMMITS[number]) for number in (0, 1))
    for revision, model in ((None, old), ("refs/pr/1", old), ("v1.0", old), ("Main", new), (None, new)):
        store.record_ref("hf", "gpt2", "openai-community/gpt2", revision, model.commit)
    for name in ("gpt2", "openai-community/gpt2"):
        assert store.find_ref(ModelRef("hf", name)) == new
        assert store.find_ref(ModelRef("hf", name, "v1.0")) == old
        assert store.find_ref(ModelRef("hf", name, "refs/pr/1")) == old
        assert store.find_ref(ModelRef("hf", name, "Main")) == new
        assert store.find_ref(ModelRef("hf", name, "main")) is None
        assert store.find_ref(ModelRef("hf", name, old.commit)) == old
        assert store.find_ref(ModelRef("hf", name, old.commit[:7])) == old
        assert store.find_ref(ModelRef("hf", name, old.commit[:6])) is None
        assert store.find_ref(ModelRef("hf", name), precision="int8") is None
    assert store.resolve_ref(ModelRef("hf", "gpt2", COMMITS[5])) == ("openai-community/gpt2", COMMITS[5])
    assert store.find_ref(ModelRef("hf", "other/gpt2")) is None


def test_an_ambiguous_prefix_of_a_commit_resolves_to_nothing(store: Store) -> None:
    for end in "01":
        commit(store, commit="abcdef0" + end * 33)
    assert store.find_ref(ModelRef("hf", ID, "abcdef0")) is None
    found = store.find_ref(ModelRef("hf", ID, "abcdef00"))
    assert found is not None
    assert found.commit[7] == "0"


def test_a_branch_named_like_a_commit_wins(store: Store) -> None:
    commit(store)
    other = commit(store, commit=COMMITS[1])
    store.record_ref("hf", ID, ID, COMMIT[:7], other.commit)
    assert store.find_ref(ModelRef("hf", ID, COMMIT[:7])) == other


def test_local_paths_mean_the_same_in_every_working_directory(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    model = commit(store, scheme="local", id=str(folder))
    monkeypatch.chdir(tmp_path)
    store.record_ref("local", "./mine", str(folder), None, model.commit)
    assert store.find_ref(ModelRef("local", "mine")) == model
    assert store.find_ref(ModelRef("local", str(folder))) == model
    monkeypatch.chdir(folder)
    assert store.find_ref(ModelRef("local", "./mine")) is None
    assert store.find_ref(ModelRef("local", "../mine")) == model


def test_damaged_records_count_as_missing(store: Store) -> None:
    model = commit(store)
    store.record_ref("hf", "name", ID, None, model.commit)
    for file in (store.root / "refs").rglob("*.json"):
        file.write_text("{")
    assert store.find_ref(ModelRef("hf", "name")) is None
    store.record_ref("hf", "name", ID, None, model.commit)
    assert store.find_ref(ModelRef("hf", "name")) == model


def test_not_stored_lists_stored_variants(store: Store) -> None:
    commit(store, id="sentence-transformers/all-MiniLM-L6-v2")
    for name in ("all-minilm-l6-v2", "sentence-transformer/all-MiniLM-L6", "all-MiniLM-L12-v2"):
        with pytest.raises(NotStoredError) as caught:
            store.get(ModelRef("hf", name))
        assert caught.value.details["near"] == ["sentence-transformers/all-MiniLM-L6-v2"]
        assert f"gpux pull {name}" in (caught.value.hint or "")
    with pytest.raises(NotStoredError, match=rf"with int8; stored: {COMMIT[:12]} \(feature-extraction, fp32\)"):
        store.get(ModelRef("hf", "sentence-transformers/all-MiniLM-L6-v2"), precision="int8")
    with pytest.raises(NotStoredError) as caught:
        store.get(ModelRef("hf", "quite/different"))
    assert caught.value.details["near"] == []
    copied = pickle.loads(pickle.dumps(caught.value))
    assert GpuxError.from_dict(copied.to_dict()).to_dict() == caught.value.to_dict()


def test_an_unreadable_folder_hides_no_other_variant(store: Store) -> None:
    good = commit(store)
    for number, damage in enumerate(("{", json.dumps({"schema": 99}), None), start=1):
        path = commit(store, commit=COMMITS[number]).path / "manifest.json"
        path.unlink() if damage is None else path.write_text(damage)
    moved = good.path.with_name("fill-mask--fp32--optimum")
    shutil.copytree(good.path, moved)
    (store.root / "models" / "stray.txt").write_text("")
    assert store.models() == [good]
    damaged = store.damaged()
    assert len(damaged) == 4
    assert damaged[0].path == moved
    assert "another variant" in damaged[0].message
    assert json.dumps([entry.to_dict() for entry in damaged])
    assert pickle.loads(pickle.dumps(damaged)) == damaged


def test_threads_may_share_a_store(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: commit(store, commit=COMMITS[number % 3]), range(24)))
        list(pool.map(lambda model: store.record_ref("hf", "name", ID, None, model.commit), made))
    assert len(store.models()) == 3
    assert set(map(str, store.models())) == set(map(str, made))
    assert all(store.verify(model).ok for model in made)
    assert store.find_ref(ModelRef("hf", "name")) in made
    assert not list((store.root / "staging").iterdir())


def test_readers_see_a_complete_variant_while_it_is_replaced(store: Store) -> None:
    commit(store)
    fewest = 1 if can_exchange(store.root) else 0
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [commit(store, replace=True) for _ in range(30)])
        while not writing.done():
            assert not store.damaged()
            assert fewest <= len(store.models()) <= 1
        writing.result()
