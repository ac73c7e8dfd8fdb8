"""Recipes and keys of variants."""

from __future__ import annotations

import json
import pickle

import pytest

from gpux.model.variant import Recipe, VariantKey


@pytest.mark.parametrize(
    ("text", "base", "converter", "quantization"),
    [
        ("shipped", "shipped", None, None),
        ("optimum", "optimum", "optimum", None),
        ("shipped+int8-blocks", "shipped", None, "int8-blocks"),
        ("optimum+int8-dynamic-perchannel", "optimum", "optimum", "int8-dynamic-perchannel"),
    ],
)
def test_a_recipe_is_read_from_its_stored_spelling(
    text: str, base: str, converter: str | None, quantization: str | None
) -> None:
    recipe = Recipe(text)
    assert (recipe.base, recipe.converter, recipe.quantization) == (base, converter, quantization)
    assert recipe.is_converted == (converter is not None)
    assert str(recipe) == recipe == text and json.dumps(recipe) == f'"{text}"'
    assert type(pickle.loads(pickle.dumps(recipe))) is Recipe


def test_quantization_is_added_to_the_recipe_of_the_source() -> None:
    assert Recipe("optimum").quantized("fp16") == Recipe("optimum+fp16")


def test_a_key_holds_a_recipe_whatever_it_is_created_from() -> None:
    key = VariantKey("hf", "org/name", "a" * 40, "fill-mask", "int8", "optimum+int8")  # type: ignore[arg-type]
    assert key.recipe.converter == "optimum"
    assert type(key.to_dict()["recipe"]) is str and key.to_dict()["recipe"] == "optimum+int8"
    assert pickle.loads(pickle.dumps(key)) == key
    assert str(key) == "org/name@aaaaaaaaaaaa (fill-mask, int8)"
