"""Which way a pull goes, from a model's listing alone. Pure: asked before a byte travels, and by a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpux.errors import NoWeightsError
from gpux.inspect import formats
from gpux.inspect.formats import OnnxVariant
from gpux.model.info import ModelInfo
from gpux.model.precisions import QUANTIZED, canonical_precision, find_precision
from gpux.model.values import Value

GGUF = ".gguf"
#: A fp32 graph holds four bytes for each parameter, and a little structure.
_BYTES_PER_PARAMETER = 4
_GRAPH_OVERHEAD = 1.05


@dataclass(frozen=True)
class Route(Value):
    """One way to a runnable variant."""

    kind: Literal["shipped", "convert", "reduce"]
    task: str
    precision: str
    run_files: tuple[str, ...]  #: configs, tokenizer …
    weights: tuple[str, ...]  #: of the repository's own graphs, or what is converted
    onnx: tuple[OnnxVariant, ...] = ()  #: for ``shipped``: the graph, or all parts
    own_task: bool = True  #: the task is the model's own, not only what the user asked for

    @property
    def paths(self) -> tuple[str, ...]:
        """Everything to fetch."""
        return tuple(dict.fromkeys(self.run_files + self.weights))


def routes(info: ModelInfo, task: str, precision: str, *, convert: bool = False) -> tuple[Route, ...]:
    """The ways that a model's files allow, the best first: its own ONNX, conversion of its weights, reduction of fp32.

    Whether a converter takes the model is not asked here. ``convert`` leaves its own ONNX aside.
    """
    paths = [file.path for file in info.files]
    wanted = canonical_precision(precision)
    run_files, sources = formats.run_files(paths), _sources(paths)
    found = []
    graphs = () if convert else formats.runnable_graphs(paths, wanted)[1]
    if graphs:
        own = tuple(dict.fromkeys(path for graph in graphs for path in graph.files))
        found.append(Route("shipped", task, wanted, run_files, own, graphs))
    if sources and wanted == "fp32":
        found.append(Route("convert", task, wanted, run_files, sources))
    if wanted in QUANTIZED:
        whole = routes(info, task, "fp32", convert=convert)
        found += [Route("reduce", task, wanted, run_files, way.weights, way.onnx) for way in whole[:1]]
    return tuple(found)


def choose_route(info: ModelInfo, task: str, precision: str, *, convert: bool = False) -> Route:
    """The first of :func:`routes`.

    Raises:
        NoWeightsError: there is none in this precision; the message lists what the model has.
    """
    found = routes(info, task, precision, convert=convert)
    if not found:
        raise no_weights(info, canonical_precision(precision))
    return found[0]


def check_weights(info: ModelInfo) -> None:
    """Return if there is anything that could be run or converted; asked before the task, which may not be told.

    Raises:
        NoWeightsError: the listing has neither ONNX nor weights to convert.
    """
    paths = [file.path for file in info.files]
    if not formats.onnx_variants(paths) and not _sources(paths):
        raise no_weights(info, "fp32")


def _sources(paths: Sequence[str]) -> tuple[str, ...]:
    """What a converter reads: safetensors, else pickles, else the one GGUF file of a repository that has just one."""
    ggufs = [path for path in paths if path.endswith(GGUF) and "/" not in path]
    return formats.source_weights(paths) or (tuple(ggufs) if len(ggufs) == 1 else ())


def variant_bytes(info: ModelInfo, route: Route) -> int:
    """About how many bytes the variant will take in the store.

    A shipped graph is copied as it is; a converted one is fp32, whatever the weights are stored as; a reduced one
    stands beside the fp32 one.
    """
    sizes = {file.path: file.size or 0 for file in info.files}
    beside = sum(sizes[path] for path in route.run_files)
    weights = sum(sizes[path] for path in route.weights)
    if route.kind == "shipped":
        return beside + weights
    full = beside + round(fp32_bytes(info, route) * _GRAPH_OVERHEAD)
    return full if route.kind == "convert" else round(full * (1 + (find_precision(route.precision).size_ratio or 0)))


def fp32_bytes(info: ModelInfo, route: Route) -> int:
    """About how many bytes a route's weights take in float32, whatever they are stored as."""
    weights = sum(file.size or 0 for file in info.files if file.path in route.weights)
    return max(weights, _BYTES_PER_PARAMETER * (info.parameters or 0))


def no_weights(info: ModelInfo, precision: str) -> NoWeightsError:
    """The error for a model that has nothing to run or convert in a precision; lists what it has."""
    precisions = formats.onnx_precisions(file.path for file in info.files)
    shipped = f" (onnx in {', '.join(precisions)})" if precisions else ""
    found = f"it has {', '.join(info.formats)}{shipped}" if info.formats else "it has none at all"
    choice = "--precision " + precisions[0] if precisions else "--format " + next(iter(info.formats), "")
    bring = f"Try `gpux pull {info.id} {choice}`, or see its files" if info.formats else "See its files"
    return NoWeightsError(
        f"{info.id} has no weights that gpux can run ({precision} as ONNX, or fp32 to be made from safetensors or "
        f"PyTorch): {found}",
        hint=f"{bring}: `gpux info {info.id} --files`.",
        model=info.id,
        formats=list(info.formats),
    )
