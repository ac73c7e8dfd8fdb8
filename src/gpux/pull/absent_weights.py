"""Why a repository has nothing that gpux runs or converts, and what to do: one check for each kind of repository.

Only names, and two small JSON files at most: the index of the shards, and the configuration of an adapter.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gpux.errors import GpuxError, NoWeightsError, UsageError
from gpux.inspect import formats
from gpux.inspect.formats.gguf_files import gguf_label, is_companion
from gpux.inspect.formats.names import format_of
from gpux.inspect.formats.run_files import kind_by_name
from gpux.inspect.formats.units import missing_shards, units
from gpux.inspect.headers.safetensors import shards_of
from gpux.model.info import ModelInfo
from gpux.model.precisions import QUANTIZED, find_precision
from gpux.model.reference import ModelRef

#: Reads a JSON object of the repository; ``{}`` where the source does not answer.
ReadJson = Callable[[str], Mapping[str, Any]]

GGUF = ".gguf"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_ADAPTER = "adapter_config.json"
_LORA = re.compile(r"(^|[/_.-])lora([/_.-]|\d|$)", re.IGNORECASE)
_DATA = (".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".jsonl.gz", ".json.gz", ".tar", ".zip")
_OTHER_WEIGHTS = (".npz", ".npy", ".pkl", ".pickle", ".joblib", ".nemo", ".pdparams", ".bin", ".ckpt", ".engine")
_CONVERTED = "safetensors and PyTorch files as transformers writes them, or a single GGUF file"
_SHOWN = 4


def source_files(paths: Iterable[str]) -> tuple[str, ...]:
    """The weights that a converter reads: safetensors, else pickles, else the GGUF file where there is exactly one."""
    names = tuple(paths)
    ggufs = tuple(path for path in names if path.endswith(GGUF) and "/" not in path and not is_companion(path))
    return formats.source_weights(names) or (ggufs if len(ggufs) == 1 else ())


def indexed_sources(info: ModelInfo, read_json: ReadJson) -> tuple[str, ...]:
    """As :func:`source_files`, with the shards that the index names, whatever their names are.

    Raises:
        NoWeightsError: a shard that the index names is missing.
    """
    paths = [file.path for file in info.files]
    sources = source_files(paths)
    index = next((name for name in INDEXES if name in (sources or paths)), None)
    named = shards_of(read_json(index)) if index is not None else ()
    missing = [name for name in named if name not in paths]
    if missing and index is not None:
        raise _error(info, _missing(info, missing, f"{index} names"))
    return sources or ((*named, index) if named and index is not None else ())


def check_weights(info: ModelInfo, read_json: ReadJson = lambda path: {}) -> None:
    """Return if the repository has ONNX or weights that a converter reads; checked before the task is chosen.

    Raises:
        NoWeightsError: it has neither.
    """
    paths = [file.path for file in info.files]
    shipped = formats.runnable_graphs(paths)[1]
    if not shipped and not source_files(paths) and not indexed_sources(info, read_json):
        raise no_weights(info, "fp32", read_json)


def no_weights(info: ModelInfo, precision: str, read_json: ReadJson = lambda path: {}) -> NoWeightsError:
    """The error for a repository that has nothing to run or convert in a precision; states what it is instead."""
    paths = tuple(file.path for file in info.files)
    found = (
        _no_files(info, paths)
        or _other_precision(info, paths, precision)
        or _incomplete_onnx(info, paths)
        or _shards(info, paths)
        or _adapter(info, paths, read_json)
        or _ggufs(info, paths)
        or _pipeline(info, paths)
        or _in_folder(info, paths)
        or _other_format(info, paths)
        or _other_names(info, paths)
        or _no_model(info, paths)
    )
    return _error(info, found)


def packed_for_mlx(info: ModelInfo, config: Mapping[str, Any]) -> NoWeightsError | None:
    """The error for safetensors that MLX quantized, which only MLX reads; its configuration has ``quantization``."""
    packed = config.get("quantization")
    if not isinstance(packed, Mapping) or "bits" not in packed or "group_size" not in packed:
        return None
    base = _base_in_tags(info)
    message = f"the weights of {info.id} are quantized to {packed['bits']} bits by MLX, and only MLX reads them"
    hint = f"Run `gpux pull {base}` for the original." if base else "Pull the original that MLX converted."
    return _error(info, _Absence(message, hint))


@dataclass(frozen=True)
class _Absence:
    message: str
    hint: str
    missing: tuple[str, ...] = ()


def _error(info: ModelInfo, found: _Absence) -> NoWeightsError:
    more = {"missing": list(found.missing)} if found.missing else {}
    return NoWeightsError(found.message, hint=found.hint, model=info.id, formats=list(info.formats), **more)


def _no_files(info: ModelInfo, paths: tuple[str, ...]) -> _Absence | None:
    if paths:
        return None
    name = PurePosixPath(info.id).name
    hint = "Copy the files of a model into it." if _is_local(info) else f"Look for the model: `gpux search {name}`."
    return _Absence(f"{info.id} is empty: it has no weights and no other files", hint)


def _other_precision(info: ModelInfo, paths: tuple[str, ...], precision: str) -> _Absence | None:
    has = formats.onnx_precisions(paths)
    whole = [name for name in has if formats.runnable_graphs(paths, name)[1] and name != precision]
    if source_files(paths) and precision not in ("fp32", *QUANTIZED):
        bits = find_precision(precision).bits
        near = min(("fp32", *QUANTIZED), key=lambda name: (abs(find_precision(name).bits - bits), name))
        shipped = f", and the repository ships ONNX in {', '.join(has)}" if has else ""
        return _Absence(
            f"{info.id} has no weights in {precision}: gpux converts to fp32, {', '.join(QUANTIZED)}{shipped}",
            f"Run {_pull(info)} --precision {near}`.",
        )
    if not whole:
        return None
    made = "" if precision == "fp32" else ", and has no fp32 weights from which it could be quantized"
    return _Absence(
        f"{info.id} ships onnx in {', '.join(has)}, not in {precision}{made}",
        f"Run {_pull(info)} --precision {whole[0]}`.",
    )


def _incomplete_onnx(info: ModelInfo, paths: tuple[str, ...]) -> _Absence | None:
    graphs = [variant.graph for variant in formats.onnx_variants(paths)]
    if not graphs or source_files(paths):
        return None
    return _Absence(
        f"the ONNX of {info.id} is not one complete model in one precision: {_some(graphs)}",
        f"If one file is a model by itself, run `gpux pull {_quoted(info, graphs[0])}`"
        + ("." if _is_local(info) else ", and pull the path that it prints."),
    )


def _shards(info: ModelInfo, paths: tuple[str, ...]) -> _Absence | None:
    shards = [unit for unit in units(paths) if unit.kind == "shards"]
    found = [unit for unit in shards if format_of(unit.paths[0]) in ("safetensors", "pytorch")]
    for unit in found:
        if unit.missing:
            return _missing(info, missing_shards(unit), "the names of the other shards imply")
    for unit in found:
        if unit.index is None and "/" not in unit.name:
            stem, suffix = re.sub(r"[-_.]\*-of-\d+(\.\w+)$", "", unit.name), unit.name.rpartition(".")[2]
            index = f"{stem}.{suffix}.index.json"
            return _missing(info, (index,), f"{len(unit.paths)} shards have no index:")
    return None


def _missing(info: ModelInfo, missing: Iterable[str], why: str) -> _Absence:
    names = tuple(missing)
    what = _some(names)
    if _is_local(info):
        return _Absence(
            f"the weights of {info.id} are incomplete: {why} {what}, which the folder does not have",
            f"Copy {what} into {info.id}, and run the same command again.",
            names,
        )
    return _Absence(
        f"the weights of {info.id} are incomplete: {why} {what}, which the repository does not have",
        f"Report it to the owner of the model, or pull another revision: `gpux revisions {info.id}` lists them.",
        names,
    )


def _adapter(info: ModelInfo, paths: tuple[str, ...], read_json: ReadJson) -> _Absence | None:
    lora = [path for path in paths if format_of(path) in ("safetensors", "pytorch") and _LORA.search(path)]
    if _ADAPTER not in paths and not lora:
        return None
    config = _read(read_json, _ADAPTER) if _ADAPTER in paths else {}
    kind = config.get("peft_type")
    named = "LoRA" if kind in (None, "LORA") else str(kind)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base.strip():
        base, revision = _base_in_tags(info), None
    of = f" of {base}" if base else ""
    message = f"{info.id} is an adapter ({named}){of}: changes to the weights of its base, which gpux does not merge"
    merge = "or merge both with peft (`merge_and_unload`) and pull the folder"
    if base and _is_hub_id(base):
        at = f"@{revision}" if isinstance(revision, str) and revision not in ("", "main") else ""
        return _Absence(message, f"Run `gpux pull {base}{at}` for the base, {merge}.")
    if base:
        name = PurePosixPath(base.replace("\\", "/")).name
        search = f"look for the base with `gpux search {name}`"
        return _Absence(message, f"{base} is a path of the author's: {search}, {merge}.")
    return _Absence(message, f"See its page for the name of the base, {merge}.")


def _ggufs(info: ModelInfo, paths: tuple[str, ...]) -> _Absence | None:
    found = [path for path in paths if path.endswith(GGUF) and not is_companion(path)]
    if not found:
        return None
    labels = tuple(dict.fromkeys(label for path in found if (label := gguf_label(path))))
    quantized = f" in {_some(labels)}" if labels else ""
    first = next((path for path in found if gguf_label(path) in ("F32", "F16", "BF16", "Q8_0", "Q4_K_M")), found[0])
    if _is_local(info):
        hint = f"Name one of them: `gpux pull {_quoted(info, first)}`."
    else:
        hint = f"Download one with `gpux pull {info.id}/{first}`, and pull the path that it prints."
    return _Absence(
        f"{info.id} has {len(found)} GGUF files{quantized}, and it is not clear which one is meant"
        if len(found) > 1
        else f"the GGUF file of {info.id} is in a folder",
        hint,
    )


def _pipeline(info: ModelInfo, paths: tuple[str, ...]) -> _Absence | None:
    if "model_index.json" not in paths:
        return None
    parts = sorted({path.split("/")[0] for path in paths if "/" in path and format_of(path)})
    return _Absence(
        f"{info.id} is a pipeline of diffusers with the models {_some(parts)}: gpux converts single models",
        _unchanged(info, "safetensors" if "safetensors" in info.formats else next(iter(info.formats), None)),
    )


def _in_folder(info: ModelInfo, paths: tuple[str, ...]) -> _Absence | None:
    folders = sorted({path.split("/")[0] for path in paths if "/" in path})
    inside = {
        folder: [path[len(folder) + 1 :] for path in paths if path.startswith(f"{folder}/")] for folder in folders
    }
    whole = [name for name, files in inside.items() if source_files(files) and "config.json" in files]
    if not whole:
        return None
    if _is_local(info):
        hint = f"Name the folder: `gpux pull {_quoted(info, whole[-1])}`."
    else:
        hint = (
            f"Download it with `gpux pull {info.id} --include '{whole[-1]}/*'`, and pull the path that it prints, with "
            f"/{whole[-1]} after it."
        )
    return _Absence(f"{info.id} has no weights at the top, but a model in {_some(whole)}", hint)


def _other_format(info: ModelInfo, paths: tuple[str, ...]) -> _Absence | None:
    others = [name for name in info.formats if name not in ("onnx", "safetensors", "pytorch", "gguf")]
    if not others or set(info.formats) - set(others):
        return None
    return _Absence(
        f"{info.id} has weights in {_some(others)} only: gpux converts {_CONVERTED}", _unchanged(info, others[0])
    )


def _other_names(info: ModelInfo, paths: tuple[str, ...]) -> _Absence | None:
    found = [path for path in paths if format_of(path) or path.lower().endswith(_OTHER_WEIGHTS)]
    if not found:
        return None
    mlx = " of MLX" if "mlx" in (info.library, *info.tags) else ""
    names = "model.safetensors or pytorch_model.bin"
    return _Absence(
        f"{info.id} has weights{mlx} under names that transformers does not load: {_some(found)}; "
        f"gpux converts {_CONVERTED}",
        f"If they are weights of transformers, name the file {names} beside a config.json."
        if _is_local(info)
        else f"Download them unchanged with `gpux pull {shlex.quote(f'{info.id}/{found[0]}')}`.",
    )


def _no_model(info: ModelInfo, paths: tuple[str, ...]) -> _Absence:
    kinds = {kind for path in paths if (kind := kind_by_name(PurePosixPath(path).name))}
    data = [path for path in paths if path.lower().endswith(_DATA)]
    base = _base_in_tags(info)
    search = f"Look for the model: `gpux search {info.id.rpartition('/')[2]}`."
    if _is_local(info):
        search = "Copy the weights into it."
    elif base:
        search = f"Run `gpux pull {base}`, which its page names as the base."
    if data:
        load = f"If it is a dataset, `datasets.load_dataset({info.id!r})` loads it."
        return _Absence(f"{info.id} has no weights, but data: {_some(data)}", load)
    if "tokenizer" in kinds and "config" not in kinds:
        return _Absence(f"{info.id} has a tokenizer and no weights", search)
    return _Absence(f"the {_place(info)} has no weights: {info.id} has {_some(paths)}", search)


def _unchanged(info: ModelInfo, format_: str | None) -> str:
    if _is_local(info):
        return f"Copy weights into the folder that gpux converts: {_CONVERTED}."
    option = f"--format {format_}" if format_ else "--all"
    return f"`gpux pull {info.id} {option}` downloads them unchanged."


def _base_in_tags(info: ModelInfo) -> str | None:
    """The base in the tags, which the Hub copies from the card: ``base_model:adapter:ORG/NAME``."""
    bases = [tag.rpartition(":")[2] for tag in info.tags if tag.startswith("base_model:")]
    return bases[0] if bases else None


def _is_hub_id(text: str) -> bool:
    try:
        return ModelRef.parse(text).scheme == "hf"
    except UsageError:
        return False


def _read(read_json: ReadJson, path: str) -> Mapping[str, Any]:
    try:
        return read_json(path)
    except GpuxError:  # damaged: the tags may name the base
        return {}


def _is_local(info: ModelInfo) -> bool:
    return info.scheme == "local"


def _place(info: ModelInfo) -> str:
    return "folder" if _is_local(info) else "repository"


def _pull(info: ModelInfo) -> str:
    return f"`gpux pull {shlex.quote(info.id)}"


def _quoted(info: ModelInfo, path: str) -> str:
    return shlex.quote(f"{info.id}/{path}")


def _some(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
