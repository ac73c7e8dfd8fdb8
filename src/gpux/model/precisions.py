"""The table of precisions: names, aliases, file suffixes, bits, tolerances, limits of loss and order of preference.

File suffixes are those of transformers.js (``utils/dtypes.js``), optimum and sentence-transformers; aliases also those
of the ``variant`` argument of ``from_pretrained``. Quantizations of GGUF files have names of their own, see
:mod:`gpux.inspect.formats.gguf_files`; a precision states the one that it stands for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from gpux.errors import UsageError


@dataclass(frozen=True)
class Limit:
    """The bound of one measure of quantization loss."""

    bound: Literal["least", "most"]
    value: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` is within the bound; False for NaN."""
        return value >= self.value if self.bound == "least" else value <= self.value


@dataclass(frozen=True)
class Precision:
    """One precision of a runnable model."""

    name: str
    bits: int  #: of a weight in a matrix
    activation_bits: int  #: of a number in an embedding table, an activation or a KV cache
    replay_tolerance: float  #: for stored answers replayed with another onnxruntime, processor or execution provider
    tolerance: float | None = None  #: of the conversion proof; None: outputs differ from the original's by design
    aliases: tuple[str, ...] = ()  #: other spellings a user may type
    suffixes: tuple[str, ...] = ()  #: of ONNX file names (``model_q4.onnx``), the preferred first
    gguf: str | None = None  #: the GGUF quantization that this name stands for with ``--format gguf``
    loss_limits: Mapping[str, Limit] | None = field(default=None, hash=False)  #: measure -> limit
    size_ratio: float | None = None  #: estimated size of a quantized variant, relative to its fp32 graphs

    @property
    def can_quantize(self) -> bool:
        """Whether gpux can quantize fp32 graphs to this precision."""
        return self.loss_limits is not None

    @property
    def spellings(self) -> tuple[str, ...]:
        """The name, the aliases and the file suffixes."""
        return tuple(dict.fromkeys((self.name, *self.aliases, *self.suffixes)))


def _limits(
    *, cosine_mean: float, cosine_min: float, logits_cosine: float, kl: float, perplexity_ratio: float, error: float
) -> Mapping[str, Limit]:
    return MappingProxyType(
        {
            "cosine_mean": Limit("least", cosine_mean),
            "cosine_min": Limit("least", cosine_min),
            "kl": Limit("most", kl),
            "logits_cosine": Limit("least", logits_cosine),
            "perplexity_ratio": Limit("most", perplexity_ratio),
            "relative_error": Limit("most", error),
        }
    )


#: Replay of quantized graphs: activations are rounded to 8 bits inside the graph, so a difference in the last bit
#: before the rounding can become a whole quantization step after it.
_REPLAY_8_BITS = 5e-2
_REPLAY_4_BITS = 1e-1

#: Every precision, the closest to the original first: a request without a precision gets the first one available.
#:
#: Tolerances are relative to max(1, largest reference magnitude) of an output. Limits of loss: fp16 changes no visible
#: answer; int8 may reorder nearly equal results, but rankings of vectors and nearly all generated text stay the same;
#: int4 changes text visibly and must keep its quality. ``top1`` is reported and has no limit: where classes are nearly
#: equal it is meaningless, and ``kl`` covers what matters. The measures are those of :mod:`gpux.quantize.loss`.
TABLE = (
    Precision(
        "fp32",
        32,
        32,
        1e-4,
        tolerance=1e-4,
        aliases=("float32", "f32", "32bit"),
        suffixes=("", "fp32"),
        gguf="F32",
    ),
    Precision(
        "fp16",
        16,
        16,
        2e-2,
        tolerance=2e-2,
        aliases=("float16", "f16", "16bit", "half"),
        suffixes=("fp16",),
        gguf="F16",
        loss_limits=_limits(
            cosine_mean=0.9995, cosine_min=0.998, logits_cosine=0.999, kl=0.002, perplexity_ratio=1.005, error=0.01
        ),
        size_ratio=0.5,
    ),
    Precision("bf16", 16, 16, 5e-2, tolerance=5e-2, aliases=("bfloat16",), suffixes=("bf16",), gguf="BF16"),
    Precision(
        "int8",
        8,
        32,
        _REPLAY_8_BITS,
        aliases=("8bit", "8bits"),
        # transformers.js writes ``quantized`` for its default of 8 bits: uint8 where the graph has convolutions
        suffixes=("quantized", "int8", "q8", "qint8"),
        gguf="Q8_0",
        loss_limits=_limits(
            cosine_mean=0.98, cosine_min=0.93, logits_cosine=0.98, kl=0.05, perplexity_ratio=1.03, error=0.1
        ),
        size_ratio=0.5,  # embedding tables and the scales of blocks included
    ),
    Precision("uint8", 8, 32, _REPLAY_8_BITS, suffixes=("uint8", "quint8")),
    Precision("q4f16", 4, 16, _REPLAY_4_BITS, suffixes=("q4f16",)),
    Precision(
        "int4",
        4,
        32,
        _REPLAY_4_BITS,
        aliases=("4bit", "4bits"),
        suffixes=("q4", "int4"),
        gguf="Q4_K_M",
        loss_limits=_limits(
            cosine_mean=0.93, cosine_min=0.75, logits_cosine=0.8, kl=0.25, perplexity_ratio=1.2, error=0.3
        ),
        size_ratio=0.4,
    ),
    Precision("bnb4", 4, 32, _REPLAY_4_BITS, suffixes=("bnb4",)),
    Precision("q2f16", 2, 16, _REPLAY_4_BITS, suffixes=("q2f16",)),
    Precision("q2", 2, 32, _REPLAY_4_BITS, suffixes=("q2",)),
    Precision("q1f16", 1, 16, _REPLAY_4_BITS, suffixes=("q1f16",)),
    Precision("q1", 1, 32, _REPLAY_4_BITS, suffixes=("q1",)),
)

#: Names of all precisions, in the order of :data:`TABLE`.
PRECISIONS = tuple(row.name for row in TABLE)
#: Names of the precisions that gpux can quantize fp32 graphs to.
QUANTIZED = tuple(row.name for row in TABLE if row.can_quantize)

#: In place of a precision: the one that suits the model on the device, see :mod:`gpux.quantize.choose`.
AUTO = "auto"

_BY_NAME = {row.name: row for row in TABLE}
_NAMES = {spelling: row.name for row in TABLE for spelling in row.spellings if spelling}
#: Spellings of a number type or of a quantization that may be meant as a precision: ``int5``, ``Q4_K_M``, ``6bit``.
_NUMBER_TYPE = re.compile(
    r"(u?i(nt)?|qu?int|i?q|fp|f|bf|b?float|bnb|nf|mxfp|nvfp)[-_]?\d\w*|\d+[-_]?bits?", re.IGNORECASE
)
_SIMILAR = 0.75  #: least ratio of difflib for a spelling that may be a typing error


def canonical_precision(name: str) -> str:
    """One name for each precision: ``q8`` and ``quantized`` are ``int8``, ``q4`` is ``int4``; unknown names unchanged.

    Case is ignored; the result is lower case.
    """
    lowered = name.lower()
    return _NAMES.get(lowered, lowered)


def find_precision(name: str) -> Precision:
    """The precision of that name or alias.

    Raises:
        UsageError: unknown precision; the hint lists all names.
    """
    found = _BY_NAME.get(canonical_precision(name))
    if found is None:
        raise UsageError(f"unknown precision {name!r}", hint=precisions_hint(name))
    return found


def known_precision(name: str) -> str:
    """The canonical name of a precision, or :data:`AUTO`.

    Raises:
        UsageError: no precision has that name; the hint lists all names.
    """
    found = canonical_precision(name)
    if found != AUTO and found not in _BY_NAME:
        raise UsageError(f"no precision {name!r}", hint=precisions_hint(name))
    return found


def names_precision(word: str) -> bool:
    """Whether a word is a name, an alias or a file suffix of a precision, or :data:`AUTO`; case is ignored."""
    found = canonical_precision(word)
    return found == AUTO or found in _BY_NAME


def resembles_precision(word: str) -> bool:
    """Whether an unknown word may be meant as a precision: the name of a number type, or a typing error."""
    return bool(_NUMBER_TYPE.fullmatch(word) or _similar(word))


def precisions_hint(word: str) -> str:
    """The hint for a word that is not a precision: the nearest name, if one is near, and all names."""
    lowered, digits = word.lower(), re.search(r"\d+", word)
    stands_for = [row.name for row in TABLE if row.gguf and row.gguf.lower() == lowered]
    near = stands_for or (_of_bits(int(digits[0])) if digits else _similar(word))
    begin = f"Did you mean {near[0]}? " if near else ""
    return f"{begin}The precisions are: {', '.join((*PRECISIONS, AUTO))}."


def _of_bits(bits: int) -> list[str]:
    """The precisions of a pull with the nearest number of bits; of two at the same distance, the more exact first."""
    offered = [row for row in TABLE if row.can_quantize or row.tolerance == TABLE[0].tolerance]
    return [row.name for row in sorted(offered, key=lambda row: (abs(row.bits - bits), -row.bits))]


def _similar(word: str) -> list[str]:
    """The canonical names whose spellings are similar to a word, the most similar first."""
    names = {**_NAMES, AUTO: AUTO}
    return [names[found] for found in difflib.get_close_matches(word.lower(), names, n=3, cutoff=_SIMILAR)]


def precision_in(words: Iterable[str]) -> str | None:
    """The precision that the last of the words to name one stands for; None where no word names a precision."""
    named = [canonical_precision(word) for word in words]
    return next((name for name in reversed(named) if name in _BY_NAME), None)


def preference(name: str) -> int:
    """The place of a precision in :data:`PRECISIONS`, for sorting; unknown names come last."""
    return PRECISIONS.index(name) if name in _BY_NAME else len(PRECISIONS)
