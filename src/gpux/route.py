"""Which way a pull goes, from a model's listing alone. Pure: asked before a byte travels, and by a dry run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from gpux import formats
from gpux.errors import NoWeightsError, UnsupportedTaskError
from gpux.formats import OnnxVariant
from gpux.types import ModelInfo
from gpux.values import Value

#: A fp32 graph holds four bytes for each parameter, and a little structure.
_BYTES_PER_PARAMETER = 4
_GRAPH_OVERHEAD = 1.05


@dataclass(frozen=True)
class Route(Value):
    """One way to a runnable variant."""

    kind: Literal["shipped", "convert"]
    task: str
    precision: str
    run_files: tuple[str, ...]  #: configs, tokenizer …
    weights: tuple[str, ...]  #: of the repository's own graph, or what is converted
    onnx: OnnxVariant | None = None  #: for ``shipped``
    own_task: bool = True  #: the task is the model's own, not only what the user asked for
    source_weights: tuple[str, ...] = ()  #: what could be converted if the shipped graph does not serve

    @property
    def paths(self) -> tuple[str, ...]:
        """Everything to fetch."""
        return tuple(dict.fromkeys(self.run_files + self.weights))

    @property
    def converted(self) -> Route | None:
        """The way by conversion, for a shipped graph that turns out not to serve; None without weights for it."""
        if self.kind == "convert" or not self.source_weights:
            return None
        return replace(self, kind="convert", weights=self.source_weights, onnx=None)


def choose_route(
    info: ModelInfo, task: str, precision: str, runnable: Collection[str], *, convert: bool = False
) -> Route:
    """The repository's own ONNX where it ships one for a task that gpux runs, else conversion of its weights.

    Raises:
        NoWeightsError: it has neither in this precision; the message lists what it has.
        UnsupportedTaskError: it ships ONNX alone, for a task that nothing here runs.
    """
    paths = [file.path for file in info.files]
    precision = formats.canonical_precision(precision)
    run_files, sources = formats.run_files(paths), formats.source_weights(paths)
    onnx = None if convert else formats.shipped_onnx(paths, precision)
    if onnx is not None and task in runnable:
        convertible = sources if precision == "fp32" else ()
        return Route("shipped", task, precision, run_files, onnx.files, onnx, source_weights=convertible)
    if onnx is not None and not sources:
        raise UnsupportedTaskError(
            f"{info.id} is for {task}, which gpux does not run yet",
            hint=f"It runs {', '.join(sorted(runnable))}; name one with --task if the model serves it.",
            model=info.id,
        )
    if not sources or precision != "fp32":
        raise _no_weights(info, precision)
    return Route("convert", task, precision, run_files, sources)


def check_weights(info: ModelInfo) -> None:
    """Return if there is anything that could be run or converted; asked before the task, which may not be told.

    Raises:
        NoWeightsError: the listing has neither ONNX nor weights to convert.
    """
    paths = [file.path for file in info.files]
    if not formats.onnx_variants(paths) and not formats.source_weights(paths):
        raise _no_weights(info, "fp32")


def variant_bytes(info: ModelInfo, route: Route) -> int:
    """About how many bytes the variant will take in the store.

    A shipped graph is copied as it is; a converted one is fp32, whatever the weights are stored as.
    """
    sizes = {file.path: file.size or 0 for file in info.files}
    beside = sum(sizes[path] for path in route.run_files)
    weights = sum(sizes[path] for path in route.weights)
    if route.kind == "shipped":
        return beside + weights
    graph = max(weights, _BYTES_PER_PARAMETER * (info.parameters or 0))
    return beside + round(graph * _GRAPH_OVERHEAD)


def _no_weights(info: ModelInfo, precision: str) -> NoWeightsError:
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
