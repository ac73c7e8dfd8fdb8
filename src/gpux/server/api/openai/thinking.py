"""Whether a model reasons before its answer, as a request wants it: by the variable of its chat template."""

from __future__ import annotations

from typing import Any, Literal

from gpux.errors import UsageError
from gpux.server.models import Loaded

#: OpenAI's levels of reasoning.
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


def think(loaded: Loaded, options: dict[str, Any], wanted: bool | str, *, param: str) -> None:
    """Set the variable of the chat template.

    Args:
        loaded: the model.
        options: of the pipeline's call, which get the variable; one that they have already stays as it is.
        wanted: whether the model reasons, or how much.
        param: name of the parameter in the request.

    Raises:
        UsageError: the model cannot do this.
    """
    info, name = loaded.worker.info, loaded.name
    switch: dict[str, Any] = info.outputs.get("thinking") or {"variable": None, "levels": []}
    variable, levels = switch["variable"], switch["levels"]
    reasons = "reasoning" in info.capabilities or variable is not None
    if isinstance(wanted, str):
        if wanted not in levels:
            known = "It can only be turned on and off." if variable else "Omit it."
            hint = f"It has {', '.join(levels)}." if levels else known
            raise UsageError(f"{param}: {name!r} has no level of thinking {wanted!r}", hint=hint, param=param)
    elif not reasons:
        if wanted:
            raise UsageError(f"{param}: {name!r} does not support thinking", hint="Omit it.", param=param)
        return
    elif levels or variable is None:
        if not wanted:
            raise UsageError(f"{param}: {name!r} always thinks", hint="Omit it.", param=param)
        return
    kept = options.get("chat_template_kwargs") or {}
    options["chat_template_kwargs"] = {variable: wanted, **kept}


def levels_of(loaded: Loaded) -> list[str]:
    """The levels of reasoning that a model's chat template has."""
    switch: dict[str, Any] = loaded.worker.info.outputs.get("thinking") or {"levels": []}
    levels: list[str] = switch["levels"]
    return levels


def effort_of(given: str | None) -> bool | str | None:
    """What a request wants by OpenAI's name of a level: ``none`` turns reasoning off."""
    return False if given == "none" else given
