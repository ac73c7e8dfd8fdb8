"""Executing a plan: the stored variant, or the first candidate that succeeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpux.convert.base import Converter
from gpux.errors import (
    ConversionError,
    CorruptFileError,
    EntryNotFoundError,
    GpuxError,
    ProofError,
    SessionError,
    ToolchainMissingError,
    UnsafePathError,
    UnsupportedError,
)
from gpux.model.info import ModelInfo, SourceSnapshot
from gpux.model.units import format_bytes
from gpux.model.variant import StoredModel
from gpux.pull.build import adopt, convert
from gpux.pull.candidates import Candidate, graph_files
from gpux.pull.context import PullContext
from gpux.pull.graph_data import with_named_data
from gpux.pull.plan import PullPlan
from gpux.quantize.variants import quantize_variant
from gpux.system.words import counted

#: Errors after which the next candidate is tried.
_FAILURES = (UnsupportedError, ConversionError, SessionError, EntryNotFoundError, UnsafePathError)


def execute(context: PullContext, plan: PullPlan, *, force: bool = False) -> StoredModel:
    """Return the variant of the plan, created if it is not stored; two processes never create the same one at once.

    Raises:
        GpuxError: the plan's refusal, or the failure of its candidates.
    """
    if plan.stored is not None:
        return plan.stored
    assert plan.info is not None  # only a stored plan has none
    with context.lock(plan.info, plan.task, plan.precision):  # another process may have stored it in the meantime
        found = None if force else context.find_stored(plan.info, plan.task, plan.precision)
        return found or _create(context, plan, plan.info)


def _create(context: PullContext, plan: PullPlan, info: ModelInfo) -> StoredModel:
    for candidate in plan.candidates:
        if candidate.kind == "shipped" and candidate.error not in (None, plan.refusal):
            after = f"; {plan.ready[0].name} is next" if plan.ready and plan.refusal is None else ""
            context.stages.warn(f"{candidate.reason}{after}")
    if plan.refusal is not None:
        raise plan.refusal
    failures: dict[str, GpuxError] = {}
    for candidate, following in zip(plan.ready, (*plan.ready[1:], None), strict=True):
        try:
            return _create_by(context, plan, candidate, info)
        except ToolchainMissingError:
            raise
        except _FAILURES as exc:
            failures[candidate.name] = exc
            if following is not None:
                context.stages.warn(f"{exc.message}; {following.name} is next")
    raise _all_failed(plan, failures)


def _create_by(context: PullContext, plan: PullPlan, candidate: Candidate, info: ModelInfo) -> StoredModel:
    if candidate.kind == "quantize":
        assert plan.base is not None  # the plan of every candidate that quantizes has one
        base = execute(context, plan.base)
        return quantize_variant(
            replace(base, manifest=replace(base.manifest, own_task=plan.own_task)),
            plan.precision,
            store=context.store,
            settings=context.settings,
            stages=context.stages,
            cancel=context.cancel,
            allow_inexact=context.allow_inexact,
            replace_stored=context.force,
            open_session=context.open_session,
        )
    snapshot = _fetch(context, info, candidate.paths)
    if candidate.kind == "shipped":
        candidate, snapshot = _whole(context, candidate, snapshot)
        return adopt(context, plan, candidate, snapshot, _prover(context, candidate))
    try:
        return convert(context, plan, candidate, snapshot, context.converters[candidate.name])
    except CorruptFileError as exc:
        raise _damaged(exc, snapshot) from exc


def _damaged(exc: CorruptFileError, snapshot: SourceSnapshot) -> CorruptFileError:
    """The error with a hint that helps: the hashes of the files are right, so that another download brings the same."""
    info = snapshot.info
    if "--force" not in (exc.hint or ""):
        return exc
    hint = (
        f"Copy the files of the model into {snapshot.path} again, and run the same command again."
        if info.scheme == "local"
        else "Its files are as the source has them: report this to the owner of the model."
    )
    return CorruptFileError(exc.message, hint=hint, **exc.details)


def _whole(context: PullContext, candidate: Candidate, snapshot: SourceSnapshot) -> tuple[Candidate, SourceSnapshot]:
    """The graphs with all files that they name; those of a graph that was too large for the plan are fetched here."""
    graphs = tuple(with_named_data(graph, snapshot.info, snapshot.path) for graph in candidate.graphs)
    found = replace(candidate, graphs=graphs, weights=graph_files(graphs))
    if set(found.weights) <= set(candidate.weights):
        return found, snapshot
    return found, _fetch(context, snapshot.info, found.paths)


def _prover(context: PullContext, candidate: Candidate) -> Converter | None:
    return context.converters[candidate.prover] if candidate.prover is not None else None


def _fetch(context: PullContext, info: ModelInfo, paths: tuple[str, ...]) -> SourceSnapshot:
    size = sum(file.size or 0 for file in info.files if file.path in paths)
    with context.stages.stage("download", f"Downloading {counted(len(paths), 'file')}") as done:
        snapshot = context.manager.fetch(info, paths, progress=context.stages.progress, cancel=context.cancel)
        done(f"fetched {counted(len(paths), 'file')}, {format_bytes(size)}, every hash right")
    if snapshot.report is not None:
        context.transfers.append(snapshot.report)
    return snapshot


def _all_failed(plan: PullPlan, failures: Mapping[str, GpuxError]) -> GpuxError:
    """The error after every candidate failed: the only one, or one that lists them all."""
    last = list(failures.values())[-1]
    hint = next((f"{hint} {name} may convert the model too." for name, hint in plan.missing.items()), None)
    if len(failures) == 1:
        if hint is None:
            return last
        return type(last)(last.message, hint=f"{last.hint or ''} {hint}".strip(), **last.details)
    kinds = {type(exc) for exc in failures.values()}
    tried = "; ".join(f"{name}: {exc.message}" for name, exc in failures.items())
    message = f"no ONNX of {plan.id} for {plan.task} in {plan.precision}: {tried}"
    shared = kinds.pop() if len(kinds) == 1 else ProofError if kinds <= {ProofError, SessionError} else ConversionError
    attempts = {name: exc.to_dict() for name, exc in failures.items()}
    return shared(message, hint=hint or last.hint, log=last.details.get("log"), attempts=attempts)
