from __future__ import annotations

import json
import pickle
import re
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpux.errors import InvalidReferenceError, UsageError
from gpux.model.precisions import PRECISIONS, TABLE, canonical_precision
from gpux.model.reference import ACCEPTED_FORMS, ModelRef

HUB = "http://127.0.0.1:8123"
SHA = "0123456789abcdef0123456789abcdef01234567"

ACCEPTED = {
    # names
    "gpt2": ModelRef("hf", "gpt2"),
    "org/name": ModelRef("hf", "org/name"),
    "  org/name\n": ModelRef("hf", "org/name"),
    "org/name/": ModelRef("hf", "org/name"),
    "Org_1/na-me.v2_x": ModelRef("hf", "Org_1/na-me.v2_x"),
    "_org/name_": ModelRef("hf", "_org/name_"),
    "hf:gpt2": ModelRef("hf", "gpt2"),
    "hf:org/name": ModelRef("hf", "org/name"),
    # revisions
    "gpt2@main": ModelRef("hf", "gpt2", "main"),
    "org/name@v1.0": ModelRef("hf", "org/name", "v1.0"),
    "org/name@feature/x": ModelRef("hf", "org/name", "feature/x"),
    "org/name@refs/pr/12": ModelRef("hf", "org/name", "refs/pr/12"),
    f"org/name@{SHA}": ModelRef("hf", "org/name", SHA),
    "hf:org/name@v1": ModelRef("hf", "org/name", "v1"),
    # one file of a repository
    "org/name/onnx/model.onnx": ModelRef("hf", "org/name", None, "onnx/model.onnx"),
    "hf:org/name/onnx/model.onnx@v1": ModelRef("hf", "org/name", "v1", "onnx/model.onnx"),
    # pages of the public Hub
    "https://huggingface.co/org/name": ModelRef("hf", "org/name"),
    "https://huggingface.co/org/name/": ModelRef("hf", "org/name"),
    "http://www.huggingface.co/gpt2": ModelRef("hf", "gpt2"),
    "HTTPS://HuggingFace.co/org/name": ModelRef("hf", "org/name"),
    "huggingface.co/org/name": ModelRef("hf", "org/name"),
    "hf.co/org/name": ModelRef("hf", "org/name"),
    "https://huggingface.co/org/name?library=x#card": ModelRef("hf", "org/name"),
    "https://huggingface.co/models/org/name": ModelRef("hf", "org/name"),
    "https://huggingface.co/gpt2/tree/main": ModelRef("hf", "gpt2", "main"),
    "https://huggingface.co/org/name/tree/main/onnx": ModelRef("hf", "org/name", "main"),
    f"https://huggingface.co/org/name/commit/{SHA}": ModelRef("hf", "org/name", SHA),
    "https://huggingface.co/org/name/tree/refs%2Fpr%2F3": ModelRef("hf", "org/name", "refs/pr/3"),
    "https://huggingface.co/org/name/blob/v1/onnx/a%20b.onnx": ModelRef("hf", "org/name", "v1", "onnx/a b.onnx"),
    "huggingface.co/org/name/blob/main/onnx/model.onnx": ModelRef("hf", "org/name", "main", "onnx/model.onnx"),
    "https://huggingface.co/org/name/raw/main/README.md": ModelRef("hf", "org/name", "main", "README.md"),
    # pages of another Hub
    f"{HUB}/org/name": ModelRef("hf", "org/name", endpoint=HUB),
    f"{HUB}/gpt2": ModelRef("hf", "gpt2", endpoint=HUB),
    f"{HUB}/org/name@v1": ModelRef("hf", "org/name", "v1", endpoint=HUB),
    f"{HUB}/org/name/tree/refs/pr/3": ModelRef("hf", "org/name", "refs/pr/3", endpoint=HUB),
    f"{HUB}/org/name/resolve/main/config.json": ModelRef("hf", "org/name", "main", "config.json", HUB),
    f"{HUB}/gpt2/resolve/refs/pr/3/onnx/m.onnx": ModelRef("hf", "gpt2", "refs/pr/3", "onnx/m.onnx", HUB),
    f"{HUB}/gpt2/resolve/{SHA}/config.json": ModelRef("hf", "gpt2", SHA, "config.json", HUB),
    # this machine
    "./folder": ModelRef("local", "./folder"),
    "../folder": ModelRef("local", "../folder"),
    ".": ModelRef("local", "."),
    "/abs/folder": ModelRef("local", "/abs/folder"),
    "/abs/at@home": ModelRef("local", "/abs/at@home"),
    "~/models/bert": ModelRef("local", "~/models/bert"),
    r"C:\models\bert": ModelRef("local", r"C:\models\bert"),
    "d:/models/bert": ModelRef("local", "d:/models/bert"),
    r"\\server\share": ModelRef("local", r"\\server\share"),
    "model.onnx": ModelRef("local", "model.onnx"),
    "folder/MODEL.ONNX": ModelRef("local", "folder/MODEL.ONNX"),
    "local:models/bert": ModelRef("local", "models/bert"),
    # precisions
    "org/name:int4": ModelRef("hf", "org/name", precision="int4"),
    "gpt2:Q4": ModelRef("hf", "gpt2", precision="int4"),
    "hf:gpt2:half": ModelRef("hf", "gpt2", precision="fp16"),
    "hf:int8": ModelRef("hf", "int8"),
    "org/name@v1:quantized": ModelRef("hf", "org/name", "v1", precision="int8"),
    "org/name@refs/pr/3:fp16": ModelRef("hf", "org/name", "refs/pr/3", precision="fp16"),
    "gpt2:auto": ModelRef("hf", "gpt2", precision="auto"),
    "gpt2:latest": ModelRef("hf", "gpt2"),
    "org/name@v1:latest": ModelRef("hf", "org/name", "v1"),
    "./folder:int8": ModelRef("local", "./folder", precision="int8"),
    "~/models/bert:f16": ModelRef("local", "~/models/bert", precision="fp16"),
    "./folder:other": ModelRef("local", "./folder:other"),
    "model.onnx:int8": ModelRef("local", "model.onnx", precision="int8"),
    "local:models/bert:8bit": ModelRef("local", "models/bert", precision="int8"),
    r"C:\models\bert:int8": ModelRef("local", r"C:\models\bert", precision="int8"),
    "d:/models:q4f16": ModelRef("local", "d:/models", precision="q4f16"),
    # schemes of plug-ins
    "ollama:int8": ModelRef("ollama", "int8"),
    "ollama:llama3:int8": ModelRef("ollama", "llama3", precision="int8"),
    "other:org/name@v1:int8": ModelRef("other", "org/name", "v1", precision="int8"),
    "ollama:llama3": ModelRef("ollama", "llama3"),
    "ollama:llama3:8b": ModelRef("ollama", "llama3:8b"),
    "ollama:library/llama3@latest": ModelRef("ollama", "library/llama3", "latest"),
}

WRONG = [
    "",
    "   ",
    "@main",
    "org/",
    "org//name",
    "org/name@",
    "hf:",
    "hf:@v1",
    "ollama:@v1",
    "ollama:",
    "two words",
    "org/two words",
    "naïve",
    "org/na--me",
    "org/na..me",
    "org/name.git",
    "-org/name",
    "org/name-",
    "org/.name",
    "org/" + "n" * 96,
    "c:name",
    "C:int8",
    "org/name:",
    "org/name:int5",
    "org/name:int8:int4",
    "org/name:int8@v1",
    "org/name/onnx/model.onnx:int8",
    "https://huggingface.co/org/name:int8",
    "huggingface.co/org/name:int8",
    "datasets/org/name",
    "https://huggingface.co/datasets/org/name",
    "https://huggingface.co/spaces/org/name",
    "https://huggingface.co/collections/org/name",
    "https://huggingface.co/papers/1706.03762",
    "https://huggingface.co",
    "huggingface.co",
    f"{HUB}/",
    f"{HUB}/org/name/tree",
    f"{HUB}/org/name/blob/",
    f"{HUB}/org/name/discussions/3",
    f"{HUB}/org/name/resolve/main/%2e%2e/secret",
    "ftp://huggingface.co/org/name",
    "hf://org/name",
    "https:///org/name",
    "https://[::1/org/name",
    "https://\u2100.com/org/name",
]

WORD = string.ascii_letters + string.digits + "_"
words = st.text(WORD, min_size=1, max_size=8)
segment = (
    st.builds(str.join, st.sampled_from(".-"), st.lists(words, min_size=1, max_size=3))
    .filter(lambda text: not text.endswith(".git"))
    .filter(lambda text: text not in ("datasets", "spaces", "collections", "papers", "models"))
)
hub_id = st.one_of(segment, st.tuples(segment, segment).map("/".join))
revision = st.builds(str.__add__, st.sampled_from(WORD), st.text(WORD + "./-", max_size=20))
# fmt: off
PIECES = [
    "hf", "http", "https", "local", "ollama", ":", "//", "/", "@", ".", "..", "[", "]", "%2f", "tree",
    "resolve", "refs", "pr", "org", "name", "huggingface.co", "datasets", ".onnx", "~", "C", "é", "?", "#",
    "\\", "\x00", " ", "int8", "latest", "auto", "int5",
]
# fmt: on
pieces = st.sampled_from(PIECES)


def same_model(one: ModelRef, other: ModelRef) -> bool:
    fields = ("scheme", "id", "revision", "precision")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.items(), ids=ACCEPTED)
def test_accepted_forms(text: str, expected: ModelRef) -> None:
    assert ModelRef.parse(text) == expected


@pytest.mark.parametrize("text", [*ACCEPTED, "hf:org/name.onnx"])
def test_str_names_the_same_model(text: str) -> None:
    ref = ModelRef.parse(text)
    assert same_model(ModelRef.parse(str(ref)), ref)


@pytest.mark.parametrize("text", WRONG)
def test_an_invalid_reference_lists_the_accepted_forms(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        ModelRef.parse(text)
    assert ACCEPTED_FORMS in caught.value.message
    assert caught.value.details["reference"] == text.strip()


@pytest.mark.parametrize(
    "line", [line.strip() for line in ACCEPTED_FORMS.splitlines()[1:]], ids=lambda line: line.split()[0]
)
def test_the_accepted_forms_are_accepted(line: str) -> None:
    for form in line.split("   ")[0].split():
        parsed = ModelRef.parse(form.replace("HUB", "hub.example"))
        assert same_model(ModelRef.parse(str(parsed)), parsed)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("datasets/org/name", "a dataset"),
        (f"{HUB}/spaces/org/name", "a Space"),
        ("org/name@", "the revision after the @ is empty"),
        (f"{HUB}/org/name/tree", "nothing follows /tree/"),
        ("ftp://hub/org/name", "not http"),
        ("two words", "letters, digits"),
        ("n" * 97, "96 characters"),
    ],
)
def test_an_invalid_reference_has_a_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidReferenceError, match=why):
        ModelRef.parse(text)


def test_a_long_path_is_parsed() -> None:
    assert ModelRef.parse("org/name/" + "folder/" * 1000 + "model.onnx").id == "org/name"


def test_an_existing_onnx_file_is_a_local_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "org/name/model.onnx"
    assert ModelRef.parse(text) == ModelRef("hf", "org/name", None, "model.onnx")
    Path("org/name").mkdir(parents=True)
    Path(text).touch()
    assert ModelRef.parse(text) == ModelRef("local", text)


def test_references_and_paths_are_accepted() -> None:
    ref = ModelRef("hf", "org/name", "v1")
    assert ModelRef.parse(ref) is ref
    assert ModelRef.parse(Path("/abs/folder")).id == "/abs/folder"  # type: ignore[arg-type]


def test_at_and_is_commit() -> None:
    ref = ModelRef.parse("org/name@v1")
    assert ref.at(None) is ref
    assert ref.at("v1") == ref
    with pytest.raises(UsageError, match="v2"):
        ref.at("v2")
    whole = ModelRef.parse("org/name")
    assert whole.at("v2") == replace(whole, revision="v2")
    assert [whole.at(name).is_commit for name in ("v1", SHA, SHA[:39], SHA.upper(), SHA + "\n")] == [
        False,
        True,
        False,
        False,
        False,
    ]
    assert not ModelRef.parse("org/name").is_commit


def test_references_pickle_and_convert_to_dict() -> None:
    ref = ModelRef.parse(f"{HUB}/org/name/resolve/v1/config.json")
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert ModelRef(**json.loads(json.dumps(ref.to_dict()))) == ref


@pytest.mark.parametrize("text", ["https://me:hf_secret@hub.example/org/name", "https://me:hf_secret@hub.example/a b"])
def test_a_password_in_a_url_is_not_in_messages(text: str) -> None:
    try:
        shown = repr(ModelRef.parse(text))
    except InvalidReferenceError as error:
        shown = json.dumps(error.to_dict())
    assert "hf_secret" not in shown


@given(st.one_of(st.text(), st.lists(pieces, max_size=12).map("".join)))
@example("https://[x/org/name")
@example("https://\u2100.com/a/b")
def test_parse_raises_nothing_else(text: str) -> None:
    try:
        ref = ModelRef.parse(text)
    except InvalidReferenceError as error:
        assert ACCEPTED_FORMS in error.message
        return
    assert ref.scheme and ref.id


@given(hub_id, st.none() | revision, st.booleans())
def test_hub_references_survive_str(name: str, rev: str | None, spelled_out: bool) -> None:
    ref = ModelRef.parse(("hf:" if spelled_out else "") + name + (f"@{rev}" if rev else ""))
    assert same_model(ModelRef.parse(str(ref)), ref)


@given(hub_id, revision.filter(lambda name: "/" not in name), st.lists(segment, min_size=1, max_size=3))
def test_urls_of_files(name: str, rev: str, path: list[str]) -> None:
    file = "/".join(path)
    expected = ModelRef("hf", name, rev, file, HUB)
    for page in ("blob", "resolve", "raw"):
        assert ModelRef.parse(f"{HUB}/{name}/{page}/{rev}/{file}") == expected


@pytest.mark.parametrize("value", [3, None, b"org/name", ["org/name"]])
def test_a_value_that_is_not_text_is_not_a_reference(value: object) -> None:
    with pytest.raises(InvalidReferenceError, match=f"of type {type(value).__name__}"):
        ModelRef.parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", [spelling for row in TABLE for spelling in row.spellings if spelling])
def test_every_spelling_of_a_precision_is_read(precision: str) -> None:
    for text in (precision, precision.upper()):
        assert ModelRef.parse(f"org/name@v1:{text}").precision == canonical_precision(precision)


@given(hub_id, st.none() | revision, st.none() | st.sampled_from([*PRECISIONS, "auto"]))
def test_a_precision_survives_str(name: str, rev: str | None, precision: str | None) -> None:
    ref = ModelRef("hf", name, rev, precision=precision)
    assert ModelRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "ref",
    [
        ModelRef("hf", "ollama", precision="int8"),
        ModelRef("hf", "local", precision="fp16"),
        ModelRef("local", "./a:int8"),
        ModelRef("local", "./a:int8", precision="int4"),
        ModelRef("local", "models/a", precision="int4"),
        ModelRef("other", "a:latest"),
    ],
    ids=str,
)
def test_ids_that_look_like_precisions_survive_str(ref: ModelRef) -> None:
    assert ModelRef.parse(str(ref)) == ref


def test_an_existing_path_comes_before_a_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("./model:int8", str(tmp_path / "model:int8"), "local:model:int8", "./model:int5")
    Path("model").mkdir()
    assert [ModelRef.parse(name).precision for name in names[:3]] == ["int8"] * 3
    with pytest.raises(InvalidReferenceError):
        ModelRef.parse(names[3])
    Path("model:int8").mkdir()
    Path("model:int5").touch()
    assert [ModelRef.parse(name).precision for name in names] == [None] * 4
    assert ModelRef.parse(names[0]).id == names[0]
    assert ModelRef.parse("./model:int8:int8") == ModelRef("local", "./model:int8", precision="int8")
    assert ModelRef.parse(Path("model:int8")).id == "model:int8"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("org/name:int5", "Did you mean int4? The precisions are: fp32, fp16,"),
        ("gpt2:fp8", "Did you mean int8?"),
        ("gpt2:float64", "Did you mean fp32?"),
        ("gpt2:nf4", "Did you mean int4?"),
        ("gpt2:6bit", "Did you mean int8?"),
        ("org/name@v1:quantised", "Did you mean int8?"),
        ("org/name:Q4_K_M", "Did you mean int4?"),
        ("hf:gpt2:itn4", "Did you mean int4?"),
        ("org/name:int8@v1", "Write org/name@v1:int8."),
        ("https://huggingface.co/org/name:int8", "In place of the URL, write the model's name with the precision"),
        ("org/name/onnx/model.onnx:int8", "Remove :int8."),
    ],
)
def test_a_hint_names_the_precision_that_may_be_meant(text: str, hint: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        ModelRef.parse(text)
    assert caught.value.hint is not None and hint in caught.value.hint
    if found := re.search(r"Did you mean (\w+)", caught.value.hint):
        assert ModelRef.parse(f"org/name:{found[1]}").precision == found[1]


def test_a_precision_is_given_once() -> None:
    ref = ModelRef.parse("org/name:int8")
    assert ref.in_precision(None) is ref
    assert ref.in_precision("q8") == ref
    assert ref.bare == ModelRef("hf", "org/name")
    assert ref.bare.in_precision("Q4").precision == "int4"
    with pytest.raises(UsageError, match="names a precision, and precision='int4'"):
        ref.in_precision("int4")
    with pytest.raises(UsageError, match="no precision 'int5'"):
        ref.bare.in_precision("int5")
    with pytest.raises(UsageError, match="no precision 'int5'"):
        ModelRef("hf", "org/name", precision="int5")
