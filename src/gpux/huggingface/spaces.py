"""Spaces: applications on the Hub. gpux does not run them; it tells which models they use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpux.model.values import Value


@dataclass(frozen=True)
class SpaceInfo(Value):
    """What the Hub knows of a Space."""

    id: str  #: ``org/name``, without ``spaces/``
    models: tuple[str, ...] = ()  #: ids, as the Hub finds them in the Space's card and code
    datasets: tuple[str, ...] = ()
    sdk: str | None = None  #: ``gradio``, ``docker``, ``static`` …
    stage: str | None = None  #: ``RUNNING``, ``SLEEPING``, ``BUILD_ERROR`` …
    private: bool = False
    likes: int | None = None


def space_info(found: Any) -> SpaceInfo:
    """``huggingface_hub.SpaceInfo`` as ours; every field may be missing."""
    return SpaceInfo(
        id=found.id,
        models=tuple(found.models or ()),
        datasets=tuple(found.datasets or ()),
        sdk=found.sdk,
        stage=getattr(found.runtime, "stage", None),
        private=bool(found.private),
        likes=found.likes,
    )
