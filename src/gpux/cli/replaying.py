"""Replaying proofs for ``gpux verify --proof``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from gpux.cli import figures

if TYPE_CHECKING:
    from gpux.inventory import Health
    from gpux.store import Store
    from gpux.types import StoredModel


def replay_sound(checked: Health, mended: Collection[Path], store: Store, device: str) -> dict[Path, str]:
    """Replay the kept cases of every variant that is whole; what came out, in a few words."""
    sound = {report.path for report in checked.variants if report.ok} | set(mended)
    paths = {model.path for model in checked.inventory.variants}
    return {model.path: _replay(model, device) for model in store.models() if model.path in sound & paths}


def _replay(model: StoredModel, device: str) -> str:
    from gpux.proof import replay
    from gpux.runtime.session import Session

    with Session(model.path / model.graph().file, device=device) as session:
        cases = replay(model, session.run)
    if not cases:
        return "shipped: nothing to replay"
    largest = max(case.max_abs_diff for case in cases)
    return f"{len(cases)} cases on {session.device}: {figures.difference(largest)}"
