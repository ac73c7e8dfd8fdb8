"""A variant from a snapshot: the repository's own ONNX adopted, or its weights converted and proven.

Both ways end in one atomic commit to the store; whatever fails before it leaves nothing there.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from gpux.convert.base import ConversionReport, ConversionRequest, Converter
from gpux.errors import NotWritableError, ProofError
from gpux.model.info import ModelInfo, SourceSnapshot
from gpux.model.variant import SHIPPED, Driving, GraphSpec, Manifest, Proof, Recipe, StoredModel, Threshold
from gpux.proof.comparison import keep_cases, prove
from gpux.pull.route import Route
from gpux.pull.shipped import check_finite, check_task, driving_of, graph_name
from gpux.runtime.graphs import Graphs
from gpux.runtime.limits import write_limits
from gpux.runtime.onnx_runtime import runtime_version
from gpux.runtime.session import Session
from gpux.store import Staging, Store, place
from gpux.system.cancel import CancelToken
from gpux.system.disk import format_bytes
from gpux.system.progress import Stages
from gpux.system.settings import Settings

#: Opens a graph for the proof; a test may hand in its own.
SessionFactory = Callable[[Path], Session]

_CONVERTING = threading.Lock()


@dataclass(frozen=True)
class Terms:
    """What the user allows."""

    replace: bool = False  #: put the variant in the place of an equal one
    allow_inexact: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Builder:
    """The parts that building a variant needs."""

    store: Store
    settings: Settings
    stages: Stages
    cancel: CancelToken
    terms: Terms = Terms()
    open_session: SessionFactory = lambda path: Session(path, device="cpu")

    def adopt(self, snapshot: SourceSnapshot, route: Route, prover: Converter | None = None) -> StoredModel:
        """Store the repository's own ONNX after it loaded, fits the task and answers with finite numbers.

        Args:
            snapshot: its files; with ``prover`` the original weights too.
            route: which graphs.
            prover: asks the original, so that the graphs are proven and not only looked at.

        Raises:
            UnsupportedTaskError: its outputs are not those of the task.
            SessionError: onnxruntime cannot load or run it.
            ProofError: it answers otherwise than the original.
        """
        with self.store.staging() as staging:
            files = _place_graphs(snapshot, route, staging)
            _place_run_files(snapshot, route, staging)
            specs, found = self._look_at(snapshot, route, staging, files)
            paths = {name: staging.path / file for name, file in files.items()}
            driving, versions = driving_of(paths, specs, snapshot.read_json("config.json")), dict[str, str]()
            if prover is not None:
                specs, driving, found, versions = self._proven(snapshot, prover, route, staging, files)
            manifest = _manifest(snapshot.info, route, SHIPPED, specs, driving, found, versions)
            return self.commit(staging, manifest)

    def _look_at(
        self, snapshot: SourceSnapshot, route: Route, staging: Staging, files: Mapping[str, str]
    ) -> tuple[tuple[GraphSpec, ...], Proof]:
        with (
            self.stages.stage("prove", "Checking the repository's own ONNX") as done,
            Graphs(staging.path, files, self.open_session) as graphs,
        ):
            specs = _graph_specs(graphs, files)
            check_task(specs, route.task, snapshot.info)
            answers = " and answers with finite numbers" if check_finite(graphs, snapshot.info) else ""
            done(f"{', '.join(graph.graph for graph in route.onnx)} loads, fits {route.task}{answers}")
            provider = graphs.session(graphs.names[0]).execution_provider
        return specs, Proof("shipped", onnxruntime=runtime_version(), execution_provider=provider)

    def convert(self, snapshot: SourceSnapshot, converter: Converter, route: Route) -> StoredModel:
        """Convert the weights, prove the graph against the original, and store it.

        Raises:
            ConversionError: or one of its subclasses, with the exporter's log.
            ProofError: the graph differs from the original beyond tolerance; nothing is stored.
        """
        with self.store.staging() as staging:
            specs, driving, proven, versions = self._proven(snapshot, converter, route, staging, {})
            _place_run_files(snapshot, route, staging)
            manifest = _manifest(snapshot.info, route, converter.name, specs, driving, proven, versions)
            return self.commit(staging, manifest)

    def _proven(
        self,
        snapshot: SourceSnapshot,
        converter: Converter,
        route: Route,
        staging: Staging,
        graphs: Mapping[str, str],
    ) -> tuple[tuple[GraphSpec, ...], Driving, Proof, dict[str, str]]:
        """Have graphs written, or take those that are there, and compare them with the original."""
        reference = staging.scratch / "reference"
        reference.mkdir()
        report = self._export(snapshot, converter, route, staging.path, reference, graphs)
        with self.stages.stage("prove", "Comparing the ONNX with the original") as done:
            specs, proven = self._prove(staging.path, reference, report, route)
            done(_verdict(proven, snapshot.info, allow_inexact=self.terms.allow_inexact))
        keep_cases(reference, proven, staging.path)
        driving = _limited(report.driving, proven.limit)
        for name, limits in driving.limits.items():
            write_limits(staging.path / report.graphs[name], limits)
        return specs, driving, proven, dict(report.versions)

    def _export(
        self,
        snapshot: SourceSnapshot,
        converter: Converter,
        route: Route,
        output: Path,
        reference: Path,
        graphs: Mapping[str, str],
    ) -> ConversionReport:
        info = snapshot.info
        request = ConversionRequest(
            source=snapshot.path,
            output=output,
            reference=reference,
            log=self.settings.logs / log_name(info, route.task),
            model_id=info.id,
            task=route.task,
            precision=route.precision,
            trust_remote_code=self.terms.trust_remote_code,
            graphs=graphs,
        )
        make_folder(request.log.parent)
        what, said = ("Asking the original", "asked by") if graphs else ("Converting", "converted by")
        with _turn(self.cancel), self.stages.stage("convert", f"{what} with {converter.name}") as done:
            report = converter.convert(request, progress=self.stages.progress, cancel=self.cancel)
            done(f"{said} {converter.name}")
        return report

    def _prove(
        self, output: Path, reference: Path, report: ConversionReport, route: Route
    ) -> tuple[tuple[GraphSpec, ...], Proof]:
        twin = reference / "twin"
        with Graphs(output, report.graphs, self.open_session) as graphs, Graphs(twin, report.twin) as small:
            found = prove(
                reference,
                graphs.run,
                route.precision,
                thresholds=report.thresholds,
                twin=small.run if report.twin else None,
                onnxruntime=runtime_version(),
                execution_provider=graphs.session(next(iter(report.graphs))).execution_provider,
                cancel=self.cancel,
            )
            return _graph_specs(graphs, report.graphs), found

    def commit(self, staging: Staging, manifest: Manifest) -> StoredModel:
        """Make what is staged a variant of the store."""
        with self.stages.stage("store", "Storing") as done:
            model = staging.commit(
                manifest, replace=self.terms.replace, progress=self.stages.progress, cancel=self.cancel
            )
            done(f"stored, {format_bytes(model.size)}")
        return model


@contextmanager
def _turn(cancel: CancelToken) -> Iterator[None]:
    """Conversions of one process take turns: each may need several times its model in memory."""
    while not _CONVERTING.acquire(timeout=0.1):
        cancel.check()
    try:
        yield
    finally:
        _CONVERTING.release()


def _verdict(proven: Proof, info: ModelInfo, *, allow_inexact: bool) -> str:
    """What the proof found, in a few words.

    Raises:
        ProofError: it failed, and failing is not allowed.
    """
    failed = [case for case in proven.cases if not case.passed]
    if not failed:
        limit = f", up to {proven.limit.length} tokens ({proven.limit.name})" if proven.limit else ""
        return f"proven: {len(proven.cases)} cases, largest difference {proven.max_abs_diff:.1e}{limit}"
    worst = max(failed, key=lambda case: case.max_abs_diff / case.tolerance)
    message = f"differs from the original by {worst.max_abs_diff:.1e} in case {worst.name}"
    if allow_inexact:
        return f"stored as inexact: {message}, allowed {worst.tolerance:.1e}"
    raise ProofError(
        f"the ONNX of {info.id} {message}, allowed {worst.tolerance:.1e}; nothing was stored",
        hint="`--allow-inexact` stores it all the same, marked as inexact.",
        model=info.id,
        max_abs_diff=worst.max_abs_diff,
        tolerance=worst.tolerance,
    )


def _place_run_files(snapshot: SourceSnapshot, route: Route, staging: Staging) -> None:
    """Copy them in; a file that the converter made in their place (tokenizer.json) stays."""
    for path in route.run_files:
        target = staging.path / path
        if not target.exists():
            place(snapshot.path / path, target)


def _place_graphs(snapshot: SourceSnapshot, route: Route, staging: Staging) -> dict[str, str]:
    """Copy the shipped graphs in, out of their folder where it is one; graph name -> file."""
    flat = len({graph.folder for graph in route.onnx}) == 1
    for path in route.weights:
        place(snapshot.path / path, staging.path / (PurePosixPath(path).name if flat else path))
    return {graph_name(graph.part): PurePosixPath(graph.graph).name if flat else graph.graph for graph in route.onnx}


def _graph_specs(graphs: Graphs, files: Mapping[str, str]) -> tuple[GraphSpec, ...]:
    sessions = {name: graphs.session(name) for name in files}
    return tuple(GraphSpec(name, file, sessions[name].inputs, sessions[name].outputs) for name, file in files.items())


def _limited(driving: Driving, limit: Threshold | None) -> Driving:
    """How to drive the graphs when they are right only up to a threshold."""
    if limit is None:
        return driving
    limits = {graph: dict(inputs) for graph, inputs in driving.limits.items()}
    for graph, inputs in limit.axes.items():
        for name, axis in inputs.items():
            axes = dict(limits.setdefault(graph, {}).get(name, {}))
            axes[str(axis)] = min(limit.length, axes.get(str(axis), limit.length))
            limits[graph][name] = axes
    return replace(driving, limits=limits, max_length=min(limit.length, driving.max_length or limit.length))


def _manifest(
    info: ModelInfo,
    route: Route,
    made_by: str,
    graphs: tuple[GraphSpec, ...],
    driving: Driving,
    found: Proof,
    versions: dict[str, str],
) -> Manifest:
    return Manifest(
        scheme=info.scheme,
        id=info.id,
        commit=info.commit,
        task=route.task,
        precision=route.precision,
        recipe=Recipe(made_by),
        graphs=graphs,
        files=(),
        driving=driving,
        proof=found,
        versions=versions,
        own_task=route.own_task,
        model_type=info.model_type,
        licence=info.licence,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def log_name(info: ModelInfo, task: str) -> str:
    """The name of the log of one conversion."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "--", info.id)[-80:]
    return f"{safe}-{info.commit[:8]}-{task}.log"


def make_folder(folder: Path) -> None:
    """Make a folder with its parents.

    Raises:
        NotWritableError: it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise NotWritableError(
            f"{folder} cannot be written: {exc.strerror}", hint="Let GPUX_HOME name another folder."
        ) from exc
