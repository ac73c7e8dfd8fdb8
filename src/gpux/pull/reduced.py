"""A variant of a lower precision from a stored fp32 one: its graphs reduced, everything else as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from gpux.model.info import ModelInfo
from gpux.model.variant import GraphSpec, Manifest, Proof, StoredModel
from gpux.proof import cases
from gpux.pull.build import Builder, log_name, make_folder
from gpux.pull.route import Route
from gpux.quantize import ReductionOptions
from gpux.quantize.reduction import Reduction, reduce
from gpux.runtime.graphs import Graphs
from gpux.runtime.onnx_runtime import runtime_version
from gpux.store import Staging, place


def reduce_variant(builder: Builder, whole: StoredModel, info: ModelInfo, route: Route) -> StoredModel:
    """Store the variant in the route's precision, made from the fp32 one, if what that costs is within limits.

    Raises:
        ProofError: the loss is beyond them.
        UnsupportedError: the precision cannot be made from these graphs.
        ConversionError: the quantizer failed, or took more memory than there is.
    """
    with builder.store.staging() as staging:
        log = builder.settings.logs / log_name(info, f"{route.task}-{route.precision}")
        make_folder(log.parent)
        scratch = staging.scratch / "answers"
        scratch.mkdir(parents=True)
        reduction = reduce(
            whole,
            staging.path,
            route.precision,
            open_graphs=lambda folder, files: Graphs(folder, files, builder.open_session),
            scratch=scratch,
            log=log,
            options=ReductionOptions(allow_inexact=builder.terms.allow_inexact),
            progress=builder.stages.progress,
            cancel=builder.cancel,
        )
        _place_rest(whole, staging)
        return builder.commit(staging, _manifest(builder, whole, staging.path, reduction, own_task=route.own_task))


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


def _manifest(builder: Builder, whole: StoredModel, folder: Path, reduction: Reduction, *, own_task: bool) -> Manifest:
    with Graphs(folder, reduction.graphs, builder.open_session) as graphs:
        sessions = {name: graphs.session(name) for name in reduction.graphs}
        specs = tuple(
            GraphSpec(name, file, sessions[name].inputs, sessions[name].outputs)
            for name, file in reduction.graphs.items()
        )
        provider = sessions[next(iter(sessions))].execution_provider
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
