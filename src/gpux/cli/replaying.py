"""Replaying proofs for ``gpux verify --proof``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from gpux.cli import figures

if TYPE_CHECKING:
    from gpux.model.variant import StoredModel
    from gpux.store import Store
    from gpux.upkeep.inventory import Health


def replay_sound(checked: Health, mended: Collection[Path], store: Store, device: str) -> dict[Path, str]:
    """Replay the kept cases of every variant that is whole; what came out, in a few words."""
    sound = {report.path for report in checked.variants if report.ok} | set(mended)
    paths = {model.path for model in checked.inventory.variants}
    return {model.path: _replay(model, device) for model in store.models() if model.path in sound & paths}


def _replay(model: StoredModel, device: str) -> str:
    from gpux.proof.compare import replay
    from gpux.runtime.graphs import Graphs

    with Graphs.of(model, device=device) as graphs:
        cases = replay(model, graphs.run)
        used = graphs.session(graphs.names[0]).device
    if not cases:
        return "shipped: nothing to replay"
    largest = max(case.max_abs_diff for case in cases)
    return f"{len(cases)} cases on {used}: {figures.difference(largest)}"
