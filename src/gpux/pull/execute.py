"""Making one variant of one model: the ways of the plan are tried in order until one of them holds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from gpux.convert import planner
from gpux.convert.base import Converter
from gpux.errors import ConversionError, GpuxError, ProofError, SessionError, ToolchainMissingError, UnsupportedError
from gpux.inspect.architecture import summarize
from gpux.inspect.formats import source_weights
from gpux.inspect.headers.gguf import read_gguf
from gpux.inspect.headers.gguf_summary import as_config
from gpux.managers.base import ModelManager
from gpux.model.info import ModelInfo, SourceSnapshot
from gpux.model.precisions import find_precision
from gpux.model.transfer import TransferReport
from gpux.model.variant import SHIPPED, StoredModel
from gpux.pull.build import Builder
from gpux.pull.plan import QUANTIZER, Plan, Way, make_plan
from gpux.pull.preflight import check_memory, check_space
from gpux.pull.preview import pull_needs
from gpux.pull.reduced import reduce_variant
from gpux.pull.route import GGUF, Route, choose_route, fp32_bytes
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.disk import format_bytes
from gpux.system.machine import available_memory
from gpux.system.progress import Stages

CONFIG = "config.json"
#: What ends one way and leaves the others open.
_FAILURES = (UnsupportedError, ConversionError, SessionError)
#: Kinds of models that become one graph.
_OF_ONE_GRAPH = ("encoder", "decoder", "vision")


@dataclass(frozen=True)
class PullOptions:
    """What a user may ask of a pull."""

    task: str | None = None  #: the Hub's name or an alias; None takes it from the model's own files
    precision: str = "fp32"  #: or ``auto``, which chooses by the device
    device: str = "auto"  #: what ``auto`` chooses for
    force: bool = False  #: make the variant again although it is stored
    convert: bool = False  #: convert the original weights although the model ships ONNX
    converter: str | None = None  #: the one converter that may take part; None: those that take it, the best first
    prove: bool = False  #: prove the model's own ONNX against its original weights, which are fetched too
    allow_inexact: bool = False  #: store what is beyond tolerance, marked
    trust_remote_code: bool = False  #: run code of the repository while converting
    discard_source: bool = False  #: remove the source files from the shared cache when the variant is stored
    ignore_disk_space: bool = False  #: begin although the disk looks too full
    ignore_memory: bool = False  #: begin although the memory looks too small


@dataclass
class Maker:
    """The parts that making needs; one for each pull."""

    options: PullOptions
    manager: ModelManager
    store: Store
    converters: Mapping[str, Converter]
    builder: Builder
    stages: Stages
    cancel: CancelToken
    transfers: list[TransferReport] = field(default_factory=list)

    def find_or_make(self, info: ModelInfo, task: str, precision: str, *, force: bool = False) -> StoredModel:
        """The variant as it is stored, else made now; two processes never make the same one at once."""
        found = None if force else self._find(info, task, precision)
        if found is not None:
            return found
        with self._locked(info, task, precision):  # another process may have been faster
            found = None if force else self._find(info, task, precision)
            return found or self._make(info, task, precision)

    def serves(self, model: StoredModel) -> bool:
        """True if the variant is what was asked for, and all its files are there (their hashes: ``gpux verify``)."""
        manifest = model.manifest
        if self.options.convert and not manifest.recipe.is_converted:
            return False
        if self.options.converter is not None and manifest.recipe.converter != self.options.converter:
            return False
        if self.options.prove and manifest.proof.status == "shipped":
            return False
        if manifest.proof.status == "inexact" and not self.options.allow_inexact:
            return False
        return self.store.verify(model, hashes=False).ok

    def plan(self, info: ModelInfo, task: str, precision: str) -> Plan:
        """What would be tried, in order; fetches at most ``config.json``."""
        convert = self.options.convert or self.options.converter is not None
        return make_plan(
            info,
            task,
            precision,
            lambda route: self._config(info, route),
            self.converters,
            convert=convert,
            only=self.options.converter,
        )

    def missing(self, plan: Plan) -> dict[str, str]:
        """Converter of the plan -> how to get what it lacks."""
        found: dict[str, str] = {}
        for way in plan.serving:
            try:
                if way.name in self.converters:
                    self.converters[way.name].check_ready()
            except ToolchainMissingError as exc:
                found[way.name] = exc.hint or exc.message
        return found

    def _find(self, info: ModelInfo, task: str, precision: str) -> StoredModel | None:
        found = self.store.find(info.scheme, info.id, info.commit, task=task, precision=precision)
        return found if found is not None and self.serves(found) else None

    def _locked(self, info: ModelInfo, task: str, precision: str) -> AbstractContextManager[None]:
        def on_wait() -> None:
            self.stages.warn("another process is working on this model; waiting for it")

        return self.store.lock(info.scheme, info.id, info.commit, task, precision, cancel=self.cancel, on_wait=on_wait)

    def _make(self, info: ModelInfo, task: str, precision: str) -> StoredModel:
        convert = self.options.convert or self.options.converter is not None
        self._check_disk(info, choose_route(info, task, precision, convert=convert))
        plan = self.plan(info, task, precision)
        if not plan.serving:
            raise plan.refused(info)
        ways, missing = self._ready(plan)
        self._check_memory(info, ways[0], plan.config)
        own = planner.own_task(info) in (None, task)
        failures: dict[str, GpuxError] = {}
        for way in ways:
            try:
                return self._follow(way, info, own_task=own)
            except ToolchainMissingError:
                raise
            except _FAILURES as exc:
                failures[way.name] = exc
                if way is not ways[-1]:
                    self.stages.warn(f"{exc.message}; {ways[ways.index(way) + 1].name} is next")
        raise _nothing_held(plan, failures, missing)

    def _ready(self, plan: Plan) -> tuple[list[Way], ToolchainMissingError | None]:
        """The ways that can be gone now, asked before the weights travel; and what the first of the others lacks.

        Raises:
            ToolchainMissingError: none can.
        """
        ready: list[Way] = []
        missing: ToolchainMissingError | None = None
        for way in plan.serving:
            try:
                if way.name in self.converters:
                    self.converters[way.name].check_ready()
                ready.append(way)
            except ToolchainMissingError as exc:
                missing = missing or exc
        if not ready and missing is not None:
            raise missing
        return ready, missing

    def _follow(self, way: Way, info: ModelInfo, *, own_task: bool) -> StoredModel:
        assert way.route is not None
        route = replace(way.route, own_task=own_task)
        if way.name == QUANTIZER:
            whole = self.find_or_make(info, route.task, "fp32")
            return reduce_variant(self.builder, whole, info, route)
        if way.name == SHIPPED and self.options.prove:
            prover = self._prover(info, route.task)
            sources = source_weights(file.path for file in info.files)
            return self.builder.adopt(self._fetch(info, (*route.paths, *sources)), route, prover)
        snapshot = self._fetch(info, route.paths)
        if way.name == SHIPPED:
            return self.builder.adopt(snapshot, route)
        return self.builder.convert(snapshot, self.converters[way.name], route)

    def _prover(self, info: ModelInfo, task: str) -> Converter:
        """The converter that asks the original for a graph that it did not write.

        Raises:
            UnsupportedError: no converter can, or there are no original weights.
            ToolchainMissingError: its toolchain is not installed.
        """
        able = {name: found for name, found in self.converters.items() if found.proves_others}
        said = planner.assess(self._config(info), task, "fp32", able)
        taking = [name for name, refusal in said.items() if refusal is None]
        if find_precision(self.options.precision).tolerance is None:
            raise UnsupportedError(
                f"{self.options.precision} answers otherwise by design: there is no equality to prove",
                hint="Leave --prove away, or make it with `gpux convert --precision`, which measures the loss.",
            )
        if not taking or not source_weights(file.path for file in info.files):
            reasons = "; ".join(f"{name} {refusal}" for name, refusal in said.items() if refusal)
            raise UnsupportedError(
                f"the ONNX of {info.id} cannot be proven: {reasons or 'it has no weights to compare with'}",
                hint="Leave --prove away to store it as it is shipped.",
                model=info.id,
            )
        able[taking[0]].check_ready()
        return able[taking[0]]

    def _check_disk(self, info: ModelInfo, route: Route) -> None:
        """Before the first byte."""
        if not self.options.ignore_disk_space:
            check_space(pull_needs(info, route, self.manager, self.store))

    def _check_memory(self, info: ModelInfo, way: Way, config: Mapping[str, Any]) -> None:
        """Before the weights travel."""
        if way.route is not None and way.name in self.converters and not self.options.ignore_memory:
            one = summarize(config).kind in _OF_ONE_GRAPH
            converter = self.converters[way.name]
            needed = converter.peak_memory(fp32_bytes(info, way.route), one_graph=one)
            check_memory(needed, available_memory())

    def _config(self, info: ModelInfo, route: Route | None = None) -> Mapping[str, Any]:
        """The model's ``config.json``, or the header of a GGUF file; what the listing tells where there is neither."""
        if route is not None and route.weights[0].endswith(GGUF):
            with self.manager.open_reads(info) as reads:
                return {**as_config(read_gguf(reads, route.weights[0])), "gguf": route.weights[0]}
        if info.file(CONFIG) is None:
            return {"model_type": info.model_type, "architectures": list(info.architectures)}
        return self.manager.fetch(info, [CONFIG], cancel=self.cancel).read_json(CONFIG)

    def _fetch(self, info: ModelInfo, paths: tuple[str, ...]) -> SourceSnapshot:
        size = sum(file.size or 0 for file in info.files if file.path in paths)
        with self.stages.stage("download", f"Downloading {len(paths)} files") as done:
            snapshot = self.manager.fetch(info, paths, progress=self.stages.progress, cancel=self.cancel)
            done(f"fetched {len(paths)} files, {format_bytes(size)}, every hash right")
        if snapshot.report is not None:
            self.transfers.append(snapshot.report)
        return snapshot


def _nothing_held(plan: Plan, failures: Mapping[str, GpuxError], missing: ToolchainMissingError | None) -> GpuxError:
    """The error after every way failed: the one that there is, or one that lists them all."""
    last = list(failures.values())[-1]
    untried = f"{missing.hint} It may take the model too." if missing is not None else None
    if len(failures) == 1:
        return last if untried is None else _again(last, last.message, f"{last.hint or ''} {untried}".strip())
    kinds = {type(exc) for exc in failures.values()}
    tried = "; ".join(f"{name}: {exc.message}" for name, exc in failures.items())
    message = f"{plan.id} could not be made to run for {plan.task} in {plan.precision}: {tried}"
    shared = kinds.pop() if len(kinds) == 1 else ProofError if kinds <= {ProofError, SessionError} else ConversionError
    attempts = {name: exc.to_dict() for name, exc in failures.items()}
    return shared(message, hint=untried or last.hint, log=last.details.get("log"), attempts=attempts)


def _again(exc: GpuxError, message: str, hint: str) -> GpuxError:
    return type(exc)(message, hint=hint, **exc.details)
