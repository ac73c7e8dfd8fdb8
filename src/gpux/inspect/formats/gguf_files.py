"""Selects a GGUF file: a repository often has many quantizations of a model, and a pull needs one.

Names follow the GGUF naming convention (ggml ``docs/gguf.md``) and the labels of llama.cpp's ``-hf org/name:QUANT``:
``Model-Q4_K_M.gguf``, ``model.IQ4_XS.gguf``, ``Q8_0/model-Q8_0-00001-of-00003.gguf``, ``UD-Q4_K_XL``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from gpux.inspect.formats.units import Unit
from gpux.model.precisions import TABLE

#: llama.cpp's default: about 4.8 bits per weight with little loss
DEFAULT = "Q4_K_M"
_LEAST_BITS = 4  # fewer bits reduce the quality visibly

_LABEL = re.compile(
    r"(?:^|[-_./])((?:UD-)?(?:I?Q|TQ)\d(?:_(?:[01]|K|NL|XXS|XS|S|M|L|XL))*|MXFP4(?:_MOE)?|BF16|F?F16|FP16|F32|FP32)"
    r"(?=[-_./]|$)",
    re.IGNORECASE,
)
#: precision, its aliases and file suffixes -> quantization: ``FP16`` -> ``F16``, ``INT8`` -> ``Q8_0``
_ALIASES = {spelling.upper(): row.gguf for row in TABLE if row.gguf for spelling in row.spellings}
_PROJECTOR = re.compile(r"(^|[-_./])mmproj", re.IGNORECASE)  # the vision or audio encoder of a language model
_IMATRIX = re.compile(r"imatrix", re.IGNORECASE)  # importance matrix of the quantization, not a model


def gguf_label(name: str) -> str | None:
    """The quantization in a file name, else in its folder: ``Q4_K_M``, ``UD-Q4_K_XL``, ``BF16`` …"""
    stem = re.sub(r"(-\*-of-\d+)?\.gguf$", "", name, flags=re.IGNORECASE)
    for part in reversed(stem.split("/")):
        found = _LABEL.findall(part)
        if found:
            return canonical_label(found[-1])
    return None


def canonical_label(text: str) -> str:
    """A label as gpux writes it: upper case; ``fp16`` is ``F16``, ``int8`` is ``Q8_0``, ``int4`` is ``Q4_K_M``."""
    return _ALIASES.get(text.upper(), text.upper())


def is_companion(name: str) -> bool:
    """Whether a file is a projector or an importance matrix instead of a language model."""
    return bool(_PROJECTOR.search(name) or _IMATRIX.search(name))


def choose_gguf(
    found: Iterable[Unit], label: str | None, size: Callable[[Unit], int | None]
) -> tuple[Unit, str] | None:
    """Returns (selected unit, short reason); None if none matches.

    Args:
        found: the GGUF units of the repository, splits complete.
        label: the requested quantization; None selects :data:`DEFAULT`, else the smallest with at least 4 bits, else
            the largest.
        size: bytes of a unit; None if the listing has no size.
    """
    models = sorted((unit for unit in found if not is_companion(unit.name)), key=_order)
    if label is not None:
        wanted = canonical_label(label)
        return _first(models, wanted, f"{wanted}, as requested")
    if len(models) == 1:
        return models[0], "the only GGUF file"
    return _first(models, DEFAULT, f"{DEFAULT}: the usual balance of size and quality") or _by_size(models, size)


def projector(found: Iterable[Unit]) -> Unit | None:
    """The vision or audio encoder of the model; of several, the one in half precision."""
    candidates = [unit for unit in found if _PROJECTOR.search(unit.name)]
    preferred = ("F16", "BF16", "Q8_0", "F32")
    return min(candidates, key=lambda unit: (_place(gguf_label(unit.name), preferred), unit.name), default=None)


def _place(label: str | None, preferred: Sequence[str]) -> int:
    return preferred.index(label) if label in preferred else len(preferred)


def _order(unit: Unit) -> tuple[int, str]:
    return unit.name.count("/"), unit.name


def _first(models: Iterable[Unit], label: str, why: str) -> tuple[Unit, str] | None:
    return next(((unit, why) for unit in models if gguf_label(unit.name) == label), None)


def _by_size(models: Sequence[Unit], size: Callable[[Unit], int | None]) -> tuple[Unit, str] | None:
    sizes = {unit.name: size(unit) for unit in models}
    if None in sizes.values():  # without all sizes, compare the bits in the names
        sizes = {unit.name: _bits(unit) for unit in models}
    ordered = sorted(models, key=lambda unit: (sizes[unit.name] or 0, unit.name))
    enough = [unit for unit in ordered if _bits(unit) >= _LEAST_BITS]
    if enough:
        return enough[0], f"no {DEFAULT}: the smallest with at least {_LEAST_BITS} bits"
    return (ordered[-1], f"none with at least {_LEAST_BITS} bits: the largest") if ordered else None


def _bits(unit: Unit) -> int:
    """Bits per weight by the digits of the label; 16 for a file without a label."""
    match = re.search(r"\d+", gguf_label(unit.name) or "16")
    return int(match[0]) if match else 16
