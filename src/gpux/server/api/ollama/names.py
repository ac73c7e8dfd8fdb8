"""The names of models as Ollama's clients use them: always with a tag, which is the precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from gpux.errors import UsageError
from gpux.server.models import Loaded
from gpux.server.names import Listed

Name = Annotated[str, Meta(max_length=300)]


class Named(msgspec.Struct, kw_only=True):
    """A body that names a model as ``model``, or as ``name``, which older clients send."""

    model: Name | None = None
    name: Name | None = None

    @property
    def chosen(self) -> str:
        """The name.

        Raises:
            UsageError: it is missing, or the two differ.
        """
        given = {one for one in (self.model, self.name) if one}
        if len(given) != 1:
            what = "model and name differ" if given else "model is required"
            raise UsageError(what, hint='Send one name: {"model": "org/name"}.', param="model")
        return given.pop()


def tagged(name: str, precision: str) -> str:
    """The name with its precision: ``org/name:int4``."""
    return name if name.endswith(f":{precision}") else f"{name}:{precision}"


def name_of_listed(listed: Listed) -> str:
    """The name of a stored model."""
    return tagged(listed.name, listed.precision)


def name_of_loaded(loaded: Loaded) -> str:
    """The name of a loaded model."""
    return tagged(loaded.name, loaded.model.manifest.precision)


def required(model: str) -> str:
    """The name of a request that must have one.

    Raises:
        UsageError: it is empty.
    """
    if not model:
        raise UsageError("model is required", hint='Name it: {"model": "org/name"}.', param="model")
    return model


def without_nulls(values: Mapping[str, object]) -> dict[str, object]:
    """The entries that have a value."""
    return {name: value for name, value in values.items() if value is not None}
