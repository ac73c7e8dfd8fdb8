"""Which of several variants is meant, and what to say where none is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from gpux.errors import NotStoredError
from gpux.model.precisions import preference
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel

_PROOFS = ("proven", "shipped", "inexact")


def choose(models: Sequence[StoredModel], task: str | None, precision: str | None) -> StoredModel | None:
    """Of those that fit: for the model's own task, of the highest precision, the best proven, the newest."""
    fitting = [model for model in models if _fits(model, task, precision)]
    return min(sorted(fitting, key=_created, reverse=True), key=_rank, default=None)


def not_stored(
    ref: ModelRef, id: str, models: Sequence[StoredModel], task: str | None, precision: str | None
) -> NotStoredError:
    """The error for a reference that leads to nothing in ``models``; ``id`` is the canonical id of it."""
    wanted = ", ".join(part for part in (task, precision) if part)
    message = f"{ref} is not in the store" + (f" with {wanted}" if wanted else "")
    own = [model for model in models if (model.manifest.scheme, model.id) == (ref.scheme, id)]
    if own:
        message += "; stored: " + ", ".join(f"{m.commit[:12]} ({m.task}, {m.manifest.precision})" for m in own)
    near = [] if own else _near(ref.id, {model.id for model in models})
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    hint += f"`gpux list` shows what is stored, `gpux pull {ref}` fetches it."
    return NotStoredError(message, hint=hint, reference=str(ref), near=near)


def _fits(model: StoredModel, task: str | None, precision: str | None) -> bool:
    return task in (None, model.task) and precision in (None, model.manifest.precision)


def _created(model: StoredModel) -> tuple[str, str]:
    return model.manifest.created, model.path.name


def _rank(model: StoredModel) -> tuple[bool, int, int]:
    manifest = model.manifest
    return not manifest.own_task, preference(manifest.precision), _PROOFS.index(manifest.proof.status)


def _near(name: str, ids: set[str]) -> list[str]:
    """Stored ids that look like the name, in full or without their organisation."""
    low = name.lower()
    by_look = {id.lower(): id for id in ids} | {id.lower().rpartition("/")[2]: id for id in ids}
    found = difflib.get_close_matches(low, by_look, n=3, cutoff=0.6)
    found += difflib.get_close_matches(low.rpartition("/")[2], by_look, n=3, cutoff=0.6)
    return list(dict.fromkeys(by_look[look] for look in found))[:3]
