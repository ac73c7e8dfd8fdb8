"""Which values an option of a generation may have, and the error that names it where it has another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from gpux.errors import UsageError


@dataclass(frozen=True)
class Range:
    """Numbers from ``least`` to ``most``."""

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    above: bool = False  #: ``least`` itself is too small
    optional: bool = False  #: None is meant

    def holds(self, value: Any) -> bool:
        """Is it one of them; True and False are no numbers here, NaN and infinities neither."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number = float(value)
        return math.isfinite(number) and self.least <= number <= self.most and not (self.above and number == self.least)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isinf(self.least):
            return kind
        lower = f"greater than {self.least:g}" if self.above else f"at least {self.least:g}"
        return f"{kind} {lower}" + ("" if math.isinf(self.most) else f" and at most {self.most:g}")


_COUNT = Range(0, whole=True)
_ONE_OR_MORE = Range(1, whole=True)
_TOKEN = Range(0, whole=True, optional=True)
_SHARE = Range(0, 1, above=True)
RANGES = {
    "max_new_tokens": _ONE_OR_MORE,
    "min_new_tokens": _COUNT,
    "min_length": _COUNT,
    "temperature": Range(0, above=True),
    "top_k": _COUNT,
    "top_p": _SHARE,
    "min_p": Range(0, 1),
    "typical_p": _SHARE,
    "repetition_penalty": Range(0, above=True),
    "presence_penalty": Range(),
    "frequency_penalty": Range(),
    "encoder_repetition_penalty": Range(0, above=True),
    "no_repeat_ngram_size": _COUNT,
    "encoder_no_repeat_ngram_size": _COUNT,
    "forced_bos_token_id": _TOKEN,
    "pad_token_id": _TOKEN,
    "decoder_start_token_id": _TOKEN,
    "num_return_sequences": _ONE_OR_MORE,
    "num_beams": _ONE_OR_MORE,
    "length_penalty": Range(),
    "prompt_lookup_tokens": _COUNT,
    "seed": _TOKEN,
    "logprobs": _TOKEN,
}


def check_range(name: str, value: Any) -> None:
    """Raise ``UsageError`` where the value of this option is out of its range."""
    if not RANGES[name].holds(value):
        raise _wrong(name, value, str(RANGES[name]))


def check_flags(name: str, value: Any) -> None:
    """Raise ``UsageError`` for what is neither True nor False, and for ``early_stopping`` nor "never"."""
    if name == "early_stopping" and value == "never":
        return
    if not isinstance(value, bool):
        raise _wrong(name, value, 'True, False or "never"' if name == "early_stopping" else "True or False")


def check_tokens(name: str, tokens: Sequence[Any], least: int = 0) -> None:
    """Raise ``UsageError`` for what is no sequence of token ids, or shorter than ``least``."""
    if len(tokens) < least:
        raise _wrong(name, tokens, "sequences that are not empty")
    for token in tokens:
        if not RANGES["pad_token_id"].holds(token) or token is None:
            raise _wrong(name, token, "made of token ids, whole numbers of at least 0")


def check_stops(stops: Sequence[Any]) -> None:
    """Raise ``UsageError`` for a stop that is no text, or an empty one."""
    for stop in stops:
        if not isinstance(stop, str) or not stop:
            raise _wrong("stop", stop, "a text, or several, that are not empty")


def _wrong(name: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"{name} is {value!r}, and must be {expected}", hint=f"Give another {name}, or leave it away.")
