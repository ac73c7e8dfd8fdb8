"""A configuration from the file and the variables: defaults filled in, and everything checked that can be wrong.

All faults are collected, so that a person can correct them at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gpux.chat.configuration import keys, variables
from gpux.chat.configuration.document import Document
from gpux.chat.configuration.faults import Fault, error_of, nearest
from gpux.chat.configuration.keys import OF_LOCAL_MODELS, InvalidValueError, Section
from gpux.chat.configuration.types import DEFAULT_PROVIDERS, prefix_of, provider_types
from gpux.chat.values import ChatConfiguration, ChatOptions, ModelConfig, ProviderConfig
from gpux.model.precisions import TABLE as PRECISIONS
from gpux.system.settings import variables as variables_of

Key = tuple[str, ...]


@dataclass(frozen=True)
class Resolved:
    """A configuration without faults."""

    configuration: ChatConfiguration
    warnings: tuple[Fault, ...]
    sources: Mapping[Key, str]  #: key -> ``FILE:LINE`` or the variable that it comes from; others have their default


def resolve(document: Document, environ: Mapping[str, str] | None, folder: Path) -> Resolved:
    """The configuration.

    Args:
        document: of the file; an empty one where the file is missing.
        environ: in place of the environment of the process.
        folder: of the file, that relative paths are relative to.

    Raises:
        ConfigurationError: there are faults; its ``details`` have all of them.
    """
    return _Resolver(document, environ, folder).resolve()


def model_config(configuration: ChatConfiguration, name: str) -> ModelConfig:
    """The configuration of a model: its own, or that of all models without one.

    Args:
        configuration: in force.
        name: with the prefix of its provider; without one, it is a model of the default provider, else of the first.
    """
    provider = provider_of(configuration, name)
    if provider is None:
        others = [one for one in configuration.providers.values() if one.enabled]
        default = configuration.providers.get(configuration.default_provider or "")
        provider = default or next(iter(others), None)
        if provider is not None:
            name = f"{prefix_of(provider)}{name}"
    found = configuration.models.get(name)
    return found or _model_config(configuration, name, provider, {})


def provider_of(configuration: ChatConfiguration, name: str) -> ProviderConfig | None:
    """The provider whose prefix a model's name has; None: it has none."""
    fitting = [one for one in configuration.providers.values() if name.startswith(prefix_of(one) or "\0")]
    return max(fitting, key=lambda one: len(prefix_of(one) or ""), default=None)


def _model_config(
    configuration: ChatConfiguration, name: str, provider: ProviderConfig | None, values: Mapping[str, Any]
) -> ModelConfig:
    defaults = configuration.model_defaults
    if _named_precision(name) is not None:  # the name decides
        defaults = {key: value for key, value in defaults.items() if key != "precision"}
    if provider is not None and not _is_local(provider):
        defaults = {key: value for key, value in defaults.items() if key not in OF_LOCAL_MODELS}
    filled = {
        "cache_directory": configuration.cache_directory if provider is not None and _is_local(provider) else None,
        "timeout_ms": configuration.stream_timeout_ms,
        "retry_attempts": configuration.retry_attempts if provider is None else provider.retry_attempts,
        **defaults,
        **values,
        "options": ChatOptions(**{**defaults.get("options", {}), **values.get("options", {})}),
    }
    return ModelConfig(model_name=name, provider="" if provider is None else provider.name, **filled)


def _named_precision(name: str) -> str | None:
    """The precision in a model's name, as this configuration spells it: ``hf:org/name:int4``."""
    _, colon, spelled = name.partition(":")[2].rpartition(":")
    known = next((one.name for one in PRECISIONS if colon and spelled.lower() in one.spellings), None)
    return None if known is None else keys.PRECISIONS.get(known, known)


def _is_local(provider: ProviderConfig) -> bool:
    """Whether gpux runs the models itself, or a third party's provider may."""
    return (provider.type or provider.name) not in ("ollama", "openai")


@dataclass
class _Resolver:
    document: Document
    environ: Mapping[str, str] | None
    folder: Path
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    sources: dict[Key, str] = field(default_factory=dict)

    def resolve(self) -> Resolved:
        given, faults, warnings = variables.read(self.environ)
        self.faults += faults
        self.warnings += warnings
        self._given = {one.key: one for one in given}
        root = self._root()
        defaults = self._model_values(("model_defaults",))
        defaults |= self._of_variables("model", ("model_defaults",))
        configuration = self._one_cache(ChatConfiguration(**root, model_defaults=defaults))
        configuration = msgspec.structs.replace(configuration, providers=self._providers(configuration))
        configuration = msgspec.structs.replace(configuration, models=self._models(configuration))
        self._check_whole(configuration)
        if self.faults:
            raise error_of(sorted(self.faults, key=lambda one: (one.line is None, one.line or 0)))
        return Resolved(configuration, tuple(self.warnings), self.sources)

    # Places

    def _fault(self, key: Key, message: str, hint: str | None = None) -> None:
        """Note a fault of the value in force."""
        self.faults.append(self._in_force(key, message, hint))

    def _fault_of_file(self, key: Key, message: str, hint: str | None = None) -> None:
        """Note a fault of the file, also where a variable takes precedence: one day it is not set."""
        fault = self._in_file(key, message, hint)
        if fault not in self.faults:
            self.faults.append(fault)

    def _warn(self, key: Key, message: str, hint: str | None = None) -> None:
        self.warnings.append(self._in_force(key, message, hint))

    def _in_force(self, key: Key, message: str, hint: str | None) -> Fault:
        setting = self._given.get(key)
        if setting is None:
            return self._in_file(key, message, hint)
        return Fault(message, setting.name, key=Document.dotted(key), hint=hint)

    def _in_file(self, key: Key, message: str, hint: str | None) -> Fault:
        return Fault(message, self.document.source, self.document.line(key), Document.dotted(key), hint)

    # Sections

    def _table(self, key: Key) -> Mapping[str, Any]:
        """A table of the file; empty where it has none."""
        value: Any = self.document.values
        for length, name in enumerate(key, 1):
            value = value.get(name, {})
            if not isinstance(value, dict):
                hint = f"Write [{Document.dotted(key[:length])}]."
                self._fault_of_file(key[:length], f"it is a table, and not {_kind(value)}", hint)
                return {}
        found: Mapping[str, Any] = value
        return found

    def _values(self, section: Section, table: Key, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a table that are valid."""
        found = {}
        for name, value in given.items():
            key = (*table, name)
            if name not in keys.keys(section):
                self._fault_of_file(key, *keys.unknown(section, name))
                continue
            try:
                found[name] = keys.check(section, name, value, self.folder)
                self.sources[key] = self.document.place(key)
            except InvalidValueError as error:
                self._fault_of_file(key, str(error), error.hint)
        return found

    def _of_variables(self, section: Section, table: Key) -> dict[str, Any]:
        found = {}
        for key, setting in self._given.items():
            if key[:-1] != table:
                continue
            try:
                found[key[-1]] = keys.check(section, key[-1], setting.value, self.folder)
                self.sources[key] = setting.name
            except InvalidValueError as error:
                self._fault(key, str(error), error.hint)
        return found

    def _root(self) -> dict[str, Any]:
        own = {name: value for name, value in self.document.values.items() if name not in keys.TABLES}
        return self._values("root", (), own) | self._of_variables("root", ())

    def _model_values(self, table: Key) -> dict[str, Any]:
        given = self._table(table)
        found = self._values("model", table, {name: value for name, value in given.items() if name != "options"})
        if "options" in given:
            found["options"] = self._values("options", (*table, "options"), self._table((*table, "options")))
        return found

    def _one_cache(self, configuration: ChatConfiguration) -> ChatConfiguration:
        """Without the source cache where ``HF_HUB_CACHE`` is set, which other Hugging Face tools use too."""
        shared = variables_of(["HF_HUB_CACHE"], self.environ).get("HF_HUB_CACHE")
        if not configuration.cache_directory or not shared:
            return configuration
        if Path(shared) != Path(configuration.cache_directory):
            self._warn(("cache_directory",), "it is not used, as HF_HUB_CACHE is set", "Unset one of the two.")
        return msgspec.structs.replace(configuration, cache_directory=None)

    def _providers(self, configuration: ChatConfiguration) -> dict[str, ProviderConfig]:
        found = {}
        given = self._table(("providers",))
        for place, name in enumerate(dict.fromkeys((*DEFAULT_PROVIDERS, *given))):
            key = ("providers", name)
            if not keys.PROVIDER_NAME.fullmatch(name):
                self._fault(key, f"{name!r} is not a name of a provider", "It has lower-case letters, digits, - and _.")
                continue
            values: dict[str, Any] = {"priority": 100 * (place + 1)}
            for own, general in _GENERAL.items():
                values[own] = getattr(configuration, general)
                if (general,) in self.sources:
                    self.sources[(*key, own)] = self.sources[general,]
            values |= self._values("provider", key, self._table(key))
            values |= self._of_variables("provider", key)
            found[name] = ProviderConfig(name=name, **values)
        found = self._ordered(found)
        self._check_providers(found)
        return found

    def _ordered(self, providers: dict[str, ProviderConfig]) -> dict[str, ProviderConfig]:
        """The providers by priority, in the order of the variable where it is set."""
        key = ("providers", "*", "priority")
        setting = self._given.get(key)
        ordered = sorted(providers.values(), key=lambda one: one.priority)
        if setting is None:
            return {one.name: one for one in ordered}
        for name in setting.value:
            if name not in providers:
                self._fault(key, f"there is no provider {name!r}", nearest(name, list(providers)) or _known(providers))
        if len(set(setting.value)) < len(setting.value):
            self._fault(key, "a provider occurs twice")
        place = {name: number for number, name in enumerate(setting.value)}
        ordered.sort(key=lambda one: place.get(one.name, len(place)))
        for one in ordered:
            self.sources["providers", one.name, "priority"] = setting.name
        return {one.name: msgspec.structs.replace(one, priority=number + 1) for number, one in enumerate(ordered)}

    def _models(self, configuration: ChatConfiguration) -> dict[str, ModelConfig]:
        found = {}
        for name in self._table(("models",)):
            key = ("models", name)
            values = self._model_values(key)
            provider = provider_of(configuration, name)
            if provider is None or name == prefix_of(provider):
                known = ", ".join(prefix_of(one) or "?" for one in configuration.providers.values())
                self._fault(key, "the name of a model begins with the prefix of its provider", f"Prefixes: {known}")
                continue
            self._check_model(key, provider, values)
            found[name] = _model_config(configuration, name, provider, values)
        return found

    # What contradicts

    def _check_providers(self, providers: Mapping[str, ProviderConfig]) -> None:
        types = provider_types()
        prefixes: dict[str, str] = {}
        for one in sorted(providers.values(), key=lambda one: one.prefix is not None):
            key: Key = ("providers", one.name)
            kind = one.type or one.name
            if kind not in types:
                where = (*key, "type") if one.type else key
                self._fault(where, f"there is no type of provider {kind!r}", nearest(kind, types) or _known(types))
                continue
            if one.api_key_env and one.api_key_keyring:
                self._fault((*key, "api_key_keyring"), "the key has two sources", "Remove api_key_env or this one.")
            if one.api_key_env and not variables_of([one.api_key_env], self.environ):
                self._warn((*key, "api_key_env"), f"the variable {one.api_key_env} is not set")
            # The key of another server must not be sent to OpenAI where its address was forgotten.
            official = one.name == "openai" and (one.api_key_env or one.api_key_keyring)
            if kind == "openai" and one.enabled and not one.base_url and not official:
                hint = 'Write base_url = "http://127.0.0.1:8000/v1"'
                if one.name == kind:
                    hint += ', or the key of OpenAI\'s own server: api_key_env = "OPENAI_API_KEY"'
                self._fault(key, "base_url is missing", f"{hint}.")
            prefix = prefix_of(one)
            if prefix is not None and (other := prefixes.setdefault(prefix, one.name)) != one.name:
                self._fault((*key, "prefix"), f"{other} has the prefix {prefix!r} too", "Give one of them another one.")
        if not any(one.enabled for one in providers.values()):
            self._warn(("providers",), "no provider is enabled, so that nothing can be answered")

    def _check_model(self, key: Key, provider: ProviderConfig, values: Mapping[str, Any]) -> None:
        if not _is_local(provider):
            for name in OF_LOCAL_MODELS:
                if name in values:
                    self._fault((*key, name), f"the server behind {provider.name} decides that", "Remove the key.")
        named = _named_precision(key[-1])
        if _is_local(provider) and named is not None and values.get("precision") not in (None, named):
            self._fault((*key, "precision"), f"the model's name says {named}", "Remove the key, or change the name.")
        self._check_fallbacks(key, values.get("fallback_models", ()))

    def _check_fallbacks(self, key: Key, names: Sequence[str]) -> None:
        for name in names:
            if name == key[-1]:
                self._fault((*key, "fallback_models"), "a model cannot be its own fallback", "Name another model.")

    def _check_whole(self, configuration: ChatConfiguration) -> None:
        default = configuration.default_provider
        providers = configuration.providers
        if default is not None and default not in providers:
            hint = nearest(default, list(providers)) or _known(providers)
            self._fault(("default_provider",), f"there is no provider {default!r}", hint)
        elif default is not None and not providers[default].enabled:
            self._fault(("default_provider",), f"{default} is switched off", "Enable it, or name another provider.")
        self._check_pair(("model_defaults",), configuration.model_defaults)
        for name, model in configuration.models.items():
            if _is_local(configuration.providers[model.provider]):
                self._check_pair(("models", name), {"device": model.device, "precision": model.precision})
            if model.max_memory and configuration.max_memory and model.max_memory > configuration.max_memory:
                message = "it is larger than the limit of all models together"
                self._fault(("models", name, "max_memory"), message, "Reduce it, or raise max_memory.")
            for other in model.fallback_models:
                if provider_of(configuration, other) is None:
                    message = f"{other!r} does not begin with the prefix of a provider"
                    self._fault(("models", name, "fallback_models"), message)

    def _check_pair(self, table: Key, values: Mapping[str, Any]) -> None:
        """Device and precision."""
        device, precision = values.get("device"), values.get("precision")
        at = (*table, "device")
        if device == "mps" and sys.platform != "darwin":
            self._fault(at, "mps (CoreML) is a device of macOS only", "Write auto, cpu or cuda.")
        if device == "cuda" and sys.platform == "darwin":
            self._fault(at, "macOS has no CUDA", "Write auto, cpu or mps.")
        if device == "cpu" and precision == "float16":
            hint = "int8 is faster and smaller there, float32 exact."
            self._warn((*table, "precision"), "float16 is slower than float32 on a CPU", hint)


#: Keys of a provider whose default is configured for all.
_GENERAL = {
    "timeout_ms": "model_load_timeout_ms",
    "max_concurrent_models": "max_concurrent_models",
    "retry_attempts": "retry_attempts",
}


def _known(names: Sequence[str] | Mapping[str, Any]) -> str:
    return f"Known: {', '.join(names)}."


def _kind(value: Any) -> str:
    kinds = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "an array"}
    return kinds.get(type(value), "a value")
