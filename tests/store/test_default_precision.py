"""The precision that references without one stand for: chosen, kept and ended; and references with a precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpux.errors import NotStoredError, UsageError
from gpux.model.reference import ModelRef
from gpux.store import Store
from tests.store.variants import COMMITS, ID, commit

REF = ModelRef("hf", ID)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The default branch at the first commit, in fp32, int8 and int4."""
    store = Store(tmp_path / "store")
    for precision in ("int8", "fp32", "int4"):
        commit(store, precision=precision)
    store.record_ref("hf", ID, ID, None, COMMITS[0])
    return store


def meant(store: Store, ref: ModelRef = REF, task: str | None = None) -> str:
    return store.get(ref, task=task).manifest.precision


def test_a_bare_reference_is_the_most_exact_variant_until_another_is_chosen(store: Store) -> None:
    assert (meant(store), store.default_precision(REF)) == ("fp32", None)
    store.choose_precision(REF, "q8")
    assert (meant(store), store.default_precision(REF)) == ("int8", "int8")
    assert meant(Store(store.root)) == "int8"
    assert meant(store, ModelRef.parse(f"{ID}@{COMMITS[0]}")) == "int8"
    store.choose_precision(REF, "int4")
    assert meant(store) == "int4"
    store.choose_precision(REF, None)
    assert (meant(store), store.default_precision(REF)) == ("fp32", None)
    store.choose_precision(REF, None)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_reference_with_a_precision_is_that_variant(store: Store, precision: str) -> None:
    store.choose_precision(REF, "int4")
    assert meant(store, ModelRef.parse(f"{ID}:{precision}")) == precision
    found = store.find_ref(REF, precision=precision)
    assert found is not None and found.manifest.precision == precision
    assert meant(store, ModelRef.parse(f"{ID}:auto")) == "int4"
    with pytest.raises(UsageError, match="names a precision"):
        store.find_ref(ModelRef.parse(f"{ID}:fp16"), precision=precision)
    with pytest.raises(NotStoredError, match=f"^{ID}:fp16 is not in the store; stored: "):
        store.get(ModelRef.parse(f"{ID}:fp16"))


def test_the_choice_holds_for_tasks_that_have_it(store: Store) -> None:
    commit(store, task="fill-mask", precision="fp32", own_task=False)
    store.choose_precision(REF, "int8")
    assert meant(store, task="fill-mask") == "fp32"
    assert (store.get(REF).task, meant(store)) == ("feature-extraction", "int8")


def test_only_stored_precisions_can_be_chosen(store: Store) -> None:
    with pytest.raises(NotStoredError, match="fp16"):
        store.choose_precision(REF, "fp16")
    with pytest.raises(UsageError, match="auto"):
        store.choose_precision(REF, "auto")
    with pytest.raises(UsageError, match="int5"):
        store.choose_precision(REF, "int5")
    assert store.default_precision(REF) is None


def test_the_choice_is_by_the_canonical_id(store: Store) -> None:
    store.record_ref("hf", "old/name", ID, None, COMMITS[0])
    store.choose_precision(ModelRef("hf", "old/name"), "int8")
    assert meant(store) == meant(store, ModelRef("hf", "old/name")) == "int8"


def test_removing_the_last_variant_in_the_precision_ends_the_choice(store: Store) -> None:
    later = commit(store, precision="int8", commit=COMMITS[1])
    store.choose_precision(REF, "int8")
    store.removal_plan(store.matching(ModelRef.parse(f"{ID}@{COMMITS[0]}:int8"))).execute()
    assert store.default_precision(REF) == "int8"
    assert meant(store) == "fp32"
    plan = store.removal_plan([later])
    assert [default.precision for default in plan.defaults] == ["int8"]
    assert store.default_precision(REF) == "int8"
    plan.execute()
    assert store.default_precision(REF) is None
    store.choose_precision(REF, "int4")
    store.removal_plan(store.matching(ModelRef.parse(f"{ID}:fp32"))).execute()
    assert store.default_precision(REF) == "int4"
    store.removal_plan(store.models()).execute()
    assert store.default_precision(REF) is None
    assert not list((store.root / "refs").rglob("*.json"))


def test_a_pull_during_the_removal_keeps_the_choice(store: Store) -> None:
    store.choose_precision(REF, "int8")
    plan = store.removal_plan(store.matching(ModelRef.parse(f"{ID}:int8")))
    commit(store, precision="int8", commit=COMMITS[1])
    plan.execute()
    assert store.default_precision(REF) == "int8"


def test_eviction_keeps_the_choice(store: Store) -> None:
    store.choose_precision(REF, "int8")
    store.eviction_plan(0).execute()
    assert store.models() == [] and store.default_precision(REF) == "int8"


def test_a_damaged_record_counts_as_no_choice(store: Store) -> None:
    store.choose_precision(REF, "int8")
    (file,) = store.root.glob("refs/*/*/precision.json")
    file.write_text("{")
    assert meant(store) == "fp32"
    store.choose_precision(REF, "int4")
    assert meant(store) == "int4"


def test_matching_is_limited_to_the_precision(store: Store) -> None:
    commit(store, precision="int8", commit=COMMITS[1])

    def found(text: str, **options: str) -> list[tuple[str, str]]:
        return [(m.commit[0], m.manifest.precision) for m in store.matching(ModelRef.parse(text), **options)]

    assert found(f"{ID}:int8") == [("a", "int8"), ("b", "int8")]
    assert found(f"{ID}@{COMMITS[1]}:int8") == [("b", "int8")]
    assert found(ID, precision="q4") == [("a", "int4")]
    with pytest.raises(NotStoredError, match="stored: "):
        found(f"{ID}@{COMMITS[1]}:int4")
    with pytest.raises(UsageError, match="auto names no stored variant"):
        found(f"{ID}:auto")
    with pytest.raises(UsageError, match="names a precision"):
        found(f"{ID}:int8", precision="int4")


def test_defaults_are_one_variant_of_each_model(store: Store) -> None:
    commit(store, precision="fp32", commit=COMMITS[1])
    other = commit(store, id="org/other", precision="int4")
    commit(store, id="org/by-commit")
    store.record_ref("hf", "org/other", "org/other", None, COMMITS[0])
    store.choose_precision(REF, "int8")
    assert store.defaults(store.models()) == {store.get(replace(REF, precision="int8")).path, other.path}
