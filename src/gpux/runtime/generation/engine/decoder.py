"""Decoders with a key-value cache, their states, and a cache of states for prompts with a common prefix.

Prompts are read in pieces, then one token for each row at a time. How a graph has to be called is in its
:class:`~gpux.model.variant.CallSpec`: a graph with GroupQueryAttention (``chunk_rows`` is 1) needs padding on the
right, and reads several tokens after a cache for one row at a time only; other graphs need padding on the left.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import CancelledError, ContextLengthError, InputError, UnsupportedError
from gpux.model.variant import CallSpec
from gpux.runtime.generation.engine import shapes
from gpux.runtime.generation.engine.cache import Cache, GrowingCache, SharedCache, find_caches
from gpux.runtime.generation.engine.calls import Caller
from gpux.runtime.generation.engine.state import Ids, Scores
from gpux.runtime.session import Session


class Rows:
    """The tokens of rows, and their places in the cache: a row's tokens follow its padding without gaps.

    Args:
        padding: number of places before each row, ``[rows]``; rows begin without tokens.
    """

    def __init__(self, padding: Sequence[int] | Ids) -> None:
        self.padding: Ids = np.array(padding, np.int64)
        self.lengths: Ids = np.zeros_like(self.padding)  #: number of tokens of each row, ``[rows]``
        self._held: list[list[int]] = [[] for _ in padding]
        self._newest: list[list[int]] = []  # tokens of later steps, one for each row
        self._measure()

    @property
    def tokens(self) -> list[list[int]]:
        """The token ids of each row."""
        for row, held in enumerate(self._held if self._newest else ()):
            held.extend(step[row] for step in self._newest)
        self._newest.clear()
        return self._held

    def mask(self, added: int) -> Ids:
        """The attention mask after ``added`` more tokens for each row, ``[rows, places]``."""
        return self.placed(self.width + added, self.lengths + added)

    def placed(self, total: int, lengths: Ids) -> Ids:
        """The mask of ``total`` places, for rows of these lengths after their padding."""
        places, first = np.arange(total), self.padding[:, None]
        return ((places >= first) & (places < lengths[:, None] + first)).astype(np.int64)

    def step(self, tokens: Ids) -> None:
        """Append one token to each row, ``[rows]``; runs once for each token, and leaves :attr:`even` as it is."""
        self.lengths += 1
        self.width += 1
        self._newest.append(tokens.tolist())

    def append(self, row: int, tokens: Sequence[int]) -> None:
        """Append several tokens to one row."""
        self.tokens[row].extend(map(int, tokens))
        self.lengths[row] += len(tokens)
        self._measure()

    def shared(self, prompt: Sequence[int]) -> int:
        """Length of the common prefix of a prompt and the only row, without the prompt's last token."""
        held = self.tokens[0] if len(self.tokens) == 1 else []
        most = min(len(held), len(prompt) - 1)
        return next((place for place in range(most) if held[place] != prompt[place]), most)

    def truncate(self, length: int) -> None:
        """Remove the tokens of each row beyond ``length``."""
        self.lengths = np.minimum(self.lengths, length)
        for held in self.tokens:
            del held[length:]
        self._measure()

    def keep(self, rows: Sequence[int], spare: int) -> None:
        """Continue with these rows, in this order, each with ``spare`` places less padding."""
        self.lengths, self.padding = self.lengths[rows], self.padding[rows] - spare
        self._held = [list(self.tokens[row]) for row in rows]
        self._measure()

    def _measure(self) -> None:
        """Compute the values that :meth:`step` only updates."""
        #: places of the longest row, padding included
        self.width = int((self.lengths + self.padding).max(initial=0))
        #: whether all rows are equally long, without padding
        self.even = not self.padding.any() and bool((self.lengths == self.width).all())


class Decoder:
    """A graph that continues token ids. Safe to use from many threads: each generation opens a state of its own.

    Args:
        session: the graph; ``input_ids`` and a cache in, ``logits`` and the cache out.
        call_spec: how the graph has to be called.
        most_rows: rows of one call at most; by default, as many as the graph allows.

    Raises:
        UnsupportedError: the graph has no such cache, an input that cannot be derived from a text, or a fixed number
            of tokens.
    """

    def __init__(
        self,
        session: Session,
        call_spec: CallSpec,
        *,
        most_rows: int | None = None,
    ) -> None:
        self.session, self.call_spec = session, call_spec
        self.tensors = find_caches(session.inputs, session.outputs)
        if not self.tensors:
            raise UnsupportedError(
                f"{session.path.name} has no key-value cache",
                hint="Convert the weights with `gpux pull --force`.",
            )
        self.shares = call_spec.chunk_rows is not None  #: whether past and present share memory
        counted = [session.limits.get(name, {}).get(1) for name in ("attention_mask", "input_ids")]
        self.limit = min((size for size in (call_spec.max_length, *counted) if size), default=None)
        self.most_rows = shapes.most_rows([session], limit=most_rows)  #: rows of one call at most; None: any
        self.caller()  # raises for unknown inputs before anything is generated

    def caller(self) -> Caller:
        """A caller of the graph, for one generation."""
        return Caller(self.session, {tensor.past for tensor in self.tensors})

    def open(self, room: int) -> DecoderState:
        """A state for one generation of up to ``room`` tokens after the prompts."""
        return DecoderState(self, room)

    def bytes_per_token(self) -> int:
        """Bytes of one token of one row in the cache."""
        return sum(tensor.nbytes(1, 1) for tensor in self.tensors) * (1 if self.shares else 2)


class DecoderState:
    """The rows of one generation; see :class:`~gpux.runtime.generation.engine.state.State`."""

    def __init__(self, decoder: Decoder, room: int) -> None:
        self.limit = decoder.limit
        self._decoder, self._room = decoder, room
        self._caller = decoder.caller()
        self._cache: Cache | None = None
        self._rows = Rows([])
        self._free = 0  # steps before capacity and limit have to be checked again
        self.reused = 0  #: tokens of the prompt that were already in the cache
        self.stopped: Callable[[], bool] = lambda: False  #: called between the pieces of a long prompt; True cancels

    @property
    def rows(self) -> int:
        """Number of unfinished rows."""
        return len(self._rows.lengths)

    @property
    def lengths(self) -> Ids:
        """Tokens of each row in the cache, ``[rows]``."""
        return self._rows.lengths.copy()

    @property
    def nbytes(self) -> int:
        """Bytes of the cache."""
        return 0 if self._cache is None else self._cache.nbytes

    def shared(self, prompt: Sequence[int]) -> int:
        """Number of tokens at the beginning of a prompt that the only row already holds."""
        return self._rows.shared(prompt)

    def start(self, prompts: Sequence[Sequence[int]]) -> Scores:
        """Read the prompts, one for each row; returns the scores of each row's next token, ``[rows, vocabulary]``.

        If the state was used before, tokens at the beginning of a single prompt that it holds are not read again.
        """
        sizes = [len(prompt) for prompt in prompts]
        self._check(sizes)
        self.reused = self.shared(prompts[0]) if len(prompts) == 1 else 0
        if self.reused:
            self.truncate(self.reused)
            return self.append(prompts[0][self.reused :])
        return self._read(prompts)

    def step(self, tokens: Ids) -> Scores:
        """Append one token to each row, ``[rows]``; returns the scores of the next token, ``[rows, vocabulary]``."""
        if self._free <= 0:
            self._reserve(1)
        self._free -= 1
        self._decoder.session.count()
        cache, rows = self._opened(), self._rows
        if cache.moves or not self._caller.prepared:
            cache.bind(self._caller.binding, 1)
        logits = self._caller.step(tokens, rows.width + 1 if rows.even else rows.mask(1), rows.lengths)
        cache.advance(1)
        self._rows.step(tokens)
        return logits

    def extend(self, tokens: Sequence[int]) -> Scores:
        """Append several tokens to the only row; returns the scores after each of them, ``[tokens, vocabulary]``."""
        self._reserve(len(tokens))
        if self._reads_chunks():
            return np.asarray(self._call(tokens)[0])
        return np.concatenate([self.step(np.array([token], np.int64)).copy() for token in tokens])

    def append(self, tokens: Sequence[int]) -> Scores:
        """Append tokens to the only row, in pieces; returns the scores after the last, ``[1, vocabulary]``."""
        self._reserve(len(tokens))
        size = self._caller.tokens if self._decoder.call_spec.chunks_after_cache else len(tokens)
        for start, end in self._until_stopped(len(tokens), size):
            piece = tokens[start:end]
            logits = self._call(piece, keep=1)[:, 0] if self._reads_chunks() else self.extend(piece)[-1:]
        return np.asarray(logits)

    def truncate(self, length: int) -> None:
        """Remove the tokens of the only row beyond ``length``."""
        self._opened().truncate(length + int(self._rows.padding.max(initial=0)))
        self._rows.truncate(length)
        self._free = 0

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows, in this order."""
        chosen = list(rows)
        if chosen == list(range(self.rows)):
            return
        self._check_rows(len(chosen))
        # Padding that all rows share can go if positions are an input, and not counted from the cache's start.
        placed = self._decoder.call_spec.position_inputs
        spare = int(self._rows.padding[chosen].min(initial=self._rows.width)) if placed else 0
        self._opened().keep(chosen, self._rows.width, spare)
        self._rows.keep(chosen, spare)
        self._unprepare()

    def close(self) -> None:
        """Release the cache; may be called twice."""
        if self._cache is not None:
            self._cache.close()
        self._cache = None
        self._caller.close()

    def _unprepare(self) -> None:
        """Bind everything again in the next step."""
        self._free = 0
        self._caller.prepared = False

    def _read(self, prompts: Sequence[Sequence[int]]) -> Scores:
        """Read the prompts into a new cache."""
        kind, longest = SharedCache if self._decoder.shares else GrowingCache, max(map(len, prompts))
        capacity = min(longest + self._room, self.limit or sys.maxsize)
        self._cache = kind(self._decoder.tensors, len(prompts), capacity, self._decoder.session.device)
        self._rows = Rows([0] * len(prompts))
        self._unprepare()
        if len(prompts) == 1:
            return self.append(prompts[0])
        apart = self._decoder.shares and len(prompts) * longest > self._caller.tokens
        return self._read_apart(prompts) if apart else self._read_together(prompts)

    def _read_together(self, prompts: Sequence[Sequence[int]]) -> Scores:
        """Read all prompts at once, padded to the longest; in pieces, if the graph reads several rows after a cache."""
        sizes = np.array([len(prompt) for prompt in prompts], np.int64)
        width = int(sizes.max())
        if not self._decoder.shares:
            self._rows = Rows(width - sizes)
        ids = np.zeros((len(prompts), width), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, self._rows.padding[row] :][: len(prompt)] = prompt
        last = self._rows.padding + sizes - 1
        scores = np.empty((len(prompts), self._caller.vocabulary), np.float32)
        for start, end in self._pieces(width):
            here = np.flatnonzero((last >= start) & (last < end))
            first = int(last[here].min(initial=end - 1))
            logits = self._call_all(ids, self._rows.placed(width, sizes), start, end, end - first)
            scores[here] = logits[here, last[here] - first]
        for row, prompt in enumerate(prompts):
            self._rows.append(row, prompt)
        return scores

    def _pieces(self, width: int) -> Iterator[tuple[int, int]]:
        """The columns of padded prompts that are read in each call."""
        call_spec = self._decoder.call_spec
        several = call_spec.chunks_after_cache and not self._decoder.shares
        size = max(1, self._caller.tokens // self.rows) if several else width
        return self._until_stopped(width, size)

    def _until_stopped(self, count: int, size: int) -> Iterator[tuple[int, int]]:
        """Pieces of ``size`` tokens, until the caller cancels."""
        for start in range(0, count, size):
            if start and self.stopped():
                raise CancelledError("cancelled while the prompt was read", hint="Start the generation again.")
            yield start, min(start + size, count)

    def _call_all(self, ids: Ids, mask: Ids, start: int, end: int, keep: int) -> Scores:
        cache = self._opened()
        positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)[:, start:end]
        cache.bind(self._caller.binding, end - start)
        logits = self._caller.call(ids[:, start:end], mask[:, :end], positions, keep)
        cache.advance(end - start)
        return logits

    def _read_apart(self, prompts: Sequence[Sequence[int]]) -> Scores:
        """Read the prompts one after the other into their rows of a shared cache, in pieces and without padding."""
        return np.concatenate([self._read_row(row, prompt) for row, prompt in enumerate(prompts)])

    def _read_row(self, row: int, prompt: Sequence[int]) -> Scores:
        size = self._caller.tokens
        for start, end in self._until_stopped(len(prompt), size):
            logits = self._call(prompt[start:end], row, keep=1)
        return logits[:, 0]

    def _call(self, tokens: Sequence[int], row: int = 0, keep: int = 0) -> Scores:
        """Read several tokens of one row; returns the last ``keep`` scores (0: all), ``[1, keep, vocabulary]``."""
        cache, added = self._opened(), len(tokens)
        before = int(self._rows.lengths[row])
        cache.bind(self._caller.binding, added, row)
        positions = np.arange(before, before + added)[None]
        mask = self._caller.ones(1, before + added) if self._decoder.shares else self._mask(added)
        logits = self._caller.call(np.array([tokens], np.int64), mask, positions, keep)
        cache.advance(added)
        self._rows.append(row, tokens)
        self._free = 0
        return logits

    def _reads_chunks(self) -> bool:
        """Whether the graph can read several tokens now."""
        return self._decoder.call_spec.chunks_after_cache or not self._rows.width

    def _mask(self, added: int) -> NDArray[Any]:
        """The attention mask after ``added`` more tokens for each row, ``[rows, places]``."""
        rows = self._rows
        return self._caller.ones(self.rows, rows.width + added) if rows.even else rows.mask(added)

    def _reserve(self, added: int) -> None:
        """Grow the cache for more tokens, by a quarter more than needed so that it rarely grows."""
        most, longest = self.limit or sys.maxsize, int(self._rows.lengths.max(initial=0))
        if longest + added > most:
            raise self._too_long(longest + added)
        if self._rows.width + added > most:  # rows share padding that cannot be removed, and that counts as positions
            self._read(self._rows.tokens)
        cache, needed = self._opened(), self._rows.width + added
        if needed > cache.capacity:
            cache.reserve(max(needed, min(needed * 5 // 4, most)), self._rows.width)
            self._unprepare()
        self._free = min(cache.capacity - self._rows.width, most - longest)

    def _check(self, sizes: Sequence[int]) -> None:
        self._check_rows(len(sizes))
        if not sizes or min(sizes) == 0:
            raise InputError("a prompt has no tokens", hint="Give a text; the tokenizer adds no token to an empty one.")
        if self.limit is not None and max(sizes) > self.limit:
            raise self._too_long(max(sizes))

    def _check_rows(self, rows: int) -> None:
        most = self._decoder.most_rows
        if most is not None and rows > most:
            raise UnsupportedError(
                f"this graph supports {most} row(s) at a time, and {rows} were given",
                hint="Generate one sequence at a time.",
            )

    def _too_long(self, tokens: int) -> ContextLengthError:
        return ContextLengthError(
            f"{tokens} tokens exceed the context of {self.limit} tokens",
            hint="Shorten the prompt.",
            tokens=tokens,
            limit=self.limit,
        )

    def _opened(self) -> Cache:
        if self._cache is None:
            raise InputError("this generation has not started, or is closed", hint="Open another state.")
        return self._cache


#: Tokens of a common prefix from which a kept cache is reused; computing fewer is cheap.
LEAST = 16


class PrefixCache:
    """Keeps the state of the last conversation for its next turn, which begins with the same tokens. Thread-safe."""

    def __init__(self) -> None:
        self._state: DecoderState | None = None
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of the kept cache."""
        with self._lock:
            return 0 if self._state is None else self._state.nbytes

    def take(self, prompt: Sequence[int]) -> DecoderState | None:
        """The kept state, if it shares a prefix with the prompt; the caller has to give it back or close it."""
        with self._lock:
            state = self._state
            if state is None or state.shared(prompt) < LEAST:
                return None
            self._state = None
            return state

    def give(self, state: DecoderState) -> None:
        """Keep an idle state, and close the one that was kept before."""
        with self._lock:
            before, self._state = self._state, state
        if before is not None:
            before.close()

    def clear(self) -> None:
        """Close the kept state."""
        with self._lock:
            before, self._state = self._state, None
        if before is not None:
            before.close()
