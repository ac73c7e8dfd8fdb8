"""What a list of file names says: formats, ONNX variants, and what a pull needs. Pure.

ONNX names are those of transformers.js and ``onnx-community`` (``onnx/model_quantized.onnx``) and of
sentence-transformers' export (``onnx/model_O2.onnx``, ``onnx/model_qint8_avx512_vnni.onnx``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

#: format -> pattern of a file name that holds weights in it
_FORMATS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("onnx", r"\.onnx$"),
        ("safetensors", r"\.safetensors$"),
        ("pytorch", r"(^|/)(pytorch_model|adapter_model|model|consolidated)[^/]*\.(bin|pt|pth)$"),
        ("tensorflow", r"(^|/)(tf_model[^/]*\.h5|saved_model\.pb|model\.ckpt[^/]*)$"),
        ("flax", r"\.msgpack$"),
        ("gguf", r"\.gguf$"),
        ("coreml", r"\.(mlmodel|mlpackage/.+|mlmodelc/.+)$"),
        ("openvino", r"(^|/)openvino_[^/]*\.(xml|bin)$"),
        ("tflite", r"\.tflite$"),
        ("rust", r"\.ot$"),
    )
)

#: suffix of an ONNX file's stem -> precision; the longest that fits wins, none is fp32
_PRECISIONS = {
    "fp16": "fp16",
    "bf16": "bf16",
    "int8": "int8",
    "uint8": "uint8",
    "quantized": "int8",
    "q8": "int8",
    "q4": "int4",
    "q4f16": "q4f16",
    "bnb4": "bnb4",
    "q2": "q2",
    "q2f16": "q2f16",
    "q1": "q1",
    "q1f16": "q1f16",
    "O1": "fp32",
    "O2": "fp32",
    "O3": "fp32",
    "O4": "fp16",
    "qint8_arm64": "int8",
    "qint8_avx2": "int8",
    "qint8_avx512": "int8",
    "qint8_avx512_vnni": "int8",
    "quint8_avx2": "uint8",
    "quint8_avx512_vnni": "uint8",
}

_CONFIGS = re.compile(
    r"(^|/)(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|modules"
    r"|sentence_[a-z_]*config|config_sentence_transformers|preprocessor_config|processor_config|chat_template"
    r"|video_preprocessor_config|image_processor_config|feature_extractor_config|preprocessor)\.(json|jinja|txt)$"
)
_TOKENIZERS = re.compile(r"(^|/)(merges\.txt|vocab\.txt|[^/]*\.(model|spm)|[^/]*\.tiktoken|[^/]*\.bpe)$")
_SIDE_WEIGHTS = re.compile(r"(^|/)(optimizer|training_args|scheduler|rng_state|trainer_state)[^/]*$")


@dataclass(frozen=True)
class OnnxVariant:
    """One ONNX graph of a repository, with the files that hold its tensors."""

    graph: str
    part: str  #: ``model``, ``decoder_model_merged`` …: the stem without the precision
    precision: str
    external_data: tuple[str, ...]
    plain: bool  #: no suffix: neither quantized nor optimised

    @property
    def files(self) -> tuple[str, ...]:
        """The graph and its external data."""
        return (self.graph, *self.external_data)


def weight_formats(paths: Iterable[str]) -> tuple[str, ...]:
    """The formats in which weights are there, in a fixed order."""
    names = list(paths)
    return tuple(name for name, pattern in _FORMATS if any(pattern.search(path) for path in names))


def external_data_of(graph: str, paths: Iterable[str]) -> tuple[str, ...]:
    """Files beside an ONNX graph that hold its tensors, by the names exporters use.

    ``model.onnx_data``, ``model.onnx_data_1`` …, ``model.onnx.data`` (torch, optimum, onnx-community).
    """
    pattern = re.compile(re.escape(graph) + r"[._]data(_\d+)?$")
    return tuple(sorted(path for path in paths if pattern.match(path)))


def onnx_variants(paths: Iterable[str]) -> tuple[OnnxVariant, ...]:
    """Every ONNX graph of a repository, the plain ones first."""
    names = list(paths)
    found = [_variant(path, names) for path in names if path.endswith(".onnx")]
    return tuple(sorted(found, key=lambda variant: (not variant.plain, variant.graph.count("/"), variant.graph)))


def _variant(path: str, names: list[str]) -> OnnxVariant:
    stem = PurePosixPath(path).stem
    suffix = next((s for s in sorted(_PRECISIONS, key=len, reverse=True) if stem.endswith(f"_{s}")), "")
    part = stem[: -len(suffix) - 1] if suffix else stem
    return OnnxVariant(path, part, _PRECISIONS.get(suffix, "fp32"), external_data_of(path, names), not suffix)


def shipped_onnx(paths: Iterable[str], precision: str = "fp32") -> OnnxVariant | None:
    """The repository's own single-graph ONNX of that precision: ``model.onnx``, in ``onnx/`` or at the top."""
    candidates = [
        variant
        for variant in onnx_variants(paths)
        if variant.part == "model"
        and variant.precision == precision
        and str(PurePosixPath(variant.graph).parent) in (".", "onnx")
    ]
    return candidates[0] if candidates else None


def run_files(paths: Iterable[str]) -> tuple[str, ...]:
    """What a run needs besides the graph: configs, tokenizer, processor, sentence-transformers modules."""
    names = sorted(paths)
    modules = {folder for folder in map(_module_folder, names) if folder}
    return tuple(path for path in names if _is_run_file(path, modules))


def _is_run_file(path: str, modules: set[str]) -> bool:
    folder = _module_folder(path)
    if folder in modules:
        return path.endswith((".json", ".safetensors", ".txt"))
    return "/" not in path and bool(_CONFIGS.search(path) or _TOKENIZERS.search(path))


def _module_folder(path: str) -> str | None:
    """``2_Dense`` of ``2_Dense/model.safetensors``: the folder of a sentence-transformers module."""
    match = re.match(r"^(\d+_[A-Za-z]+)/", path)
    return match[1] if match else None


def source_weights(paths: Iterable[str]) -> tuple[str, ...]:
    """The weights that a converter reads: safetensors, else pickled ones; all shards and their index."""
    names = sorted(path for path in paths if "/" not in path and not _SIDE_WEIGHTS.search(path))
    sharded = re.compile(r"^(model|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)$")
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if single in names:
            return (single,)
        if index in names:
            suffix = PurePosixPath(single).suffix
            return (*(path for path in names if sharded.match(path) and path.endswith(suffix)), index)
    return ()
