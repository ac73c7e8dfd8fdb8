"""What graphs are asked in order to compare two of them: real sentences where they read text, else the kept cases.

A probe is a sequence of graph calls as in :mod:`gpux.proof.cases`. The kept case of one row says how the graphs
are called; of a decoder the first call is asked, of an encoder and decoder both, the sentence given to each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, ProofError, UnsupportedError
from gpux.model.variant import StoredModel
from gpux.proof.cases import Call, ReferenceCase, Runner, kept_cases, run_calls

#: Tokens of one sentence at most.
LENGTH = 64
#: (bytes of a variant from which on, sentences that are asked): large ones take long.
_SENTENCES = ((4_000_000_000, 8), (1_000_000_000, 16), (0, 40))
_IDS = ("input_ids", "decoder_input_ids")
_MASKS = ("attention_mask", "decoder_attention_mask", "encoder_attention_mask")
_CACHE = ("past", "present", "cache")

#: Names of an answer: the number of the call, and the output.
Answers = dict[tuple[int, str], NDArray[Any]]


@dataclass(frozen=True)
class Probe:
    """One sequence of calls, without reference outputs."""

    case: ReferenceCase
    ids: NDArray[np.int64] | None = None  #: [tokens] of the sentence; None for a kept case


def sentences() -> tuple[str, ...]:
    """Forty short texts: English, a dozen other languages, code."""
    text = (files("gpux.quantize") / "loss_sentences.txt").read_text(encoding="utf-8")
    return tuple(line.replace("\\n", "\n") for line in text.splitlines())


def find_probes(model: StoredModel) -> tuple[Probe, ...]:
    """What to ask the graphs of a variant, and of those made from it.

    Raises:
        ProofError: it has no kept case, so that nothing says how it is driven, and does not read text alone.
    """
    cases = kept_cases(model)
    probes = _text_probes(model, cases) or tuple(Probe(case) for case in cases)
    if not probes:
        raise ProofError(
            f"{model.id} was stored without cases of its proof, so what another precision costs cannot be measured",
            hint="Convert it with `gpux pull --force`, or prove what it shipped with `--prove`.",
        )
    return probes


def _text_probes(model: StoredModel, cases: Sequence[ReferenceCase]) -> tuple[Probe, ...]:
    """One probe per sentence; none where the graphs take anything else, or there is no tokenizer."""
    template = _template(model, cases)
    if template is None:
        return ()
    rows = _tokens(model, _chosen(model.size))
    probes = [_probe(template, number, ids) for number, ids in enumerate(rows) if len(ids) > 1]
    return tuple(probe for probe in probes if probe is not None)


def _template(model: StoredModel, cases: Sequence[ReferenceCase]) -> ReferenceCase | None:
    """The calls of one row up to the first that gives the task's answer."""
    single = [case for case in cases if _rows(case) == 1] or _plain(model)
    if not single:
        return None
    calls = single[0].calls
    if len({call.graph for call in calls}) > 1:
        answers = {graph.name for graph in model.manifest.graphs if any(out.name == "logits" for out in graph.outputs)}
        last = next((number for number, call in enumerate(calls) if call.graph in answers), None)
        if last is None:
            return None
        calls = calls[: last + 1]
    else:
        calls = calls[:1]
    return replace(single[0], calls=calls)


def _plain(model: StoredModel) -> list[ReferenceCase]:
    """How one graph that reads text alone is called, which its inputs tell; nothing for any other."""
    (first, *others) = model.manifest.graphs
    known = (*_IDS, *_MASKS, "token_type_ids", "position_ids")
    if others or any(spec.name not in known or len(spec.shape) != 2 for spec in first.inputs):
        return []
    inputs = {spec.name: np.zeros((1, 2), spec.dtype) for spec in first.inputs}
    return [ReferenceCase("text", (Call(first.name, inputs, {}),))]


def _rows(case: ReferenceCase) -> int | None:
    ids = case.calls[0].inputs.get("input_ids")
    return ids.shape[0] if ids is not None and ids.ndim == 2 else None


def _chosen(size: int) -> tuple[str, ...]:
    """All sentences, or some from each part of the list."""
    texts = sentences()
    count = next(count for above, count in _SENTENCES if size >= above)
    return texts[:: len(texts) // count][:count]


def _tokens(model: StoredModel, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Ids of each text; none without a tokenizer, and none of a text that it has nothing for."""
    from gpux.pipelines.text.tokenization import Tokenizer

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


def _probe(template: ReferenceCase, number: int, ids: NDArray[np.int64]) -> Probe | None:
    calls = []
    for call in template.calls:
        inputs = {name: _value(name, array, ids) for name, array in call.inputs.items()}
        if any(value is None for value in inputs.values()):
            return None
        known = {name: value for name, value in inputs.items() if value is not None}
        calls.append(Call(call.graph, known, {}, call.carry))
    return Probe(ReferenceCase(f"sentence-{number}", tuple(calls)), ids)


def _value(name: str, example: NDArray[Any], ids: NDArray[np.int64]) -> NDArray[Any] | None:
    """What an input is for a sentence; None for one that is not made of text."""
    if name in _IDS:
        return ids[None].astype(example.dtype)
    if name in _MASKS:
        return np.ones((1, len(ids)), example.dtype)
    if name == "token_type_ids":
        return np.zeros((1, len(ids)), example.dtype)
    if name == "position_ids":
        return np.arange(len(ids), dtype=example.dtype)[None]
    if name == "use_cache_branch" or (name.startswith(_CACHE) and 0 in example.shape):
        return example
    return None


def ask(probe: Probe, run: Runner) -> Answers:
    """Make the calls; the float outputs of each that are not handed to a later one, and are no cache.

    What a decoder shows besides its logits is what these are made of, and not asked for.

    Raises:
        ProofError: a call hands on what it has not.
    """
    carried = {source for call in probe.case.calls for source in call.carry.values()}
    found: Answers = {}
    for number, outputs in enumerate(run_calls(probe.case, run)):
        for name, array in outputs.items():
            floats = np.issubdtype(array.dtype, np.floating)
            inner = name == "hidden_states" and "logits" in outputs
            if floats and (number, name) not in carried and not inner and not name.startswith(_CACHE):
                found[number, name] = array
    return found
