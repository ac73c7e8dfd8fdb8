"""The headers of a model's weights: which files are read, and their precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import CorruptFileError, GpuxError, ManagerError
from gpux.inspect.formats import units
from gpux.inspect.formats.gguf_files import choose_gguf, is_companion
from gpux.inspect.formats.weights import choose_weights
from gpux.inspect.headers import gguf, gguf_summary, safetensors
from gpux.inspect.headers.gguf import GgufFile
from gpux.inspect.headers.gguf_summary import GgufSummary
from gpux.inspect.headers.safetensors import SafetensorsSummary
from gpux.inspect.reads import FileReads
from gpux.model.info import ModelInfo
from gpux.model.json_file import parse_json

#: ``torch_dtype`` in config.json -> dtype in safetensors
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "float8_e4m3fn": "F8_E4M3"}
_LARGEST_INDEX = 64 << 20  #: bytes


def safetensors_files(info: ModelInfo, reads: FileReads, file: str | None = None) -> tuple[str, ...]:
    """The weight files of the model: the named file, the file or shards that a pull selects, or those in an index.

    Raises:
        CorruptFileError: the index is not valid JSON.
        ManagerError: the source refuses; the subclass states why.
    """
    if file is not None and file.endswith(".safetensors"):
        return (file,)
    paths = [entry.path for entry in info.files]
    choice = choose_weights(paths, "safetensors", None, None, lambda unit: None)
    if choice is not None:
        return tuple(path for path in choice.reasons if path.endswith(".safetensors"))
    index = min((path for path in paths if path.endswith(".safetensors.index.json")), key=len, default=None)
    if index is not None and reads.size(index) <= _LARGEST_INDEX:
        folder = index[: index.rfind("/") + 1]
        named = [folder + name for name in safetensors.shards_of(_json(reads, index))]
        return tuple(path for path in named if path in paths)
    top = [path for path in paths if path.endswith(".safetensors") and "/" not in path]
    return tuple(top) if len(top) == 1 else ()


def gguf_files(info: ModelInfo, file: str | None = None) -> tuple[str, ...]:
    """The named file, else the one that a pull selects, with all its splits."""
    found = [unit for unit in units(entry.path for entry in info.files) if unit.name.lower().endswith(".gguf")]
    if file is not None:
        return next((unit.paths for unit in found if file in unit.paths), ())
    sizes = {entry.path: entry.size for entry in info.files}
    usable = [unit for unit in found if not unit.missing and not is_companion(unit.name)]
    choice = choose_gguf(usable, None, lambda unit: sum(sizes[path] or 0 for path in unit.paths))
    return choice[0].paths if choice else ()


def read_safetensors(
    reads: FileReads, info: ModelInfo, file: str | None, bits: int | None
) -> tuple[SafetensorsSummary | None, str | None]:
    """Returns (combined headers, None), or (None, reason)."""
    try:
        paths = safetensors_files(info, reads, file)
        if not paths:
            return None, "it is unclear which files are the model's weights"
        return safetensors.summarize(safetensors.read_headers(reads, paths), bits), None
    except GpuxError as exc:
        return None, _why(exc)


def read_gguf(
    reads: FileReads, info: ModelInfo, file: str | None
) -> tuple[GgufSummary | None, GgufFile | None, str | None]:
    """Returns (summary of all splits, header of the first, None), or (None, None, reason)."""
    paths = gguf_files(info, file)
    if not paths:
        return None, None, "it is unclear which file is the model"
    try:
        found = [gguf.read_gguf(reads, path) for path in paths]
    except GpuxError as exc:
        return None, None, _why(exc)
    return gguf_summary.summarize(found), found[0], None


def precision_notes(config: Mapping[str, Any], dtypes: Mapping[str, int]) -> list[str]:
    """Notes on a configuration that states another precision than the files have."""
    stated = config.get("torch_dtype") or config.get("dtype")
    wanted = DTYPES.get(str(stated).removeprefix("torch."))
    floats = {name: count for name, count in dtypes.items() if name in DTYPES.values()}
    quantized = isinstance(config.get("quantization_config"), dict)
    main = max(floats, key=lambda name: floats[name], default=None)
    if wanted and main and main != wanted and not quantized:
        return [f"config.json states {stated}, but the weights are {main}"]
    if quantized and dtypes and dtypes.keys() <= {"F32", "F16", "BF16"}:
        return ["config.json states a quantization, but the files contain no quantized weights"]
    return []


def _json(reads: FileReads, path: str) -> dict[str, Any]:
    try:
        found = parse_json(reads.read(path, 0, reads.size(path)))
    except ValueError as exc:
        raise CorruptFileError(f"{path} is not JSON: {exc}", file=path) from exc
    return found if isinstance(found, dict) else {}


def _why(exc: GpuxError) -> str:
    hint = f" {exc.hint}" if exc.hint and isinstance(exc, ManagerError) else ""
    return f"{exc.message}.{hint}"
