"""Pulling a model: plan, download, convert or check, prove, store.

A variant is visible in the store only when it is complete and proven or checked. An interrupted pull leaves its
downloads in the source cache, where the next pull resumes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gpux.convert.registry import converter_tasks, converters
from gpux.errors import ManagerError, ModelNotFoundError, NotWritableError, UnavailableError, UsageError
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.model.info import ModelInfo
from gpux.model.reference import ModelRef, Reference, whole_model
from gpux.model.tasks import ALIASES, HUB_TASKS, canonical, is_known
from gpux.model.transfer import combined
from gpux.model.units import format_bytes
from gpux.model.variant import StoredModel
from gpux.pipelines.registry import pipelines
from gpux.pull.context import PullContext
from gpux.pull.execute import execute
from gpux.pull.plan import PullPlan, plan_pull
from gpux.runtime.devices import check_name
from gpux.store import Store
from gpux.store.listing import folders_named
from gpux.system.cancel import CancelToken
from gpux.system.events import pull_published
from gpux.system.progress import ProgressCallback, Stages
from gpux.system.progress_argument import callback
from gpux.system.settings import Settings

#: Organizations that publish ONNX of other organizations' models, for transformers.js.
PUBLISHERS = ("onnx-community", "Xenova")
#: The precision of a pull that names none, of a model for which the user chose none.
FIRST = "fp32"


def pull_model(
    ref: Reference,
    *,
    revision: str | None = None,
    task: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    force: bool = False,
    convert: bool = False,
    converter: str | None = None,
    prove: bool = False,
    allow_inexact: bool = False,
    trust_remote_code: bool = False,
    discard_source: bool = False,
    ignore_disk_space: bool = False,
    ignore_memory: bool = False,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> StoredModel:
    """Put a model into the store, ready to run; a stored model costs at most one request.

    The plan that :func:`plan_model` returns for the same arguments is executed.

    Args:
        ref: any form that :meth:`ModelRef.parse` accepts.
        revision: branch, tag, ``refs/pr/N`` or commit; a stored commit costs no request.
        task: the Hub's name of a task or an alias; by default the one that the model's files name.
        precision: ``fp32``, ``fp16``, ``int8`` … or an alias such as ``q4``; ``auto`` chooses one for the device. By
            default the one in the reference, else the one that ``gpux pin --default`` chose for the model, else fp32.
        device: the device for which ``auto`` chooses the precision.
        force: create the variant again although it is stored.
        convert: convert the original weights although the repository ships ONNX.
        converter: convert, and only with the converter of this name; by default each one that supports the model, in
            the order of the coverage matrix.
        prove: prove the repository's own ONNX against the original weights, which are downloaded as well.
        allow_inexact: store a variant that differs from the original beyond tolerance, marked as inexact.
        trust_remote_code: run Python code of the repository during the conversion.
        discard_source: remove the source files from the source cache when the variant is stored.
        ignore_disk_space: begin although the free disk space looks too small.
        ignore_memory: begin although the available memory looks too small.
        manager: where the model comes from; by default the manager that is registered for the reference's scheme.
        settings: by default those of the manager, else of the environment.
        store: by default the one of the settings.
        progress: called with progress events, from any thread but one at a time; True draws them on stderr, None only
            in a notebook.
        cancel: set it to end the pull with ``CancelledError``; the bytes received so far are kept.

    Raises:
        GpuxError: one of its subclasses; ``.hint`` is what to do next.
    """
    with pull_published(ModelRef.parse(ref), settings):
        context = _context(
            ref,
            revision=revision,
            task=task,
            precision=precision,
            device=device,
            force=force,
            convert=convert,
            converter=converter,
            prove=prove,
            allow_inexact=allow_inexact,
            trust_remote_code=trust_remote_code,
            discard_source=discard_source,
            ignore_disk_space=ignore_disk_space,
            ignore_memory=ignore_memory,
            manager=manager,
            settings=settings,
            store=store,
            progress=progress,
            cancel=cancel,
        )
        with context.stages.waits(), _local_names(context.store, ref, revision):
            return _run(context)


def plan_model(
    ref: Reference,
    *,
    revision: str | None = None,
    task: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    force: bool = False,
    convert: bool = False,
    converter: str | None = None,
    prove: bool = False,
    allow_inexact: bool = False,
    trust_remote_code: bool = False,
    discard_source: bool = False,
    ignore_disk_space: bool = False,
    ignore_memory: bool = False,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    cancel: CancelToken | None = None,
) -> PullPlan:
    """The plan that :func:`pull_model` executes for the same arguments, which it describes.

    Besides the request that resolves the reference, at most ``config.json`` and shipped graphs of up to 8 MB, which
    name their external data, are downloaded. A plan that the pull would refuse has the error in ``refusal``.

    Raises:
        GpuxError: an error for which the pull has no plan, such as a model that does not exist.
    """
    context = _context(
        ref,
        revision=revision,
        task=task,
        precision=precision,
        device=device,
        force=force,
        convert=convert,
        converter=converter,
        prove=prove,
        allow_inexact=allow_inexact,
        trust_remote_code=trust_remote_code,
        discard_source=discard_source,
        ignore_disk_space=ignore_disk_space,
        ignore_memory=ignore_memory,
        manager=manager,
        settings=settings,
        store=store,
        progress=False,
        cancel=cancel,
    )
    with _local_names(context.store, ref, revision):
        return plan_pull(context)


def explain_model(
    ref: Reference,
    *,
    revision: str | None = None,
    task: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    force: bool = False,
    convert: bool = False,
    converter: str | None = None,
    prove: bool = False,
    allow_inexact: bool = False,
    trust_remote_code: bool = False,
    discard_source: bool = False,
    ignore_disk_space: bool = False,
    ignore_memory: bool = False,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    cancel: CancelToken | None = None,
) -> PullPlan:
    """As :func:`plan_model`, with the candidates of a stored variant, too, and other repositories with its ONNX.

    It takes one more request for each organization that publishes ONNX of other organizations' models.

    Raises:
        GpuxError: an error for which the pull has no plan, such as a model that does not exist.
    """
    context = _context(
        ref,
        revision=revision,
        task=task,
        precision=precision,
        device=device,
        force=force,
        convert=convert,
        converter=converter,
        prove=prove,
        allow_inexact=allow_inexact,
        trust_remote_code=trust_remote_code,
        discard_source=discard_source,
        ignore_disk_space=ignore_disk_space,
        ignore_memory=ignore_memory,
        manager=manager,
        settings=settings,
        store=store,
        progress=False,
        cancel=cancel,
    )
    with _local_names(context.store, ref, revision):
        plan = plan_pull(context, every_candidate=True)
    if plan.info is None:
        return plan
    return replace(plan, other_repositories=_other_repositories(plan.info, context.manager, context.cancel))


def _context(
    ref: Reference,
    *,
    revision: str | None,
    task: str | None,
    precision: str | None,
    device: str,
    force: bool,
    convert: bool,
    converter: str | None,
    prove: bool,
    allow_inexact: bool,
    trust_remote_code: bool,
    discard_source: bool,
    ignore_disk_space: bool,
    ignore_memory: bool,
    manager: ModelManager | None,
    settings: Settings | None,
    store: Store | None,
    progress: ProgressCallback | bool | None,
    cancel: CancelToken | None,
) -> PullContext:
    if settings is None:
        settings = manager.settings if manager is not None else Settings.from_env()
    parsed = whole_model(ModelRef.parse(ref).at(revision).in_precision(precision))
    kept = store or Store(settings.store)
    return PullContext(
        parsed.bare,
        manager or manager_for(parsed.scheme, settings),
        settings,
        kept,
        converters(settings),
        Stages(callback(progress)),
        cancel or CancelToken(),
        task=_known_task(task, settings) if task else None,
        precision=parsed.precision or kept.default_precision(parsed) or FIRST,
        device=check_name(device),
        force=force,
        convert=convert,
        converter=converter,
        prove=prove,
        allow_inexact=allow_inexact,
        trust_remote_code=trust_remote_code,
        discard_source=discard_source,
        ignore_disk_space=ignore_disk_space,
        ignore_memory=ignore_memory,
    )


@contextmanager
def _local_names(store: Store, ref: Reference, revision: str | None) -> Iterator[None]:
    """Add the stored models of local folders with the name of the reference to the hint where the Hub gave no model.

    A name is never read as that of a folder by itself: it would stand for another model once the Hub has one.
    """
    try:
        yield
    except (ModelNotFoundError, UnavailableError) as error:
        named = ModelRef.parse(ref).at(revision)
        folders = [] if named.revision else [id for id in folders_named(named, store.models()) if Path(id).is_dir()]
        if folders:
            names = " or ".join(f"`{replace(named, scheme='local', id=id)}`" for id in folders)
            hint = f"The stored model of a local folder has this name: write {names} in place of `{named}`."
            error.hint = f"{hint} {error.hint}" if error.hint else hint
        raise


def _known_task(name: str, settings: Settings) -> str:
    """The task in its canonical spelling: one of the Hub, of a registered pipeline, or of a registered converter.

    Raises:
        UsageError: no task has that name.
    """
    found = canonical(name)
    plugins = pipelines()
    if not is_known(found) and found not in plugins and found not in (more := converter_tasks(settings)):
        near = difflib.get_close_matches(found, (*HUB_TASKS, *ALIASES, *plugins, *more), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "The tasks are listed at https://huggingface.co/tasks."
        raise UsageError(f"no task {name!r}", hint=hint)
    return found


def _run(context: PullContext) -> StoredModel:
    plan = plan_pull(context)
    for note in plan.notes:
        context.stages.warn(note)
    model = execute(context, plan, force=context.force)
    if plan.info is not None:
        _record(context, plan.info)
    context.store.touch(model)
    if context.discard_source:
        _discard_source(context, model)
    if context.settings.max_cache is not None:
        context.store.keep_within(context.settings.max_cache, [model], context.stages.warn)
    return replace(model, report=combined(context.transfers))


def _record(context: PullContext, info: ModelInfo) -> None:
    """Record the commit of the reference's revision; of the default branch under its own name, too."""
    for revision in {context.ref.revision, info.revision or context.ref.revision}:
        context.store.record_ref(info.scheme, info.requested_id, info.id, revision, info.commit)


def _discard_source(context: PullContext, model: StoredModel) -> None:
    if context.store.busy(model.manifest.scheme, model.id):
        context.stages.warn("the source files are kept: another pull is using them")
        return
    try:
        freed = context.manager.discard(model.id, model.commit)
    except NotWritableError as exc:  # the model is stored
        context.stages.warn(f"the source files are kept: {exc.message}")
        return
    context.stages.warn(f"discarded the source files, {format_bytes(freed)}" if freed else "no source files to discard")


def _other_repositories(info: ModelInfo, manager: ModelManager, cancel: CancelToken) -> tuple[str, ...]:
    """Ids of repositories with ONNX whose model card names this model as its base; one request for each publisher.

    A card names it in ``base_model``, which the Hub repeats in the tags as ``base_model:ORG/NAME`` and
    ``base_model:quantized:ORG/NAME``.
    """
    if info.scheme != "hf":
        return ()
    name = info.id.rpartition("/")[2]
    ids = [f"{publisher}/{name}" for publisher in PUBLISHERS if f"{publisher}/{name}" != info.id]
    return tuple(id for id in ids if _is_onnx_of(id, info, manager, cancel))


def _is_onnx_of(id: str, info: ModelInfo, manager: ModelManager, cancel: CancelToken) -> bool:
    try:
        other = manager.resolve(ModelRef(info.scheme, id), cancel=cancel)
    except ManagerError:  # it does not exist, or cannot be read: nothing to offer
        return False
    bases = {tag.rpartition(":")[2] for tag in other.tags if tag.startswith("base_model:")}
    return "onnx" in other.formats and bool(bases & {info.id, info.requested_id})
