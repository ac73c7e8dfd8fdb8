"""Converters by name, from entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from gpux.convert import optimum
from gpux.convert.host.converter import ToolchainConverter
from gpux.convert.registry import GROUP, converters, toolchains
from gpux.convert.spec import ConverterSpec
from gpux.errors import ToolchainMissingError, UsageError
from gpux.system.settings import Settings

OPTIMUM = EntryPoint("optimum", "gpux.convert.optimum:SPEC", GROUP)


def test_the_built_in_converters_are_entry_points(settings: Settings) -> None:
    found = converters(settings)
    assert list(found)[:2] == ["optimum", "mobius"]
    first = found["optimum"]
    assert isinstance(first, ToolchainConverter)
    assert first.spec is optimum.SPEC


def test_the_same_entry_twice_is_one(settings: Settings) -> None:
    assert list(converters(settings, [OPTIMUM, OPTIMUM])) == ["optimum"]


def test_a_duplicate_name_is_an_error(settings: Settings) -> None:
    other = EntryPoint("optimum", "another.package:SPEC", GROUP)
    with pytest.raises(UsageError, match=r"another\.package:SPEC"):
        converters(settings, [OPTIMUM, other])


@pytest.mark.parametrize("value", ["builtins:repr", "builtins:str", "gpux.convert.mobius:SPEC"])
def test_an_entry_that_is_not_a_converter_of_its_name_is_an_error(settings: Settings, value: str) -> None:
    with pytest.raises(UsageError, match="neither a ConverterSpec"):
        converters(settings, [EntryPoint("odd", value, GROUP)])


@pytest.mark.parametrize("name", ["", "../up", "Upper", "a b", "-x"])
def test_a_name_must_be_able_to_name_a_folder(name: str) -> None:
    with pytest.raises(UsageError, match="not a valid name"):
        ConverterSpec(name, "worker", dict)


def test_a_spec_without_requirements_has_no_toolchain(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = ConverterSpec("bare", "worker", lambda: {"bert": ["fill-mask"]}, modules=("a_module_that_is_missing",))
    monkeypatch.setattr(optimum, "SPEC", bare)
    point = EntryPoint("bare", "gpux.convert.optimum:SPEC", GROUP)
    assert toolchains(settings, [point]) == {}
    with pytest.raises(ToolchainMissingError, match="a_module_that_is_missing"):
        converters(settings, [point])["bare"].check_ready()


def test_a_table_of_architectures_is_enough_to_refuse() -> None:
    spec = ConverterSpec("bare", "worker", lambda: {"bert": ["fill-mask"]})
    assert spec.refusal({"model_type": "bert"}, "fill-mask") is None
    other_task = spec.refusal({"model_type": "bert"}, "text-generation")
    assert other_task is not None and other_task.supports_architecture
    other_type = spec.refusal({"model_type": "gpt2"}, "fill-mask")
    assert other_type is not None and not other_type.supports_architecture
