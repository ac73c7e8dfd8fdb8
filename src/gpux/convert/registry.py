"""The registered converters and their toolchains: every entry point of the group ``gpux.converters``."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from gpux.convert.base import Converter
from gpux.convert.host.converter import ToolchainConverter
from gpux.convert.host.toolchain import Toolchain
from gpux.convert.spec import ConverterSpec
from gpux.errors import UsageError
from gpux.system.plugins import registered
from gpux.system.settings import Settings

GROUP = "gpux.converters"


def converters(settings: Settings, points: Iterable[EntryPoint] | None = None) -> dict[str, Converter]:
    """Every registered converter by name, in the order in which they are tried for a model that was not measured.

    Args:
        settings: where toolchains and logs are.
        points: the entry points; default: those of the installed packages.

    Raises:
        UsageError: two packages register the same name, or an entry point is neither a ConverterSpec of its name nor
            a subclass of Converter.
    """
    found = [_create(point, settings) for point in registered(GROUP, "converter", points).values()]
    return {converter.name: converter for converter in sorted(found, key=lambda one: (one.priority, one.name))}


def toolchains(settings: Settings, points: Iterable[EntryPoint] | None = None) -> dict[str, Toolchain]:
    """The toolchains of all registered converters that have requirements, installed or not.

    Raises:
        UsageError: as :func:`converters`.
    """
    found = converters(settings, points).values()
    return {one.name: one.toolchain for one in found if isinstance(one, ToolchainConverter) and one.spec.requirements}


def converter_tasks(settings: Settings) -> frozenset[str]:
    """Every task that a registered converter names for a model type, such as ``masked-im``, which the Hub does not."""
    specs = [one.spec for one in converters(settings).values() if isinstance(one, ToolchainConverter)]
    return frozenset(task for spec in specs for tasks in spec.architectures().values() for task in tasks)


def find_toolchain(name: str, settings: Settings) -> Toolchain:
    """The toolchain of a converter.

    Raises:
        UsageError: no registered converter with a toolchain has this name.
    """
    found = toolchains(settings)
    if name not in found:
        raise UsageError(f"there is no toolchain {name!r}", hint=f"Choose one of {', '.join(found)}.")
    return found[name]


def _create(point: EntryPoint, settings: Settings) -> Converter:
    loaded = point.load()
    if isinstance(loaded, ConverterSpec) and loaded.name == point.name:
        return ToolchainConverter(loaded, settings)
    if isinstance(loaded, type) and issubclass(loaded, Converter):
        converter: Converter = loaded(settings)  # type: ignore[call-arg]  # the contract of the entry point group
        return converter
    raise UsageError(
        f"the entry point {point.name!r} of {GROUP} is {point.value}, which is neither a ConverterSpec of this name nor"
        " a Converter class",
        hint="Uninstall the package that registers it, or correct it.",
    )
