"""``gpux config``: the configuration of the chat providers of `gpux serve`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpux.cli import figures
from gpux.cli.terminal import CommandGroup, Terminal, command
from gpux.errors import ConfigurationError, UnsupportedError

if TYPE_CHECKING:
    from gpux.chat.configuration import ModelConfigurationService, Version
    from gpux.chat.providers.registry import ModelLists
    from gpux.chat.values import ModelInfo

#: Libraries of the extra ``chat`` that providers need.
_LIBRARIES = frozenset({"starlette", "uvicorn", "multipart", "python_multipart", "prometheus_client"})
_CONFIG = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file; default: GPUX_CONFIG, else chat.toml in GPUX_HOME.",
)


@click.group("config", cls=CommandGroup)
def config_command() -> None:
    """Show, check and restore the configuration of the chat providers, and list their models."""


@command("path")
@_CONFIG
def show_path(terminal: Terminal, path: Path | None) -> None:
    """Print the path of the configuration file, which may be missing."""
    service = _service(terminal, path)
    if terminal.as_json:
        terminal.data({"path": str(service.path), "exists": service.path.exists(), "configured": service.configured})
    else:
        terminal.line(str(service.path))


@command("show")
@_CONFIG
def show(terminal: Terminal, path: Path | None) -> None:
    """Show every value of the configuration, and where it comes from."""
    service = _service(terminal, path)
    document = service.document()
    if terminal.as_json:
        terminal.data(document)
        return
    sources: Mapping[str, str] = document["sources"]
    rows = [(key, _text(value), sources.get(key, "default")) for key, value in _flat(document["configuration"])]
    if sys.stdout.isatty():  # the folder is in the first line
        terminal.say(f"File: {service.path}" if service.path.exists() else f"There is no file {service.path}.")
        folder = f"{service.path.parent}{os.sep}"
        rows = [(key, value, place.removeprefix(folder)) for key, value, place in rows]
    terminal.table(("Key", "Value", "From"), rows, whole=0)
    for one in document["warnings"]:
        _tell(terminal, "warning: ", "yellow", one["text"], one["hint"])


@command("validate")
@_CONFIG
def validate(terminal: Terminal, path: Path | None) -> int:
    """Check the file and the environment variables; every fault is reported with its line and key."""
    service = _service(terminal, path)
    errors, warnings = asyncio.run(service.examine())
    if terminal.as_json:
        shown = {"errors": [one.to_dict() for one in errors], "warnings": [one.to_dict() for one in warnings]}
        terminal.data({"path": str(service.path), "valid": not errors, **shown})
        return ConfigurationError.exit_code if errors else 0
    for one in warnings:
        _tell(terminal, "warning: ", "yellow", str(one), one.hint)
    for fault in errors:
        terminal.warn(str(fault), fault.hint)
    if not errors:
        there = service.path.exists()
        terminal.say(f"Valid: {service.path}" if there else f"Valid; there is no file {service.path}.")
    return ConfigurationError.exit_code if errors else 0


@command("rollback")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--list", "listed", is_flag=True, help="List the versions, and change nothing.")
@_CONFIG
def rollback(terminal: Terminal, version: int | None, listed: bool, path: Path | None) -> None:
    """Restore an earlier version of the configuration file; a running server uses it within seconds.

    The last ten configurations that were in force are kept. Without VERSION, the one before that in the file is
    restored, or the last one that was in force if the file was changed since.
    """
    service = _service(terminal, path)
    if listed:
        _list_versions(terminal, service.versions())
        return
    restored = asyncio.run(service.rollback(version))
    if terminal.as_json:
        terminal.data({"path": str(service.path), **restored.to_dict()})
    else:
        terminal.say(f"Restored version {restored.number} of {restored.saved}: {service.path}")


@command("models")
@click.option("--provider", metavar="NAME", help="Models of this provider.")
@click.option("--search", metavar="WORDS", default="", help="Models that have every word in their name or description.")
@_CONFIG
def list_models(terminal: Terminal, provider: str | None, search: str, path: Path | None) -> int:
    """List the models of all chat providers, as a server with this configuration would."""
    service = _service(terminal, path)
    try:
        models, lists = asyncio.run(_models(terminal, service, provider, search))
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        raise UnsupportedError(
            f"chat providers need {exc.name}, which is not installed", hint="Run `pip install 'gpux[chat]'`."
        ) from exc
    if terminal.as_json:
        errors = {name: error.to_dict() for name, error in lists.errors.items()}
        terminal.data({"models": [one.to_dict() for one in models], "count": len(models), "errors": errors})
        return 0
    terminal.table(("Name", "Provider", "Size", "Parameters", "Context", "Images"), map(_row, models), right=(2, 3, 4))
    for name, error in lists.errors.items():
        named = error.message if error.message.startswith(f"{name} ") else f"{name}: {error.message}"
        terminal.warn(named, error.hint)
    if not models:
        terminal.say("No models." if search or provider else "No models: `gpux pull org/name` adds one.")
    return 0


async def _models(
    terminal: Terminal, service: ModelConfigurationService, provider: str | None, search: str
) -> tuple[list[ModelInfo], ModelLists]:
    from gpux.chat.providers.aggregator import ModelListAggregator
    from gpux.chat.providers.registry import ModelLists, ModelProviderRegistry

    registry = await ModelProviderRegistry.open(service.current, terminal.settings)
    try:
        aggregator = ModelListAggregator(registry)
        if provider is not None:
            return await aggregator.search_models(search, provider=provider), ModelLists([], {})
        lists = await aggregator.lists()
        return await aggregator.search_models(search), lists
    finally:
        await registry.aclose()


def _service(terminal: Terminal, path: Path | None) -> ModelConfigurationService:
    from gpux.chat.configuration import ModelConfigurationService

    terminal.override(chat_config=path)
    return ModelConfigurationService(terminal.settings)


def _list_versions(terminal: Terminal, versions: list[Version]) -> None:
    if terminal.as_json:
        terminal.data([one.to_dict() for one in versions])
    elif not versions:
        terminal.say("No version is kept: a server keeps each configuration that is in force.")
    else:
        rows = [
            (str(one.number), one.saved, figures.size(one.size), "in the file" if one.in_file else "")
            for one in versions
        ]
        terminal.table(("Version", "Saved", "Size", ""), rows, right=(0, 2))


def _flat(value: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    from gpux.chat.configuration.document import Document

    for name, one in value.items():
        path = f"{key}{Document.dotted((name,))}"
        if isinstance(one, Mapping):
            yield from _flat(one, f"{path}.")
        else:
            yield path, one


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "true", False: "false"}[value]
    return str(value)


def _row(one: ModelInfo) -> tuple[str, ...]:
    metadata, can = one.metadata, one.capabilities
    size = "" if metadata.size is None else figures.size(metadata.size)
    parameters = "" if metadata.parameters is None else figures.count(metadata.parameters)
    context = "" if can.max_context_length is None else f"{can.max_context_length:,}"
    return one.name, one.provider, size, parameters, context, "yes" if can.supports_vision else ""


def _tell(terminal: Terminal, label: str, color: str, message: str, hint: str | None) -> None:
    terminal.say(click.style(label, fg=color, bold=True) + message)
    if hint:
        terminal.say(click.style("  → ", fg="cyan") + hint)


for _command in (show_path, show, validate, rollback, list_models):
    config_command.add_command(_command)
