"""Why files are left out, and what there is instead: the words of a selection."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from gpux.inspect.formats.graphs import is_held_by_merged, onnx_variants
from gpux.inspect.formats.names import format_of, is_training_state
from gpux.inspect.formats.run import kind_by_name, module_folder
from gpux.inspect.formats.units import Unit, units
from gpux.inspect.formats.weights import Choice, WeightSet, weight_sets

_SHOWN = 8  # names in a message: enough to see the naming, not so many that the error is lost


@dataclass(frozen=True)
class Leaving:
    """The reasons for files that stay behind."""

    everywhere: str | None = None  #: one reason for all
    removed: Mapping[str, str] = field(default_factory=dict)  #: path -> what removed it before anything was chosen

    def reasons(self, paths: Iterable[str], listed: Collection[str], choice: Choice) -> dict[str, str]:
        """Each path with its reason."""
        if self.everywhere:
            return dict.fromkeys(paths, self.everywhere)
        weights = {path: found for found in weight_sets(listed) for path in found.unit.paths}
        lone = {path: unit for unit in units(listed) for path in unit.paths}
        return {path: self.removed.get(path) or _why(path, weights.get(path), lone[path], choice) for path in paths}


def _why(path: str, weights: WeightSet | None, unit: Unit, choice: Choice) -> str:
    if unit.missing:
        return f"{unit.missing} of its shards missing in the repository"
    if weights is not None:
        return _why_weights(weights, choice)
    if is_training_state(path):
        return "state of a training run"
    if module_folder(path) and format_of(path):
        return "a module's weights, which are there as safetensors"
    name = PurePosixPath(path).name
    if name.endswith(".py"):
        return "code, which is not fetched unless it is named"
    if name.endswith((".md", ".gitattributes")) or name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")):
        return "documentation"
    return "belongs to another folder's model" if "/" in path and kind_by_name(name) else "no run needs it"


def _why_weights(weights: WeightSet, choice: Choice) -> str:
    if weights.format != choice.format:
        return f"another format: {weights.format}"
    if weights.format == "onnx" and is_held_by_merged(onnx_variants([weights.unit.name])[0], choice.reasons):
        return "decoder_model_merged holds it"
    if weights.precision != choice.precision and weights.precision:
        return f"another precision: {weights.precision}"
    return "another form of the weights"


def precisions(paths: Collection[str], formats: Iterable[str]) -> str:
    """The formats with the precisions that the names tell: ``onnx (fp32, int8), safetensors``."""
    found: dict[str, list[str]] = {name: [] for name in formats}
    for weights in weight_sets(paths):
        told = found.setdefault(weights.format, [])
        if weights.precision and weights.precision not in told:
            told.append(weights.precision)
    return ", ".join(f"{name} ({', '.join(told)})" if told else name for name, told in found.items())


def listing(paths: Iterable[str], near: str = "") -> str:
    """Some of the names, those that look like ``near`` first, and how many more there are."""
    names = sorted(path for path in paths if not path.startswith("."))  # .gitattributes helps nobody
    close = difflib.get_close_matches(near, names, n=_SHOWN, cutoff=0.5) if near else []
    shown = [*close, *(name for name in names if name not in close)][:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") if shown else "no files"
