"""Reads, follows and writes the configuration of chat providers."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from gpux.chat.configuration import variables, view, watching
from gpux.chat.configuration.document import Document
from gpux.chat.configuration.faults import Fault, error_of
from gpux.chat.configuration.resolve import Resolved, model_config, provider_of, resolve
from gpux.chat.configuration.types import prefix_of
from gpux.chat.configuration.versions import Version, Versions
from gpux.chat.configuration.writing import with_table
from gpux.chat.values import DATABASE_FILE, ChatConfiguration, ModelConfig, ProviderConfig, ValidationResult
from gpux.errors import ConfigurationError, GpuxError, ProviderNotFoundError, UsageError
from gpux.system.disk import disk_errors
from gpux.system.files import write_atomic
from gpux.system.locks import hold
from gpux.system.settings import Settings

log = logging.getLogger(__name__)
#: Name of the file in ``settings.home``.
FILE = "chat.toml"
#: (configuration before, configuration now)
OnChange = Callable[[ChatConfiguration, ChatConfiguration], Awaitable[None]]
_HINT = "Make the folder of the configuration file writable."
V = TypeVar("V", ModelConfig, ProviderConfig)


class _Follower:
    """One call of :meth:`ModelConfigurationService.follow`."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.idle = asyncio.Event()  #: it has followed all changes
        self.idle.set()


class ModelConfigurationService:
    """The configuration of chat providers. Used in one event loop; its values are frozen, and may be used anywhere.

    Args:
        settings: folders.
        path: of the file; by default ``settings.chat_config``, else ``chat.toml`` in ``settings.home``, which may be
            missing.
        environ: in place of the environment of the process.
    """

    def __init__(self, settings: Settings, path: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        named = path or settings.chat_config
        self.path = (named or settings.home / FILE).absolute()  #: of the file
        self.state: Literal["ok", "degraded"] = "ok"  #: ``degraded``: the file has faults, and is not what is in force
        self.error: ConfigurationError | None = None  #: why the state is degraded
        self._must_exist = named is not None
        self._home = settings.home
        self._environ = environ
        self._versions = Versions(self.path)
        self._resolved: Resolved | None = None
        self._signature: watching.Signature = None  #: of the file that was read last
        self._lock = asyncio.Lock()
        self._followers: set[_Follower] = set()

    # What is in force

    @property
    def configured(self) -> bool:
        """Whether there is a file, or one of the variables is set."""
        return self._must_exist or self.path.exists() or variables.is_set(self._environ)

    @property
    def current(self) -> ChatConfiguration:
        """What is in force.

        Raises:
            ConfigurationError: it was not loaded before, and is invalid.
        """
        return self._in_force.configuration

    @property
    def _in_force(self) -> Resolved:
        if self._resolved is None:
            self._resolved, _ = self._read()
        return self._resolved

    @property
    def sources(self) -> Mapping[tuple[str, ...], str]:
        """Key -> where its value comes from: ``FILE:LINE``, or a variable. Keys with their default are missing."""
        return self._in_force.sources

    def document(self) -> dict[str, Any]:
        """What is in force as JSON-able values without passwords, and where each value comes from.

        See :func:`gpux.chat.configuration.view.document`.
        """
        return view.document(self._in_force, self._home / DATABASE_FILE, self._ollama)

    @property
    def _ollama(self) -> str | None:
        return (os.environ if self._environ is None else self._environ).get("OLLAMA_HOST")

    def get_model_config(self, name: str) -> ModelConfig:
        """How a model is run: as configured, or by the defaults.

        Args:
            name: with the prefix of its provider; a name without one is a model of the default provider.
        """
        return model_config(self.current, name)

    def cache_of(self, reference: str) -> Path | None:
        """The source cache for the files of a model of the Hub, where one is configured.

        Args:
            reference: of the model, without the prefix of a provider.
        """
        for one in self.current.providers.values():
            if (one.type or one.name) == "huggingface":
                found = self.get_model_config(f"{prefix_of(one)}{reference}").cache_directory
                return None if found is None else Path(found)
        return None

    def get_provider_config(self, name: str) -> ProviderConfig:
        """How a provider is used.

        Raises:
            ProviderNotFoundError: the configuration has no such provider.
        """
        found = self.current.providers.get(name)
        if found is None:
            raise ProviderNotFoundError(
                f"there is no provider {name!r}", hint=f"Configured providers: {', '.join(self.current.providers)}."
            )
        return found

    def with_defaults(self, config: ProviderConfig) -> ProviderConfig:
        """A provider's configuration with the type, the prefix and the address that are used where it has none.

        A user name and a password in the address are masked.
        """
        return view.in_force(config, self._ollama)

    # Reading

    async def load_configurations(self) -> None:
        """Read the file and the variables for the first time.

        Where they have faults, the last configuration that was in force is used, and the state is ``degraded``.

        Raises:
            ConfigurationError: they have faults, and no earlier configuration is kept.
        """
        async with self._lock:
            try:
                resolved, document = await asyncio.to_thread(self._read_noted)
            except ConfigurationError as error:
                self._resolved = await asyncio.to_thread(self._last_good, error)
                self._degrade(error)
            else:
                await self._take(resolved, document)

    def check_start(self) -> None:
        """Refuse a file and variables with which :meth:`load_configurations` would raise; nothing changes.

        Raises:
            ConfigurationError: they have faults, and no earlier configuration is kept.
        """
        try:
            self._read()
        except ConfigurationError as error:
            self._last_good(error)

    async def reload_configurations(self) -> None:
        """Read the file again, and put it in force.

        Raises:
            ConfigurationError: it has faults; what was in force before stays, and the state is ``degraded``.
        """
        async with self._lock:
            try:
                resolved, document = await asyncio.to_thread(self._read_noted)
            except ConfigurationError as error:
                self._degrade(error)
                raise
            await self._take(resolved, document)

    async def validate_configuration(self) -> ValidationResult:
        """Whether the file and the variables are valid now; nothing changes."""
        errors, warnings = await self.examine()
        return ValidationResult(valid=not errors, errors=tuple(map(str, errors)), warnings=tuple(map(str, warnings)))

    async def examine(self) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
        """Every fault of the file and of the variables, and every warning; nothing changes."""
        try:
            resolved, _ = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            return tuple(Fault(**one) for one in error.details["faults"]), ()
        return (), resolved.warnings

    async def follow(self, on_change: OnChange) -> None:
        """Put changes of the file in force until this is cancelled.

        Args:
            on_change: called after each change, also by another method of this service. What it raises is logged.

        Raises:
            ModuleNotFoundError: the extra ``chat`` is not installed.
        """
        watching.require()
        follower = _Follower()
        self._followers.add(follower)
        known = self.current
        watched = watching.Watched(self.path, lambda: self._signature, self._reload_quietly)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watching.watch(watched))
                while True:
                    await follower.changed.wait()
                    follower.changed.clear()
                    before, known = known, self.current
                    if before != known:
                        await _call(on_change, before, known)
                    if not follower.changed.is_set():
                        follower.idle.set()
        finally:
            self._followers.discard(follower)
            follower.idle.set()

    async def applied(self) -> None:
        """Wait until everything that follows the configuration has followed what is in force now."""
        for follower in list(self._followers):
            await follower.idle.wait()

    async def _reload_quietly(self) -> None:
        with suppress(ConfigurationError):  # it is logged, and in the state
            await self.reload_configurations()

    def _read_noted(self) -> tuple[Resolved, Document]:
        """The same as :meth:`_read`, and what is read is noted, so that a later change is seen."""
        self._signature = watching.signature(self.path)
        return self._read()

    def _read(self) -> tuple[Resolved, Document]:
        """The file and the variables as they are now."""
        try:
            document = Document.read(self.path)
        except FileNotFoundError:
            lost = self._resolved is not None and self._versions.last() is not None
            if self._must_exist or lost:
                hint = "Write the file, or run `gpux config rollback`." if lost else "Correct the path, or create it."
                raise error_of([Fault("the file does not exist", str(self.path), hint=hint)]) from None
            document = Document(str(self.path))
        return self._resolve(document), document

    def _resolve(self, document: Document) -> Resolved:
        return resolve(document, self._environ, self.path.parent)

    def _last_good(self, error: ConfigurationError) -> Resolved:
        """The version that was in force last.

        Raises:
            ConfigurationError: no version is kept, or it has faults too.
        """
        number = self._versions.last()
        if number is None:
            raise error
        try:
            return self._resolve(Document.parse(self._versions.read(number), str(self.path)))
        except ConfigurationError:
            raise error from None

    async def _take(self, resolved: Resolved, document: Document) -> None:
        """Put a configuration in force."""
        before = self._resolved
        self._resolved, self.state, self.error = resolved, "ok", None
        for one in resolved.warnings:
            if before is None or one not in before.warnings:
                log.warning("%s", one)
        if document.data:
            try:
                await asyncio.to_thread(self._versions.add, document.data)
            except (GpuxError, OSError) as error:
                log.warning("the configuration is in force, and cannot be kept for a rollback: %s", error)
        self._notify()

    def _degrade(self, error: ConfigurationError) -> None:
        if self.error is None or self.error.details != error.details:
            log.error("%s; the configuration before it stays in force", error.message)
        self.state, self.error = "degraded", error
        self._notify()

    def _notify(self) -> None:
        for one in self._followers:
            one.idle.clear()
            one.changed.set()

    # Writing

    async def update_model_config(self, name: str, config: ModelConfig) -> None:
        """Write the configuration of a model into the file, and put it in force.

        Args:
            name: with the prefix of its provider.
            config: of which the keys are written that differ from what is in force.

        Raises:
            UsageError: the name is not that of the configuration, or has no prefix.
            ConfigurationError: the result, or the file before, has faults; nothing is written.
            NotWritableError: the file cannot be written.
        """
        provider = provider_of(self.current, name)
        if provider is None or name == prefix_of(provider):
            raise UsageError(f"{name!r} does not begin with the prefix of a provider", hint="Write hf:org/name.")
        if (config.model_name, config.provider) != (name, provider.name):
            raise UsageError(f"the configuration is of {config.model_name} of {config.provider}, not of {name}")
        await self._update(("models", name), config, lambda configuration: model_config(configuration, name))

    async def update_provider_config(self, name: str, config: ProviderConfig) -> None:
        """Write the configuration of a provider into the file, and put it in force.

        Args:
            name: of the provider.
            config: of which the keys are written that differ from what is in force.

        Raises:
            UsageError: the name is not that of the configuration.
            ConfigurationError: the result, or the file before, has faults; nothing is written.
            NotWritableError: the file cannot be written.
        """
        if config.name != name:
            raise UsageError(f"the configuration is of {config.name}, not of {name}")
        await self._update(("providers", name), config, lambda configuration: configuration.providers.get(name))

    async def _update(self, table: tuple[str, str], wanted: V, get: Callable[[ChatConfiguration], V | None]) -> None:
        async with self._lock:
            resolved, document = await asyncio.to_thread(self._write, table, wanted, get)
            await self._take(resolved, document)

    def _write(
        self, table: tuple[str, str], wanted: V, get: Callable[[ChatConfiguration], V | None]
    ) -> tuple[Resolved, Document]:
        with disk_errors(self.path.parent, hint=_HINT), hold(self.path.with_name(f".{self.path.name}.lock")):
            resolved, document = self._read()
            found = get(resolved.configuration)
            if found == wanted:
                return resolved, document
            text = document.data.decode("utf-8-sig")
            values, removed = _difference(found, wanted)
            changed = with_table(text, table, values, removed)
            document = Document.parse(changed.encode("utf-8"), str(self.path))
            resolved = self._resolve(document)
            self._check_written(table, wanted, get(resolved.configuration), resolved)
            self._replace(document.data)
            return resolved, document

    def _check_written(self, table: tuple[str, str], wanted: V, found: V | None, resolved: Resolved) -> None:
        """Refuse a change that would not be in force."""
        for name in wanted.__struct_fields__:
            if getattr(found, name, None) != getattr(wanted, name):
                key = (*table, name)
                source = resolved.sources.get(key) or resolved.sources.get(("model_defaults", name))
                reason = f"it is set by {source}" if source else "the key cannot be unset while a default is configured"
                raise error_of([Fault(reason, str(self.path), key=Document.dotted(key), hint="Change it there.")])

    def _replace(self, data: bytes) -> None:
        """Write the file; one that only its owner can read stays so."""
        target = self.path.resolve()  # a link is followed
        try:
            private = not stat.S_IMODE(target.stat().st_mode) & 0o077
        except FileNotFoundError:
            private = True
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, data, flush=True, private=private)

    # Versions

    def versions(self) -> list[Version]:
        """The last configurations that were in force, the latest first."""
        return self._versions.all()

    async def rollback(self, version: int | None = None) -> Version:
        """Write an earlier version into the file, and put it in force.

        Args:
            version: its number; None: the one before that in the file, or the last one that was in force if the file
                was changed since.

        Returns:
            The version in force.

        Raises:
            ConfigurationError: there is no such version, or it is invalid today; nothing changes.
            NotWritableError: the file cannot be written.
        """
        async with self._lock:
            number, resolved, document = await asyncio.to_thread(self._restore, version)
            await self._take(resolved, document)
        return next(one for one in self._versions.all() if one.number == number)

    def _restore(self, version: int | None) -> tuple[int, Resolved, Document]:
        with disk_errors(self.path.parent, hint=_HINT), hold(self.path.with_name(f".{self.path.name}.lock")):
            number = self._versions.before() if version is None else version
            document = Document.parse(self._versions.read(number), str(self.path))
            resolved = self._resolve(document)
            self._replace(document.data)
            return number, resolved, document


def _difference(found: V | None, wanted: V) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The keys to write and to remove, so that a table has the wanted values."""
    values, removed = {}, []
    for name in wanted.__struct_fields__:
        value = getattr(wanted, name)
        if name in ("name", "model_name", "provider") or (found is not None and value == getattr(found, name)):
            continue
        if isinstance(value, msgspec.Struct):
            given = {one: getattr(value, one) for one in value.__struct_fields__}
            value = {one: item for one, item in given.items() if item not in (None, ())} or None
        if value is None:
            removed.append(name)
        else:
            values[name] = value
    return values, tuple(removed)


async def _call(on_change: OnChange, before: ChatConfiguration, now: ChatConfiguration) -> None:
    try:
        await on_change(before, now)
    except Exception:
        log.exception("the configuration is in force, and what it changes failed")
