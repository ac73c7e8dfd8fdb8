"""Converters by name, from entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from gpux.convert.optimum import OptimumConverter
from gpux.convert.registry import GROUP, converters
from gpux.errors import UsageError
from gpux.system.settings import Settings

OPTIMUM = EntryPoint("optimum", "gpux.convert.optimum:OptimumConverter", GROUP)


def test_the_built_in_one_comes_through_the_public_path(settings: Settings) -> None:
    found = converters(settings)
    assert isinstance(found["optimum"], OptimumConverter)
    assert next(iter(found)) == "optimum"


def test_the_same_entry_twice_is_one(settings: Settings) -> None:
    assert list(converters(settings, [OPTIMUM, OPTIMUM])) == ["optimum"]


def test_a_duplicate_name_is_an_error(settings: Settings) -> None:
    other = EntryPoint("optimum", "another.package:Converter", GROUP)
    with pytest.raises(UsageError, match=r"another\.package:Converter"):
        converters(settings, [OPTIMUM, other])


def test_what_is_no_converter_is_an_error(settings: Settings) -> None:
    with pytest.raises(UsageError, match="no Converter"):
        converters(settings, [EntryPoint("odd", "builtins:repr", GROUP)])
