"""Inputs that follow from the tokens of padded texts, as transformers computes them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from gpux.model.variant import TensorSpec
from gpux.runtime.token_inputs import Padded, TokenInputs, position_limit, positions, shifted

RIGHT = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
LEFT = np.array([[1, 1, 1, 1], [0, 0, 1, 1]])


def padded(mask: Any = RIGHT) -> Padded:
    return Padded(mask * 7, mask, mask * 0)


@pytest.mark.parametrize(
    ("config", "mask", "wanted"),
    [
        ({"model_type": "llama"}, RIGHT, [[0, 1, 2, 3], [0, 1, 1, 1]]),
        ({"model_type": "llama"}, LEFT, [[0, 1, 2, 3], [0, 0, 0, 1]]),
        ({"model_type": "bert", "pad_token_id": 0}, RIGHT, [[0, 1, 2, 3], [0, 1, 1, 1]]),
        ({"model_type": "roberta", "pad_token_id": 1}, RIGHT, [[2, 3, 4, 5], [2, 3, 1, 1]]),
        ({"model_type": "xlm-roberta"}, RIGHT, [[2, 3, 4, 5], [2, 3, 1, 1]]),
        ({"model_type": "mpnet", "pad_token_id": 0}, RIGHT, [[1, 2, 3, 4], [1, 2, 0, 0]]),
    ],
)
def test_positions(config: dict[str, Any], mask: Any, wanted: list[list[int]]) -> None:
    assert positions(mask, config).tolist() == wanted
    inputs = TokenInputs([TensorSpec("position_ids", "int64", ("batch", "sequence"))], config)
    assert inputs.feed(padded(mask))["position_ids"].tolist() == wanted


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 0}, 513),
        ({"model_type": "xlnet", "max_position_embeddings": -1}, None),
        ({}, None),
    ],
)
def test_the_number_of_positions(config: dict[str, Any], limit: int | None) -> None:
    assert position_limit(config) == limit


@pytest.mark.parametrize(("marks", "wanted"), [(None, [[0] * 4] * 2), ("first", [[1, 0, 0, 0], [1, 0, 0, 0]])])
def test_global_attention(marks: Literal["first"] | None, wanted: list[list[int]]) -> None:
    spec = TensorSpec("global_attention_mask", "int64", ("batch", "sequence"))
    assert TokenInputs([spec], {}, marks=marks).feed(padded())[spec.name].tolist() == wanted


@pytest.mark.parametrize(("config", "separator"), [({}, 2), ({"sep_token_id": 9}, 9)])
def test_global_attention_of_a_question(config: dict[str, Any], separator: int) -> None:
    spec = TensorSpec("global_attention_mask", "int64", ("batch", "sequence"))
    ids = np.array([[0, 5, separator, separator, 6, separator], [1, 1, 0, 5, separator, 6]])
    texts = Padded(ids, np.array([[1] * 6, [0, 0, 1, 1, 1, 1]]), np.zeros_like(ids))
    found = TokenInputs([spec], config, marks="question").feed(texts)[spec.name]
    assert found.tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "wanted"),
    [
        ("bbox", "int64", ("batch", "sequence", 4), (2, 4, 4)),
        ("task_type_ids", "int32", ("batch", "sequence"), (2, 4)),
        ("logits_to_keep", "int64", (), ()),
        ("use_cache_branch", "bool", (1,), (1,)),
        ("past_key_values.0.key", "float16", ("batch", 2, "past_sequence_length", 8), (2, 2, 0, 8)),
        ("past_key_values.0.key", "float32", ("batch_size", "num_heads", "past", "head_dim"), (2, 3, 0, 5)),
        ("past.0.key", "float32", (None, None, None, None), (2, 3, 0, 5)),
        ("past_key_values.0.key", "float32", ("batch x num_heads", 5, "past"), (6, 5, 0)),
        ("past_conv.0", "float32", ("batch", 16, 4), (2, 16, 4)),
    ],
)
def test_zeros(name: str, dtype: str, shape: tuple[Any, ...], wanted: tuple[int, ...]) -> None:
    inputs = TokenInputs([TensorSpec(name, dtype, shape)], {"num_key_value_heads": 3, "head_dim": 5})
    found = inputs.feed(padded())[name]
    assert not inputs.unknown
    assert (found.shape, found.dtype.name, found.any()) == (wanted, dtype, False)


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32", "float16", "bool"])
def test_masks_of_every_dtype(dtype: str) -> None:
    inputs = TokenInputs([TensorSpec("attention_mask", dtype, ("batch", "sequence"))], {})
    found = inputs.feed(padded())["attention_mask"]
    assert found.dtype.name == dtype and found.astype(int).tolist() == RIGHT.tolist()


def test_fixed_shapes() -> None:
    ids = TensorSpec("input_ids", "int64", ("batch", "sequence"))
    mask = TensorSpec("attention_mask", "int64", ("batch", 16))
    cache = TensorSpec("past_key_values.0.key", "float32", (1, 2, "past", 8))
    free, fixed = TokenInputs([ids], {}), TokenInputs([ids, mask, cache], {}, largest_batch=4)
    assert (free.rows, free.length, free.largest_batch, free.has_mask) == (None, None, None, False)
    assert (fixed.rows, fixed.length, fixed.largest_batch, fixed.has_mask) == (1, 16, 1, True)


def test_inputs_that_tokens_do_not_give() -> None:
    specs = [
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("pixel_values", "float32", ("batch", 3, 8, 8)),
        TensorSpec("attention_mask", "float32", ("batch", 1, "sequence", "sequence")),
        TensorSpec("past_key_values.0.encoder.key", "float32", ("batch", 2, "places", 8)),
    ]
    assert TokenInputs(specs, {}).unknown == ("pixel_values", "attention_mask", "past_key_values.0.encoder.key")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"model_type": "bart"}, [[2, 0, 5, 6], [2, 0, 7, 2]]),
        ({"model_type": "mvp", "decoder_start_token_id": 3}, [[3, 0, 5, 6], [3, 0, 7, 2]]),
        ({"model_type": "mbart"}, [[2, 0, 5, 6], [2, 0, 7, 2]]),
        ({"model_type": "plbart"}, [[2, 0, 5, 6], [2, 0, 7, 2]]),
    ],
    ids=lambda value: value.get("model_type", "") if isinstance(value, dict) else "",
)
def test_decoder_ids_of_encoder_decoders(config: dict[str, Any], wanted: list[list[int]]) -> None:
    """As ``shift_tokens_right`` of transformers, on texts that end with id 2; the last row has padding (id 1)."""
    ids, mask = np.array([[0, 5, 6, 2], [0, 7, 2, 1]]), np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
    assert shifted(Padded(ids, mask, np.zeros_like(ids)), config).tolist() == wanted


def test_the_last_token_of_a_row_opens_the_decoder_of_mbart() -> None:
    ids, mask = np.array([[5, 6, 2, 9], [7, 2, 8, 1]]), np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
    found = shifted(Padded(ids, mask, np.zeros_like(ids)), {"model_type": "mbart"})
    assert found.tolist() == [[9, 5, 6, 2], [8, 7, 2, 8]]


def test_decoder_ids_are_unknown_for_other_types() -> None:
    specs = [TensorSpec(name, "int64", ("batch", "tokens")) for name in ("input_ids", "decoder_input_ids")]
    assert TokenInputs(specs, {"model_type": "t5"}).unknown == ("decoder_input_ids",)
    assert TokenInputs(specs, {"model_type": "bart"}).unknown == ()
