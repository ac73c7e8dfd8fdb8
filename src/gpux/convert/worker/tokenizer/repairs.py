"""Corrections of converted tokenizers: each is kept if it reduces the differences from the original.

A repair gets the JSON of a tokenizer (``Tokenizer.to_str`` of the tokenizers library) and returns a corrected one, or
None if it does not apply. It need not be right: the comparison decides.
"""

from __future__ import annotations

import copy
import json
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import Tokenizer

from gpux.convert.worker.tokenizer.converters import template
from gpux.convert.worker.tokenizer.proof import Difference, Original, differences

State = dict[str, Any]
Repair = Callable[[State, Any], State | None]


def repaired(tokenizer: Tokenizer, slow: Any, original: Original) -> tuple[Tokenizer, list[Difference]]:
    """The tokenizer after all repairs that helped, and its remaining differences."""
    best, left = tokenizer, differences(original, tokenizer)
    for repair in REPAIRS:
        if not left:
            break
        state = repair(json.loads(best.to_str()), slow)
        if state is None:
            continue
        candidate = Tokenizer.from_str(json.dumps(state))
        found = differences(original, candidate)
        if weight(found) < weight(left):
            best, left = candidate, found
    return best, left


def weight(found: list[Difference]) -> tuple[int, int]:
    """The number of differences on ordinary texts, then on all."""
    return sum(not difference.edge for difference in found), len(found)


def strip_right(state: State, slow: Any) -> State | None:
    """Remove spaces at the end, as sentencepiece (Albert, FNet, XLNet)."""
    return _after(state, {"type": "Strip", "strip_left": False, "strip_right": True})


def compose_first(state: State, slow: Any) -> State | None:
    """Compose letters and accents first (BERT that keeps accents)."""
    return _before(state, {"type": "NFC"})


def accents_by_class(state: State, slow: Any) -> State | None:
    """Strip only characters of a combining class, then compose the rest again (Albert, XLNet: Korean, Hindi)."""
    steps = _steps(state)
    place = next((index for index, step in enumerate(steps) if step["type"] == "StripAccents"), None)
    if place is None:
        return None
    marks = {"type": "Replace", "pattern": {"Regex": f"[{_combining()}]"}, "content": ""}
    steps[place : place + 1] = [marks, {"type": "NFC"}]
    return _with_steps(state, steps)


@cache
def _combining() -> str:
    """The characters with a combining class, as ranges of a regular expression."""
    ranges: list[list[int]] = []
    for code in range(0x110000):
        if unicodedata.combining(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\x{{{low:X}}}-\\x{{{high:X}}}" for low, high in ranges)


def byte_fallback(state: State, slow: Any) -> State | None:
    """Encode letters that the vocabulary lacks as bytes, if it has byte tokens (mT5, mDeBERTa)."""
    model = state["model"]
    if model.get("byte_fallback") is not False or slow.convert_tokens_to_ids("<0x0A>") == slow.unk_token_id:
        return None
    model["byte_fallback"] = True
    decoder = state["decoder"]
    rest = decoder["decoders"] if decoder and decoder["type"] == "Sequence" else [decoder] if decoder else []
    state["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, *rest]}
    return state


def prefix_first_only(state: State, slow: Any) -> State | None:
    """Add a space before the text, but not after a special token (CodeLlama)."""
    prepends = [step["type"] == "Prepend" for step in _steps(state)]
    if not any(prepends) or state["pre_tokenizer"] is not None:
        return None
    state["normalizer"] = None
    state["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return state


def specials_as_they_are(state: State, slow: Any) -> State | None:
    """Match special tokens before normalization."""
    for token in state["added_tokens"]:
        token["normalized"] = False
    return state


def own_template(state: State, slow: Any) -> State | None:
    """Add the original's special tokens to a text and a pair (Blenderbot drops the second text)."""
    around = template(slow)
    if around is None:
        return None
    state["post_processor"] = json.loads(around.__getstate__())
    return state


def _steps(state: State) -> list[State]:
    normalizer = state["normalizer"]
    if normalizer is None:
        return []
    found: list[State] = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    return copy.deepcopy(found)


def _with_steps(state: State, steps: list[State]) -> State:
    return {**state, "normalizer": {"type": "Sequence", "normalizers": steps}}


def _after(state: State, step: State) -> State:
    return _with_steps(state, [*_steps(state), step])


def _before(state: State, step: State) -> State:
    return _with_steps(state, [step, *_steps(state)])


#: In the order in which they are tried.
REPAIRS: tuple[Repair, ...] = (
    own_template,
    byte_fallback,
    accents_by_class,
    compose_first,
    strip_right,
    specials_as_they_are,
    prefix_first_only,
)
