"""Creating one variant from a snapshot: shipped ONNX is checked and copied, weights are converted and proven.

Both end in one atomic commit to the store. An error before the commit leaves nothing there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from gpux.convert.base import ConversionReport, ConversionRequest, Converter
from gpux.errors import ProofError, SessionError
from gpux.inspect.modules import MODULES
from gpux.model.info import ModelInfo, SourceSnapshot
from gpux.model.units import format_bytes
from gpux.model.variant import SHIPPED, CallSpec, GraphSpec, Manifest, Proof, Recipe, StoredModel, Threshold
from gpux.proof.cases import SMALL_FOLDER
from gpux.proof.comparison import keep_cases, prove
from gpux.pull.answers import check_opens, has_pipeline, prove_staged
from gpux.pull.candidates import Candidate
from gpux.pull.colbert import place_head
from gpux.pull.context import PullContext
from gpux.pull.json_files import check_json_files
from gpux.pull.layout import flattened, in_order, modules_at_top, placed
from gpux.pull.plan import PullPlan
from gpux.pull.shipped import call_spec_of, check_finite, check_task, graph_name
from gpux.runtime.graphs import Graphs
from gpux.runtime.limits import write_limits
from gpux.runtime.onnx_runtime import runtime_version
from gpux.store import Staging, place
from gpux.system.cancel import CancelToken
from gpux.system.process import log_file
from gpux.system.words import counted

_CONVERTING = threading.Lock()


def adopt(
    context: PullContext,
    plan: PullPlan,
    candidate: Candidate,
    snapshot: SourceSnapshot,
    prover: Converter | None = None,
) -> StoredModel:
    """Store the repository's own ONNX, after it was loaded, compared with the task and run on a small input.

    Args:
        context: of the pull.
        plan: of the variant.
        candidate: the graphs.
        snapshot: the files of the candidate; with ``prover`` the original weights too.
        prover: computes the original's answers, so that the graphs are proven and not only checked.

    Raises:
        CorruptFileError: a JSON file that the variant needs is broken.
        UnsupportedTaskError: the outputs are not those of the task.
        SessionError: onnxruntime cannot load or run a graph.
        ProofError: the answers are not finite, or differ from the original's.
    """
    _check_json(plan, candidate, snapshot, tokenizer=prover is not None)
    with context.store.staging() as staging:
        files = _place_graphs(snapshot, candidate, staging)
        _place_run_files(snapshot, candidate, staging)
        manifest = _checked(context, plan, candidate, snapshot, staging, files, opens=prover is None)
        if prover is not None:
            manifest = _proven(context, plan, candidate, snapshot, prover, staging, files)
        return _commit(context, staging, manifest)


def convert(
    context: PullContext, plan: PullPlan, candidate: Candidate, snapshot: SourceSnapshot, converter: Converter
) -> StoredModel:
    """Convert the weights, prove the graphs against the original, and store them.

    Raises:
        CorruptFileError: a JSON file that the variant needs is broken.
        ConversionError: or one of its subclasses, with the exporter's log.
        ProofError: the graphs differ from the original beyond tolerance; nothing is stored.
    """
    _check_json(plan, candidate, snapshot, tokenizer=True)
    with context.store.staging() as staging:
        return _commit(context, staging, _proven(context, plan, candidate, snapshot, converter, staging, {}))


def _check_json(plan: PullPlan, candidate: Candidate, snapshot: SourceSnapshot, *, tokenizer: bool) -> None:
    reads_text = has_pipeline(plan.task)
    check_json_files(snapshot, candidate.run_files, reads_text=reads_text, tokenizer=tokenizer and reads_text)


def _checked(
    context: PullContext,
    plan: PullPlan,
    candidate: Candidate,
    snapshot: SourceSnapshot,
    staging: Staging,
    files: Mapping[str, str],
    *,
    opens: bool,
) -> Manifest:
    """Load and run shipped graphs, and with ``opens`` the pipeline of the task."""
    info = snapshot.info
    config = snapshot.read_json(f"{candidate.folder}/config.json" if candidate.folder else "config.json")
    with (
        _shipped_errors(staging.path, info),
        context.stages.stage("prove", "Checking the repository's own ONNX") as done,
        Graphs(staging.path, files, context.open_session) as graphs,
    ):
        specs = graphs.specs()
        check_task(specs, plan.task, info, config)
        answers = " and answers with finite numbers" if check_finite(graphs, info, config) else ""
        provider = graphs.session(graphs.names[0]).execution_provider
        found = Proof("shipped", onnxruntime=runtime_version(), execution_provider=provider)
        paths = {name: staging.path / file for name, file in files.items()}
        call_spec = call_spec_of(paths, specs, config)
        manifest = _manifest(plan, info, SHIPPED, specs, call_spec, found, {})
        if opens and not _is_one_file(info):
            check_opens(staging.path, manifest, graphs)
        done(f"{', '.join(graph.graph for graph in candidate.graphs)} loads, fits {plan.task}{answers}")
    return manifest


def _is_one_file(info: ModelInfo) -> bool:
    """Whether the reference names one ONNX file of this machine, which has no tokenizer beside it, for a session."""
    return info.scheme == "local" and info.id.lower().endswith(".onnx")


@contextmanager
def _shipped_errors(folder: Path, info: ModelInfo) -> Iterator[None]:
    """Errors of onnxruntime without the staging folder, and without the advice to verify: nothing is stored yet."""
    try:
        yield
    except SessionError as exc:
        message = f"the ONNX that {info.id} ships cannot be used: {exc.message.replace(f'{folder}{os.sep}', '')}"
        hint = "Its files are as the source has them: report this to the owner of the model."
        raise type(exc)(message, hint=hint, **exc.details) from exc


def _proven(
    context: PullContext,
    plan: PullPlan,
    candidate: Candidate,
    snapshot: SourceSnapshot,
    converter: Converter,
    staging: Staging,
    graphs: Mapping[str, str],
) -> Manifest:
    """Export graphs, unless ``graphs`` (name -> file) are there, and compare them and their answers with the original.

    The pipeline of the answers' proof runs the sessions of the graphs' proof, so that the weights are loaded once.
    """
    reference = staging.scratch / "reference"
    reference.mkdir()
    source = flattened(snapshot, candidate.folder, staging.scratch / "source")
    report = _export(context, plan, snapshot, source, converter, staging.path, reference, graphs)
    _place_run_files(snapshot, candidate, staging)
    place_head(source, staging.path)
    recipe = SHIPPED if graphs else converter.name
    with Graphs(staging.path, report.graphs, context.open_session) as opened:
        with context.stages.stage("prove", "Comparing the ONNX with the original") as done:
            proven = _prove(context, plan, opened, reference, report)
            done(_verdict(proven, snapshot.info, allow_inexact=context.allow_inexact))
        keep_cases(reference, proven, staging.path)
        call_spec = _limited(report.call_spec, proven.limit)
        versions = dict(report.versions)
        manifest = _manifest(plan, snapshot.info, recipe, opened.specs(), call_spec, proven, versions)
        manifest = _with_answers(context, staging, manifest, opened, reference)
    for name, limits in call_spec.limits.items():
        write_limits(staging.path / report.graphs[name], limits)
    return manifest


def _with_answers(
    context: PullContext, staging: Staging, manifest: Manifest, graphs: Graphs, reference: Path
) -> Manifest:
    with context.stages.stage("prove", "Comparing the answers with the reference library") as done:
        allow = context.allow_inexact
        found = prove_staged(staging.path, manifest, graphs, reference, allow_inexact=allow, cancel=context.cancel)
        done(_answers_verdict(found))
    return replace(manifest, proof=found)


def _export(
    context: PullContext,
    plan: PullPlan,
    snapshot: SourceSnapshot,
    source: Path,
    converter: Converter,
    output: Path,
    reference: Path,
    graphs: Mapping[str, str],
) -> ConversionReport:
    request = ConversionRequest(
        source=source,
        output=output,
        reference=reference,
        log=log_file(context.settings.logs, snapshot.info.id, snapshot.info.commit, plan.task),
        model_id=snapshot.info.id,
        task=plan.task,
        precision=plan.precision,
        trust_remote_code=context.trust_remote_code,
        graphs=graphs,
    )
    action, result = ("Running the original", "original run by") if graphs else ("Converting", "converted by")
    with _turn(context.cancel), context.stages.stage("convert", f"{action} with {converter.name}") as done:
        report = converter.convert(request, progress=context.stages.progress, cancel=context.cancel)
        done(f"{result} {converter.name}")
    return report


def _prove(context: PullContext, plan: PullPlan, graphs: Graphs, reference: Path, report: ConversionReport) -> Proof:
    with Graphs(reference / SMALL_FOLDER, report.small_graphs) as small:
        return prove(
            reference,
            graphs.run,
            plan.precision,
            thresholds=report.thresholds,
            small=small.run if report.small_graphs else None,
            onnxruntime=runtime_version(),
            execution_provider=graphs.session(next(iter(report.graphs))).execution_provider,
            cancel=context.cancel,
        )


def _commit(context: PullContext, staging: Staging, manifest: Manifest) -> StoredModel:
    """Make the staged files a variant of the store; with ``force`` in the place of an equal one."""
    context.manager.check_unchanged(manifest.id, manifest.commit)
    with context.stages.stage("store", "Storing") as done:
        model = staging.commit(manifest, replace=context.force, progress=context.stages.progress, cancel=context.cancel)
        done(f"stored, {format_bytes(model.size)}")
    return model


@contextmanager
def _turn(cancel: CancelToken) -> Iterator[None]:
    """One conversion at a time in a process: each may need several times its model in memory."""
    while not _CONVERTING.acquire(timeout=0.1):
        cancel.check()
    try:
        yield
    finally:
        _CONVERTING.release()


def _verdict(proven: Proof, info: ModelInfo, *, allow_inexact: bool) -> str:
    """The result of the proof in a few words.

    Raises:
        ProofError: a case failed, and ``allow_inexact`` is false.
    """
    failed = [case for case in proven.cases if not case.passed]
    if not failed:
        limit = f", up to {proven.limit.length} tokens ({proven.limit.name})" if proven.limit else ""
        return f"proven: {counted(len(proven.cases), 'case')}, largest difference {proven.max_abs_diff:.1e}{limit}"
    worst = max(failed, key=lambda case: case.max_abs_diff / case.tolerance)
    message = f"differs from the original by {worst.max_abs_diff:.1e} in case {worst.name}"
    if allow_inexact:
        return f"stored as inexact: {message}, tolerance {worst.tolerance:.1e}"
    raise ProofError(
        f"the ONNX of {info.id} {message}, tolerance {worst.tolerance:.1e}; nothing was stored",
        hint="`--allow-inexact` stores the variant and marks it as inexact.",
        model=info.id,
        max_abs_diff=worst.max_abs_diff,
        tolerance=worst.tolerance,
    )


def _answers_verdict(proven: Proof) -> str:
    """The result of the proof of answers in a few words."""
    found = proven.answers
    if found is None or found.status == "not compared":
        return f"answers not compared: {found.reason if found else 'no reference'}"
    if found.status == "failed":
        return f"stored as inexact: {found.reason}"
    largest = "" if found.max_abs_diff is None else f", largest difference {found.max_abs_diff:.1e}"
    return f"answers proven: {found.cases} cases{largest}" + (f"; {found.reason}" if found.reason else "")


def _place_run_files(snapshot: SourceSnapshot, candidate: Candidate, staging: Staging) -> None:
    """Copy configurations and tokenizer into the variant; a file that the converter wrote (tokenizer.json) stays."""
    for path in in_order(candidate.run_files, candidate.folder):
        target = staging.path / placed(path, candidate.folder)
        if target.exists():
            continue
        if path == MODULES and candidate.folder:
            target.write_text(modules_at_top(snapshot.path / path), encoding="utf-8")
        else:
            place(snapshot.path / path, target)


def _place_graphs(snapshot: SourceSnapshot, candidate: Candidate, staging: Staging) -> dict[str, str]:
    """Copy the shipped graphs into the variant, without their folder where they share one; graph name -> file."""
    folders = {graph.folder for graph in candidate.graphs}
    top = next(iter(folders)) if len(folders) == 1 else ""  # external data in a folder below stays there
    placed = {path: str(PurePosixPath(path).relative_to(top)) for path in candidate.weights}
    for path, target in placed.items():
        place(snapshot.path / path, staging.path / target)
    return {graph_name(graph.part): placed[graph.graph] for graph in candidate.graphs}


def _limited(call_spec: CallSpec, limit: Threshold | None) -> CallSpec:
    """How the graphs are called where they are right only up to a threshold."""
    if limit is None:
        return call_spec
    limits = {graph: dict(inputs) for graph, inputs in call_spec.limits.items()}
    for graph, inputs in limit.axes.items():
        for name, axis in inputs.items():
            axes = dict(limits.setdefault(graph, {}).get(name, {}))
            axes[str(axis)] = min(limit.length, axes.get(str(axis), limit.length))
            limits[graph][name] = axes
    return replace(call_spec, limits=limits, max_length=min(limit.length, call_spec.max_length or limit.length))


def _manifest(
    plan: PullPlan,
    info: ModelInfo,
    recipe: str,
    graphs: tuple[GraphSpec, ...],
    call_spec: CallSpec,
    found: Proof,
    versions: dict[str, str],
) -> Manifest:
    return Manifest(
        scheme=info.scheme,
        id=info.id,
        commit=info.commit,
        task=plan.task,
        precision=plan.precision,
        recipe=Recipe(recipe),
        graphs=graphs,
        files=(),
        call_spec=call_spec,
        proof=found,
        versions=versions,
        own_task=plan.own_task,
        model_type=info.model_type,
        license=info.license,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
