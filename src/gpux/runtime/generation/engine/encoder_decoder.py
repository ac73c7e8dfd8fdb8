"""Encoder-decoder models, which generate text from text or from any other input.

The encoder runs once. The decoder's first call reads its prompt and computes keys and values of the encoder's output,
which are kept; every later call adds one token to the decoder's own cache. A merged graph switches between the two by
``use_cache_branch``; of two decoder graphs, the second is for the later calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpux.errors import ContextLengthError, InputError, UnsupportedError
from gpux.model.graph_io import ATTENTIONS, present_name
from gpux.model.variant import TensorSpec
from gpux.runtime.binding import Binding, Buffer
from gpux.runtime.generation.engine import shapes
from gpux.runtime.generation.engine.cache import CacheTensor, GrowingCache, check_memory, find_caches
from gpux.runtime.generation.engine.calls import Caller
from gpux.runtime.generation.engine.state import Ids, Scores
from gpux.runtime.session import Session

HIDDEN, MASK, LOGITS = "encoder_hidden_states", "encoder_attention_mask", "logits"


class EncoderDecoder:
    """The graphs of an encoder-decoder model. Safe to use from many threads.

    Args:
        encoder: any inputs in; its first output is the decoder's ``encoder_hidden_states``, ``[rows, places, size]``.
        decoder: ``input_ids`` and the encoder's output in, ``logits`` and the cache out.
        with_past: the graph of the later calls, if ``decoder`` has no cache inputs.

    Raises:
        UnsupportedError: the decoder has an unknown input, or no cache; or the encoder reads a fixed number of tokens.
    """

    def __init__(self, encoder: Session, decoder: Session, with_past: Session | None = None) -> None:
        self.encoder, self.first, self.later = encoder, decoder, with_past or decoder
        self.tensors = find_caches(self.later.inputs, self.first.outputs)
        if not self.tensors:
            raise UnsupportedError(f"{self.later.path.name} has no key-value cache", hint="Convert the weights.")
        self.kept = _kept(self.later.inputs, {spec.name for spec in self.first.outputs})
        self.limit = _limit(decoder, self.tensors)
        self.most_rows: int | None = shapes.most_rows([encoder], self.first, self.later)
        for session in (self.first, self.later):
            self.caller(session)  # raises for unknown inputs before anything is generated

    def caller(self, session: Session) -> Caller:
        """A caller of one of the decoder's graphs, for one generation."""
        others = {tensor.past for tensor in (*self.tensors, *self.kept)} | {HIDDEN, MASK}
        return Caller(session, others)

    def bytes_per_token(self) -> int:
        """Bytes of one token of one row in the decoder's cache."""
        return 2 * sum(tensor.nbytes(1, 1) for tensor in self.tensors)

    def open(
        self, inputs: Mapping[str, ArrayLike], room: int, hidden: NDArray[Any] | None = None
    ) -> EncoderDecoderState:
        """A state for one generation.

        Args:
            inputs: the encoder's inputs for all rows of a batch.
            room: tokens after the decoder's prompts.
            hidden: what :meth:`encode` returned for these inputs; else the state runs the encoder when it starts.
        """
        return EncoderDecoderState(self, inputs, room, hidden)

    def encode(self, inputs: Mapping[str, ArrayLike]) -> NDArray[Any]:
        """The encoder's output, ``[rows, places, size]``, for several generations from the same inputs."""
        return next(iter(self.encoder.run(inputs).values()))

    @property
    def attentions(self) -> tuple[str, ...]:
        """The decoder's outputs with the weights of its cross-attention, one for each layer; often none."""
        return tuple(spec.name for spec in self.first.outputs if spec.name.startswith(ATTENTIONS))

    def review(
        self, hidden: NDArray[Any], tokens: Sequence[int], outputs: Sequence[str] = (LOGITS,)
    ) -> dict[str, NDArray[Any]]:
        """Outputs of the decoder's first graph for all tokens of one row at once.

        Args:
            hidden: the encoder's output for that row, ``[1, places, size]``, of which no place is padding.
            tokens: all that the decoder reads.
            outputs: names; ``logits`` are ``[1, tokens, vocabulary]``, one of :attr:`attentions` is
                ``[1, heads, tokens, places]``.
        """
        rows, places = hidden.shape[:2]
        given: dict[str, NDArray[Any]] = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((rows, len(tokens)), np.int64),
            "position_ids": np.arange(len(tokens))[None],
            "cache_position": np.arange(len(tokens)),
            "use_cache_branch": np.zeros(1, np.bool_),
            HIDDEN: hidden,
            MASK: np.ones((rows, places), np.int64),
        }
        caches = {tensor.past: tensor for tensor in (*self.tensors, *self.kept)}
        feed: dict[str, NDArray[Any]] = {}
        for spec in self.first.inputs:
            if spec.name in caches:
                held = caches[spec.name].sized(rows, 0)
                feed[spec.name] = np.zeros(held, np.dtype(spec.dtype))
            else:
                feed[spec.name] = given[spec.name].astype(spec.dtype, copy=False)
        return self.first.run(feed, list(outputs))


class EncoderDecoderState:
    """The rows of one generation; see :class:`~gpux.runtime.generation.engine.state.State`."""

    def __init__(
        self, model: EncoderDecoder, inputs: Mapping[str, ArrayLike], room: int, hidden: NDArray[Any] | None = None
    ) -> None:
        self.limit = model.limit
        self._model, self._inputs, self._room, self._hidden = model, inputs, room, hidden
        self._caller = model.caller(model.later)
        self._cache: GrowingCache | None = None
        self._encoded: Encoded | None = None
        self._width = 0
        self._rows = 0

    @property
    def rows(self) -> int:
        """Number of unfinished rows."""
        return self._rows

    @property
    def lengths(self) -> Ids:
        """Tokens of each row in the decoder's cache, ``[rows]``; equal for all rows."""
        return np.full(self._rows, self._width, np.int64)

    def start(self, prompts: Sequence[Sequence[int]]) -> Scores:
        """Run the encoder, and read the decoder's equally long prompts; returns scores ``[rows, vocabulary]``."""
        model, sizes = self._model, {len(prompt) for prompt in prompts}
        if len(sizes) != 1 or 0 in sizes:
            raise InputError("the decoder's prompts must be equally long", hint="Give one start token for each row.")
        self._rows, width = len(prompts), sizes.pop()
        self._check(width)
        capacity = width + self._room if self.limit is None else min(width + self._room, self.limit)
        hidden = model.encode(self._inputs) if self._hidden is None else self._hidden
        self._encoded = Encoded(model, hidden, self._inputs.get("attention_mask"))
        self._cache = GrowingCache(model.tensors, self._rows, capacity, model.later.device)
        caller = model.caller(model.first)
        try:
            return self._first_call(caller, np.array(prompts, np.int64))
        finally:
            caller.close()

    def step(self, tokens: Ids) -> Scores:
        """Append one token to each row, ``[rows]``; returns the scores of the next token, ``[rows, vocabulary]``."""
        cache, encoded = self._opened()
        self._check(1)
        if self._width + 1 > cache.capacity:
            cache.reserve(max(self._width + 1, cache.capacity * 5 // 4), self._width)
        if not self._caller.prepared:
            encoded.feed(self._caller.binding)
        cache.bind(self._caller.binding, 1)
        logits = self._caller.step(tokens, self._width + 1, self.lengths)
        cache.advance(1)
        self._width += 1
        return logits

    def extend(self, tokens: Sequence[int]) -> Scores:
        """Append tokens to the only row, one by one; returns the scores after each, ``[tokens, vocabulary]``."""
        return np.concatenate([self.step(np.array([token], np.int64)).copy() for token in tokens])

    def truncate(self, length: int) -> None:
        """Remove the tokens of the only row beyond ``length``."""
        self._opened()[0].truncate(length)
        self._width = min(self._width, length)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows, in this order."""
        cache, encoded = self._opened()
        most = self._model.most_rows
        if most is not None and len(rows) > most:
            raise UnsupportedError(
                f"this graph supports {most} row(s) at a time", hint="Generate one sequence at a time."
            )
        cache.keep(rows, self._width)
        if encoded.keep(rows) or len(rows) != self._rows:
            self._caller.prepared = False
        self._rows = len(rows)

    def close(self) -> None:
        """Release all memory; may be called twice."""
        if self._cache is not None:
            self._cache.close()
        self._cache = self._encoded = None
        self._caller.close()

    def _first_call(self, caller: Caller, ids: Ids) -> Scores:
        cache, encoded = self._opened()
        cache.bind(caller.binding, ids.shape[1])
        encoded.feed(caller.binding, first=True)
        positions = np.tile(np.arange(ids.shape[1]), (len(ids), 1))
        logits = caller.call(ids, self._mask(ids.shape[1]), positions)
        cache.advance(ids.shape[1])
        self._width = ids.shape[1]
        return logits[:, -1]

    def _mask(self, added: int) -> NDArray[Any]:
        return np.ones((self._rows, self._width + added), np.int64)

    def _check(self, added: int) -> None:
        if self.limit is not None and self._width + added > self.limit:
            raise ContextLengthError(
                f"{self._width + added} tokens exceed the decoder's context of {self.limit} tokens",
                hint="Lower max_new_tokens.",
                tokens=self._width + added,
                limit=self.limit,
            )

    def _opened(self) -> tuple[GrowingCache, Encoded]:
        if self._cache is None or self._encoded is None:
            raise InputError("this generation has not started, or is closed", hint="Open another state.")
        return self._cache, self._encoded


class Encoded:
    """The encoder's output, and the keys and values that the decoder's first call computes from it."""

    def __init__(self, model: EncoderDecoder, hidden: NDArray[Any], mask: ArrayLike | None) -> None:
        self._hidden = np.ascontiguousarray(hidden)
        self._mask = np.ones(hidden.shape[:2], np.int64) if mask is None else np.ascontiguousarray(mask, np.int64)
        rows, places = hidden.shape[:2]
        self._tensors, self._device = model.kept, model.later.device
        check_memory(sum(tensor.nbytes(rows, places) for tensor in self._tensors))
        self._buffers = [Buffer(tensor.nbytes(rows, places), self._device) for tensor in self._tensors]
        self._source = np.arange(rows)  # for each row, its row in the encoder's batch

    def feed(self, binding: Binding, *, first: bool = False) -> None:
        """Bind inputs for the first call, which computes keys and values, or for a later one, which reads them."""
        for name, array in ((HIDDEN, self._hidden), (MASK, self._mask)):
            if binding.has_input(name):
                binding.feed(name, array)
        rows, places = self._hidden.shape[:2]
        for tensor, buffer in zip(self._tensors, self._buffers, strict=True):
            if binding.has_input(tensor.past):
                held = tensor.sized(rows, 0 if first else places)
                binding.feed_buffer(tensor.past, buffer, tensor.element, held)
            if first:
                binding.fetch_buffer(tensor.present, buffer, tensor.element, tensor.sized(rows, places))

    def keep(self, rows: Sequence[int]) -> bool:
        """Continue with these rows; False if they belong to the same inputs as before, such as beams of one input."""
        source = self._source[list(rows)]
        if np.array_equal(source, self._source):
            return False
        before, places = self._hidden.shape[:2]
        for number, tensor in enumerate(self._tensors):
            taken = tensor.view(self._buffers[number], before, places)[list(rows)]
            if len(rows) > before:
                self._buffers[number] = Buffer(taken.nbytes, self._device)
            self._buffers[number].write(taken.reshape(-1).view(np.uint8))
        self._hidden, self._mask = self._hidden[list(rows)], self._mask[list(rows)]
        self._source = source
        return True


def _kept(inputs: Sequence[TensorSpec], outputs: set[str]) -> tuple[CacheTensor, ...]:
    """The tensors that hold keys and values of the encoder's output."""
    found = []
    for spec in inputs:
        name = present_name(spec.name, outputs)
        if name is not None and ".encoder." in spec.name:
            axes = [axis for axis, size in enumerate(spec.shape) if axis and not isinstance(size, int)]
            found.append(CacheTensor(spec.name, name, spec.dtype, spec.shape, axes[0] if axes else 2))
    return tuple(found)


def _limit(decoder: Session, tensors: Sequence[CacheTensor]) -> int | None:
    """Tokens of the decoder by the limits in its graph, where a cache of n tokens allows n + 1."""
    cached = [decoder.limits.get(tensor.past, {}).get(tensor.axis) for tensor in tensors]
    counted = [decoder.limits.get("input_ids", {}).get(1), *(size + 1 for size in cached if size)]
    return min((size for size in counted if size), default=None)
