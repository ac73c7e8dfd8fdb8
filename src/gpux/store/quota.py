"""Keeping the store within a size after something new came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gpux.errors import StorageError
from gpux.model.variant import StoredModel
from gpux.store.store import Store
from gpux.system import files
from gpux.system.disk import format_bytes


def keep_within(store: Store, limit: int, keep: Iterable[StoredModel], say: Callable[[str], None]) -> int:
    """Evict the least recently used variants until the rest fits into ``limit`` bytes; returns the bytes freed.

    Pinned variants, those in ``keep`` and those in use stay. ``say`` is told of each variant that went, and if what is
    left is still too large. A store that refuses is told as well, and is no error: what was pulled is there.
    """
    plan = store.eviction_plan(limit, keep)
    freed = 0
    try:
        freed = plan.execute() if plan.removals else 0
    except StorageError as exc:
        say(f"nothing more could be evicted: {exc.message}")
    for removal in plan.removals:
        if not removal.path.exists():
            say(f"evicted {removal.title}, {format_bytes(removal.size)}: {removal.reason}")
    left = sum(files.size_of(model.path) for model in store.models())
    if left > limit:
        over = f"the store holds {format_bytes(left)}, more than the {format_bytes(limit)} that it may"
        say(f"{over}: what is left is pinned, in use or new")
    return freed
