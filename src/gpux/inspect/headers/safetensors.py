"""Headers of safetensors files: dtypes, parameters and bytes of a model, with at most two reads per file.

Format: 8 bytes of little-endian length, that many bytes of a JSON object ``{name: {"dtype", "shape", "data_offsets"}}``
with an optional ``__metadata__``, then the data (https://github.com/huggingface/safetensors, "Format"). The header has
100 MB at most, offsets begin after it and leave no holes.

Names of quantized tensors: GPTQ and AWQ (``qweight``, ``qzeros``, ``scales``, ``g_idx``; 32-bit words of 4 or 8 bits),
bitsandbytes 4 bits (``weight`` of bytes beside ``weight.absmax``, ``weight.quant_state.*``), mxfp4 of gpt-oss
(``*_blocks`` beside ``*_scales``), compressed-tensors (``weight_packed``, ``weight_scale``, ``weight_shape``), fp8
(``weight_scale_inv``, ``weight_scale``, ``input_scale``). Buffers are created by ``register_buffer``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from gpux.errors import CorruptFileError, GpuxError
from gpux.inspect.reads import FileReads, Part
from gpux.model.values import Value

_WORD = 32  #: bits of the words that GPTQ, AWQ and compressed-tensors pack into
_SCALES = re.compile(
    r"\.(qzeros|scales|g_idx|weight_scale(_inv|_2)?|weight_zero_point|weight_shape|weight_g_idx|input_scale|output_scale"
    r"|input_zero_point|[kv]_scale|SCB|weight_format)$|\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state\..*)$"
)
_BUFFERS = re.compile(
    r"(^|\.)(masked_bias|position_ids|inv_freq|num_batches_tracked|running_mean|running_var|relative_position_index"
    r"|attn_mask|causal_mask|token_type_ids)$"
)
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")


def is_buffer(name: str, shape: tuple[int, ...], names: Container[str]) -> bool:
    """Whether a tensor is not trained: causal masks, positions, running statistics, scales of packed weights.

    GPT-2's and GPT-NeoX's ``attn.bias`` is a mask of shape ``[1, 1, n, n]``; a bias has one dimension.
    """
    if _SCALES.search(name) or _BUFFERS.search(name):
        return True
    if _MASK.search(name) and len(shape) == 4 and shape[:2] == (1, 1):
        return True
    return name.endswith("_scales") and f"{name.removesuffix('_scales')}_blocks" in names


def unpacked(name: str, dtype: str, elements: int, names: Container[str], bits: int | None) -> int:
    """Number of weights in ``elements`` stored elements; ``bits`` per weight, default 4."""
    if name.endswith((".qweight", ".weight_packed")) and dtype in ("I32", "U32"):
        return elements * _WORD // (bits or 4)
    if dtype == "U8" and (name.endswith("_blocks") or f"{name}.absmax" in names):
        return elements * 2
    return elements


LENGTH = 8  #: bytes of the header's length
LARGEST = 100_000_000  #: maximum bytes of a header, by the format
FIRST = 100_000  #: bytes of the first read of a single file
LEAST = 8_000  #: minimum bytes of the first read of a file
TOGETHER = 1_000_000  #: approximate bytes of the first reads of all files
#: dtype -> bits per element (safetensors, ``tensor.rs``)
BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


@dataclass(frozen=True)
class TensorHeader(Value):
    """One tensor; the dtype is written as in the format."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int  #: first byte, relative to the end of the header
    stop: int  #: byte after the last

    @property
    def elements(self) -> int:
        """Number of stored elements; packed weights are not unpacked."""
        return prod(self.shape)


@dataclass(frozen=True)
class SafetensorsFile(Value):
    """The header of one file."""

    path: str
    tensors: tuple[TensorHeader, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SafetensorsSummary(Value):
    """The headers of all files of a model, combined."""

    files: int
    tensors: int
    bytes: int  #: of the data of all tensors
    stored: Mapping[str, int]  #: dtype -> stored elements
    parameters: int  #: weights, unpacked, without buffers and scales
    buffers: int  #: elements of buffers: masks, positions, running statistics, scales

    @property
    def dtype(self) -> str | None:
        """The dtype with most bytes; None without tensors."""
        return max(self.stored, key=lambda name: self.stored[name] * BITS.get(name, 8), default=None)


def read_headers(reads: FileReads, paths: Sequence[str]) -> list[SafetensorsFile]:
    """Read the headers of files in parallel: one read per file, and a second if the header is longer.

    Raises:
        CorruptFileError: a header is damaged; the message names the file.
        ManagerError: the source refuses; the subclass states why.
    """
    first = max(LEAST, min(FIRST, TOGETHER // max(1, len(paths))))
    heads = _all(reads, [(path, 0, first) for path in paths])
    lengths = [_length(path, head, reads.size(path)) for path, head in zip(paths, heads, strict=True)]
    longer = [index for index, length in enumerate(lengths) if LENGTH + length > len(heads[index])]
    rest = _all(reads, [(paths[index], len(heads[index]), LENGTH + lengths[index]) for index in longer])
    for index, more in zip(longer, rest, strict=True):
        heads[index] += more
    return [
        parse_header(path, head[LENGTH : LENGTH + length], reads.size(path) - LENGTH - length)
        for path, head, length in zip(paths, heads, lengths, strict=True)
    ]


def summarize(files: Iterable[SafetensorsFile], bits: int | None = None) -> SafetensorsSummary:
    """Combine the headers of a model; ``bits`` per packed weight, if the configuration states it."""
    found = list(files)
    tensors = [tensor for file in found for tensor in file.tensors]
    names = frozenset(tensor.name for tensor in tensors)
    stored: Counter[str] = Counter()
    parameters = buffers = 0
    for tensor in tensors:
        stored[tensor.dtype] += tensor.elements
        if is_buffer(tensor.name, tensor.shape, names):
            buffers += tensor.elements
        else:
            parameters += unpacked(tensor.name, tensor.dtype, tensor.elements, names, bits)
    size = sum(tensor.stop - tensor.start for tensor in tensors)
    return SafetensorsSummary(len(found), len(tensors), size, dict(stored), parameters, buffers)


def shards_of(index: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that an index (``model.safetensors.index.json``) names, relative to it; empty if it is invalid."""
    mapping = index.get("weight_map")
    names = mapping.values() if isinstance(mapping, dict) else ()
    return tuple(sorted({name for name in names if isinstance(name, str)}))


def parse_header(path: str, text: bytes, data: int) -> SafetensorsFile:
    """Parse the JSON part of a file that has ``data`` bytes after it.

    Raises:
        CorruptFileError: it is not valid JSON, or inconsistent with the file.
    """
    try:
        found = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise _broken(path, f"its header is not JSON ({exc})") from exc
    if not isinstance(found, dict):
        raise _broken(path, "its header is not a JSON object")
    metadata = found.pop("__metadata__", None)
    tensors = tuple(_tensor(path, name, entry, data) for name, entry in found.items())
    texts = {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}
    return SafetensorsFile(path, tensors, texts)


def _tensor(path: str, name: str, entry: Any, data: int) -> TensorHeader:
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        good = isinstance(dtype, str) and all(type(number) is int and number >= 0 for number in (*shape, start, stop))
    except (KeyError, TypeError, ValueError) as exc:
        raise _broken(path, f"its header does not describe the tensor {name!r}") from exc
    if not good:
        raise _broken(path, f"its header does not describe the tensor {name!r}")
    if not start <= stop <= data:
        raise _broken(path, f"the tensor {name!r} ends {stop - data} bytes after the end of the file")
    if dtype in BITS and stop - start != -(-prod(shape) * BITS[dtype] // 8):
        raise _broken(path, f"the tensor {name!r} has {stop - start} bytes, which do not fit its shape")
    return TensorHeader(name, dtype, shape, start, stop)


def _length(path: str, head: bytes, size: int) -> int:
    if len(head) < LENGTH:
        raise _broken(path, "it ends before its header")
    length = int.from_bytes(head[:LENGTH], "little")
    if head[:1] == b"<" or head.startswith(b"version "):
        raise _broken(path, f"it begins with {head[:24]!r}, like an HTML page or a Git LFS pointer")
    if length > LARGEST or LENGTH + length > size:
        raise _broken(path, f"its header should have {length} bytes, but the file has {size}")
    return length


def _all(reads: FileReads, parts: Sequence[Part]) -> list[bytes]:
    found = reads.read_each(parts)
    for answer in found:
        if isinstance(answer, GpuxError):
            raise answer
    return [answer for answer in found if isinstance(answer, bytes)]


def _broken(path: str, why: str) -> CorruptFileError:
    return CorruptFileError(
        f"cannot read {path} as a safetensors file: {why}",
        hint="Pull it again, or report it to the model's owner.",
        file=path,
    )
