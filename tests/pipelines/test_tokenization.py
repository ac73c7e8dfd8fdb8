from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import tokenizers

from gpux.errors import CorruptFileError, InputError, UnsupportedError
from gpux.model.variant import CallSpec, StoredModel
from gpux.pipelines.text.tokenization import Tokenizer, shares
from tests.models.cases import OTHER, SHORT, words
from tests.pipelines.conftest import Build


def edit(model: StoredModel, name: str, **changes: Any) -> None:
    content = {**model.read_json(name), **changes}
    (model.path / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def reference(model: StoredModel, limit: int) -> tokenizers.Tokenizer:
    """The library's own truncation, for comparison."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model.path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return tokenizer


def test_truncation_and_padding_of_the_file_are_reset(build: Build) -> None:
    tokenizer = Tokenizer(build(tokenizer_limits=True))
    assert [len(tokens) for tokens in tokenizer([words(40), "fox"], limit=None)] == [42, 3]


@pytest.mark.parametrize("limit", [3, 4, 5, 8, 13, 40])  # the library panics below the number of special tokens
@pytest.mark.parametrize(
    "text",
    [
        SHORT,
        words(90),
        "",
        (SHORT, OTHER),
        (words(50), "fox"),
        ("fox", words(50)),
        (words(33), words(40)),
        ("", words(9)),
    ],
)
def test_texts_are_cut_as_by_the_library(build: Build, text: Any, limit: int) -> None:
    model = build()
    first, second = text if isinstance(text, tuple) else (text, None)
    wanted = reference(model, limit).encode(first, second)
    found = Tokenizer(model)([text], limit=limit)[0]
    assert (found.ids, found.type_ids) == (wanted.ids, wanted.type_ids)


def test_truncation_side_left(build: Build) -> None:
    model = build()
    edit(model, "tokenizer_config.json", truncation_side="left")
    tokens = Tokenizer(model)([words(20)], limit=5)[0]
    whole = Tokenizer(model)([words(20)], limit=None)[0]
    assert tokens.ids == [whole.ids[0], *whole.ids[-4:]]


@pytest.mark.parametrize(
    ("sizes", "room", "left"),
    [
        ([5], 9, [5]),
        ([12], 9, [9]),
        ([3, 4], 9, [3, 4]),
        ([3, 40], 9, [3, 6]),
        ([40, 3], 9, [6, 3]),
        ([9, 9], 9, [4, 5]),
    ],
)
def test_shares(sizes: list[int], room: int, left: list[int]) -> None:
    assert shares(sizes, room) == left


@pytest.mark.parametrize(
    ("model_max", "call_spec", "limit"), [(64, 64, 64), (10**30, 64, 64), (32, 64, 32), (None, 64, 64), (512, None, 64)]
)
def test_limits(build: Build, model_max: int | None, call_spec: int | None, limit: int) -> None:
    model = build(call_spec=CallSpec(max_length=call_spec))  # config.json says 64 positions
    edit(model, "tokenizer_config.json", model_max_length=model_max)
    assert Tokenizer(model).limit == limit


def test_special_tokens_from_each_file(build: Build) -> None:
    model = build()
    wanted = Tokenizer(model)
    assert wanted.mask_token == "[MASK]" and wanted.pad_id == 0
    edit(model, "tokenizer_config.json", mask_token={"content": "[MASK]", "lstrip": True}, pad_token=None)
    assert Tokenizer(model).mask_id == wanted.mask_id
    (model.path / "tokenizer_config.json").unlink()
    (model.path / "special_tokens_map.json").unlink()
    assert (Tokenizer(model).mask_id, Tokenizer(model).pad_id) == (wanted.mask_id, 0)


def test_tokenizer_config_overrides_the_normalizer(build: Build) -> None:
    """As transformers: tokenizer.json lower-cases, and the configuration turns that off."""
    model = build()
    assert Tokenizer(model)(["FOX"], limit=None) == Tokenizer(model)(["fox"], limit=None)
    edit(model, "tokenizer_config.json", do_lower_case=False)
    assert Tokenizer(model)(["FOX"], limit=None) != Tokenizer(model)(["fox"], limit=None)


def test_no_tokenizer(build: Build) -> None:
    model = build()
    (model.path / "tokenizer.json").write_text('{"version": "9"}')
    with pytest.raises(CorruptFileError, match=r"tokenizer\.json is not a tokenizer"):
        Tokenizer(model)
    (model.path / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedError, match=r"no tokenizer\.json") as caught:
        Tokenizer(model)
    assert caught.value.hint == "`gpux convert tests/tiny-bert` converts its weights, which writes one if " + (
        "transformers can."
    )


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"recipe": "optimum"}, "`gpux pull --force` converts the model again"),
        ({"scheme": "local", "id": "/models/bert.onnx"}, "into /models, and pull that folder"),
        ({"scheme": "local", "id": "/models/bert"}, "into /models/bert, and pull that folder"),
    ],
)
def test_hints_for_a_missing_tokenizer(build: Build, changes: dict[str, Any], hint: str) -> None:
    model = build()
    (model.path / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedError) as caught:
        Tokenizer(StoredModel(model.path, dataclasses.replace(model.manifest, **changes)))
    assert hint in (caught.value.hint or "")


def test_a_configuration_that_is_not_json(build: Build) -> None:
    model = build()
    (model.path / "tokenizer_config.json").write_text("")
    with pytest.raises(CorruptFileError, match=r"tokenizer_config\.json is not JSON"):
        Tokenizer(model)


@pytest.mark.parametrize("text", ["a\udcff", ("fox", "\ud83d")])
def test_lone_surrogates(build: Build, text: Any) -> None:
    with pytest.raises(InputError, match=r"text 1 is not valid Unicode text: a lone surrogate, U\+D") as caught:
        Tokenizer(build())(["fox \U0001f98a", text], limit=None)
    assert caught.value.details["index"] == 1
    str(caught.value).encode()


def test_a_text_without_tokens(build: Build) -> None:
    model = build()
    content = json.loads((model.path / "tokenizer.json").read_text())
    (model.path / "tokenizer.json").write_text(json.dumps({**content, "post_processor": None}))
    with pytest.raises(InputError, match="text 1 has no tokens"):
        Tokenizer(model)(["fox", ""], limit=None)


def test_files_of_a_module_s_folder_come_first(build: Build) -> None:
    model = build()
    folder = model.path / "0_Transformer"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model.path / name).rename(folder / name)
    edit(model, "0_Transformer/tokenizer_config.json", model_max_length=20)
    assert Tokenizer(model, subfolder="0_Transformer").limit == 20


def test_a_pad_token_without_an_embedding_is_not_used(build: Build) -> None:
    """transformers adds the token behind the vocabulary, where the model has no embedding."""
    model = build()
    edit(model, "tokenizer_config.json", pad_token="<new>")
    tokenizer = Tokenizer(model)
    assert tokenizer.backend.token_to_id("<new>") >= model.read_json("config.json")["vocab_size"]
    assert tokenizer.pad_id == model.read_json("config.json")["pad_token_id"]
