"""Selects the weights of one model: canonical names before others, plain before variants, complete before incomplete.

Names are those of ``save_pretrained``: ``model.safetensors``, ``pytorch_model.bin``, the parts of a diffusers pipeline
(``unet/diffusion_pytorch_model.fp16.safetensors``), sentence-transformers' ``0_Transformer/``; and the duplicates of
the same weights that publishers add: Meta's ``original/consolidated.00.pth``, Mistral's ``consolidated.safetensors``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gpux.inspect.formats.gguf_files import choose_gguf, gguf_label, projector
from gpux.inspect.formats.graphs import OnnxVariant, onnx_variants, runnable_graphs, shipped_onnx
from gpux.inspect.formats.names import format_of
from gpux.inspect.formats.run_files import module_folder
from gpux.inspect.formats.units import Unit, units
from gpux.model.precisions import canonical_precision, precision_in, preference

TORCH = ("safetensors", "pytorch")
#: stems of files in a transformers or diffusers model, the most common first; other stems come last
_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model", "adapter_model")
#: preferred forms of a model in one format, the best first
_FORMS = (r"(^|/)tf_model", r"\.mlpackage$", r"\.mlmodelc$", r"saved_model\.pb$")
_NAME = re.compile(
    r"^(?P<stem>[^.]+?)(?:\.(?P<variant>[\w-]+?))?(?:-\*-of-\d+)?(?:\.(?P<legacy>\w+))?\.(?:safetensors|bin|pt|pth|ckpt)$"
)


@dataclass(frozen=True)
class WeightSet:
    """One unit of weights: a file, all shards, a graph with its data, a package."""

    unit: Unit
    format: str
    folder: str  #: empty at the top
    stem: str
    precision: str | None  #: precision in the name; None if it has none, as for most weights
    plain: bool  #: the name has no variant in it

    @property
    def is_canonical(self) -> bool:
        """Whether the name is one of ``save_pretrained``."""
        return self.stem in _STEMS


@dataclass(frozen=True)
class Choice:
    """The selected weights."""

    format: str
    precision: str | None
    reasons: dict[str, str]  #: path -> short reason
    loads: bool = True  #: False for shards without their index, which ``from_pretrained`` does not find

    @property
    def folders(self) -> frozenset[str]:
        """The folders of the weights; the top is ``""``."""
        return frozenset(path.rpartition("/")[0] for path in self.reasons)


def weight_sets(paths: Iterable[str]) -> tuple[WeightSet, ...]:
    """All units with weights of a model, except modules of sentence-transformers."""
    return tuple(found for unit in units(paths) if (found := _weight_set(unit)) and not module_folder(unit.name))


def source_weights(paths: Iterable[str]) -> tuple[str, ...]:
    """The weights that a converter reads: safetensors, else pickled weights; all shards and their index.

    Only at the top, under the names that ``from_pretrained`` loads. Incomplete shards, or shards without an index, are
    skipped, as they do not load.
    """
    names = tuple(paths)
    sets = [found for found in weight_sets(names) if not found.folder and found.plain and not found.unit.missing]
    for format_, stem in (("safetensors", "model"), ("pytorch", "pytorch_model")):
        named = [found for found in sets if (found.format, found.stem) == (format_, stem) and _loads(found)]
        named = [found for found in named if found.unit.name.endswith((".safetensors", ".bin"))]
        if named:
            return min(named, key=_form).unit.files
    return ()


def choose_weights(
    paths: Sequence[str],
    format_: str | None,
    precision: str | None,
    machine: str | None,
    size: Callable[[Unit], int | None],
) -> Choice | None:
    """Select the weights of one format and one precision; None if there are none.

    Without a format, the best that gpux can run or convert: the repository's own plain ONNX, else safetensors, else
    pickled weights, else ONNX in several parts or another precision.
    """
    if format_ == "onnx":
        return _onnx(paths, precision, machine)
    if format_ == "gguf":
        return _gguf(paths, precision, size)
    if format_ in TORCH:
        return _torch(paths, format_, precision, strict=True)
    if format_ is not None:
        return _other(paths, format_, precision)
    shipped = shipped_onnx(paths, precision or "fp32", machine)
    if shipped and (shipped.plain or precision):
        return _graphs(shipped.precision, (shipped,))
    found = [choice for name in TORCH if (choice := _torch(paths, name, precision, strict=False))]
    return min(found, key=lambda choice: not choice.loads, default=None) or _onnx(paths, precision, machine)


def _weight_set(unit: Unit) -> WeightSet | None:
    format_ = next((name for path in unit.paths if (name := format_of(path))), None)
    if format_ is None:
        return None
    folder, _, name = unit.name.rpartition("/")
    if format_ == "gguf":
        return WeightSet(unit, format_, folder, name, gguf_label(unit.name), plain=True)
    if format_ == "onnx":
        graph = onnx_variants(unit.paths)[0]
        return WeightSet(unit, format_, folder, graph.part, graph.precision, graph.plain)
    match = _NAME.match(name) if format_ in TORCH else None
    if match and match["stem"] in _STEMS:
        variant = match["variant"] or match["legacy"]
        return WeightSet(unit, format_, folder, match["stem"], precision_in([variant or ""]), not variant)
    words = precision_in(re.split(r"[^A-Za-z0-9]+", name))
    return WeightSet(unit, format_, folder, name, words, plain=words in (None, "fp32"))


def _loads(found: WeightSet) -> bool:
    return found.unit.kind != "shards" or found.unit.index is not None


def _form(found: WeightSet) -> tuple[int, int, int, int, str]:
    """Sort key of the forms of a model: plain, loadable, common name, one file before shards."""
    stem = _STEMS.index(found.stem) if found.is_canonical else len(_STEMS)
    return not found.plain, not _loads(found), stem, found.unit.kind == "shards", found.unit.name


def _onnx(paths: Sequence[str], precision: str | None, machine: str | None) -> Choice | None:
    named, graphs = runnable_graphs(paths, precision, machine)
    return _graphs(named, graphs) if graphs else None


def _graphs(precision: str | None, graphs: Iterable[OnnxVariant]) -> Choice:
    reasons = {}
    for graph in graphs:
        reasons[graph.graph] = f"the repository's own ONNX, {graph.precision}"
        reasons |= dict.fromkeys(graph.external_data, f"external data of {graph.graph}")
    return Choice("onnx", precision, reasons)


def _gguf(paths: Sequence[str], label: str | None, size: Callable[[Unit], int | None]) -> Choice | None:
    found = [weights.unit for weights in weight_sets(paths) if weights.format == "gguf" and not weights.unit.missing]
    chosen = choose_gguf(found, label, size)
    if chosen is None:
        return None
    unit, why = chosen
    reasons = dict.fromkeys(unit.files, why)
    beside = projector(found)
    if beside:
        reasons |= dict.fromkeys(beside.files, "the image or audio encoder")
    return Choice("gguf", gguf_label(unit.name), reasons)


def _torch(paths: Sequence[str], format_: str, precision: str | None, *, strict: bool) -> Choice | None:
    """Safetensors or pickled weights: one set in each folder of the model.

    ``strict``: the precision is that of the weights; else it is the precision to convert to, starting from the plain
    weights.
    """
    sets = [found for found in weight_sets(paths) if found.format in TORCH and not found.unit.missing]
    pipeline = "model_index.json" in paths
    basis = [found for found in sets if found.format == format_] if strict and not pipeline else sets
    folders = model_folders(basis, pipeline=pipeline)
    chosen = []
    for folder in folders:
        here = [found for found in sets if found.folder == folder and found.format == format_]
        best = _best(here, precision, strict=strict)
        if best is None:
            return None  # a part exists in another format only; formats are never mixed
        chosen.append(best)
    reasons = {path: _reason(found, path) for found in chosen for path in found.unit.files}
    precisions = {found.precision for found in chosen}
    one = precisions.pop() if len(precisions) == 1 else None
    return Choice(format_, one, reasons, all(map(_loads, chosen))) if chosen else None


def _reason(found: WeightSet, path: str) -> str:
    if path == found.unit.index:
        return "index of the shards"
    precision = f", {found.precision}" if found.precision else ""
    shards = f", {len(found.unit.paths)} shards" if found.unit.kind == "shards" else ""
    return f"weights: {found.format}{precision}{shards}{'' if _loads(found) else ', no index'}"


def model_folders(sets: Iterable[WeightSet], *, pipeline: bool) -> tuple[str, ...]:
    """The folders of the model's weights: the top, the parts of a pipeline, ``0_Transformer/``, or the only folder.

    Empty if it is unclear which of several folders is the model's: they may be different models.
    """
    known = {found.folder for found in sets if found.is_canonical}
    others = {found.folder for found in sets} - known
    parts = sorted(folder for folder in known if folder and "/" not in folder)
    modules = [folder for folder in parts if re.match(r"\d+_", folder)]
    if pipeline and parts:
        return tuple(parts)
    if "" in known:
        return ("",)
    if modules:
        return tuple(modules)
    if "" in others:
        return ("",)
    candidates = sorted(known) or sorted(others)
    return tuple(candidates) if len(candidates) == 1 else ()


def _best(sets: Sequence[WeightSet], precision: str | None, *, strict: bool) -> WeightSet | None:
    """The set to select in one folder; None if none matches, or if it is unclear which one is the model."""
    canonical = [found for found in sets if found.is_canonical]
    if not canonical and len({found.unit.name for found in sets}) > 1:
        return None
    ordered = sorted(canonical or sets, key=_form)
    if precision is None:
        return min(ordered, key=lambda found: (not found.plain, preference(found.precision or "")), default=None)
    wanted = canonical_precision(precision)
    plain = [found for found in ordered if found.plain and (not strict or wanted == "fp32")]
    named = [found for found in ordered if found.precision == wanted]
    return next(iter(named + plain if strict else plain + named), None)


def _other(paths: Sequence[str], format_: str, precision: str | None) -> Choice | None:
    """Formats that gpux only downloads: all units of the best form in one precision, as they may be parts."""
    sets = [found for found in weight_sets(paths) if found.format == format_ and not found.unit.missing]
    if precision is not None:
        wanted = canonical_precision(precision)
        sets = [found for found in sets if found.precision == wanted or (found.plain and wanted == "fp32")]
    elif sets:
        closest = min((not found.plain, preference(found.precision or "")) for found in sets)
        sets = [found for found in sets if (not found.plain, preference(found.precision or "")) == closest]
    if not sets:
        return None
    best = min(_rank(found) for found in sets)
    chosen = [found for found in sets if _rank(found) == best]
    return Choice(
        format_, chosen[0].precision, {path: _reason(found, path) for found in chosen for path in found.unit.files}
    )


def _rank(found: WeightSet) -> tuple[int, int, str, bool]:
    form = next((rank for rank, pattern in enumerate(_FORMS) if re.search(pattern, found.unit.name)), len(_FORMS))
    return form, found.folder.count("/"), found.folder, found.unit.kind == "shards"
