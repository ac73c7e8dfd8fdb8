"""The plan of a pull: its candidates in order, files, disk and memory, missing toolchains, and why it is refused.

:func:`plan_pull` makes it once per pull. ``--dry-run`` and ``--explain`` print it, :mod:`gpux.pull.execute` executes
it. A plan downloads nothing but ``config.json``, shipped graphs of a few megabytes, whose external data they name, or
the header of a GGUF file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gpux.convert import planner
from gpux.convert.base import Converter
from gpux.errors import GpuxError, ModelNotFoundError, ToolchainMissingError, UnavailableError
from gpux.inspect import formats
from gpux.inspect.architecture import summarize
from gpux.inspect.headers.gguf import read_gguf
from gpux.inspect.headers.gguf_summary import as_config
from gpux.inspect.modules import MODULES
from gpux.model.html import facts, table
from gpux.model.info import ModelInfo
from gpux.model.precisions import AUTO, QUANTIZED
from gpux.model.units import format_bytes
from gpux.model.values import Value
from gpux.model.variant import SHIPPED, StoredModel
from gpux.pull.absent_weights import GGUF, ReadJson, check_weights, no_weights, source_files
from gpux.pull.candidates import (
    Candidate,
    ReadConfig,
    direct_candidates,
    fp32_bytes,
    graph_files,
    variant_bytes,
)
from gpux.pull.context import PullContext
from gpux.pull.graph_data import GraphReader, undecided
from gpux.pull.layout import described, read_layout
from gpux.pull.needs import (
    MemoryNeed,
    PlannedFile,
    SpaceNeed,
    disk_refusal,
    download_bytes,
    download_need,
    memory_refusal,
    planned_files,
    space_needs,
)
from gpux.quantize.choose import automatic_precision
from gpux.system.machine import available_memory

QUANTIZER = "quantizer"
CONFIG = "config.json"
#: What a candidate of each kind writes to the store.
_WRITTEN = {"shipped": "the stored copy", "convert": "the conversion", "quantize": "the quantization"}
#: Kinds of models that are exported as one graph.
_OF_ONE_GRAPH = ("encoder", "decoder", "vision")


@dataclass(frozen=True)
class PullPlan(Value):
    """What a pull does, in the order in which it is done, or why it is refused."""

    scheme: str
    id: str
    commit: str
    task: str
    precision: str  #: canonical; ``auto`` is resolved
    candidates: tuple[Candidate, ...] = ()
    files: tuple[PlannedFile, ...] = ()  #: that the first candidate reads
    left_out: tuple[PlannedFile, ...] = ()
    space: tuple[SpaceNeed, ...] = ()
    memory: MemoryNeed | None = None
    notes: tuple[str, ...] = ()  #: what a pull reports as warnings: the choice of ``auto``, a Hub that does not answer
    other_repositories: tuple[str, ...] = ()  #: with ONNX of this model; only :func:`gpux.explain_model` looks for them
    own_task: bool = True  #: the task is the one that the model's files name
    stored: StoredModel | None = field(default=None, repr=False)  #: the variant that the pull returns as it is
    #: what the pull raises before it downloads weights
    refusal: GpuxError | None = field(default=None, repr=False, compare=False)
    info: ModelInfo | None = field(default=None, repr=False)  #: None where no request was made
    base: PullPlan | None = field(default=None, repr=False)  #: of the fp32 variant that the quantizer reads

    @property
    def usable(self) -> tuple[Candidate, ...]:
        """The candidates that can lead to the variant, as far as the files show."""
        return tuple(candidate for candidate in self.candidates if candidate.usable)

    @property
    def ready(self) -> tuple[Candidate, ...]:
        """The candidates that the pull tries, in order: usable, and with their toolchain."""
        return tuple(candidate for candidate in self.candidates if candidate.ready)

    @property
    def kind(self) -> Literal["stored", "shipped", "convert", "quantize"] | None:
        """What the pull does first; None where it is refused."""
        if self.stored is not None:
            return "stored"
        return next((candidate.kind for candidate in self.ready or self.usable), None)

    @property
    def missing(self) -> dict[str, str]:
        """Usable candidate -> how to install the toolchain that it needs."""
        found = ((candidate.name, candidate.missing) for candidate in self.candidates)
        return {name: error.hint or error.message for name, error in found if error is not None}

    @property
    def total_bytes(self) -> int:
        """Bytes of all files that the pull reads."""
        return sum(file.size or 0 for file in self.files)

    @property
    def fetch_bytes(self) -> int:
        """Bytes of the files that are downloaded."""
        return download_bytes(self.files)

    def _repr_html_(self) -> str:
        """The candidates in order and what the first one reads, for notebooks."""
        title = f"{self.id}@{self.commit[:7]}, {self.task}, {self.precision}"
        if self.stored is not None:
            return facts(title, [("stored", str(self.stored.path))])
        rows = [(candidate.name, "yes" if candidate.ready else "no", candidate.reason) for candidate in self.candidates]
        sums = [
            ("download", format_bytes(self.fetch_bytes)),
            ("refused", self.refusal.message if self.refusal else None),
            ("notes", "; ".join(self.notes)),
        ]
        return table(title, ("candidate", "usable now", "reason"), rows) + facts("", sums)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values, with the sums, the path of a stored variant and the error."""
        return {
            **super().to_dict(),
            "kind": self.kind,
            "stored": str(self.stored.path) if self.stored else None,
            "missing": self.missing,
            "total_bytes": self.total_bytes,
            "fetch_bytes": self.fetch_bytes,
            "error": self.refusal.to_dict() if self.refusal else None,
        }


def plan_pull(context: PullContext, *, every_candidate: bool = False) -> PullPlan:
    """Make the plan of one pull.

    A stored commit costs no request, a stored branch one. ``every_candidate`` lists the candidates of a variant that
    is stored, too.

    Raises:
        NoWeightsError: the repository has no weights that gpux runs or converts.
        UnsupportedTaskError: no task was requested, and the model's files name none.
        UsageError: there is no converter of the requested name.
        ManagerError: the source does not have the model, or does not answer and nothing is stored.
    """
    if context.ref.is_commit and not context.force and context.precision != AUTO and not every_candidate:
        found = context.store.find_ref(context.ref, task=context.task, precision=context.precision)
        if found is not None and context.accepts(found):
            return _stored_plan(found)
    try:
        info = _resolve(context)
    except UnavailableError as exc:
        return _stored_plan(*_stored_instead(context, exc))
    if info.file(MODULES) is None:  # else it may name the folder of the weights
        check_weights(info, _Configs(context, info).json)
    task = planner.choose_task(info, context.task)
    precision, notes = _precision(context, info, task)
    plan = _plan_variant(context, info, task, precision, force=context.force, every_candidate=every_candidate)
    return replace(plan, notes=(*notes, *plan.notes))


def _stored_plan(model: StoredModel, *notes: str) -> PullPlan:
    manifest = model.manifest
    return PullPlan(manifest.scheme, model.id, model.commit, model.task, manifest.precision, notes=notes, stored=model)


def _stored_instead(context: PullContext, exc: UnavailableError) -> tuple[StoredModel, str]:
    """The variant that was stored by an earlier pull, for a source that does not answer; raises ``exc`` without one."""
    precision = None if context.precision == AUTO else context.precision
    found = context.store.find_ref(context.ref, task=context.task, precision=precision)
    if found is None or context.force or not context.accepts(found):
        raise exc
    return found, f"{exc.message}; using {found.id} at {found.commit[:12]} as it was stored"


def _resolve(context: PullContext) -> ModelInfo:
    with context.stages.stage("resolve", f"Looking up {context.ref}") as done:
        try:
            info = context.manager.resolve(context.ref, cancel=context.cancel)
        except ModelNotFoundError as exc:
            if context.ref.scheme == "local" or not Path(context.ref.id).is_dir():
                raise
            hint = f"For the folder on this machine, write ./{context.ref.id}."
            raise ModelNotFoundError(exc.message, hint=hint, **exc.details) from exc
        done(f"found {info.id} at {info.commit[:12]}")
    return info


def _precision(context: PullContext, info: ModelInfo, task: str) -> tuple[str, tuple[str, ...]]:
    """The precision, and a note with the reason where ``auto`` was requested."""
    if context.precision != AUTO:
        return context.precision, ()
    device, choice = automatic_precision(info, task, context.device)
    return choice.precision, (f"{choice.precision} for {device}: {choice.reason}",)


def _plan_variant(
    context: PullContext,
    info: ModelInfo,
    task: str,
    precision: str,
    *,
    force: bool,
    every_candidate: bool = False,
    result: str | None = None,
) -> PullPlan:
    """The plan of one variant; ``result`` is the precision that is quantized from it."""
    plan = PullPlan(
        info.scheme,
        info.id,
        info.commit,
        task,
        precision,
        own_task=planner.own_task(info) in (None, task),
        stored=None if force else context.find_stored(info, task, precision),
        info=info,
    )
    if plan.stored is not None and not every_candidate:
        return plan
    cached = context.manager.cached(info, [file.path for file in info.files])  # before the configuration is fetched
    base = None
    if precision in QUANTIZED:
        base = _plan_variant(
            context, info, task, "fp32", force=False, every_candidate=every_candidate, result=precision
        )
    plan = replace(plan, base=base)
    full = None
    if not context.ignore_disk_space:  # checked first, since the configuration is written to the disk
        early = _with_files(context, plan, _first_by_files(plan, info, convert=context.converts), cached)
        full = disk_refusal(early.space)
        if full is not None and not every_candidate:
            return replace(early, refusal=full)
    layout = read_layout(context, info)
    configs = _Configs(context, info, layout.folder)
    if layout.folder:
        info = described(info, configs.read(()))
        plan = replace(plan, info=info)
    graphs = GraphReader(context.manager, info, cached, context.cancel, context.transfers)
    found = direct_candidates(
        info,
        task,
        precision,
        configs.read,
        context.converters,
        convert=context.converts,
        only=context.converter,
        prove=context.prove,
        result=result or precision,
        read_graph=graphs.read,
        read_json=configs.json,
        layout=layout,
    )
    candidates = [_checked(candidate, context.converters) for candidate in found]
    candidates += _quantizing(base, precision) if base is not None else []
    plan = replace(plan, candidates=tuple(candidates))
    first = next(iter(plan.ready or plan.usable), None)
    memory = _memory(context, plan, first, info, configs.read) if first is not None else None
    plan = replace(_with_files(context, plan, first, cached), memory=memory)
    notes = [note for graph in (first.graphs if first else ()) if (note := undecided(graph, info, cached))]
    plan = replace(plan, notes=tuple(notes))
    return replace(plan, refusal=None if plan.stored else full or _refusal(context, plan, info, configs))


def _first_by_files(plan: PullPlan, info: ModelInfo, *, convert: bool) -> Candidate | None:
    """The candidate that is tried first if every converter supports the model."""
    paths = [file.path for file in info.files]
    run_files, sources = formats.run_files(paths), source_files(paths)
    graphs = () if convert else formats.runnable_graphs(paths, plan.precision)[1]
    if graphs:
        return Candidate(SHIPPED, "shipped", True, "", graph_files(graphs), run_files)
    if plan.base is None:
        converted = sources and plan.precision == "fp32"
        return Candidate("converter", "convert", True, "", sources, run_files) if converted else None
    if plan.base.stored is not None:
        return Candidate(QUANTIZER, "quantize", True, "")
    whole = _first_by_files(plan.base, info, convert=convert)
    return replace(whole, kind="quantize") if whole is not None else None


def _quantizing(base: PullPlan, precision: str) -> list[Candidate]:
    """The quantizer as a candidate, with the files of the fp32 variant; nothing where no fp32 variant is possible."""
    if base.stored is not None:
        reason = f"quantizes the stored fp32 variant to {precision} and measures the loss"
        return [Candidate(QUANTIZER, "quantize", True, reason)]
    first = next(iter(base.ready or base.usable or [c for c in base.candidates if c.weights]), None)
    if first is None:
        return []
    candidate = Candidate(
        QUANTIZER,
        "quantize",
        bool(base.usable),
        f"quantizes the fp32 variant ({first.name}) to {precision} and measures the loss",
        first.weights,
        first.run_files,
        originals=first.originals,
        folder=first.folder,
        missing=base.refusal if isinstance(base.refusal, ToolchainMissingError) else None,
    )
    if candidate.usable:
        return [candidate]
    reason = f"needs the fp32 variant: {base.refusal.message if base.refusal else first.reason}"
    return [replace(candidate, reason=reason, error=base.refusal)]


def _checked(candidate: Candidate, converters: Mapping[str, Converter]) -> Candidate:
    """The candidate with the error of its toolchain where that is not installed."""
    name = candidate.prover or candidate.name
    if candidate.usable and name in converters:
        try:
            converters[name].check_ready()
        except ToolchainMissingError as exc:
            return replace(candidate, missing=exc)
    return candidate


class _Configs:
    """Reads the configurations of one model, each once."""

    def __init__(self, context: PullContext, info: ModelInfo, folder: str = "") -> None:
        self._context, self._info = context, info
        self._config = f"{folder}/{CONFIG}" if folder else CONFIG
        self._found: dict[str, Mapping[str, Any]] = {}

    def read(self, weights: tuple[str, ...]) -> Mapping[str, Any]:
        """The header of a GGUF file where that is what is converted, else ``config.json``, else the source's answer."""
        name = weights[0] if weights and weights[0].endswith(GGUF) else self._config
        if name not in self._found:
            self._found[name] = self._gguf(name) if name != self._config else self._json()
        return self._found[name]

    def json(self, path: str) -> Mapping[str, Any]:
        """A JSON object of the repository; ``{}`` where the source does not answer."""
        if path not in self._found:
            try:
                self._found[path] = self._fetched(path)
            except UnavailableError:
                return {}
        return self._found[path]

    def _gguf(self, path: str) -> Mapping[str, Any]:
        with self._context.manager.open_reads(self._info) as reads:
            return {**as_config(read_gguf(reads, path)), "gguf": path}

    def _json(self) -> Mapping[str, Any]:
        if self._info.file(self._config) is None:
            return {"model_type": self._info.model_type, "architectures": list(self._info.architectures)}
        return self._fetched(self._config)

    def _fetched(self, path: str) -> Mapping[str, Any]:
        snapshot = self._context.manager.fetch(self._info, [path], cancel=self._context.cancel)
        if snapshot.report is not None:
            self._context.transfers.append(snapshot.report)
        return snapshot.read_json(path)


def _with_files(context: PullContext, plan: PullPlan, first: Candidate | None, cached: set[str]) -> PullPlan:
    """The plan with the files and the disk space of its first candidate."""
    assert plan.info is not None  # only a stored plan has none
    if first is None:
        return replace(plan, left_out=planned_files(plan.info, {}, {}, cached)[1])
    reasons = (
        dict.fromkeys(first.originals, "the original weights, for the proof")
        | dict.fromkeys(first.weights, "the weights")
        | dict.fromkeys(first.run_files, "needed to run")
    )
    files, left_out = planned_files(plan.info, reasons, {}, cached)
    size = variant_bytes(plan.info, first, plan.precision, plan.base.stored if plan.base else None)
    needs = download_need(context.manager, files) | {_WRITTEN[first.kind]: (context.store.root, size)}
    return replace(plan, files=files, left_out=left_out, space=space_needs(needs))


def _memory(
    context: PullContext, plan: PullPlan, first: Candidate, info: ModelInfo, read_config: ReadConfig
) -> MemoryNeed | None:
    if first.kind == "quantize":
        return plan.base.memory if plan.base else None
    if first.kind != "convert":
        return None
    one_graph = summarize(read_config(first.weights)).kind in _OF_ONE_GRAPH
    converter = context.converters[first.name]
    needed = converter.peak_memory(fp32_bytes(info, first.weights), one_graph=one_graph)
    return MemoryNeed("the conversion", needed, available_memory())


def _refusal(context: PullContext, plan: PullPlan, info: ModelInfo, configs: _Configs) -> GpuxError | None:
    if not plan.usable:
        return _nothing_usable(plan, info, configs.read, configs.json)
    missing = plan.usable[0].missing
    if missing is not None and (plan.usable[0].kind == "shipped" or not plan.ready):
        return missing  # --prove requests a proof of the shipped ONNX, not a conversion in its place
    if not context.ignore_disk_space and (full := disk_refusal(plan.space)) is not None:
        return full
    return None if context.ignore_memory else memory_refusal(plan.memory)


def _nothing_usable(plan: PullPlan, info: ModelInfo, read_config: ReadConfig, read_json: ReadJson) -> GpuxError:
    errors = [candidate.error for candidate in plan.candidates if candidate.error is not None]
    if errors:
        return errors[-1]
    refused = {candidate.name: candidate for candidate in plan.candidates if candidate.refusal is not None}
    if not refused:
        return no_weights(info, plan.precision, read_json)
    config = read_config(next(iter(refused.values())).weights)
    refusals = {name: candidate.refusal for name, candidate in refused.items() if candidate.refusal is not None}
    return planner.unsupported(plan.id, config, plan.task, refusals)
