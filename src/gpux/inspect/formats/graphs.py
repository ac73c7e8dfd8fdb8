"""The ONNX graphs of a repository, by name: part, precision, and which graphs make up a runnable model.

Names are those of transformers.js and ``onnx-community`` (suffixes: transformers.js ``utils/dtypes.js``; parts: the
sessions in its ``models/``), of optimum (``decoder_with_past_model``), and of sentence-transformers' export
(``backend/optimize.py``, ``backend/quantize.py``: ``model_O2.onnx``, ``model_qint8_avx512_vnni.onnx``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from gpux.inspect.formats.units import graph_of
from gpux.model.precisions import PRECISIONS, TABLE, canonical_precision

#: suffix of a graph's stem -> precision and the machine that the graph is tuned for; of one precision the first is
#: preferred
_SUFFIXES: dict[str, tuple[str, str | None]] = {
    **{suffix: (row.name, None) for row in TABLE for suffix in row.suffixes},
    "o1": ("fp32", None),
    "o2": ("fp32", None),
    "o3": ("fp32", None),
    "o4": ("fp16", None),  # O3 and half precision, for GPUs: a plain fp16 graph is preferred
    "qint8_avx2": ("int8", "avx2"),
    "quint8_avx2": ("uint8", "avx2"),
    "qint8_arm64": ("int8", "arm64"),
    "qint8_avx512": ("int8", "avx512"),
    "qint8_avx512_vnni": ("int8", "avx512_vnni"),
    "quint8_avx512_vnni": ("uint8", "avx512_vnni"),
}
_RANKS = {suffix: rank for rank, suffix in enumerate(_SUFFIXES)}
_SUFFIX = re.compile(
    rf"^(?P<part>.+?)[_.-](?P<suffix>{'|'.join(sorted(filter(None, _SUFFIXES), key=len, reverse=True))})$",
    re.IGNORECASE,
)

#: requested machine -> the optimizations that it supports, the best first
MACHINES: dict[str, tuple[str, ...]] = {
    "arm64": ("arm64",),
    "aarch64": ("arm64",),
    "avx2": ("avx2",),
    "x86_64": ("avx2",),
    "amd64": ("avx2",),
    "avx512": ("avx512", "avx2"),
    "avx512_vnni": ("avx512_vnni", "avx512", "avx2"),
}
#: Optimizations that may be selected without a request if there is no generic graph: every 64-bit PC supports AVX2, and
#: other machines run the graph too.
_UNASKED = ("avx2",)

#: folders of graphs for one device (onnxruntime-genai, ``onnx/gpu/``); selected only on request
_DEVICE_FOLDERS = ("gpu", "cuda", "directml", "dml", "tensorrt", "webgpu", "qnn", "npu", "rocm")

#: Parts that a model requires if the repository has them in any precision.
PARTS = frozenset(
    {
        "encoder_model",
        "decoder_model",
        "decoder_model_merged",
        "decoder_with_past_model",
        "language_model",
        "embed_tokens",
        "lm_head",
        "text_model",
        "vision_model",
        "audio_model",
        "text_encoder",
        "vision_encoder",
        "audio_encoder",
        "speech_encoder",
        "prepare_inputs_embeds",
        "gen_head",
        "gen_img_embeds",
        "image_decode",
        "conditional_decoder",
        "encodec_decode",
        "prompt_encoder_mask_decoder",
        "decoder_postnet_and_vocoder",
    }
)
WHOLE = "model"  #: the part of a single-graph model
_MERGED = "decoder_model_merged"
_HELD_BY_MERGED = ("decoder_model", "decoder_with_past_model")


@dataclass(frozen=True)
class OnnxVariant:
    """One ONNX graph of a repository, with its external data."""

    graph: str
    part: str  #: ``model``, ``decoder_model_merged`` …: the stem without the precision
    precision: str
    external_data: tuple[str, ...]
    plain: bool  #: neither suffix nor folder names a quantization, optimization or device
    machine: str | None = None  #: the processor or device that it is optimized for; None: any

    @property
    def files(self) -> tuple[str, ...]:
        """The graph and its external data."""
        return (self.graph, *self.external_data)

    @property
    def folder(self) -> str:
        """The graph's folder, empty at the top."""
        return self.graph.rpartition("/")[0]


def onnx_variants(paths: Iterable[str]) -> tuple[OnnxVariant, ...]:
    """Every ONNX graph of a repository, the plain ones first."""
    names = sorted(set(paths))
    data: dict[str, list[str]] = {}
    for path in names:
        data.setdefault(graph_of(path) or "", []).append(path)
    found = [_variant(path, tuple(data.get(path, ()))) for path in names if path.endswith(".onnx")]
    return tuple(sorted(found, key=lambda variant: (not variant.plain, variant.graph.count("/"), variant.graph)))


def shipped_onnx(paths: Iterable[str], precision: str = "fp32", machine: str | None = None) -> OnnxVariant | None:
    """The repository's own single-graph ONNX of that precision: ``model.onnx``, at the top, in ``onnx/`` or ``fp16/``.

    Args:
        paths: the repository's files.
        precision: any spelling that :func:`canonical_precision` accepts.
        machine: a key of :data:`MACHINES`, or a device as folders name it (``gpu``); graphs optimized for it are
            preferred. Without it a generic graph is preferred, and one for arm64 or AVX-512 is never selected.
    """
    wanted = canonical_precision(precision)
    candidates = [
        variant
        for variant in onnx_variants(paths)
        if variant.part == WHOLE
        and variant.precision == wanted
        and _is_model_folder(variant.folder)
        and _suits(variant, machine)
    ]
    return min(candidates, key=lambda variant: _preference(variant, machine), default=None)


def runnable_graphs(
    paths: Iterable[str], precision: str | None = None, machine: str | None = None
) -> tuple[str | None, tuple[OnnxVariant, ...]]:
    """Returns (precision, graphs of one runnable model); ``(None, ())`` if there is no complete model.

    The single graph ``model`` if it exists, else all parts in the best folder. A precision is skipped if the repository
    has a required part only in another one. Default of ``precision``: the one closest to the original.
    """
    names = tuple(paths)
    wanted = (canonical_precision(precision),) if precision else PRECISIONS
    for candidate in wanted:
        single = shipped_onnx(names, candidate, machine)
        found = (single,) if single else _parts(onnx_variants(names), candidate, machine, "model_index.json" in names)
        if found:
            return candidate, found
    return None, ()


def onnx_precisions(paths: Iterable[str]) -> tuple[str, ...]:
    """The precisions of all graphs."""
    found = {variant.precision for variant in onnx_variants(paths)}
    return tuple(name for name in PRECISIONS if name in found)


def is_held_by_merged(variant: OnnxVariant, chosen: Iterable[str]) -> bool:
    """Whether a graph is one of the two decoders whose weights the merged decoder contains."""
    merged = any(PurePosixPath(path).name.startswith(_MERGED) for path in chosen)
    return merged and variant.part in _HELD_BY_MERGED


def _variant(path: str, data: tuple[str, ...]) -> OnnxVariant:
    stem = PurePosixPath(path).stem
    match = _SUFFIX.match(stem)
    suffix, part = (match["suffix"].lower(), match["part"]) if match else ("", stem)
    precision, machine = _SUFFIXES[suffix]
    words = _folder_words(path.rpartition("/")[0])
    folder_precision = next((word for word in map(canonical_precision, words) if word in PRECISIONS), None)
    device = next((word for word in words if word in _DEVICE_FOLDERS), None)
    plain = not suffix and device is None and folder_precision in (None, "fp32")
    if not suffix and folder_precision:
        precision = folder_precision
    return OnnxVariant(path, part, precision, data, plain, machine or device)


def _folder_words(folder: str) -> list[str]:
    return [word for word in re.split(r"[/_.-]", folder.lower()) if word]


def _is_model_folder(folder: str) -> bool:
    """Whether a folder is the top, ``onnx/``, or a precision or device below either: ``onnx/gpu/fp16/``."""
    words = _folder_words(folder.removeprefix("onnx"))
    return all(word in _DEVICE_FOLDERS or canonical_precision(word) in PRECISIONS for word in words)


def _suits(variant: OnnxVariant, machine: str | None) -> bool:
    return variant.machine is None or variant.machine in (*_tunings(machine), *_UNASKED)


def _tunings(machine: str | None) -> tuple[str, ...]:
    return MACHINES.get(machine.lower(), (machine.lower(),)) if machine else ()


def _preference(variant: OnnxVariant, machine: str | None) -> tuple[int, int, int, str]:
    tunings = _tunings(machine)
    if variant.machine is None:
        tuned = len(tunings)  # after requested optimizations, before others
    else:
        tuned = tunings.index(variant.machine) if variant.machine in tunings else len(tunings) + 1
    match = _SUFFIX.match(PurePosixPath(variant.graph).stem)
    return tuned, _RANKS[match["suffix"].lower() if match else ""], variant.graph.count("/"), variant.graph


def _parts(
    variants: tuple[OnnxVariant, ...], precision: str, machine: str | None, whole_tree: bool
) -> tuple[OnnxVariant, ...]:
    """All parts in that precision, of the best folder; of every folder for a diffusers pipeline (``whole_tree``)."""
    usable = [variant for variant in variants if _suits(variant, machine)]
    groups: dict[str, list[OnnxVariant]] = {}
    for variant in usable:
        groups.setdefault("" if whole_tree else variant.folder, []).append(variant)
    for folder in sorted(groups, key=lambda name: (name != "onnx", name.count("/") + bool(name), name)):
        found = _group_parts(groups[folder], precision, machine)
        if found:
            return found
    return ()


def _group_parts(group: list[OnnxVariant], precision: str, machine: str | None) -> tuple[OnnxVariant, ...]:
    """One graph per part; nothing if a required part exists in other precisions only."""
    best: dict[tuple[str, str], OnnxVariant] = {}
    for variant in sorted(group, key=lambda variant: _preference(variant, machine)):
        if variant.precision == precision:
            best.setdefault((variant.folder, variant.part), variant)
    spared = {key for folder in {folder for folder, _ in best} for key in _spared(folder, best)}
    needed = {(variant.folder, variant.part) for variant in group if variant.part in PARTS or variant.part == WHOLE}
    if needed - spared - best.keys():
        return ()
    return tuple(variant for key, variant in sorted(best.items()) if key not in spared)


def _spared(folder: str, best: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Redundant decoders: the merged decoder replaces the other two, and these two replace it."""
    if (folder, _MERGED) in best:
        return tuple((folder, part) for part in _HELD_BY_MERGED)
    return ((folder, _MERGED),) if (folder, _HELD_BY_MERGED[0]) in best else ()
