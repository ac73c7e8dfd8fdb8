"""Selects the files of a repository to pull, each with a reason; by default one format and one precision."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from gpux.errors import EntryNotFoundError, NoWeightsError, UsageError
from gpux.inspect.formats.graphs import is_held_by_merged, onnx_variants
from gpux.inspect.formats.names import FORMATS, format_of, is_training_state, weight_formats
from gpux.inspect.formats.run_files import kind_by_name, module_folder, run_files_beside
from gpux.inspect.formats.units import Unit, complete, units
from gpux.inspect.formats.weights import Choice, WeightSet, choose_weights, weight_sets
from gpux.model.info import ModelFile
from gpux.model.precisions import PRECISIONS, canonical_precision
from gpux.model.values import Value

_SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Omission:
    """The reasons why files are not selected."""

    everywhere: str | None = None  #: one reason for all files
    removed: Mapping[str, str] = field(default_factory=dict)  #: path -> reason why it was excluded before the selection

    def reasons(self, paths: Iterable[str], listed: Collection[str], choice: Choice) -> dict[str, str]:
        """Path -> reason."""
        if self.everywhere:
            return dict.fromkeys(paths, self.everywhere)
        weights = {path: found for found in weight_sets(listed) for path in found.unit.paths}
        lone = {path: unit for unit in units(listed) for path in unit.paths}
        return {path: self.removed.get(path) or _why(path, weights.get(path), lone[path], choice) for path in paths}


def _why(path: str, weights: WeightSet | None, unit: Unit, choice: Choice) -> str:
    if unit.missing:
        return f"shards missing in the repository: {unit.missing}"
    if weights is not None:
        return _why_weights(weights, choice)
    if is_training_state(path):
        return "state of a training run"
    if module_folder(path) and format_of(path):
        return "weights of a module that has safetensors"
    name = PurePosixPath(path).name
    if name.endswith(".py"):
        return "code, which is fetched only if it is named"
    if name.endswith((".md", ".gitattributes")) or name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")):
        return "documentation"
    return "belongs to the model of another folder" if "/" in path and kind_by_name(name) else "not needed to run"


def _why_weights(weights: WeightSet, choice: Choice) -> str:
    if weights.format != choice.format:
        return f"another format: {weights.format}"
    if weights.format == "onnx" and is_held_by_merged(onnx_variants([weights.unit.name])[0], choice.reasons):
        return "decoder_model_merged contains it"
    if weights.precision != choice.precision and weights.precision:
        return f"another precision: {weights.precision}"
    return "another form of the weights"


def precisions(paths: Collection[str], formats: Iterable[str]) -> str:
    """The formats with the precisions in the names: ``onnx (fp32, int8), safetensors``."""
    found: dict[str, list[str]] = {name: [] for name in formats}
    for weights in weight_sets(paths):
        named = found.setdefault(weights.format, [])
        if weights.precision and weights.precision not in named:
            named.append(weights.precision)
    return ", ".join(f"{name} ({', '.join(named)})" if named else name for name, named in found.items())


def listing(paths: Iterable[str], near: str = "") -> str:
    """Some of the names, those similar to ``near`` first, and the number of others."""
    names = sorted(path for path in paths if not path.startswith("."))  # without .gitattributes
    close = difflib.get_close_matches(near, names, n=_SHOWN, cutoff=0.5) if near else []
    shown = [*close, *(name for name in names if name not in close)][:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") if shown else "no files"


@dataclass(frozen=True)
class Selection(Value):
    """The files to pull; by default one runnable model in one format and one precision.

    ``include`` and ``exclude`` are globs as in ``huggingface_hub`` (``fnmatch`` with case): ``*`` matches ``/`` too, so
    that ``*.json`` means every JSON file at any depth, and a pattern that ends in ``/`` means all files below.
    They filter the files to select from; ``include`` without a format or precision selects exactly the matches. Units
    are never split: matching one file includes or excludes its package, all shards, or a graph with its external data.

    Raises:
        UsageError: a format or precision is unknown, or fields contradict each other.
    """

    format: str | None = None  #: one of :data:`FORMATS`; None: the best one that gpux can run or convert
    precision: str | None = None  #: ``fp16``, ``int8`` …; a quantization (``Q4_K_M``) with ``gguf``
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    everything: bool = False  #: all files, in every format
    file: str | None = None  #: exactly this file or directory package, with the files that it requires
    machine: str | None = None  #: a processor or device that ONNX graphs may be optimized for, see :func:`shipped_onnx`

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):  # a string is one pattern
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if self.everything and self.include:
            raise UsageError("--all and --include exclude each other", hint="Leave out `--all`.")
        if self.format is not None and self.format not in FORMATS:
            raise UsageError(f"no format is named {self.format!r}", hint=f"Formats are {', '.join(FORMATS)}.")
        if self.format != "gguf" and self.precision and canonical_precision(self.precision) not in PRECISIONS:
            raise UsageError(
                f"no precision is named {self.precision!r}",
                hint=f"Precisions are {', '.join(PRECISIONS)}; GGUF's own go with `--format gguf`.",
            )
        chooses = self.format is not None or self.precision is not None
        if self.everything and (chooses or self.file):
            raise UsageError("--all excludes a format, precision or file", hint="Leave out `--all`.")
        if self.file and (chooses or self.include or self.exclude):
            raise UsageError(f"the reference names one file, {self.file}, so nothing else can be selected")


@dataclass(frozen=True)
class SelectedFile(Value):
    """A file with a short reason why it is selected or not."""

    file: ModelFile
    reason: str

    @property
    def path(self) -> str:
        """The file's path in the repository."""
        return self.file.path


@dataclass(frozen=True)
class SelectedFiles(Value):
    """The selected files and the others, sorted by path; together the whole listing."""

    chosen: tuple[SelectedFile, ...]
    left_out: tuple[SelectedFile, ...]
    format: str | None  #: of the selected weights; None if there are none, or several formats
    precision: str | None  #: None if the names do not state it, as for most weights

    @property
    def paths(self) -> tuple[str, ...]:
        """The selected paths."""
        return tuple(selected.path for selected in self.chosen)

    @property
    def total_bytes(self) -> int:
        """Bytes of the selected files with a known size."""
        return sum(selected.file.size or 0 for selected in self.chosen)

    @property
    def unknown_sizes(self) -> tuple[str, ...]:
        """Selected files without a size in the listing."""
        return tuple(selected.path for selected in self.chosen if selected.file.size is None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, with totals."""
        return {**super().to_dict(), "total_bytes": self.total_bytes, "unknown_sizes": list(self.unknown_sizes)}


def select(files: Sequence[ModelFile], selection: Selection | None = None) -> SelectedFiles:
    """Select the files to fetch from a repository's listing.

    Raises:
        EntryNotFoundError: ``file`` is not listed, or ``include`` matches nothing.
        NoWeightsError: there are no weights in the format and precision; the message lists the others.
    """
    request = selection or Selection()
    listed = {file.path: file for file in files}
    found = units(listed)
    if request.file is not None:
        return _divide(listed, _exactly(request.file, found), Omission("not the requested file"))
    allowed, omission = _narrow(listed, found, request)
    if request.everything or (request.include and request.format is None and request.precision is None):
        why = "all files were requested" if request.everything and not request.include else "matches --include"
        return _divide(listed, dict.fromkeys(allowed, why), omission)
    return _choose(listed, allowed, request, omission)


def matches(path: str, patterns: Iterable[str]) -> str | None:
    """The first glob that a path matches, as ``huggingface_hub.utils.filter_repo_objects`` does; None for none."""
    return next((glob for glob in patterns if fnmatchcase(path, f"{glob}*" if glob.endswith("/") else glob)), None)


def _exactly(file: str, found: Iterable[Unit]) -> dict[str, str]:
    """One file and the files that it requires; a package by its folder, or by any file inside."""
    folder = file.rstrip("/")
    for unit in found:
        if unit.kind == "package" and unit.name in (folder, f"{folder}/saved_model.pb"):
            return dict.fromkeys(unit.paths, f"part of {folder}")
    if any(file in unit.paths for unit in found):
        whole = complete([file], found)
        return {path: "requested by name" if path == file else f"required by {file}" for path in whole}
    names = [path for unit in found for path in unit.paths]
    raise EntryNotFoundError(
        f"the repository has no file {file!r}; it has {listing(names, near=file)}",
        hint="File names are case-sensitive and include folders.",
        file=file,
    )


def _narrow(listed: dict[str, ModelFile], found: Sequence[Unit], request: Selection) -> tuple[list[str], Omission]:
    """The files that pass include and exclude, in whole units, and the reasons of the others."""
    allowed = frozenset(listed)
    if request.include:
        allowed = complete([path for path in listed if matches(path, request.include)], found)
        if not allowed:
            raise EntryNotFoundError(
                f"no file matches {' or '.join(map(repr, request.include))}; the repository has {listing(listed)}",
                hint="Patterns match whole paths: `*` matches any characters, including `/`.",
                include=list(request.include),
            )
    excluded = complete([path for path in allowed if matches(path, request.exclude)], found)
    removed = dict.fromkeys(frozenset(listed) - allowed, "not matched by --include")
    removed |= {path: f"excluded by {matches(path, request.exclude) or 'the unit it belongs to'}" for path in excluded}
    return sorted(allowed - excluded), Omission(None, removed)


def _choose(listed: dict[str, ModelFile], allowed: list[str], request: Selection, omission: Omission) -> SelectedFiles:
    def size(unit: Unit) -> int | None:
        sizes = [listed[path].size for path in unit.paths]
        return None if None in sizes else sum(filter(None, sizes))

    choice = choose_weights(allowed, request.format, request.precision, request.machine, size)
    if choice is None:
        raise _no_weights(listed, allowed, request)
    run = run_files_beside(allowed, choice.folders)
    modules = complete(run, units(allowed)) - run.keys()  # all shards of a module's weights
    chosen = dict.fromkeys(modules, "belongs to a module's weights") | run | choice.reasons
    return _divide(listed, chosen, omission, choice)


def _divide(
    listed: dict[str, ModelFile], chosen: dict[str, str], omission: Omission, choice: Choice | None = None
) -> SelectedFiles:
    """Split the listing into selected and other files, each with its reason."""
    taken = tuple(SelectedFile(listed[path], chosen[path]) for path in sorted(chosen))
    if choice is None:
        formats = weight_formats(chosen)
        choice = Choice(formats[0] if len(formats) == 1 else "", None, {})
    reasons = omission.reasons([path for path in listed if path not in chosen], listed, choice)
    left = tuple(SelectedFile(listed[path], reasons[path]) for path in sorted(reasons))
    return SelectedFiles(taken, left, choice.format or None, choice.precision)


def _no_weights(listed: Iterable[str], allowed: Sequence[str], request: Selection) -> NoWeightsError:
    """The error: what was requested, what the repository has, and the next command."""
    formats = weight_formats(allowed)
    wanted = " ".join(filter(None, (request.precision, request.format or "ONNX, safetensors or PyTorch")))
    there = precisions(allowed, formats)
    if request.format in formats or (request.format is None and set(formats) & {"onnx", "safetensors", "pytorch"}):
        hint = "Name one with `--precision`, or name the files with `--include`."
    elif formats:
        hint = f"Name a format with `--format {formats[0]}`, or files with `--include`."
    else:
        hint = "See its files with `gpux info --files`."
    narrowed = ", among the files that pass --include and --exclude" if len(allowed) < len(frozenset(listed)) else ""
    return NoWeightsError(
        f"the repository has no {wanted} weights that form a complete model{narrowed}; "
        + (f"it has {there}" if there else "it has no weights at all"),
        hint=hint,
        formats=list(formats),
        format=request.format,
        precision=request.precision,
    )
