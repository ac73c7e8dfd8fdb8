"""What is known of a model, as ``gpux info`` shows it: names and values of a table, the empty ones left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpux.cli import figures
from gpux.cli.traits import architecture, parameters, precision
from gpux.model.tasks import task_of_architectures

if TYPE_CHECKING:
    from gpux.describe import ModelDescription
    from gpux.inspect.card import Evaluation, ModelCard, Security
    from gpux.managers.info_cache import KnownInfo
    from gpux.model.info import ModelInfo
    from gpux.model.variant import StoredModel

Rows = Iterator[tuple[str, str]]
SHOWN = 5  #: results, languages, files …; the rest is in the JSON


def remark(known: KnownInfo) -> str | None:
    """Whose words these are and how old, where they are not the Hub's of this moment."""
    if known.why is None:
        return None
    if known.age is None:
        return f"{known.why}; this is what the files of the model on this machine tell"
    return f"{known.why}; this is as of {figures.ago(known.age)}"


def as_json(found: ModelDescription, stored: Sequence[StoredModel], fit: Sequence[Any] | None = None) -> dict[str, Any]:
    """The model's values, when and why they are these (``age`` in seconds), all that is known, what is stored."""
    described = found.to_dict()
    known = described.pop("known")
    age = found.known.age
    said = {"asked": known["asked"], "age": age and round(age), "why": known["why"]}
    size = {"parameter_facts": described.pop("parameters")}
    fits = {} if fit is None else {"fit": [report.to_dict() for report in fit]}
    return {**known["info"], **said, **size, **described, **fits, "stored": [model.to_dict() for model in stored]}


def variants(stored: Sequence[StoredModel]) -> list[tuple[str, str]]:
    """A row for each stored variant: what it is for, what made it, how it was proven."""
    return [
        ("stored", f"{model.task}, {model.manifest.precision}, {model.manifest.recipe}: {figures.proof(proof)}")
        for model in stored
        for proof in (model.manifest.proof,)
    ]


def facts(found: ModelDescription) -> list[tuple[str, str]]:
    """The page: what it is, what it may be used for, how good it is, what is not known."""
    info = found.known.info
    rows = [
        ("as of", _as_of(found.known)),
        ("model", info.id + (f" (asked for as {info.requested_id})" if info.id != info.requested_id else "")),
        ("commit", (info.commit or "") + (f" ({info.revision})" if info.commit and info.revision else "")),
        ("task", _task(info)),
        ("library", info.library),
        *architecture(found),
        *parameters(found),
        ("precision", precision(found)),
        ("formats", " ".join(info.formats)),
        ("files", f"{len(info.files)}, {figures.size(info.size)}"),
        *_card(found.card, info),
        *_unknown(found.unknown),
        *(("note", note) for note in found.notes),
    ]
    chain = " → ".join(base.id for base in found.base_chain)
    return [(name, value) for name, value in (*rows, ("base chain", chain)) if value]


def _unknown(unknown: Mapping[str, str]) -> Rows:
    """What has the same reason on one line."""
    for why in dict.fromkeys(unknown.values()):
        yield "unknown", f"{', '.join(sorted(name for name in unknown if unknown[name] == why))}: {why}"


def _task(info: ModelInfo) -> str | None:
    by_class = task_of_architectures(info.architectures)
    return info.task or (f"{by_class} (by its class)" if by_class else None)


def _card(card: ModelCard, info: ModelInfo) -> Rows:
    named = f" ({card.licence_name})" if card.licence_name else ""
    yield "licence", f"{card.licence}{named}" if card.licence else ""
    yield "languages", _some(card.languages)
    yield (
        "base model",
        _some([f"{base.id} ({base.relation})" if base.relation else base.id for base in card.base_models]),
    )
    yield "datasets", _some(card.datasets)
    yield from (("result", _result(result)) for result in card.evaluations[:SHOWN])
    if len(card.evaluations) > SHOWN:
        yield "result", f"… and {len(card.evaluations) - SHOWN} more with --json"
    yield "access", _access(info)
    yield from _security(card.security)
    yield "downloads", figures.count(card.downloads)
    yield "likes", figures.count(card.likes)
    yield "last modified", info.last_modified or ""


def _security(security: Security) -> Rows:
    if security.status != "unknown":
        yield "scan", {"safe": "no issues", "issues": "issues", "pending": "not finished"}[security.status]
    for issue in security.issues[:SHOWN]:
        imports = f": imports {_some(issue.imports)}" if issue.imports else ""
        yield "scan", f"{issue.path} is {issue.level}{imports}"
    yield "pickles", _some(security.pickles)
    yield "runs code", _some(security.code)


def _result(result: Evaluation) -> str:
    value = f"{result.value:.4g}" if isinstance(result.value, float) else str(result.value)
    where = ", ".join(filter(None, (result.dataset, result.split)))
    return f"{result.metric} {value}" + (f" on {where}" if where else "") + (", verified" if result.verified else "")


def _some(values: Sequence[str]) -> str:
    rest = f" … {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(values[:SHOWN]) + rest


def _as_of(known: KnownInfo) -> str:
    if known.why is None:
        return ""
    return "files on this machine" if known.age is None else f"{figures.ago(known.age)} ({known.asked})"


def _access(info: ModelInfo) -> str:
    if info.scheme != "hf":
        return ""
    if info.disabled:
        return "disabled"
    visible = "private" if info.private else "public"
    return f"{visible}, gated ({info.gated})" if info.gated else visible
