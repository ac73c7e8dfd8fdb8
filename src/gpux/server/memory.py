"""What a model takes, and which models to unload for it. Sizes in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gpux.model.tasks import canonical
from gpux.model.variant import StoredModel

#: Bytes of a worker process without a model.
PROCESS = 100 << 20
#: Loaded bytes for each byte of weights, before the first load of a model has been measured.
FACTOR = 1.2

T = TypeVar("T")


@dataclass(frozen=True)
class Held(Generic[T]):
    """A model that is loaded, or that loads."""

    key: T
    size: int  #: resident bytes of its process; while it loads, at least what is reserved for it
    evictable: bool
    used_at: float = 0.0  #: when it was last used; of those that may be unloaded
    growth: int = 0  #: bytes that are reserved and not taken yet


@dataclass(frozen=True)
class Limits:
    """What all models together may take; None: no limit."""

    models: int | None = None
    memory: int | None = None
    available: int | None = None  #: bytes that can be allocated now


def estimate(model: StoredModel, cache_bytes: int | None) -> int:
    """Bytes of the process of a model that has not been loaded yet: its weights, a margin, and its KV caches."""
    weights = sum(file.size for file in model.manifest.files)
    cache = cache_bytes or 0 if canonical(model.task).endswith("generation") else 0
    return int(PROCESS + FACTOR * weights + cache)


def victims(needed: int, held: Sequence[Held[T]], limits: Limits) -> list[T] | None:
    """The models to unload so that ``needed`` bytes fit, the least recently used first; None: it cannot be done.

    Nothing is unloaded in vain: of a model that does not fit nevertheless, the answer is None.
    """
    chosen: list[Held[T]] = []
    for candidate in sorted((one for one in held if one.evictable), key=lambda one: one.used_at):
        if _fits(needed, held, chosen, limits):
            break
        chosen.append(candidate)
    return [one.key for one in chosen] if _fits(needed, held, chosen, limits) else None


def surplus(held: Sequence[Held[T]], memory: int | None) -> list[T]:
    """The models to unload, the least recently used first, so that the others together take at most ``memory``.

    One model alone stays, whatever it takes.
    """
    total = sum(one.size for one in held)
    chosen: list[T] = []
    for candidate in sorted((one for one in held if one.evictable), key=lambda one: one.used_at):
        if memory is None or total <= memory or len(held) - len(chosen) == 1:
            break
        total -= candidate.size
        chosen.append(candidate.key)
    return chosen


def in_excess(held: Sequence[Held[T]], models: int) -> list[T]:
    """The models to unload, the least recently used first, so that at most ``models`` stay."""
    evictable = sorted((one for one in held if one.evictable), key=lambda one: one.used_at)
    return [one.key for one in evictable[: max(0, len(held) - models)]]


def _fits(needed: int, held: Sequence[Held[T]], without: Sequence[Held[T]], limits: Limits) -> bool:
    freed = sum(one.size for one in without)
    if limits.models is not None and len(held) - len(without) + 1 > limits.models:
        return False
    if limits.memory is not None and sum(one.size for one in held) - freed + needed > limits.memory:
        return False
    growth = sum(one.growth for one in held)
    return limits.available is None or needed + growth <= limits.available + freed
