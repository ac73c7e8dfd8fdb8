"""What the catalog holds of one model: what sources tell, what its user says of it, and what became of it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from gpux.catalog.defaults import merged_defaults
from gpux.catalog.rules import OWN, RULES
from gpux.errors import UsageError
from gpux.model.values import Value, to_jsonable

Status = Literal["new", "pulled", "failed", "gone"]
STATUSES: tuple[Status, ...] = get_args(Status)
OVERRIDE = "override"  #: the basis of a number of parameters that the user gave


@dataclass(frozen=True)
class Facts(Value):
    """What a model is; None, or nothing in a list, is what nobody tells. :mod:`gpux.catalog.rules` has the ranges."""

    task: str | None = None
    library: str | None = None
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    kind: str | None = None  #: decoder, encoder, vision …
    parameters: int | None = None
    parameters_basis: str | None = None
    active_parameters: int | None = None  #: that take part in one token, of a mixture of experts
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

    reference: str  #: what names it here, and what pulls it
    scheme: str
    id: str
    revision: str | None = None  #: as it was asked for; None is the default branch
    file: str | None = None  #: of a reference that names one
    endpoint: str | None = None  #: of the Hub that told
    commit: str = ""  #: that was described; empty for folders of this machine
    aliases: tuple[str, ...] = ()  #: other ids that it was asked for by
    told: Facts = field(default_factory=Facts)  #: by the source
    overrides: Mapping[str, Any] = field(default_factory=dict)  #: by the user
    unknown: Mapping[str, str] = field(default_factory=dict)  #: fact -> why it is not known
    notes: tuple[str, ...] = ()
    partial: bool = False  #: something could not be read that may be read later, with a token or another time
    added: str = ""  #: ISO 8601, UTC
    described: str = ""  #: when the source said so; ISO 8601, UTC
    status: Status = "new"
    reason: str | None = None  #: of a status failed or gone
    uses: int = 0  #: how often a run opened it since it was added
    last_used: str | None = None  #: ISO 8601, UTC
    details: Mapping[str, Any] = field(default_factory=dict)  #: all that is known, where it was loaded

    @property
    def facts(self) -> Facts:
        """What holds: the source's facts with the user's in their place."""
        said = {name: value for name, value in self.overrides.items() if name not in OWN}
        if "parameters" in said:
            said["parameters_basis"] = OVERRIDE
        return replace(self.told, **said)

    @property
    def name(self) -> str | None:
        """The user's own name for it."""
        return self.overrides.get("name")

    @property
    def description(self) -> str | None:
        """The user's own words."""
        return self.overrides.get("description")

    @property
    def defaults(self) -> dict[str, Any]:
        """The user's default parameters."""
        return dict(self.overrides.get("defaults") or {})

    def with_overrides(self, given: Mapping[str, Any]) -> Record:
        """With what :func:`~gpux.catalog.rules.checked_overrides` made: a value of None ends an override.

        Raises:
            UsageError: what comes out contradicts itself.
        """
        former = dict(self.overrides)
        if given.get("defaults") is not None:
            given = {**given, "defaults": merged_defaults(self.defaults, given["defaults"]) or None}
        kept = {name: value for name, value in {**former, **given}.items() if value is not None}
        found = replace(self, overrides={name: kept[name] for name in RULES if name in kept})
        if {"parameters", "active_parameters"} & given.keys():
            found._check_parameters()
        return found

    def _check_parameters(self) -> None:
        active, total = self.facts.active_parameters, self.facts.parameters
        if active is not None and total is not None and active > total:
            raise UsageError(
                f"{active:,} active parameters are more than all {total:,}",
                hint="Set parameters and active_parameters together.",
                field="active_parameters",
            )

    def answers_to(self, text: str) -> bool:
        """Whether a text is one of its names: reference, id, former or short id, the user's own name."""
        return text in (self.reference, self.id, self.name, *self.aliases)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values: identity, the user's words, what holds, what became of it; ``details`` where loaded."""
        whole = to_jsonable(self)
        names = ("reference", "scheme", "id", "revision", "file", "endpoint", "commit", "aliases")
        own = {"name": self.name, "description": self.description, "defaults": self.defaults}
        later = ("unknown", "notes", "partial", "added", "described", "status", "reason", "uses", "last_used")
        replaced = {name: whole["told"][name] for name in whole["overrides"] if name not in OWN}
        return {
            **{name: whole[name] for name in names},
            **own,
            **self.facts.to_dict(),
            "overridden": replaced,  # field -> what the source tells
            **{name: whole[name] for name in later},
            **({"details": whole["details"]} if self.details else {}),
        }
