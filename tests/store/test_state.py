from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpux.errors import NotStoredError, NotWritableError
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.store import Store, state
from tests.store.variants import COMMITS, ID, commit, names

DAY = 86400.0


def used(store: Store, number: int, days_ago: float | None, **changes: object) -> StoredModel:
    """A variant with its last use that many days ago; None: never used."""
    model = commit(store, commit=COMMITS[number], **changes)
    store.record_ref("hf", ID, model.id, f"v{number}", model.commit)
    if days_ago is not None:
        store.touch(model)
        moment = time.time() - days_ago * DAY
        os.utime(beside(model, ".used"), (moment, moment))
    return model


def beside(model: StoredModel, suffix: str) -> Path:
    return model.path.with_name(model.path.name + suffix)


def on_disk(model: StoredModel) -> int:
    return sum(path.stat().st_size for path in model.path.rglob("*") if path.is_file())


# Use


def test_a_use_is_recorded_at_most_once_a_minute(store: Store) -> None:
    model = commit(store)
    assert store.last_used(model) == datetime.fromisoformat(model.manifest.created)
    started = datetime.now(UTC) - timedelta(seconds=1)  # file systems round times
    store.touch(model)
    first = beside(model, ".used").stat().st_mtime_ns
    assert started <= store.last_used(model) <= datetime.now(UTC)
    store.touch(model)
    assert beside(model, ".used").stat().st_mtime_ns == first
    for shift in (-61, 3600):  # a clock that was set back counts as no use
        moment = time.time() + shift
        os.utime(beside(model, ".used"), (moment, moment))
        store.touch(model)
        assert started <= store.last_used(model) <= datetime.now(UTC)
    assert store.models() == [model]
    assert store.verify(model).ok


def test_a_use_that_cannot_be_recorded_is_ignored(store: Store) -> None:
    model = commit(store)
    beside(model, ".used").symlink_to(model.path.parent / "nowhere" / "file")
    store.touch(model)
    beside(model, ".used").unlink()
    store.removal_plan([model]).execute()
    store.touch(model)
    assert not model.path.parent.exists()


def test_a_use_within_a_minute_writes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model = commit(store)
    store.touch(model)

    written: list[object] = []
    monkeypatch.setattr(Path, "touch", lambda self, *_, **__: written.append(self))
    monkeypatch.setattr(os, "utime", lambda path, *_, **__: written.append(path))
    store.touch(model)
    assert written == []


def test_an_invalid_creation_time(store: Store) -> None:
    for number, text in enumerate(("yesterday", "2020-01-01T00:00:00")):
        model = commit(store, commit=COMMITS[number], created=text)
        assert store.last_used(model).tzinfo is not None


# Pins


def test_pinning_and_unpinning(store: Store) -> None:
    model = commit(store)
    assert not store.pinned(model)
    store.unpin(model)
    store.pin(model)
    store.pin(model)
    assert store.pinned(model)
    assert store.models() == [model] and store.verify(model).ok
    commit(store, replace=True)
    assert store.pinned(model)  # made again, it is the same variant
    store.unpin(model)
    assert not store.pinned(model)


def test_pinning_a_removed_variant(store: Store) -> None:
    model = commit(store)
    store.removal_plan([model]).execute()
    with pytest.raises(NotStoredError):
        store.pin(model)


def test_a_pin_that_cannot_be_written(store: Store) -> None:
    model = commit(store)
    beside(model, ".pinned").symlink_to(model.path / "model.onnx" / "below-a-file")  # refuses root as well
    with pytest.raises(NotWritableError):
        store.pin(model)


def test_prune_never_removes_pinned_variants(store: Store) -> None:
    old, damaged = commit(store), commit(store, commit=COMMITS[1])
    for model in (old, damaged):
        store.record_ref("hf", ID, ID, None, model.commit)
        store.pin(model)
    (damaged.path / "manifest.json").write_text("{")
    newest = commit(store, commit=COMMITS[2])
    store.record_ref("hf", ID, ID, None, newest.commit)
    assert store.prune_plan().removals == ()
    store.unpin(old)
    store.unpin(damaged)
    plan = store.prune_plan()
    assert {removal.path for removal in plan.removals} == {old.path, damaged.path}
    store.pin(old)
    store.pin(damaged)
    assert plan.execute() == 0
    assert old.path.exists() and damaged.path.exists()


# What goes with a variant


def test_removal_deletes_the_state_of_a_variant(store: Store) -> None:
    model, int8 = commit(store), commit(store, precision="int8")
    for other in (model, int8):
        store.touch(other)
        store.pin(other)
        beside(other, ".replays.json").write_text("[]")
    plan = store.removal_plan([model])
    assert plan.removals[0].reason == "requested, although pinned"
    plan.execute()
    assert store.models() == [int8] and store.pinned(int8)
    assert {path.name for path in int8.path.parent.iterdir()} == {
        int8.path.name + suffix for suffix in ("", *state.SUFFIXES)
    }
    store.removal_plan([int8]).execute()
    assert not names(store.root / "models")


def test_prune_removes_the_state_of_removed_variants(store: Store) -> None:
    gone, here = commit(store, precision="int8"), commit(store)
    for model in (gone, here):
        store.touch(model)
        beside(model, ".replays.json").write_text("[]")
    store.removal_plan([gone]).execute()
    beside(gone, ".replays.json").write_text("[1]")  # as if the removal had been killed
    (removal,) = store.prune_plan().removals
    assert (removal.kind, removal.path, removal.size) == ("state", gone.path, 3)
    back = commit(store, precision="int8")
    plan = store.prune_plan()
    assert plan.removals == ()
    store.removal_plan([back]).execute()
    beside(gone, ".replays.json").write_text("[1]")
    assert store.prune_plan().execute() == 3
    assert store.models() == [here] and beside(here, ".used").exists()
    assert not beside(gone, ".replays.json").exists()


# The quota


def test_the_least_recently_used_is_evicted_first(store: Store) -> None:
    middle, oldest, newest = used(store, 0, 5), used(store, 1, 9), used(store, 2, 1)
    sizes = {model.path: on_disk(model) for model in (middle, oldest, newest)}
    total = sum(sizes.values())
    assert store.eviction_plan(total).removals == ()
    plan = store.eviction_plan(total - 1)
    assert [removal.path for removal in plan.removals] == [oldest.path]
    assert "last used" in plan.removals[0].reason and plan.bytes_freed == sizes[oldest.path]
    assert [ref.revision for ref in plan.refs] == ["v1"]
    both = store.eviction_plan(sizes[newest.path])
    assert [removal.path for removal in both.removals] == [oldest.path, middle.path]
    assert both.execute() == sizes[oldest.path] + sizes[middle.path]
    assert store.models() == [newest]
    assert store.find_ref(ModelRef("hf", ID, "v0")) is None


def test_the_last_use_of_an_unused_variant_is_its_creation(store: Store) -> None:
    ancient = used(store, 0, None, created="2020-01-01T00:00:00+00:00")
    recent, fresh = used(store, 1, 30), used(store, 2, None)
    plan = store.eviction_plan(0)
    assert [removal.path for removal in plan.removals] == [ancient.path, recent.path, fresh.path]


def test_pinned_variants_and_those_to_keep_are_not_evicted(store: Store) -> None:
    pinned, kept, other = used(store, 0, 9), used(store, 1, 8), used(store, 2, 1)
    store.pin(pinned)
    plan = store.eviction_plan(0, keep=[kept])
    assert [removal.path for removal in plan.removals] == [other.path]
    plan.execute()
    assert store.models() == [pinned, kept]
    assert store.eviction_plan(0, keep=[kept]).removals == ()


def test_an_evicted_model_keeps_its_other_names(store: Store) -> None:
    model = used(store, 0, 9)
    store.record_ref("hf", "name", ID, None, model.commit)
    store.eviction_plan(0).execute()
    assert store.models() == [] and store.resolve_ref(ModelRef("hf", "name")) is None
    assert store.canonical_id("hf", "name") == ID


def test_variants_used_since_the_plan_are_not_evicted(store: Store) -> None:
    touched, pinned, working, gone = (used(store, number, 9) for number in range(4))
    plan = store.eviction_plan(0)
    assert len(plan.removals) == 4
    store.touch(touched)
    store.pin(pinned)
    store.removal_plan([gone]).execute()
    with store.lock("hf", ID, working.commit, working.task, "fp32"):
        assert plan.execute() == 0
    assert store.models() == [touched, pinned, working]


def test_eviction_skips_variants_in_use(store: Store) -> None:
    model = used(store, 0, 9)
    plan = store.eviction_plan(0)
    with store.lock("hf", ID, model.commit, model.task, "fp32"):
        assert plan.execute() == 0  # without waiting for the lock
    assert store.models() == [model]


def test_keep_within_reports_each_eviction(store: Store) -> None:
    old, pinned, new = used(store, 0, 9), used(store, 1, 8), used(store, 2, 0)
    store.pin(pinned)
    said: list[str] = []
    limit = on_disk(new) + on_disk(pinned)
    assert store.keep_within(limit, [new], said.append) == on_disk(new)
    assert [line.partition(",")[0] for line in said] == [f"evicted org/name@{old.commit[:12]} (feature-extraction"]
    said.clear()
    assert store.keep_within(limit, [new], said.append) == 0 and said == []
    assert store.keep_within(1000, [new], said.append) == 0
    assert "more than its limit of 1.0 kB: the rest is pinned, in use or new" in said[0]
    assert store.models() == [pinned, new]


# Who is at work


def test_a_model_is_busy_while_a_variant_is_built(store: Store) -> None:
    assert not store.busy("hf", ID)
    commit(store)
    with store.lock("hf", ID, COMMITS[3], "fill-mask", "int8"):
        assert store.busy("hf", ID)
        assert not store.busy("hf", "org/other") and not store.busy("hf", "org")
    assert not store.busy("hf", ID)


def test_matching_variants_of_a_reference(store: Store) -> None:
    fp32, int8 = used(store, 0, None), used(store, 0, None, precision="int8")
    other = used(store, 1, None, task="fill-mask")
    commit(store, id="org/another")
    store.record_ref("hf", ID, ID, None, other.commit)
    assert store.matching(ModelRef("hf", ID)) == [fp32, int8, other]
    assert store.matching(ModelRef("hf", ID, "v0")) == [fp32, int8]
    assert store.matching(ModelRef("hf", ID), task="fill-mask") == [other]
    with pytest.raises(NotStoredError):
        store.matching(ModelRef("hf", "org/none"))


def test_the_key_of_a_variant_is_read_from_its_path(store: Store, tmp_path: Path) -> None:
    model = commit(store)
    assert store.key_of(model.path) == model.key
    assert store.key_of(commit(store, scheme="local", id=str(tmp_path)).path) is None
