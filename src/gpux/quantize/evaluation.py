"""The inputs on which two precisions of a variant are compared: sentences for models that read text, else proof cases.

An evaluation input is a sequence of graph calls as in :mod:`gpux.convert.reference_case`, without reference outputs.
The kept proof case with one row is the template: of a decoder its first call, of an encoder and a decoder the first
call of each, with the tokens of a sentence in place of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.reference_case import Call, ReferenceCase
from gpux.errors import InputError, ProofError, UnsupportedError
from gpux.model.graph_io import is_cache, is_cache_input
from gpux.model.variant import StoredModel
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.proof.cases import Runner, kept_cases, run_calls

#: Tokens of one sentence at most.
LENGTH = 64
#: (smallest size of a variant in bytes, number of sentences): large variants are slow.
_SENTENCES = ((4_000_000_000, 8), (1_000_000_000, 16), (0, 40))
_IDS = ("input_ids", "decoder_input_ids")
_MASKS = ("attention_mask", "decoder_attention_mask", "encoder_attention_mask")

#: (number of the call, name of the output) -> output.
Outputs = dict[tuple[int, str], NDArray[Any]]


@dataclass(frozen=True)
class EvaluationInput:
    """One sequence of graph calls."""

    case: ReferenceCase
    ids: NDArray[np.int64] | None = None  #: [tokens] of the sentence; None for a proof case


def sentences() -> tuple[str, ...]:
    """Forty short texts: English, a dozen other languages, code."""
    text = (files("gpux.quantize") / "sentences.txt").read_text(encoding="utf-8")
    return tuple(line.replace("\\n", "\n") for line in text.splitlines())


def evaluation_inputs(model: StoredModel) -> tuple[EvaluationInput, ...]:
    """The inputs on which a float32 variant and its quantized ones are compared.

    Raises:
        ProofError: the variant has no kept cases, and its graphs need other inputs than text.
        CorruptFileError: a kept case cannot be read.
    """
    cases = kept_cases(model)
    inputs = _text_inputs(model, cases) or tuple(EvaluationInput(case) for case in cases)
    if not inputs:
        raise ProofError(
            f"{model.id} is stored without proof cases, so the loss of another precision cannot be measured",
            hint="Convert the model with `gpux pull --force`, or prove its shipped ONNX with `--prove`.",
        )
    return inputs


def _text_inputs(model: StoredModel, cases: Sequence[ReferenceCase]) -> tuple[EvaluationInput, ...]:
    """One input per sentence; empty where the graphs need other inputs than text, or there is no tokenizer."""
    template = _template(model, cases)
    if template is None:
        return ()
    rows = _tokenized(model, _sentences_for(model.size))
    found = [_text_input(template, number, ids) for number, ids in enumerate(rows) if len(ids) > 1]
    return tuple(text for text in found if text is not None)


def _template(model: StoredModel, cases: Sequence[ReferenceCase]) -> ReferenceCase | None:
    """A case of one row, cut after the first call that gives the task's output."""
    single = [case for case in cases if _rows(case) == 1] or _single_graph_case(model)
    if not single:
        return None
    calls = single[0].calls
    if len({call.graph for call in calls}) > 1:
        with_logits = {graph.name for graph in model.manifest.graphs if any(o.name == "logits" for o in graph.outputs)}
        last = next((number for number, call in enumerate(calls) if call.graph in with_logits), None)
        if last is None:
            return None
        calls = calls[: last + 1]
    else:
        calls = calls[:1]
    return replace(single[0], calls=calls)


def _single_graph_case(model: StoredModel) -> list[ReferenceCase]:
    """One call of a variant's only graph, if all inputs of the graph can be derived from text; else empty."""
    (first, *others) = model.manifest.graphs
    known = (*_IDS, *_MASKS, "token_type_ids", "position_ids")
    if others or any(spec.name not in known or len(spec.shape) != 2 for spec in first.inputs):
        return []
    inputs = {spec.name: np.zeros((1, 2), spec.dtype) for spec in first.inputs}
    return [ReferenceCase("text", (Call(first.name, inputs, {}),))]


def _rows(case: ReferenceCase) -> int | None:
    ids = case.calls[0].inputs.get("input_ids")
    return ids.shape[0] if ids is not None and ids.ndim == 2 else None


def _sentences_for(size: int) -> tuple[str, ...]:
    """All sentences, or for a large variant every second or fifth one."""
    texts = sentences()
    count = next(count for smallest, count in _SENTENCES if size >= smallest)
    return texts[:: len(texts) // count][:count]


def _tokenized(model: StoredModel, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Token ids of each text, without texts that the tokenizer has no tokens for; empty without a tokenizer."""
    try:
        tokenizer = Tokenizer(model)
    except UnsupportedError:
        return []
    limit = min(LENGTH, tokenizer.limit or LENGTH)
    found = []
    for text in texts:
        with contextlib.suppress(InputError):
            found.append(np.array(tokenizer([text], limit=limit)[0].ids, np.int64))
    return found


def _text_input(template: ReferenceCase, number: int, ids: NDArray[np.int64]) -> EvaluationInput | None:
    """The template with a sentence's tokens; None if an input of its graphs cannot be derived from text."""
    calls = []
    for call in template.calls:
        inputs = {name: _text_value(name, array, ids) for name, array in call.inputs.items()}
        known = {name: value for name, value in inputs.items() if value is not None}
        if len(known) < len(inputs):
            return None
        calls.append(Call(call.graph, known, {}, call.carry))
    return EvaluationInput(ReferenceCase(f"sentence-{number}", tuple(calls)), ids)


def _text_value(name: str, example: NDArray[Any], ids: NDArray[np.int64]) -> NDArray[Any] | None:
    """The value of a graph input for a sentence; None if it cannot be derived from text."""
    if name in _IDS:
        return ids[None].astype(example.dtype)
    if name in _MASKS:
        return np.ones((1, len(ids)), example.dtype)
    if name == "token_type_ids":
        return np.zeros((1, len(ids)), example.dtype)
    if name == "position_ids":
        return np.arange(len(ids), dtype=example.dtype)[None]
    if name == "use_cache_branch" or (is_cache_input(name) and 0 in example.shape):
        return example
    return None


def evaluate(inputs: EvaluationInput, run: Runner) -> Outputs:
    """Run the calls; the float outputs of each that are compared.

    Outputs that a later call receives, KV caches, and the hidden states from which a decoder computes its logits are
    not compared.

    Raises:
        ProofError: a call needs an output that the earlier call did not give.
    """
    carried = {source for call in inputs.case.calls for source in call.carry.values()}
    found: Outputs = {}
    for number, outputs in enumerate(run_calls(inputs.case, run)):
        for name, array in outputs.items():
            floats = np.issubdtype(array.dtype, np.floating)
            inner = name == "hidden_states" and "logits" in outputs
            if floats and (number, name) not in carried and not inner and not is_cache(name):
                found[number, name] = array
    return found
