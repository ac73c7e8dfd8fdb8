"""A pull from end to end: manager -> source cache -> planner -> converter -> proof -> store.

The composition root: here the parts meet that never import each other. Nothing is visible in the store until it is
whole and proven; a pull that is killed leaves files in the source cache, where the next one goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpux.convert import planner
from gpux.convert.registry import converters
from gpux.errors import GpuxError, UnavailableError, UnsupportedError, UsageError
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.model.info import ModelInfo
from gpux.model.precisions import PRECISIONS, canonical_precision
from gpux.model.reference import ModelRef, Reference
from gpux.model.tasks import canonical
from gpux.model.transfer import combined
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.pull.automatic import AUTO, automatic_precision
from gpux.pull.build import Builder, Terms
from gpux.pull.execute import Maker, PullOptions
from gpux.pull.other_repositories import onnx_siblings
from gpux.pull.plan import Plan
from gpux.pull.route import check_weights
from gpux.store import Store, keep_within
from gpux.system.cancel import CancelToken
from gpux.system.disk import format_bytes
from gpux.system.events import pull_published
from gpux.system.progress import ProgressCallback, Stages
from gpux.system.progress_argument import callback
from gpux.system.settings import Settings


def pull_model(
    ref: Reference,
    *,
    revision: str | None = None,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> StoredModel:
    """Bring a model into the store, ready to run; what is there already costs at most one request.

    Args:
        ref: any form that :meth:`ModelRef.parse` accepts.
        revision: branch, tag, ``refs/pr/N`` or commit; a commit that is stored costs no request.
        manager: where the model comes from; by default the one registered for the reference's scheme.
        settings: by default the environment's.
        store: by default the one of the settings.
        progress: called with progress events, from any thread but one at a time; True draws them on stderr, None does
            so in a notebook only.
        cancel: set it to end the pull with ``CancelledError``; what arrived is kept.
        options: fields of :class:`PullOptions`.

    Raises:
        GpuxError: one of its subclasses; ``.hint`` says what to do next.
    """
    with pull_published(ModelRef.parse(ref), settings):
        return _prepare(ref, revision, manager, settings, store, progress, cancel, options).run()


@dataclass(frozen=True)
class Explanation(Value):
    """What :func:`pull_model` would try, in order, and what it leaves aside and why."""

    plan: Plan
    missing: dict[str, str]  #: converter -> how to get the toolchain that it lacks
    siblings: tuple[str, ...]  #: repositories of others with ONNX whose card names this model as their base
    refusal: GpuxError | None = field(default=None, repr=False)  #: what the pull would raise

    def to_dict(self) -> dict[str, Any]:
        """The plan's values on one level, with the error where there is one."""
        error = self.refusal.to_dict() if self.refusal else None
        return {**self.plan.to_dict(), "missing": self.missing, "siblings": list(self.siblings), "error": error}


def explain_model(
    ref: Reference,
    *,
    revision: str | None = None,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> Explanation:
    """What :func:`pull_model` with the same arguments would try; converted weights rather than shipped ONNX first.

    At most ``config.json`` is fetched; a request for each publisher of others' ONNX tells what else there is.

    Raises:
        GpuxError: what the pull itself would raise before its plan.
    """
    pull = _prepare(ref, revision, manager, settings, None, None, None, options)
    info, plan = pull.plan()
    refusal = None if plan.serving else plan.refused(info)
    siblings = onnx_siblings(info, pull.manager, cancel=pull.maker.cancel)
    return Explanation(plan, pull.maker.missing(plan), siblings, refusal)


def _prepare(
    ref: Reference,
    revision: str | None,
    manager: ModelManager | None,
    settings: Settings | None,
    store: Store | None,
    progress: ProgressCallback | bool | None,
    cancel: CancelToken | None,
    options: Mapping[str, Any],
) -> _Pull:
    if settings is None:
        settings = manager.settings if manager is not None else Settings.from_env()
    parsed = whole_model(ModelRef.parse(ref).at(revision))
    stages, token, kept = Stages(callback(progress)), cancel or CancelToken(), store or Store(settings.store)
    chosen = PullOptions(**options)
    chosen = replace(chosen, precision=_known_precision(chosen.precision))
    terms = Terms(chosen.force, chosen.allow_inexact, chosen.trust_remote_code)
    maker = Maker(
        chosen,
        manager or manager_for(parsed.scheme, settings),
        kept,
        converters(settings),
        Builder(kept, settings, stages, token, terms),
        stages,
        token,
    )
    return _Pull(parsed, chosen, maker, settings.max_cache)


def whole_model(ref: ModelRef) -> ModelRef:
    """The reference, if it names a whole model.

    Raises:
        UnsupportedError: it names one file of a model.
    """
    if ref.file is not None:
        raise UnsupportedError(
            f"{ref.id}: a pull brings a whole model, and the reference names one file of it, {ref.file}",
            hint=f"For the folder of this machine, write ./{ref}."
            if Path(str(ref)).is_dir()
            else f"Run `gpux pull {ref}`.",
        )
    return ref


def _known_precision(name: str) -> str:
    """The precision in its canonical spelling, or ``auto``.

    Raises:
        UsageError: there is none of that name.
    """
    found = canonical_precision(name)
    if found not in (*PRECISIONS, AUTO):
        raise UsageError(f"no precision {name!r}", hint=f"There are: {', '.join((*PRECISIONS, AUTO))}.")
    return found


@dataclass
class _Pull:
    """One pull; its steps share these parts."""

    ref: ModelRef
    options: PullOptions
    maker: Maker
    max_cache: int | None = None  #: bytes that the store may hold

    def __post_init__(self) -> None:
        self.manager, self.store, self.stages = self.maker.manager, self.maker.store, self.maker.stages

    def run(self) -> StoredModel:
        model = self._run()
        self.store.touch(model)
        self._make_room(model)
        return replace(model, report=combined(self.maker.transfers))

    def _run(self) -> StoredModel:
        asked = canonical(self.options.task) if self.options.task else None
        if self.ref.is_commit and not self.options.force and self.options.precision != AUTO:
            found = self.store.find_ref(self.ref, task=asked, precision=self.options.precision)
            if found is not None and self.maker.serves(found):
                return found
        try:
            info = self.resolve()
        except UnavailableError as exc:
            return self._fall_back(exc, asked)
        check_weights(info)
        task = planner.choose_task(info, asked)
        model = self.maker.find_or_make(info, task, self._precision(info, task), force=self.options.force)
        self._record(info)
        return model

    def plan(self) -> tuple[ModelInfo, Plan]:
        """What a pull would try, and for which commit."""
        info = self.resolve()
        check_weights(info)
        asked = canonical(self.options.task) if self.options.task else None
        task = planner.choose_task(info, asked)
        return info, self.maker.plan(info, task, self._precision(info, task))

    def _precision(self, info: ModelInfo, task: str) -> str:
        """What was asked for; what suits the device where that was left to us."""
        if self.options.precision != AUTO:
            return self.options.precision
        device, choice = automatic_precision(info, task, self.options.device)
        self.stages.warn(f"{choice.precision} for {device}: {choice.reason}")
        return choice.precision

    def resolve(self) -> ModelInfo:
        with self.stages.stage("resolve", f"Looking up {self.ref}") as done:
            info = self.manager.resolve(self.ref, cancel=self.maker.cancel)
            done(f"found {info.id} at {info.commit[:12]}")
        return info

    def _make_room(self, model: StoredModel) -> None:
        """What the user wants gone when the variant is there: its source files, the least recently used others."""
        if self.options.discard_source:
            busy = self.store.busy(model.manifest.scheme, model.id)
            freed = 0 if busy else self.manager.discard(model.id, model.commit)
            said = f"discarded the source files, {format_bytes(freed)}" if freed else "no source files to discard"
            self.stages.warn("the source files are in use by another pull, and stay" if busy else said)
        if self.max_cache is not None:
            keep_within(self.store, self.max_cache, [model], self.stages.warn)

    def _record(self, info: ModelInfo) -> None:
        """Note what the reference led to; the default branch under its own name too."""
        for revision in {self.ref.revision, info.revision or self.ref.revision}:
            self.store.record_ref(info.scheme, info.requested_id, info.id, revision, info.commit)

    def _fall_back(self, exc: UnavailableError, task: str | None) -> StoredModel:
        """The Hub cannot be asked: what is stored serves, and the user is told."""
        precision = None if self.options.precision == AUTO else self.options.precision
        found = self.store.find_ref(self.ref, task=task, precision=precision)
        if found is None or self.options.force or not self.maker.serves(found):
            raise exc
        self.stages.warn(f"{exc.message}; using {found.id} at {found.commit[:12]} as it was stored")
        return found
