"""Reference cases for decoders with a KV cache: a prefill, single tokens after it, a chunk after that.

The original is run without a cache, one row at a time and without padding: each row of a batch must have these outputs.
The graph is called as at run time: padded, with running positions, from an empty cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.reference_case import Call, ReferenceCase
from gpux.convert.worker.common.graphs import Signature, Tensor
from gpux.convert.worker.common.logits import INPUT as START
from gpux.convert.worker.common.logits import LOGITS
from gpux.convert.worker.reference.inputs import Arrays, Vocabulary, running_positions, text_config
from gpux.convert.worker.reference.lengths import find_thresholds, positions
from gpux.convert.worker.reference.subject import (
    SHAPE_ERRORS,
    Findings,
    Subject,
    array,
    beyond,
    run_model,
    sort_thresholds,
    tokens_per_case,
)
from gpux.model.graph_io import present_name
from gpux.system.worker_protocol import Refused

GRAPH = "model"
TOKENS = ("input_ids", "attention_mask", "position_ids")
CHUNK = 3  # tokens in one call after a cache


@dataclass(frozen=True)
class Script:
    """One case: tokens of each row's prompt, number of single steps, and tokens of a last chunk."""

    name: str
    prompts: tuple[int, ...]
    steps: int
    chunk: int = 0
    keep: int = 0  #: last tokens of each call with logits; 0: all

    @property
    def widths(self) -> tuple[int, ...]:
        """Tokens of each call."""
        return (max(self.prompts), *[1] * self.steps, *[self.chunk] * bool(self.chunk))

    @property
    def length(self) -> int:
        """Tokens of the longest row."""
        return sum(self.widths)


def is_decoder(signature: Signature) -> bool:
    """Whether a graph has a KV cache."""
    return any(present_name(name, signature.outputs) for name in signature.inputs)


def write_decoder(subject: Subject) -> Findings:
    """Write the cases; returns how the graph was called."""
    signature = subject.signatures[GRAPH]
    decoder = Decoder(subject, signature)
    found = positions(subject.model, text_config(subject.config))
    limit = min((size for size in (found.limit, signature.rotations) if size), default=None)
    counter = "attention_mask" if "attention_mask" in signature.inputs else "input_ids"
    findings = Findings(
        padding_side="right" if signature.fused_attention else "left",
        max_length=limit,
        chunks_after_cache=True,
        chunk_rows=1 if signature.fused_attention else None,
        position_inputs="position_ids" in signature.inputs,
        counters={GRAPH: {counter: 1}},
    )
    largest = tokens_per_case(decoder.bytes_per_token())
    sort_thresholds(findings, find_thresholds(subject.config), limit, largest)
    if found.hard or signature.rotations:
        findings.shorten(limit or 0)
    if not decoder.supports_ragged(findings.padding_side):
        findings.cap(GRAPH, "input_ids", 0, 1)
    for script in scripts(findings, largest, ragged=decoder.ragged, starts=START in signature.optional):
        subject.write(decoder.case(script, findings.padding_side))
    subject.release(findings)
    return findings


def scripts(findings: Findings, largest: int, *, ragged: bool, starts: bool) -> list[Script]:
    """The cases, none longer than the model supports, each name once."""
    chunk = CHUNK if findings.chunks_after_cache else 0
    batched = chunk if findings.chunk_rows is None else 0
    made = [
        Script("short", (2,), 1),
        Script("single", (17,), 2, chunk),
        Script("long", (61,), 2),
        *([Script("ragged", (9, 5), 3, batched)] if ragged else []),
        *([Script("last", (19,), 1, keep=2)] if starts else []),
    ]
    for one in findings.thresholds:
        if one in findings.unaffordable:
            continue
        below = (max(1, one.length - 2), max(1, one.length // 2))[: 2 if ragged else 1]
        made.append(Script(f"below-{one.name}-{one.length}", below, 2 if one.length > 2 else 0))
        made.append(Script(f"across-{one.name}-{one.length}", (max(1, one.length - 1),), 4))
        made.append(Script(f"beyond-{one.name}-{one.length}", (beyond(one),), 2))
    most = min(largest, findings.max_length or largest)
    fitted = (_fitted(script, most) for script in made)
    return [script for script in fitted if script.length <= most]


def _fitted(script: Script, most: int) -> Script:
    """The script with prompts shortened to what the model supports."""
    over = script.length - most
    if over <= 0 or script.name.startswith(("below", "across", "beyond")):
        return script
    longest = max(script.prompts)
    return Script(
        script.name,
        tuple(max(1, rows - max(0, over - (longest - rows))) for rows in script.prompts),
        script.steps,
        script.chunk,
        script.keep,
    )


class Decoder:
    """The original and its one graph."""

    def __init__(self, subject: Subject, signature: Signature) -> None:
        self._subject = subject
        self._inputs = signature.inputs
        self._vocabulary = Vocabulary(subject.config, subject.rng)
        self._caches = _caches(signature)
        self._outputs = [name for name in signature.outputs if name not in self._caches.values()]
        self._declared = signature.outputs
        self.ragged = True

    def bytes_per_token(self) -> int:
        """Bytes of the compared outputs for each token."""
        sizes = [[size for size in self._declared[name].shape if isinstance(size, int)] for name in self._outputs]
        return sum(4 * int(np.prod(size)) for size in sizes)

    def supports_ragged(self, side: str) -> bool:
        """Whether rows of different lengths have the same outputs in a batch of the original as alone.

        If not, the model can only be run one row at a time.
        """
        self.ragged = "attention_mask" in self._inputs
        if not self.ragged or side == "right":
            return self.ragged
        rows = [self._vocabulary.ordinary(size) for size in (7, 4)]
        tokens, mask = _padded(rows, 7, side, self._vocabulary.pad or 0)
        given = {"input_ids": tokens, "attention_mask": mask}
        if "position_ids" in self._inputs:
            given["position_ids"] = running_positions(mask)
        try:
            together = self._answer(given)
        except SHAPE_ERRORS:
            self.ragged = False
            return False
        for number, row in enumerate(rows):
            alone = self._alone(row)
            self.ragged &= all(
                np.allclose(together[name][number][mask[number] == 1], alone[name], rtol=1e-3, atol=1e-3)
                for name in alone
            )
        return self.ragged

    def case(self, script: Script, side: str) -> ReferenceCase:
        """Run the original for each row, and arrange the outputs as those of the calls."""
        after = script.length - max(script.prompts)
        rows = [self._vocabulary.ordinary(prompt + after) for prompt in script.prompts]
        answers = [self._alone(row) for row in rows]
        width = max(script.prompts)
        first, mask = _padded([row[: len(row) - after] for row in rows], width, side, self._vocabulary.pad or 0)
        later = np.stack([row[len(row) - after :] for row in rows])
        tokens = np.concatenate([first, later], axis=1)
        mask = np.concatenate([mask, np.ones_like(later)], axis=1)
        calls, start = [], 0
        for number, size in enumerate(script.widths):
            end = start + size
            call = self._call(number, tokens[:, :end], mask[:, :end], start, answers)
            calls.append(_last(call, script.keep) if script.keep else call)
            start = end
        return ReferenceCase(script.name, tuple(calls), script.length)

    def _call(
        self, number: int, tokens: NDArray[np.int64], mask: NDArray[np.int64], start: int, answers: list[Arrays]
    ) -> Call:
        made = {
            "input_ids": tokens[:, start:],
            "attention_mask": mask,
            "position_ids": running_positions(mask)[:, start:],
        }
        inputs: Arrays = {
            name: made[name].astype(tensor.dtype) for name, tensor in self._inputs.items() if name in made
        }
        carry: dict[str, tuple[int, str]] = {}
        if number == 0:
            inputs |= {name: self._empty(self._inputs[name], len(tokens)) for name in self._caches}
        else:
            carry = {name: (number - 1, present) for name, present in self._caches.items()}
        real = mask == 1
        outputs = {name: _arranged([answer[name] for answer in answers], real)[:, start:] for name in self._outputs}
        masks = {} if real[:, start:].all() else dict.fromkeys(self._outputs, real[:, start:])
        return Call(GRAPH, inputs, outputs, carry, masks)

    def _empty(self, tensor: Tensor, rows: int) -> NDArray[Any]:
        """A cache without tokens; a recurrent state, which has no axis of tokens, begins with zeros."""
        shape = [size if isinstance(size, int) else rows if "batch" in size else 0 for size in tensor.shape]
        return np.zeros(shape, tensor.dtype)

    def _alone(self, row: NDArray[np.int64]) -> Arrays:
        """The original's outputs for one row without padding: ``[tokens, ...]``."""
        found = self._answer({"input_ids": row[None], "attention_mask": np.ones((1, len(row)), np.int64)})
        return {name: value[0] for name, value in found.items()}

    def _answer(self, inputs: Arrays) -> Arrays:
        found = run_model(self._subject.model, inputs, use_cache=False)
        return {name: array(found[name]) for name in self._outputs}


def _caches(signature: Signature) -> dict[str, str]:
    """Input of a cache -> the output that it comes from.

    Raises:
        Refused: the graph has an input that is neither of a text nor of a cache.
    """
    found: dict[str, str] = {}
    for name in signature.inputs:
        if name in TOKENS:
            continue
        present = present_name(name, signature.outputs)
        if present is None:
            raise Refused("conversion", f"the graph has an unexpected input {name!r}")
        found[name] = present
    return found


def _last(call: Call, keep: int) -> Call:
    """The call with logits of its last tokens only."""
    outputs = {name: value[:, -keep:] if name == LOGITS else value for name, value in call.outputs.items()}
    return replace(call, inputs={**call.inputs, START: np.array([-keep])}, outputs=outputs)


def _padded(
    rows: list[NDArray[np.int64]], width: int, side: str, pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens ``[rows, width]`` and their mask."""
    tokens = np.full((len(rows), width), pad, np.int64)
    mask = np.zeros_like(tokens)
    for number, row in enumerate(rows):
        place = slice(width - len(row), None) if side == "left" else slice(len(row))
        tokens[number, place] = row
        mask[number, place] = 1
    return tokens, mask


def _arranged(answers: list[NDArray[Any]], real: NDArray[np.bool_]) -> NDArray[Any]:
    """Each row's outputs at the positions of its tokens; zeros at padding."""
    laid = np.zeros((*real.shape, *answers[0].shape[1:]), answers[0].dtype)
    for number, answer in enumerate(answers):
        laid[number, real[number]] = answer[: int(real[number].sum())]
    return laid
