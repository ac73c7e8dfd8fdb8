from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.store import Store
from gpux.store.layout import Layout, is_inside, quote_id, quote_part, quote_revision
from tests.store.variants import commit, manifest

NASTY = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../b",
    "a//b",
    "a/",
    "a--b/c",
    "a/b--c",
    "a-/-b",
    "C:\\Windows\\system32",
    "con",
    "CON.onnx",
    "nul/model",
    "com1",
    "trailing.",
    "trailing ",
    "llama3:8b",
    "name\0null",
    "new\nline",
    "émoji-🤖",
    "e\u0301",
    "\u00e9",
    "\udcff",
    "x" * 300,
    "refs/pr/1",
    "a+b",
    "*?<>|\"'",
]
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{digit}" for port in ("COM", "LPT") for digit in range(10))}
TEXT = st.text(alphabet=st.sampled_from("aB0._-/+\\: ~"), max_size=8) | st.text(max_size=200) | st.sampled_from(NASTY)


@pytest.mark.parametrize("quote", [quote_id, quote_part, quote_revision])
@given(texts=st.lists(TEXT, min_size=2, max_size=2, unique=True))
def test_names_are_valid_on_every_system_and_distinct(quote: object, texts: list[str]) -> None:
    assert callable(quote)
    first, second = (quote(text) for text in texts)
    assert first != second
    for name in (first, second):
        assert 0 < len(name) <= 96
        assert name.isascii()
        assert not set(name) & set('\\/:*?"<>|\0 ')
        assert name[0] not in ".-" and name[-1] not in ".-"
        assert name.partition(".")[0].upper() not in DEVICES


def test_plain_ids_stay_readable() -> None:
    assert quote_id("sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers--all-MiniLM-L6-v2"
    assert quote_id("gpt2") == "gpt2"
    assert quote_id("/home/me/model.onnx").startswith("home-me-model-onnx+")
    assert quote_revision("main") == "main"
    assert quote_revision("Main") != quote_revision("MAIN")


@given(TEXT, TEXT, TEXT)
def test_every_path_stays_below_its_folder(scheme: str, id: str, name: str) -> None:
    layout = Layout(Path("/root"))
    described = manifest(scheme=scheme, id=id, commit=name, task=name, precision=id, recipe=scheme)
    variant = layout.variant(described.key)
    assert variant.relative_to(layout.models).parts == variant.parts[-4:]
    assert layout.revision_file(scheme, id, name).relative_to(layout.refs).parts[-2] == "revisions"
    assert layout.alias_file(scheme, id).parent.parent.parent == layout.refs
    lock = layout.variant_lock(scheme, id, name, name, id)
    assert lock.parent == layout.locks
    assert lock == layout.lock_of(variant)


def test_lock_does_not_depend_on_the_recipe() -> None:
    layout = Layout(Path("/root"))
    one, other = (layout.variant(manifest(recipe=recipe).key) for recipe in ("optimum", "shipped"))
    assert one != other
    assert layout.lock_of(one) == layout.lock_of(other)


@pytest.mark.parametrize("id", [text for text in NASTY if text and "\udcff" not in text])
def test_unusual_ids_can_be_stored(store: Store, id: str) -> None:
    model = commit(store, id=id, task=id, recipe=id)
    assert model.path.resolve().is_relative_to(store.root.resolve())
    assert store.models() == [model]
    assert store.find("hf", id, model.commit) == model
    assert store.verify(model).ok
    store.removal_plan([model]).execute()
    assert not store.models()


@pytest.mark.parametrize("path", ["a", "a/b.onnx", "onnx/model.onnx_data", "..a", "a..b"])
def test_paths_inside(path: str) -> None:
    assert is_inside(path)


@pytest.mark.parametrize("path", ["", ".", "..", "/a", "a/../b", "a//b", "a/", "./a", "a\\b", "C:/a", "a\0"])
def test_paths_outside(path: str) -> None:
    assert not is_inside(path)
