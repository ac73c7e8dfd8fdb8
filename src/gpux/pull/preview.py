"""What a pull would do, without doing it: the files with their sizes, what is here already, and the disk it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gpux.convert import planner
from gpux.inspect.formats import Selection, select
from gpux.managers.base import ModelManager
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.reference import Reference
from gpux.model.values import Value
from gpux.pull.automatic import AUTO, automatic_precision
from gpux.pull.preflight import SpaceNeed, space_needs
from gpux.pull.route import Route, check_weights, choose_route, variant_bytes
from gpux.store import Store


@dataclass(frozen=True)
class PreviewFile(Value):
    """One file of a pull."""

    path: str
    size: int | None
    cached: bool  #: in the source cache, in full length
    reason: str


@dataclass(frozen=True)
class PullPreview(Value):
    """What a pull would fetch and make."""

    id: str
    commit: str
    kind: Literal["stored", "shipped", "convert", "reduce", "files"]
    task: str | None
    files: tuple[PreviewFile, ...]
    left_out: tuple[PreviewFile, ...]
    space: tuple[SpaceNeed, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes of all files that the pull is made of."""
        return sum(file.size or 0 for file in self.files)

    @property
    def fetch_bytes(self) -> int:
        """Bytes that would travel."""
        return sum(file.size or 0 for file in self.files if not file.cached)

    def to_dict(self) -> dict[str, Any]:
        """The fields with the sums beside them."""
        return {**super().to_dict(), "total_bytes": self.total_bytes, "fetch_bytes": self.fetch_bytes}


def preview_pull(
    ref: Reference,
    manager: ModelManager,
    *,
    task: str | None = None,
    precision: str = "fp32",
    convert: bool = False,
) -> PullPreview:
    """What ``pull_model`` with these options would do: one request.

    Raises:
        GpuxError: what the pull itself would raise before its first byte.
    """
    info = manager.resolve(ref)
    check_weights(info)
    chosen = planner.choose_task(info, task)
    if precision == AUTO:
        precision = automatic_precision(info, chosen)[1].precision
    store = Store(manager.settings.store)
    stored = store.find(info.scheme, info.id, info.commit, task=chosen, precision=precision)
    if stored is not None and store.verify(stored, hashes=False).ok:
        return PullPreview(info.id, info.commit, "stored", chosen, (), (), ())
    route = choose_route(info, chosen, precision, convert=convert)
    reasons = dict.fromkeys(route.weights, "the weights") | dict.fromkeys(route.run_files, "needed to run")
    space = pull_needs(info, route, manager, store)
    return PullPreview(info.id, info.commit, route.kind, chosen, *_divided(info, reasons, {}, manager), space)


def preview_files(ref: Reference, manager: ModelManager, selection: Selection) -> PullPreview:
    """What ``pull_files`` with this selection would bring: one request.

    Raises:
        GpuxError: what the pull itself would raise before its first byte.
    """
    info = manager.resolve(ref)
    selected = select(info.files, selection)
    chosen = {file.path: file.reason for file in selected.chosen}
    left = {file.path: file.reason for file in selected.left_out}
    divided = _divided(info, chosen, left, manager)
    need = {"the download": (manager.settings.hf_cache, sum(f.size or 0 for f in divided[0] if not f.cached))}
    return PullPreview(info.id, info.commit, "files", None, *divided, space_needs(need))


def pull_needs(info: ModelInfo, route: Route, manager: ModelManager, store: Store) -> tuple[SpaceNeed, ...]:
    """Room for what has to be downloaded and for the variant made from it."""
    missing = set(route.paths) - manager.cached(info, route.paths)
    download = sum(file.size or 0 for file in info.files if file.path in missing)
    made = "the stored copy" if route.kind == "shipped" else "the conversion"
    return space_needs(
        {"the download": (manager.settings.hf_cache, download), made: (store.root, variant_bytes(info, route))}
    )


def _divided(
    info: ModelInfo, chosen: dict[str, str], left: dict[str, str], manager: ModelManager
) -> tuple[tuple[PreviewFile, ...], tuple[PreviewFile, ...]]:
    """The listing as what comes and what stays, with the reasons."""
    cached = manager.cached(info, chosen)

    def entry(file: ModelFile, reason: str) -> PreviewFile:
        return PreviewFile(file.path, file.size, file.path in cached, reason)

    comes = tuple(entry(file, chosen[file.path]) for file in info.files if file.path in chosen)
    stays = tuple(
        entry(file, left.get(file.path, "not needed to run")) for file in info.files if file.path not in chosen
    )
    return comes, stays
