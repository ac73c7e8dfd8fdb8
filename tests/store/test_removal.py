from __future__ import annotations

import json
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpux.errors import CancelledError, NotStoredError
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.store import Store
from gpux.system.cancel import CancelToken
from tests.store.variants import COMMITS, ID, commit, names
from tests.waiting import FOREVER


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pulled(store: Store, number: int, revision: str | None = None, **changes: Any) -> StoredModel:
    model = commit(store, commit=COMMITS[number], **changes)
    store.record_ref(model.manifest.scheme, model.id.rpartition("/")[2], model.id, revision, model.commit)
    return model


def test_removal_deletes_folders_and_records(store: Store) -> None:
    model, other = pulled(store, 0), pulled(store, 0, id="org/other")
    expected = size(model.path)
    plan = store.removal_plan([model, model])
    assert store.models() == [model, other]  # a plan does nothing
    assert plan.bytes_freed == expected
    assert [ref.revision for ref in plan.refs] == [None]
    assert [alias.requested_id for alias in plan.aliases] == ["name"]
    assert plan.execute() == expected
    assert store.models() == [other]
    assert not (store.root / "models" / "hf" / "org--name").exists()
    assert store.resolve_ref(ModelRef("hf", "name")) is None
    assert not [name for name in names(store.root / "refs") if "other" not in name]
    assert not list((store.root / "trash").iterdir())
    assert plan.execute() == 0  # gone already


def test_records_are_kept_while_a_variant_of_their_commit_is_stored(store: Store) -> None:
    model, int8 = pulled(store, 0), pulled(store, 0, precision="int8")
    older = pulled(store, 1, "v1")
    plan = store.removal_plan([model])
    assert not plan.refs
    assert not plan.aliases
    plan.execute()
    assert store.find_ref(ModelRef("hf", "name")) == int8
    plan = store.removal_plan([int8])
    assert [ref.commit for ref in plan.refs] == [COMMITS[0]]
    assert plan.aliases == ()
    plan.execute()
    assert store.find_ref(ModelRef("hf", "name")) is None
    assert store.find_ref(ModelRef("hf", "name", "v1")) == older


def test_records_are_checked_again_at_execution(store: Store) -> None:
    plan = store.removal_plan([pulled(store, 0)])
    moved = pulled(store, 1)
    plan.execute()
    assert store.find_ref(ModelRef("hf", "name")) == moved


def test_plan_is_a_value(store: Store) -> None:
    plan = store.removal_plan([pulled(store, 0)])
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert json.loads(json.dumps(plan.to_dict()))["bytes_freed"] == plan.bytes_freed > 0
    assert plan.removals[0].title == f"org/name@{COMMITS[0][:12]} (feature-extraction, fp32)"


def test_only_variants_of_the_store_can_be_removed(store: Store, tmp_path: Path) -> None:
    model = commit(store)
    with pytest.raises(NotStoredError):
        store.removal_plan([replace(model, path=tmp_path)])
    with pytest.raises(NotStoredError):
        Store(tmp_path / "another").removal_plan([model])


def test_removal_waits_for_a_running_conversion(store: Store) -> None:
    model = commit(store)
    waiting = threading.Event()
    plan = store.removal_plan([model])
    thread = threading.Thread(target=lambda: plan.execute(on_wait=waiting.set))
    with store.lock("hf", ID, model.commit, model.task, "fp32"):
        thread.start()
        assert waiting.wait(FOREVER)
        assert store.models() == [model]
    thread.join()
    assert not store.models()


def test_removal_can_be_cancelled(store: Store) -> None:
    model = commit(store)
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        store.removal_plan([model]).execute(cancel=token)
    assert store.models() == [model]


def test_prune_removes_superseded_commits(store: Store) -> None:
    old, tagged = pulled(store, 0), pulled(store, 1, "v1")
    assert store.prune_plan().removals == ()
    new = pulled(store, 2)
    plan = store.prune_plan()
    assert [(removal.path, removal.kind) for removal in plan.removals] == [(old.path, "superseded")]
    assert plan.bytes_freed == size(old.path)
    assert plan.execute() == plan.bytes_freed
    assert store.models() == [tagged, new]
    assert store.prune_plan().removals == ()


def test_prune_keeps_variants_that_no_commit_replaced(store: Store) -> None:
    pulled(store, 0)
    store.record_ref("hf", ID, ID, None, COMMITS[1])  # known to have moved on; the new commit is not stored
    assert store.prune_plan().removals == ()
    pulled(store, 1)
    commit(store, commit=COMMITS[2])  # made after the last record: its own may be about to come
    commit(store, id="org/unrecorded")
    assert [removal.title[9:13] for removal in store.prune_plan().removals] == ["aaaa"]
    (store.root / "refs" / "hf" / "org--name" / "default.json").write_text("{")
    assert store.prune_plan().removals == ()


def test_prune_follows_a_branch_that_went_back(store: Store) -> None:
    first, second = pulled(store, 0), pulled(store, 1)
    store.record_ref("hf", "name", ID, None, first.commit)
    assert [removal.path for removal in store.prune_plan().removals] == [second.path]


def test_prune_removes_damaged_variants_and_trash(store: Store) -> None:
    good, bad, repaired = (commit(store, commit=COMMITS[number]) for number in range(3))
    sound = (repaired.path / "manifest.json").read_bytes()
    for model in (bad, repaired):
        (model.path / "manifest.json").write_text("{")
    grave = store.root / "trash" / "0123"
    grave.mkdir(parents=True)
    (grave / "model.onnx").write_bytes(b"12345")
    plan = store.prune_plan()
    assert [removal.kind for removal in plan.removals] == ["trash", "damaged", "damaged"]
    assert plan.bytes_freed == 5 + size(bad.path) + size(repaired.path)
    assert "is damaged" in plan.removals[1].reason
    (repaired.path / "manifest.json").write_bytes(sound)
    assert plan.execute() == plan.bytes_freed - plan.removals[2].size
    assert store.models() == [good, repaired]
    assert not store.damaged()
    assert not bad.path.parent.exists()


def test_prune_skips_folders_in_use(store: Store) -> None:
    old = pulled(store, 0)
    pulled(store, 1)
    plan = store.prune_plan()
    assert plan.removals
    with store.lock("hf", ID, old.commit, old.task, "fp32"), store.staging() as staging:
        assert plan.execute() == 0
        assert staging.path.is_dir()
    store.record_ref("hf", ID, ID, "stable", old.commit)  # wanted again since the plan was made
    assert plan.execute() == 0
    assert old in store.models()


def test_a_link_to_a_variant_elsewhere_is_removed_and_not_followed(store: Store, tmp_path: Path) -> None:
    model = commit(store)
    elsewhere = tmp_path / "big-disk"
    model.path.rename(elsewhere)
    model.path.symlink_to(elsewhere, target_is_directory=True)
    assert store.models() == [model]
    store.removal_plan([model]).execute()
    assert not store.models()
    assert "model.onnx" in names(elsewhere)
