"""Builds the record of a model from its description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gpux.catalog.record import FACTS, Facts, Record
from gpux.catalog.rules import reported
from gpux.inspect.architecture import ArchitectureSummary
from gpux.model.info import ModelInfo
from gpux.model.reference import ModelRef
from gpux.system.settings import Settings

if TYPE_CHECKING:
    from gpux.describe import ModelDescription
    from gpux.managers.info_cache import DatedInfo


def record_of(found: ModelDescription, ref: ModelRef, settings: Settings) -> Record:
    """The record of a description, without overrides and history."""
    info, now = found.known.info, timestamp()
    return Record(
        reference=reference_of(ref, info.id),
        scheme=info.scheme,
        id=info.id,
        revision=ref.revision,
        file=ref.file,
        endpoint=settings.endpoint if info.scheme == "hf" else None,
        commit=info.commit,
        aliases=(ref.id,) if ref.id != info.id and ref.scheme != "local" else (),
        reported=facts_of(found),
        unknown=_printable(dict(found.unknown)),
        notes=tuple(_printable([*found.notes, *_age(found.known)])),
        partial=_is_partial(found),
        added=now,
        described=found.known.retrieved or now,
        details=details_of(found),
    )


def _age(known: DatedInfo) -> list[str]:
    return [] if known.why is None else [f"{known.why}; these are the last known facts"]


def _is_partial(found: ModelDescription) -> bool:
    """Whether a later attempt, or one with a token, may find more."""
    unread = found.config_path is not None and not found.config
    closed = bool(found.known.info.gated and {"architecture", "parameters"} & found.unknown.keys())
    return found.known.why is not None or unread or closed or "headers" in found.unknown


def reference_of(ref: ModelRef, id: str) -> str:
    """The canonical reference of a model, which :meth:`ModelRef.parse` accepts."""
    return str(ModelRef(ref.scheme, f"{id}/{ref.file}" if ref.file else id, ref.revision))


def timestamp() -> str:
    """The current time as records store it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def facts_of(found: ModelDescription) -> Facts:
    """The facts of a description; invalid values are omitted."""
    values: dict[str, Any] = {
        **_of_source(found),
        **_of_architecture(found.architecture),
        **_of_weights(found),
    }
    clean = {name: reported(name, value) for name, value in values.items() if value is not None}
    return Facts(**{name: clean[name] for name in FACTS if clean.get(name) is not None})


def renewed_facts(facts: Facts, info: ModelInfo) -> Facts:
    """The facts of an unchanged commit with current downloads, likes and access."""
    daily = {name: getattr(info, name) for name in ("downloads", "likes", "gated", "private", "last_modified")}
    clean = {name: reported(name, value) if value is not None else None for name, value in daily.items()}
    return Facts(**{**{name: getattr(facts, name) for name in FACTS}, **clean})


def details_of(found: ModelDescription) -> dict[str, Any]:
    """The whole description without the list of files."""
    details: dict[str, Any] = found.to_dict()
    known = details.get("known")
    if isinstance(known, dict) and isinstance(known.get("info"), dict):
        known["info"].pop("files", None)
    cleaned: dict[str, Any] = _printable(details)
    return cleaned


def _printable(value: Any) -> Any:
    """JSON-able values without lone surrogates, which JSON of a repository may contain and UTF-8 cannot encode."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _of_source(found: ModelDescription) -> dict[str, Any]:
    info, card = found.known.info, found.card
    sized = bool(info.files) and all(file.size is not None for file in info.files)
    return {
        "task": info.task,
        "library": info.library,
        "model_type": info.model_type,
        "architectures": info.architectures,
        "formats": info.formats,
        "files": len(info.files),
        "size": info.size if sized else None,
        "license": card.license,
        "languages": card.languages,
        "base_models": [base.id for base in card.base_models],
        "datasets": card.datasets,
        "gated": info.gated,
        "private": info.private,
        "scan": card.security.status,
        "downloads": info.downloads,
        "likes": info.likes,
        "created": card.created,
        "last_modified": info.last_modified,
    }


def _of_architecture(summary: ArchitectureSummary | None) -> dict[str, Any]:
    if summary is None:
        return {}
    same = (
        *("kind", "context_length", "hidden_size", "layers", "attention_heads", "kv_heads", "attention"),
        *("head_size", "intermediate_size", "vocab_size", "sliding_window"),
    )
    found: dict[str, Any] = {name: getattr(summary, name) for name in same}
    if summary.model_type:
        found["model_type"] = summary.model_type
    if summary.architectures:
        found["architectures"] = summary.architectures
    if (experts := summary.experts) is not None:
        found |= {"experts": experts.count, "active_experts": experts.active, "shared_experts": experts.shared}
    if (made := summary.quantization) is not None:
        found["quantization"] = made.method + (f" {made.bits} bits" if made.bits else "")
    return found


def _of_weights(found: ModelDescription) -> dict[str, Any]:
    facts, gguf, summary = found.parameters, found.gguf, found.architecture
    counts: Mapping[str, int] = facts.dtypes
    stored = max(counts, key=lambda name: counts[name], default=None)
    values: dict[str, Any] = {
        "parameters": facts.total,
        "parameters_basis": facts.basis,
        "active_parameters": facts.active,
        "precision": stored or (summary.dtype if summary else None),
    }
    if gguf is not None and gguf.label:
        values["quantization"] = gguf.label
    return values
