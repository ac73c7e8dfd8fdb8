"""Reference cases for an encoder and a decoder with a cache: text to text, speech to text, image to text.

Calls: the encoder; the decoder over its first tokens, the cache empty; then single tokens, the decoder's own cache
carried from call to call and the encoder's part of it from the first. The original is run once, without a cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.reference_case import Call, ReferenceCase
from gpux.convert.worker.common.graphs import Tensor, fix_axes
from gpux.convert.worker.reference.inputs import Arrays, Vocabulary, ragged_mask
from gpux.convert.worker.reference.lengths import find_thresholds, positions
from gpux.convert.worker.reference.single import Single
from gpux.convert.worker.reference.sizes import Variation, kind_of
from gpux.convert.worker.reference.subject import (
    Findings,
    Subject,
    array,
    beyond,
    refuse_random,
    run_model,
    sort_thresholds,
    tokens_per_case,
)
from gpux.model.graph_io import ATTENTIONS, is_cache_input
from gpux.system.worker_protocol import Refused

ENCODER, DECODER, WITH_PAST = "encoder", "decoder", "decoder_with_past"


@dataclass(frozen=True)
class Script:
    """One case."""

    name: str
    rows: int
    encoded: int  #: size of the encoder's dynamic axis, such as tokens; 0: as traced
    padded: bool
    prompt: int  #: tokens of the decoder's first call
    steps: int


def is_seq2seq(graphs: set[str]) -> bool:
    """Whether these graphs are an encoder and a decoder."""
    return graphs in ({ENCODER, DECODER}, {ENCODER, DECODER, WITH_PAST})


def write_seq2seq(subject: Subject, encoder: str = ENCODER, codebooks: int = 1) -> Findings:
    """Write the cases; returns how the graphs were called.

    Args:
        subject: the original and its graphs.
        encoder: the name of the encoder's graph.
        codebooks: rows of the decoder's tokens for each row of the encoder's, for audio.
    """
    subject.needs_small_model = False  # thresholds of these models are short, or known to be frozen by tracing
    pair = Pair(subject, encoder, codebooks)
    findings = Findings(counters={encoder: {"input_ids": 1}} if pair.reads_text else {})
    _limit(subject, pair, findings)
    for script in scripts(pair, findings):
        subject.write(pair.case(script))
    if encoder == ENCODER:
        subject.release(findings)
        _fix_image(subject, pair)
    return findings


def _limit(subject: Subject, pair: Pair, findings: Findings) -> None:
    """Set the limits of the two parts, and the thresholds."""
    model = subject.model
    decoder = positions(model.get_decoder(), pair.decoder_config)
    if pair.reads_text:
        encoder = positions(model.get_encoder(), encoder_config(subject.config))
        findings.max_length = encoder.limit
        sort_thresholds(findings, find_thresholds(subject.config), encoder.limit, pair.most)
        if encoder.hard:
            findings.shorten(encoder.limit or 0)
    else:
        findings.max_length = decoder.limit
    pair.limit = decoder.limit or 10**9
    if decoder.limit is None or not decoder.hard:
        return
    for name in pair.decoders:
        findings.cap(name, "input_ids", 1, decoder.limit)
        caches = [one for one in subject.signatures[name].inputs if is_cache_input(one) and ".encoder." not in one]
        for cache in caches[:1]:
            findings.cap(name, cache, 2, decoder.limit - 1)


def encoder_config(config: Any) -> Any:
    """The configuration of the encoder; in a composed configuration, its part."""
    return getattr(config, "encoder", getattr(config, "text_encoder", config))


def scripts(pair: Pair, findings: Findings) -> list[Script]:
    """The cases, none longer than either part supports."""
    if pair.reads_text:
        most = min(findings.max_length or 10**9, pair.most)
        sizes = (min(17, most), min(5, most), min(61, most))
    else:
        sizes = (0, pair.traced_length * 3 // 4, pair.traced_length * 5 // 4 + 5)
    made = [
        Script("batch", 3, sizes[0], padded=True, prompt=3, steps=3),
        Script("short", 1, sizes[1], padded=False, prompt=1, steps=2),
        Script("long", 2, sizes[2], padded=True, prompt=min(17, pair.limit - 2), steps=2),
    ]
    for one in findings.thresholds:
        if one not in findings.unaffordable and beyond(one) <= (findings.max_length or 10**9):
            made.append(Script(f"below-{one.name}-{one.length}", 2, one.length, padded=True, prompt=1, steps=1))
            made.append(Script(f"beyond-{one.name}-{one.length}", 2, beyond(one), padded=True, prompt=1, steps=1))
    return made


def _fix_image(subject: Subject, pair: Pair) -> None:
    """Declare the traced image size as fixed: the code that splits an image into patches was traced for this size."""
    signature = subject.signatures[ENCODER]
    fixed: dict[str, dict[int, int]] = {}
    for symbol, places in signature.symbols().items():
        if kind_of(symbol) in ("size", "channel"):
            for name, axis in places:
                fixed.setdefault(name, {})[axis] = pair.traced[symbol]
    for name, axes in subject.exported.fixed.get(ENCODER, {}).items():
        fixed.setdefault(name, {}).update(axes)
    if any(kind_of(symbol) == "size" for symbol in signature.symbols()) or subject.exported.fixed.get(ENCODER):
        fix_axes(subject.exported.graphs[ENCODER], fixed)


class Pair:
    """The original and its two graphs, or three if the decoder's first call has a graph of its own."""

    def __init__(self, subject: Subject, encoder: str, codebooks: int) -> None:
        self._subject = subject
        self._name, self._codebooks = encoder, codebooks
        self._encoder = Single(subject, encoder)
        self._signatures = subject.signatures
        self.decoders = [name for name in (DECODER, WITH_PAST) if name in subject.signatures]
        config = subject.config
        parts = [config, getattr(config, "decoder", None), getattr(config, "text_config", None)]
        self.decoder_config = next(part for part in parts[1:] + parts[:1] if hasattr(part, "vocab_size"))
        self._vocabulary = Vocabulary(config, subject.rng, self.decoder_config)
        self.reads_text = "input_ids" in self._encoder.signature.inputs
        self.traced = self._encoder.traced
        lengths = [size for symbol, size in self.traced.items() if kind_of(symbol) == "length"]
        self.traced_length = max(lengths, default=0)
        self.most = tokens_per_case(4 * int(self._vocabulary.size))
        self.limit = 10**9  # tokens of the decoder
        self._fixed = subject.exported.fixed.get(encoder, {})
        self._compared_runs = False

    def case(self, script: Script) -> ReferenceCase:
        """Run the original once, and arrange the outputs as those of the calls."""
        given = self._encoder_inputs(script)
        tokens = self._tokens(script.rows * self._codebooks, min(script.prompt + script.steps, self.limit))
        hidden, logits = self._answer(given, tokens)
        attentions = self._attentions(given, tokens) if script.rows == 1 else {}  # they are large
        calls = [self._encode(given, hidden)]
        ends = [min(script.prompt, tokens.shape[1] - script.steps) + step for step in range(script.steps + 1)]
        for number, end in enumerate(ends):
            start = ends[number - 1] if number else 0
            outputs = {} if number else {name: array[:, :, start:end] for name, array in attentions.items()}
            outputs["logits"] = logits[:, start:end]
            calls.append(self._decode(number, given, tokens[:, start:end], end, hidden, outputs))
        return ReferenceCase(script.name, tuple(calls), script.encoded if self.reads_text else tokens.shape[1])

    def _encoder_inputs(self, script: Script) -> Arrays:
        sizes = dict(self.traced)
        for symbol in sizes:
            if kind_of(symbol) == "batch":
                sizes[symbol] = script.rows
            elif kind_of(symbol) == "length" and script.encoded:
                sizes[symbol] = script.encoded
        for name, axes in self._fixed.items():
            for axis, size in axes.items():
                declared = self._encoder.signature.inputs[name].shape[axis]
                if isinstance(declared, str):
                    sizes[declared] = size
        return self._encoder.inputs(Variation(script.name, sizes, padded=script.padded))

    def _tokens(self, rows: int, count: int) -> NDArray[np.int64]:
        """The start token of the decoder, then random tokens."""
        tokens = self._vocabulary.ordinary(rows, count)
        configs = (self._subject.config, self.decoder_config)
        names = ("decoder_start_token_id", "bos_token_id")
        starts = [getattr(config, name, None) for name in names for config in configs]
        start = next((one for one in starts if isinstance(one, int)), None)
        if start is not None and start < self._vocabulary.size:
            tokens[:, 0] = start
        return tokens

    def _answer(self, given: Arrays, tokens: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Hidden states of the encoder, and logits ``[rows, tokens, vocabulary]``."""
        found = run_model(self._subject.model, {**given, "decoder_input_ids": tokens}, use_cache=False)
        hidden, logits = array(found["encoder_last_hidden_state"]), array(found["logits"])
        if not self._compared_runs:
            self._compared_runs = True
            again = run_model(self._subject.model, {**given, "decoder_input_ids": tokens}, use_cache=False)
            refuse_random({"logits": logits}, {"logits": array(again["logits"])}, type(self._subject.model).__name__)
        return hidden, logits

    def _attentions(self, given: Arrays, tokens: NDArray[np.int64]) -> Arrays:
        """The weights of the decoder's cross-attention, ``[rows, heads, tokens, places]``, if the graph has them."""
        names = [name for name in self._signatures[self.decoders[-1]].outputs if name.startswith(ATTENTIONS)]
        if not names:
            return {}
        model = self._subject.model
        used = model.config._attn_implementation
        model.set_attn_implementation("eager")  # the only one that returns weights
        try:
            found = run_model(model, {**given, "decoder_input_ids": tokens}, use_cache=False, output_attentions=True)
        finally:
            model.set_attn_implementation(used)
        return {name: array(found["cross_attentions"][int(name.removeprefix(ATTENTIONS))]) for name in names}

    def _encode(self, given: Arrays, hidden: NDArray[Any]) -> Call:
        name = next(iter(self._encoder.signature.outputs))
        mask = given.get("attention_mask")
        counts = mask is not None and mask.shape == hidden.shape[:2] and not mask.all()
        masks = {name: mask == 1} if mask is not None and counts else {}
        return Call(self._name, given, {name: hidden}, masks=masks)

    def _decode(
        self,
        number: int,
        given: Arrays,
        tokens: NDArray[np.int64],
        end: int,
        hidden: NDArray[Any],
        outputs: Arrays,
    ) -> Call:
        """Call ``number`` of the decoder, which is call ``number + 1`` of the case; ``outputs`` are those expected."""
        graph = self.decoders[-1] if number else DECODER
        made = {
            "input_ids": tokens,
            "attention_mask": np.ones((len(tokens), end), np.int64),
            "encoder_attention_mask": given.get("attention_mask", ragged_mask(hidden.shape[:2], padded=False)),
            "use_cache_branch": np.array([number > 0]),
            "cache_position": np.arange(end - tokens.shape[1], end),
            "position_ids": np.tile(np.arange(end - tokens.shape[1], end), (len(tokens), 1)),
        }
        inputs: Arrays = {}
        carry: dict[str, tuple[int, str]] = {}
        for name, tensor in self._signatures[graph].inputs.items():
            if name in made:
                inputs[name] = made[name].astype(tensor.dtype)
            elif name == "encoder_hidden_states":
                carry[name] = (0, next(iter(self._encoder.signature.outputs)))
            elif not is_cache_input(name):
                raise Refused("conversion", f"the decoder has an unexpected input {name!r}")
            elif number:
                carry[name] = (1 if ".encoder." in name else number, name.replace("past_key_values", "present"))
            else:
                inputs[name] = _empty(tensor, len(hidden))
        return Call(graph, inputs, outputs, carry)


def _empty(tensor: Tensor, rows: int) -> NDArray[Any]:
    """A cache without tokens."""
    shape = [size if isinstance(size, int) else rows if "batch" in size else 0 for size in tensor.shape]
    return np.zeros(shape, tensor.dtype)
