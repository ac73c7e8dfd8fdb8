"""A variant of a lower precision from a stored fp32 one: its graphs reduced, everything else as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from gpux.model.info import ModelInfo
from gpux.model.variant import Manifest, Proof, StoredModel
from gpux.proof import cases
from gpux.pull.build import commit, graph_specs, log_file
from gpux.pull.context import PullContext
from gpux.pull.plan import PullPlan
from gpux.quantize import ReductionOptions
from gpux.quantize.reduction import Reduction, reduce
from gpux.runtime.graphs import Graphs
from gpux.runtime.onnx_runtime import runtime_version
from gpux.store import Staging, place


def reduce_variant(context: PullContext, plan: PullPlan, whole: StoredModel, info: ModelInfo) -> StoredModel:
    """Store the variant in the plan's precision, made from the fp32 one, if what that costs is within limits.

    Raises:
        ProofError: the loss is beyond them.
        UnsupportedError: the precision cannot be made from these graphs.
        ConversionError: the quantizer failed, or took more memory than there is.
    """
    with context.store.staging() as staging:
        log = log_file(context, info, f"{plan.task}-{plan.precision}")
        scratch = staging.scratch / "answers"
        scratch.mkdir(parents=True)
        reduction = reduce(
            whole,
            staging.path,
            plan.precision,
            open_graphs=lambda folder, files: Graphs(folder, files, context.open_session),
            scratch=scratch,
            log=log,
            options=ReductionOptions(allow_inexact=context.allow_inexact),
            progress=context.stages.progress,
            cancel=context.cancel,
        )
        _place_rest(whole, staging)
        manifest = _manifest(context, whole, staging.path, reduction, own_task=plan.own_task)
        return commit(context, staging, manifest)


def _place_rest(whole: StoredModel, staging: Staging) -> None:
    """Tokenizer, configs and what else a run needs: all but the graphs, their data and the proof."""
    left = {name for graph in whole.manifest.graphs for name in _files_of(whole.path, graph.file)}
    for file in whole.manifest.files:
        if file.path not in left and not file.path.startswith(f"{cases.FOLDER}/"):
            place(whole.path / file.path, staging.path / file.path)


def _files_of(folder: Path, graph: str) -> set[str]:
    """A graph's file and those that hold its tensors (ONNX: ``external_data`` with a ``location`` beside the graph)."""
    import onnx

    beside = PurePosixPath(graph).parent
    tensors = onnx.load(folder / graph, load_external_data=False).graph.initializer
    places = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return {graph, *(str(beside / place) for place in places)}


def _manifest(
    context: PullContext, whole: StoredModel, folder: Path, reduction: Reduction, *, own_task: bool
) -> Manifest:
    with Graphs(folder, reduction.graphs, context.open_session) as graphs:
        specs = graph_specs(graphs, reduction.graphs)
        provider = graphs.session(next(iter(reduction.graphs))).execution_provider
    source = whole.manifest
    found = Proof(
        "inexact" if reduction.violations else source.proof.status,
        reduction.cases,
        source.proof.reference,
        runtime_version(),
        provider,
        source.proof.limit,
        reduction.loss,
    )
    return replace(
        source,
        precision=reduction.precision,
        recipe=source.recipe.quantized(reduction.recipe),
        graphs=specs,
        files=(),
        proof=found,
        versions={**source.versions, **reduction.versions},
        own_task=own_task,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
