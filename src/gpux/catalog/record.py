"""A record of the catalog: the facts that a source reports, the user's overrides, and status and uses here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from gpux.catalog.rules import OWN, RULES, merged_defaults
from gpux.errors import UsageError
from gpux.model.values import Value, to_jsonable

Status = Literal["new", "pulled", "failed", "gone"]
STATUSES: tuple[Status, ...] = get_args(Status)
OVERRIDE = "override"  #: ``parameters_basis`` of a count that the user set


@dataclass(frozen=True)
class Facts(Value):
    """Facts of a model; None or an empty list means unknown. :mod:`gpux.catalog.rules` has the ranges."""

    task: str | None = None
    library: str | None = None
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    kind: str | None = None  #: decoder, encoder, vision …
    parameters: int | None = None
    parameters_basis: str | None = None
    active_parameters: int | None = None  #: per token, of a mixture of experts
    context_length: int | None = None  #: tokens
    hidden_size: int | None = None
    layers: int | None = None
    attention_heads: int | None = None
    kv_heads: int | None = None
    attention: str | None = None
    head_size: int | None = None
    intermediate_size: int | None = None
    vocab_size: int | None = None
    sliding_window: int | None = None  #: tokens
    experts: int | None = None
    active_experts: int | None = None
    shared_experts: int | None = None
    precision: str | None = None  #: dtype, or GGUF type, of most weights
    quantization: str | None = None
    formats: tuple[str, ...] = ()
    files: int | None = None
    size: int | None = None  #: bytes of all files
    license: str | None = None
    languages: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    gated: str | None = None
    private: bool | None = None
    scan: str | None = None  #: safe, issues, pending, unknown
    downloads: int | None = None
    likes: int | None = None
    created: str | None = None  #: ISO 8601
    last_modified: str | None = None  #: ISO 8601


FACTS = tuple(entry.name for entry in fields(Facts))


@dataclass(frozen=True)
class Record(Value):
    """One model of the catalog."""

    reference: str  #: unique in the catalog; `gpux pull` accepts it
    scheme: str
    id: str
    revision: str | None = None  #: as requested; None: the default branch
    file: str | None = None  #: if the reference names a file
    endpoint: str | None = None  #: of the Hub that the facts come from
    commit: str = ""  #: that was described; empty for a local folder
    aliases: tuple[str, ...] = ()  #: other ids by which the model was requested
    reported: Facts = field(default_factory=Facts)  #: by the source
    overrides: Mapping[str, Any] = field(default_factory=dict)  #: by the user
    unknown: Mapping[str, str] = field(default_factory=dict)  #: fact -> why it is unknown
    notes: tuple[str, ...] = ()
    partial: bool = False  #: a later refresh, or one with a token, may find more facts
    added: str = ""  #: ISO 8601, UTC
    described: str = ""  #: when the source reported the facts; ISO 8601, UTC
    status: Status = "new"
    reason: str | None = None  #: of a status failed or gone
    uses: int = 0  #: number of runs since it was added
    last_used: str | None = None  #: ISO 8601, UTC
    details: Mapping[str, Any] = field(default_factory=dict)  #: the whole description, if loaded

    @property
    def facts(self) -> Facts:
        """The reported facts, replaced by the user's overrides."""
        own = {name: value for name, value in self.overrides.items() if name not in OWN}
        if "parameters" in own:
            own["parameters_basis"] = OVERRIDE
        return replace(self.reported, **own)

    @property
    def name(self) -> str | None:
        """The user's own name for the model."""
        return self.overrides.get("name")

    @property
    def description(self) -> str | None:
        """The user's own description."""
        return self.overrides.get("description")

    @property
    def defaults(self) -> dict[str, Any]:
        """The user's default parameters."""
        return dict(self.overrides.get("defaults") or {})

    def with_overrides(self, given: Mapping[str, Any]) -> Record:
        """The record with overrides of :func:`~gpux.catalog.rules.checked_overrides`; None removes an override.

        Raises:
            UsageError: active parameters exceed all parameters.
        """
        if given.get("defaults") is not None:
            given = {**given, "defaults": merged_defaults(self.defaults, given["defaults"]) or None}
        kept = {name: value for name, value in {**self.overrides, **given}.items() if value is not None}
        found = replace(self, overrides={name: kept[name] for name in RULES if name in kept})
        if {"parameters", "active_parameters"} & given.keys():
            found._check_parameters()
        return found

    def _check_parameters(self) -> None:
        active, total = self.facts.active_parameters, self.facts.parameters
        if active is not None and total is not None and active > total:
            raise UsageError(
                f"active_parameters ({active:,}) is greater than parameters ({total:,})",
                hint="Set parameters and active_parameters together.",
                field="active_parameters",
            )

    def answers_to(self, text: str) -> bool:
        """Whether a text is the reference, the id, an alias or the user's own name."""
        return text in (self.reference, self.id, self.name, *self.aliases)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values: identity, own name and description, facts, status; ``details`` if loaded."""
        whole = to_jsonable(self)
        names = ("reference", "scheme", "id", "revision", "file", "endpoint", "commit", "aliases")
        own = {"name": self.name, "description": self.description, "defaults": self.defaults}
        later = ("unknown", "notes", "partial", "added", "described", "status", "reason", "uses", "last_used")
        replaced = {name: whole["reported"][name] for name in whole["overrides"] if name not in OWN}
        return {
            **{name: whole[name] for name in names},
            **own,
            **self.facts.to_dict(),
            "overridden": replaced,  # field -> the reported value
            **{name: whole[name] for name in later},
            **({"details": whole["details"]} if self.details else {}),
        }
