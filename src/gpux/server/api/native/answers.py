"""Types of the native API's answers, for the OpenAPI document.

:mod:`gpux.server.api.native.documents` writes most of the answers.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """Base of all answers; sizes are bytes, times ISO 8601 in UTC, durations seconds."""


class Limits(Answer):
    """Limits of the server; null stands for no limit."""

    memory: int | None
    models: int | None
    queue: int
    rows: int
    body: int


class Memory(Answer):
    """Resident bytes, and those that are available on the machine."""

    server: int
    models: int
    available: int | None


class ModelCounts(Answer):
    """Numbers of models."""

    loaded: int
    stored: int


class Server(Answer):
    """What runs."""

    version: str
    pid: int
    started: str
    uptime: float
    state: Literal["running", "stopping"]
    device: str | int
    keys_needed: bool
    offline: bool
    allow_pull: bool
    limits: Limits
    memory: Memory
    models: ModelCounts


class Stopping(Answer):
    """The server ends after its running requests."""

    stopping: bool
    pid: int


class Disk(Answer):
    """Disk usage of the store and of the source cache."""

    variants: int  #: number of stored variants
    store: int
    unfinished: int
    repositories: list[dict[str, Any]]  #: of the source cache
    shared: int
    toolchains: int
    logs: int
    max_cache: int | None
    source: int
    partial: int
    total: int


class Doctor(Answer):
    """As ``gpux doctor --json``."""

    checks: list[dict[str, Any]]


class StoredModel(Answer):
    """A stored variant."""

    name: str
    task: str
    precision: str
    bytes: int
    commit: str
    evidence: str
    default: bool  #: whether the model's name without a precision stands for it
    revision: str | None
    kept: bool
    created: str | None
    last_used: str
    state: str  #: ``stored``, or as in :class:`LoadedModel`


class ProofLimit(Answer):
    """The longest input that was compared."""

    name: str
    tokens: int


class AnswersProof(Answer):
    """The comparison of whole answers."""

    status: str
    cases: int
    max_abs_diff: float | None
    reason: str | None


class Proof(Answer):
    """What was compared, and with which result."""

    status: str
    evidence: str
    cases: int
    max_abs_diff: float | None
    loss: dict[str, float | None]
    limit: ProofLimit | None
    reference: dict[str, Any]
    answers: AnswersProof | None


class OneModel(StoredModel, kw_only=True):
    """A stored variant with its proof."""

    proof: Proof
    recipe: str
    versions: dict[str, str]
    model_type: str | None
    license: str | None
    graphs: list[str]
    files: int
    max_length: int | None
    others: list[str]  #: names of the other variants of the model


class StoredModels(Answer):
    """Every stored model."""

    models: list[StoredModel]


class RemovedModel(Answer):
    """A model that was removed."""

    removed: str
    freed: int


class Error(msgspec.Struct):
    """An error inside of an answer, with further details."""

    code: str
    message: str
    hint: str | None


class Requests(Answer):
    """Numbers of requests."""

    running: int
    waiting: int


class LoadedModel(Answer):
    """What a model is doing; the fields of a process are null unless it is loaded."""

    name: str
    state: Literal["stored", "waiting", "loading", "loaded", "unloading", "failed", "down"]
    since: str | None
    progress: float | None
    error: Error | None
    task: str | None
    precision: str | None
    device: str | None
    bytes: int
    requests: Requests
    mode: Literal["batches", "turns"] | None
    rows: int
    cache_bytes: int
    context_length: int | None
    pinned: bool
    preload: bool
    keep_alive: float | None
    expires: str | None
    load_seconds: float | None


class LoadedModels(Answer):
    """Every model that is loaded, loads, or has failed to."""

    models: list[LoadedModel]


class Unloaded(Answer):
    """Names of the models that were loaded and are no longer."""

    unloaded: list[str]


class Default(Answer):
    """The precision that a name without one stands for."""

    model: str
    precision: str


class Fit(Answer):
    """Whether a model fits this machine, by precision and device; as ``gpux info --fit --json``."""

    model: str
    fit: list[dict[str, Any]]


class Found(Answer):
    """Models of the Hub; as ``gpux search --json``."""

    models: list[dict[str, Any]]


class Progress(Answer):
    """How far a job is."""

    stage: str
    message: str
    done: float | None
    total: float | None
    time: str
    label: str


class Job(Answer):
    """A job."""

    id: str
    arguments: list[str]
    models: list[str]
    started: str
    version: str
    status: str
    ended: str | None
    exit_code: int | None
    error: Error | None
    progress: Progress | None


class OneJob(Job, kw_only=True):
    """A job with its result, when it has ended."""

    result: Any


class StartedJob(Answer):
    """A job that was started, or that runs for the same model."""

    job: Job


class Jobs(Answer):
    """The jobs of this machine's gpux, the oldest first."""

    jobs: list[Job]


class RemovedJob(Answer):
    """A job that was removed from the list."""

    removed: str
