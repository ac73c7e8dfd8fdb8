"""Converts responses of huggingface_hub to gpux values. Any field may be missing: mirrors omit many."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from gpux.errors import UnsafePathError
from gpux.inspect.formats import weight_formats
from gpux.model.info import ModelFile, ModelInfo, ModelPage, Revision
from gpux.model.json_file import read_json
from gpux.model.reference import ModelRef
from gpux.model.values import Value

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpaceInfo(Value):
    """An application on the Hub (a Space) and the models that it uses."""

    id: str  #: ``org/name``, without ``spaces/``
    models: tuple[str, ...] = ()  #: ids, from the Space's card and code
    datasets: tuple[str, ...] = ()
    sdk: str | None = None  #: ``gradio``, ``docker``, ``static`` …
    stage: str | None = None  #: ``RUNNING``, ``SLEEPING``, ``BUILD_ERROR`` …
    private: bool = False
    likes: int | None = None


def model_info(found: Any, ref: ModelRef) -> ModelInfo:
    """From the ``huggingface_hub.ModelInfo`` of one model.

    Raises:
        UnsafePathError: the name of a file would place it outside the model's folder.
    """
    return _model_info(found, ref, tuple(_file(sibling) for sibling in found.siblings or ()))


def listed_info(found: Any, ref: ModelRef) -> ModelInfo:
    """From a ``huggingface_hub.ModelInfo`` in a listing; files with unsafe names are omitted, not refused."""
    return _model_info(found, ref, tuple(_safe_files(found)))


def _model_info(found: Any, ref: ModelRef, files: tuple[ModelFile, ...]) -> ModelInfo:
    config = found.config if isinstance(found.config, dict) else {}
    return ModelInfo(
        scheme="hf",
        id=found.id,
        requested_id=ref.id,
        commit=found.sha or "",
        revision=None if ref.is_commit else ref.revision or "main",
        files=files,
        formats=weight_formats(file.path for file in files),
        task=found.pipeline_tag,
        library=found.library_name,
        license=_license(found),
        model_type=config.get("model_type"),
        architectures=tuple(config.get("architectures") or ()),
        parameters=_parameters(found),
        gated=_gated(found.gated),
        private=bool(found.private),
        disabled=bool(found.disabled),
        downloads=found.downloads,
        likes=found.likes,
        tags=tuple(found.tags or ()),
        last_modified=_iso(found.last_modified),
    )


def model_page(found: Any, info: ModelInfo) -> ModelPage:
    """The page of a model from the ``huggingface_hub.ModelInfo`` that ``info`` was read from."""
    results = found.model_index if isinstance(getattr(found, "model_index", None), list) else []
    return ModelPage(
        info,
        card=_card(found),
        results=tuple(item for item in results if isinstance(item, dict)),
        dtypes=_dtypes(found),
        gguf=found.gguf if isinstance(getattr(found, "gguf", None), dict) else {},
        scan=found.security_repo_status if isinstance(found.security_repo_status, dict) else None,
        created=_iso(found.created_at),
        downloads_all_time=getattr(found, "downloads_all_time", None),
        trending=getattr(found, "trending_score", None),
    )


def scans(entries: Iterable[Any]) -> dict[str, Mapping[str, Any]]:
    """Path -> ``{"status", "av_scan", "pickle_import_scan"}`` of the scanned files."""
    return {entry.path: dict(entry.security) for entry in entries if getattr(entry, "security", None)}


def _card(found: Any) -> Mapping[str, Any]:
    card = found.card_data
    data = card.to_dict() if hasattr(card, "to_dict") else card
    return data if isinstance(data, dict) else {}


def _dtypes(found: Any) -> Mapping[str, int]:
    counts = getattr(found.safetensors, "parameters", None)
    return {str(name): count for name, count in (counts or {}).items() if isinstance(count, int)}


def _parameters(found: Any) -> int | None:
    """The Hub's count, from the headers of the safetensors files or of a GGUF file."""
    gguf = found.gguf if isinstance(getattr(found, "gguf", None), dict) else {}
    total = getattr(found.safetensors, "total", None) or gguf.get("total")
    return total if isinstance(total, int) else None


def with_tree(info: ModelInfo, tree: Iterable[Any]) -> ModelInfo:
    """``info`` with sizes and hashes from the listing of the repository's tree."""
    files = tuple(_tree_file(entry) for entry in tree)
    return replace(info, files=files, formats=weight_formats(file.path for file in files))


def cached_info(ref: ModelRef, id: str, commit: str, files: tuple[ModelFile, ...], folder: Path) -> ModelInfo:
    """The info of a model from its files in the source cache; ``id`` is the canonical id."""
    config = read_json(folder / "config.json")
    return ModelInfo(
        scheme=ref.scheme,
        id=id,
        requested_id=ref.id,
        commit=commit,
        revision=None if ref.is_commit else ref.revision or "main",
        files=files,
        formats=weight_formats(file.path for file in files),
        model_type=config.get("model_type"),
        architectures=tuple(config.get("architectures") or ()),
    )


def revisions(refs: Any) -> list[Revision]:
    """From ``huggingface_hub.GitRefs``: the default branch, other branches, tags, pull requests, conversions."""
    branches = sorted(refs.branches, key=lambda branch: (branch.name != "main", branch.name))
    found = [Revision(branch.name, "branch", branch.target_commit) for branch in branches]
    found += [Revision(tag.name, "tag", tag.target_commit) for tag in refs.tags]
    found += [Revision(ref.ref, "pull_request", ref.target_commit) for ref in refs.pull_requests or ()]
    return found + [Revision(ref.ref, "convert", ref.target_commit) for ref in refs.converts]


def space_info(found: Any) -> SpaceInfo:
    """From ``huggingface_hub.SpaceInfo``."""
    return SpaceInfo(
        id=found.id,
        models=tuple(found.models or ()),
        datasets=tuple(found.datasets or ()),
        sdk=found.sdk,
        stage=getattr(found.runtime, "stage", None),
        private=bool(found.private),
        likes=found.likes,
    )


def _safe_files(found: Any) -> Iterator[ModelFile]:
    for sibling in found.siblings or ():
        try:
            yield _file(sibling)
        except UnsafePathError as exc:
            log.info("%s: %s; omitted", found.id, exc)


def _file(sibling: Any) -> ModelFile:
    lfs = sibling.lfs
    return ModelFile(sibling.rfilename, sibling.size, sibling.blob_id, lfs.sha256 if lfs else None)


def _tree_file(entry: Any) -> ModelFile:
    return ModelFile(entry.path, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)


def _license(found: Any) -> str | None:
    card = found.card_data
    value = card.get("license") if card is not None and hasattr(card, "get") else None
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    tag = next((tag for tag in found.tags or () if tag.startswith("license:")), None)
    return str(value) if value else (tag.partition(":")[2] if tag else None)


def _gated(value: object) -> Literal["auto", "manual"] | None:
    if value == "auto":
        return "auto"
    return "manual" if value else None


def _iso(value: object) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else None
