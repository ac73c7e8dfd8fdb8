"""What is known of a model, as ``gpux info`` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpux.cli import figures

if TYPE_CHECKING:
    from gpux.managers.info_cache import KnownInfo
    from gpux.types import ModelInfo


def remark(known: KnownInfo) -> str | None:
    """Whose words these are and how old, where they are not the Hub's of this moment."""
    if known.why is None:
        return None
    if known.age is None:
        return f"{known.why}; this is what the files of the model on this machine tell"
    return f"{known.why}; this is as of {figures.ago(known.age)}"


def as_json(known: KnownInfo) -> dict[str, Any]:
    """The model's values, and when and why they are these; ``age`` in seconds."""
    age = known.age
    return {**known.info.to_dict(), "asked": known.asked, "age": age and round(age), "why": known.why}


def _as_of(known: KnownInfo) -> str | None:
    if known.why is None:
        return None
    return "files on this machine" if known.age is None else f"{figures.ago(known.age)} ({known.asked})"


def facts(known: KnownInfo) -> list[tuple[str, str]]:
    """Names and values of a table, the empty ones left out."""
    info = known.info
    found = {
        "as of": _as_of(known),
        "model": info.id + (f" (asked for as {info.requested_id})" if info.id != info.requested_id else ""),
        "commit": info.commit + (f" ({info.revision})" if info.revision else ""),
        "task": info.task,
        "library": info.library,
        "architecture": " ".join(filter(None, (info.model_type, *info.architectures))),
        "parameters": figures.count(info.parameters),
        "formats": " ".join(info.formats),
        "files": f"{len(info.files)}, {figures.size(info.size)}",
        "licence": info.licence,
        "access": _access(info),
        "downloads": figures.count(info.downloads),
        "likes": figures.count(info.likes),
        "last modified": info.last_modified,
    }
    return [(name, value) for name, value in found.items() if value]


def _access(info: ModelInfo) -> str:
    if info.disabled:
        return "disabled"
    visible = "private" if info.private else "public"
    return f"{visible}, gated ({info.gated})" if info.gated else visible
