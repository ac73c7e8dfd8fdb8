"""The candidates of a pull: the methods that the files of a repository allow, and what each reads. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gpux.convert import planner
from gpux.convert.base import Converter, Refusal
from gpux.errors import (
    EntryNotFoundError,
    GpuxError,
    NoWeightsError,
    SessionError,
    ToolchainMissingError,
    UnsafePathError,
    UnsupportedError,
    UsageError,
)
from gpux.inspect import formats
from gpux.inspect.formats import OnnxVariant
from gpux.model.info import ModelInfo
from gpux.model.precisions import find_precision
from gpux.model.values import Value
from gpux.model.variant import SHIPPED, StoredModel
from gpux.pull.absent_weights import ReadJson, indexed_sources, packed_for_mlx
from gpux.pull.graph_data import ReadGraph
from gpux.pull.layout import Layout

#: A fp32 graph holds four bytes for each parameter, and a few percent of structure.
_BYTES_PER_PARAMETER = 4
_GRAPH_OVERHEAD = 1.05

#: Reads the configuration of weights (the paths of a candidate); only called where a conversion is considered.
ReadConfig = Callable[[tuple[str, ...]], Mapping[str, Any]]


@dataclass(frozen=True)
class Candidate(Value):
    """A method of getting the variant: the repository's own ONNX, a converter, or the quantizer."""

    name: str  #: ``shipped``, the converter's name, or ``quantizer``
    kind: Literal["shipped", "convert", "quantize"]
    usable: bool
    reason: str
    weights: tuple[str, ...] = ()  #: the shipped graphs with their data, or the weights that are converted
    run_files: tuple[str, ...] = ()  #: configurations, tokenizer …
    prover: str | None = None  #: the converter that computes the original's answers for shipped ONNX
    originals: tuple[str, ...] = ()  #: the original weights that the prover needs
    folder: str = ""  #: of the transformer's files in the repository, see :mod:`gpux.pull.layout`
    graphs: tuple[OnnxVariant, ...] = field(default=(), repr=False)  #: the shipped graphs
    refusal: Refusal | None = field(default=None, repr=False)  #: of the converter
    #: why it is not usable, where that is an error by itself
    error: GpuxError | None = field(default=None, repr=False, compare=False)
    missing: ToolchainMissingError | None = field(default=None, repr=False, compare=False)  #: of a usable candidate

    @property
    def ready(self) -> bool:
        """True if the pull can try it now."""
        return self.usable and self.missing is None

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file of the repository that it reads."""
        return tuple(dict.fromkeys(self.run_files + self.weights + self.originals))


def direct_candidates(
    info: ModelInfo,
    task: str,
    precision: str,
    read_config: ReadConfig,
    converters: Mapping[str, Converter],
    *,
    convert: bool = False,
    only: str | None = None,
    prove: bool = False,
    result: str | None = None,
    read_graph: ReadGraph = lambda graph: graph,
    read_json: ReadJson = lambda path: {},
    layout: Layout = Layout(),  # noqa: B008 - immutable
) -> list[Candidate]:
    """The candidates that create a variant from the repository's files: its own ONNX, and each converter.

    Args:
        info: the model's file list.
        task: the Hub's name.
        precision: in its canonical spelling.
        read_config: reads the configuration of weights; only called where a conversion is considered.
        converters: name -> converter.
        convert: do not use the repository's own ONNX.
        only: name of the one converter that is considered.
        prove: the repository's own ONNX has to be proven against the original weights.
        result: the precision that is requested, where it is quantized from this variant.
        read_graph: returns a shipped graph with the external data that it names; by default that of usual names.
        read_json: reads the index of the shards; by default shards are known by their names only.
        layout: where the repository has the files of its model.

    Raises:
        UsageError: there is no converter named ``only``.
    """
    if only is not None and only not in converters:
        raise UsageError(f"no converter {only!r}", hint=f"The converters are: {', '.join(converters)}.")
    paths = [file.path for file in info.files]
    run_files = layout.run_files(paths)
    graphs = () if convert else layout.graphs(paths, precision)
    candidates = []
    if graphs:
        shipped = _shipped(graphs, run_files, read_graph)
        if prove and shipped.usable:
            shipped = _proven(shipped, info, task, result or precision, read_config, converters, layout)
        candidates.append(shipped)
    else:
        candidates.append(Candidate(SHIPPED, "shipped", False, _why_not_shipped(paths, precision, convert=convert)))
    try:
        sources = _sources(info, read_json, layout) if precision == "fp32" else ()
    except NoWeightsError as exc:
        refused = layout.source_weights(paths)
        candidates.append(Candidate("converters", "convert", False, exc.message, refused, run_files, error=exc))
        return candidates
    mlx = packed_for_mlx(info, read_config(sources)) if sources else None
    if mlx is not None:
        candidates.append(Candidate("converters", "convert", False, mlx.message, sources, run_files, error=mlx))
    elif sources:
        chosen = {only: converters[only]} if only is not None else converters
        for name, refusal in planner.assess(read_config(sources), task, precision, chosen).items():
            reason = f"{name} {refusal}" if refusal else f"converts {sources[0]} and proves the result"
            candidates.append(Candidate(name, "convert", refusal is None, reason, sources, run_files, refusal=refusal))
    if precision == "fp32" and (error := layout.refusal(info)) is not None:
        others = [candidate for candidate in candidates if candidate.kind != "convert"]
        candidates = [*others, Candidate("converter", "convert", False, error.message, error=error)]
    return [replace(candidate, folder=layout.folder) for candidate in candidates]


def _sources(info: ModelInfo, read_json: ReadJson, layout: Layout) -> tuple[str, ...]:
    """The weights that a converter reads, in the folder of the transformer.

    Raises:
        NoWeightsError: a shard that the index names is missing.
    """
    inside = layout.inside(info)
    return tuple(map(layout.whole, indexed_sources(inside, lambda path: read_json(layout.whole(path)))))


def graph_files(graphs: Iterable[OnnxVariant]) -> tuple[str, ...]:
    """The files of the graphs, with their external data."""
    return tuple(dict.fromkeys(path for graph in graphs for path in graph.files))


def _shipped(graphs: tuple[OnnxVariant, ...], run_files: tuple[str, ...], read_graph: ReadGraph) -> Candidate:
    """The repository's own graphs with the external data that they name, or not usable where a file is missing."""
    reason = f"the repository's own ONNX: {', '.join(graph.graph for graph in graphs)}"
    try:
        graphs = tuple(map(read_graph, graphs))
    except (EntryNotFoundError, SessionError, UnsafePathError) as exc:
        files = graph_files(graphs)
        return Candidate(SHIPPED, "shipped", False, exc.message, files, run_files, graphs=graphs, error=exc)
    return Candidate(SHIPPED, "shipped", True, reason, graph_files(graphs), run_files, graphs=graphs)


def _why_not_shipped(paths: Sequence[str], precision: str, *, convert: bool) -> str:
    has = formats.onnx_precisions(paths)
    if not has:
        return "the repository has no ONNX of its own"
    if convert and precision in has:
        return "conversion of the original weights was requested"
    if precision in has:
        return f"the repository's ONNX in {precision} is not a complete model"
    return f"the repository has ONNX in {', '.join(has)}, not in {precision}"


def _proven(
    shipped: Candidate,
    info: ModelInfo,
    task: str,
    result: str,
    read_config: ReadConfig,
    converters: Mapping[str, Converter],
    layout: Layout,
) -> Candidate:
    """The candidate with the converter that proves it, or not usable where none can."""
    error: GpuxError
    if find_precision(result).tolerance is None:
        error = UnsupportedError(
            f"{result} differs from the original by design, so its ONNX cannot be proven equal",
            hint="Remove --prove, or use `gpux convert --precision`, which measures the loss.",
        )
        return replace(shipped, usable=False, reason=error.message, error=error)
    originals = layout.source_weights(file.path for file in info.files)
    able = {name: converter for name, converter in converters.items() if converter.proves_others}
    answers = planner.assess(read_config(()), task, "fp32", able)
    provers = [name for name, refusal in answers.items() if refusal is None]
    if provers and originals:
        reason = f"{shipped.reason}, proven by {provers[0]}"
        return replace(shipped, reason=reason, prover=provers[0], originals=originals)
    reasons = "; ".join(f"{name} {refusal}" for name, refusal in answers.items() if refusal)
    error = UnsupportedError(
        f"the ONNX of {info.id} cannot be proven: {reasons or 'the repository has no original weights'}",
        hint="Remove --prove to store the ONNX as the repository ships it.",
        model=info.id,
    )
    return replace(shipped, usable=False, reason=error.message, error=error)


def variant_bytes(info: ModelInfo, candidate: Candidate, precision: str, base: StoredModel | None = None) -> int:
    """About how many bytes a candidate writes to the store.

    Shipped graphs are copied. A converted graph is fp32, whatever the weights are stored as. The quantizer writes the
    fp32 variant, unless ``base`` is stored, and the quantized one.
    """
    sizes = {file.path: file.size or 0 for file in info.files}
    ratio = find_precision(precision).size_ratio or 0
    if base is not None and candidate.kind == "quantize":
        return round(base.size * ratio)
    beside = sum(sizes[path] for path in candidate.run_files)
    if candidate.kind == "shipped":
        return beside + sum(sizes[path] for path in candidate.weights)
    full = beside + round(fp32_bytes(info, candidate.weights) * _GRAPH_OVERHEAD)
    return full if candidate.kind == "convert" else round(full * (1 + ratio))


def fp32_bytes(info: ModelInfo, weights: Iterable[str]) -> int:
    """About how many bytes the weights take in float32, whatever they are stored as."""
    paths = set(weights)
    size = sum(file.size or 0 for file in info.files if file.path in paths)
    return max(size, _BYTES_PER_PARAMETER * (info.parameters or 0))
