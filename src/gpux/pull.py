"""A pull from end to end: manager -> source cache -> planner -> converter -> proof -> store.

The composition root: here the parts meet that never import each other. Nothing is visible in the store until it is
whole and proven; a pull that is killed leaves files in the source cache, where the next one goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from gpux.build import SHIPPED, Builder, Terms
from gpux.cancel import CancelToken
from gpux.convert import planner
from gpux.convert.base import Converter
from gpux.convert.registry import converters
from gpux.disk import format_bytes
from gpux.errors import (
    ProofError,
    SessionError,
    UnavailableError,
    UnsupportedError,
    UnsupportedTaskError,
)
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.preflight import check_space
from gpux.preview import pull_needs
from gpux.progress import ProgressCallback, Stages, callback
from gpux.reference import ModelRef, Reference
from gpux.route import Route, check_weights, choose_route
from gpux.settings import Settings
from gpux.shipped import OUTPUT_RANK
from gpux.store import Store, keep_within
from gpux.tasks import canonical
from gpux.transfers import TransferReport, combined
from gpux.types import ModelInfo, SourceSnapshot
from gpux.variants import StoredModel

CONFIG = "config.json"


@dataclass(frozen=True)
class PullOptions:
    """What a user may ask of a pull."""

    task: str | None = None  #: the Hub's name or an alias; None takes it from the model's own files
    precision: str = "fp32"
    force: bool = False  #: make the variant again although it is stored
    convert: bool = False  #: convert the original weights although the model ships ONNX
    allow_inexact: bool = False  #: store a conversion that is beyond tolerance, marked
    trust_remote_code: bool = False  #: run code of the repository while converting
    discard_source: bool = False  #: remove the source files from the shared cache when the variant is stored
    ignore_disk_space: bool = False  #: begin although the disk looks too full


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
    if settings is None:
        settings = manager.settings if manager is not None else Settings.from_env()
    parsed = _whole_model(ModelRef.parse(ref).at(revision))
    stages, token, kept = Stages(callback(progress)), cancel or CancelToken(), store or Store(settings.store)
    chosen = PullOptions(**options)
    pull = _Pull(
        parsed,
        chosen,
        manager or manager_for(parsed.scheme, settings),
        kept,
        converters(settings),
        Builder(kept, settings, stages, token, Terms(chosen.force, chosen.allow_inexact, chosen.trust_remote_code)),
        stages,
        token,
        settings.max_cache,
    )
    return pull.run()


def open_model(
    ref: Reference,
    *,
    task: str | None = None,
    revision: str | None = None,
    settings: Settings | None = None,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> StoredModel:
    """The model as it is stored, without asking anyone; pulled if it is not there.

    A branch means the commit that it had at the last pull: ``pull_model`` is what looks for a newer one.
    """
    settings = settings or Settings.from_env()
    parsed = _whole_model(ModelRef.parse(ref).at(revision))
    if parsed.scheme != "local":
        store = Store(settings.store)
        found = store.find_ref(parsed, task=canonical(task) if task else None)
        if found is not None:
            store.touch(found)
            return found
    return pull_model(parsed, task=task, settings=settings, progress=progress, cancel=cancel)


def _whole_model(ref: ModelRef) -> ModelRef:
    if ref.file is not None:
        raise UnsupportedError(
            f"{ref.id}: a pull brings a whole model, and the reference names one file of it, {ref.file}",
            hint=f"Run `gpux pull {ref}`.",
        )
    return ref


@dataclass
class _Pull:
    """One pull; its steps share these parts."""

    ref: ModelRef
    options: PullOptions
    manager: ModelManager
    store: Store
    converters: Mapping[str, Converter]
    builder: Builder
    stages: Stages
    cancel: CancelToken
    max_cache: int | None = None  #: bytes that the store may hold
    transfers: list[TransferReport] = field(default_factory=list)

    def run(self) -> StoredModel:
        model = self._run()
        self.store.touch(model)
        self._make_room(model)
        return replace(model, report=combined(self.transfers))

    def _run(self) -> StoredModel:
        asked = canonical(self.options.task) if self.options.task else None
        if self.ref.is_commit and not self.options.force:
            found = self.store.find_ref(self.ref, task=asked, precision=self.options.precision)
            if found is not None and self._serves(found):
                return found
        try:
            info = self._resolve()
        except UnavailableError as exc:
            return self._fall_back(exc, asked)
        check_weights(info)
        task = planner.choose_task(info, asked)
        model = self._find(info, task)
        if model is None:
            with self._locked(info, task):
                model = self._find(info, task) or self._make(info, task)  # another process may have been faster
                self._record(info)
        else:
            self._record(info)
        return model

    def _make_room(self, model: StoredModel) -> None:
        """What the user wants gone when the variant is there: its source files, the least recently used others."""
        if self.options.discard_source:
            busy = self.store.busy(model.manifest.scheme, model.id)
            freed = 0 if busy else self.manager.discard(model.id, model.commit)
            said = f"discarded the source files, {format_bytes(freed)}" if freed else "no source files to discard"
            self.stages.warn("the source files are in use by another pull, and stay" if busy else said)
        if self.max_cache is not None:
            keep_within(self.store, self.max_cache, [model], self.stages.warn)

    def _locked(self, info: ModelInfo, task: str) -> AbstractContextManager[None]:
        def on_wait() -> None:
            self.stages.warn("another process is working on this model; waiting for it")

        return self.store.lock(
            info.scheme, info.id, info.commit, task, self.options.precision, cancel=self.cancel, on_wait=on_wait
        )

    def _record(self, info: ModelInfo) -> None:
        """Note what the reference led to; the default branch under its own name too."""
        for revision in {self.ref.revision, info.revision or self.ref.revision}:
            self.store.record_ref(info.scheme, info.requested_id, info.id, revision, info.commit)

    def _resolve(self) -> ModelInfo:
        with self.stages.stage("resolve", f"Looking up {self.ref}") as done:
            info = self.manager.resolve(self.ref, cancel=self.cancel)
            done(f"found {info.id} at {info.commit[:12]}")
        return info

    def _fall_back(self, exc: UnavailableError, task: str | None) -> StoredModel:
        """The Hub cannot be asked: what is stored serves, and the user is told."""
        found = self.store.find_ref(self.ref, task=task, precision=self.options.precision)
        if found is None or self.options.force or not self._serves(found):
            raise exc
        self.stages.warn(f"{exc.message}; using {found.id} at {found.commit[:12]} as it was stored")
        return found

    def _find(self, info: ModelInfo, task: str) -> StoredModel | None:
        if self.options.force:
            return None
        found = self.store.find(info.scheme, info.id, info.commit, task=task, precision=self.options.precision)
        return found if found is not None and self._serves(found) else None

    def _serves(self, model: StoredModel) -> bool:
        """True if the variant is what was asked for, and all its files are there (their hashes: ``gpux verify``)."""
        manifest = model.manifest
        if self.options.convert and manifest.recipe == SHIPPED:
            return False
        if manifest.proof.status == "inexact" and not self.options.allow_inexact:
            return False
        return self.store.verify(model, hashes=False).ok

    def _make(self, info: ModelInfo, task: str) -> StoredModel:
        route = choose_route(info, task, self.options.precision, OUTPUT_RANK, convert=self.options.convert)
        route = replace(route, own_task=planner.own_task(info) in (None, task))
        converter = self._ready_converter(info, route) if route.kind == "convert" else None
        self._check_space(info, route)
        if converter is None:
            try:
                return self.builder.adopt(self._fetch(info, route.paths), route)
            except (UnsupportedTaskError, SessionError, ProofError) as exc:
                other = route.converted
                if other is None:
                    raise
                self.stages.warn(f"{exc.message}; converting the original weights instead")
                route, converter = other, self._ready_converter(info, other)
        return self.builder.convert(self._fetch(info, route.paths), converter, route)

    def _ready_converter(self, info: ModelInfo, route: Route) -> Converter:
        """The first converter that takes the model; whether it can run is asked before the weights travel."""
        config = self._config(info)
        converter = planner.choose_converters(info.id, config, route.task, route.precision, self.converters)[0]
        converter.check_ready()
        return converter

    def _check_space(self, info: ModelInfo, route: Route) -> None:
        if not self.options.ignore_disk_space:
            check_space(pull_needs(info, route, self.manager, self.store))

    def _config(self, info: ModelInfo) -> Mapping[str, Any]:
        """What tells the architecture: the Hub's own reading of config.json, else the file."""
        if info.model_type or info.file(CONFIG) is None:
            return {"model_type": info.model_type, "architectures": list(info.architectures)}
        snapshot = self.manager.fetch(info, [CONFIG], cancel=self.cancel)
        return snapshot.read_json(CONFIG)

    def _fetch(self, info: ModelInfo, paths: tuple[str, ...]) -> SourceSnapshot:
        size = sum(file.size or 0 for file in info.files if file.path in paths)
        with self.stages.stage("download", f"Downloading {len(paths)} files") as done:
            snapshot = self.manager.fetch(info, paths, progress=self.stages.progress, cancel=self.cancel)
            done(f"fetched {len(paths)} files, {format_bytes(size)}, every hash right")
        if snapshot.report is not None:
            self.transfers.append(snapshot.report)
        return snapshot
