"""A decoder's steps of one token a row: by its whole graph, or without the head where that tells enough and pays."""

from __future__ import annotations

import logging

from gpux.errors import GpuxError
from gpux.runtime.generation.cache import Cache
from gpux.runtime.generation.calls import Caller
from gpux.runtime.generation.decoder_graph import DecoderGraph
from gpux.runtime.generation.rows import Rows
from gpux.runtime.generation.shortlist import MOST, ShortCaller
from gpux.runtime.generation.state import Ids, Scores

log = logging.getLogger(__name__)


class Steps:
    """The steps of one generation.

    Args:
        decoder: the graph.
        caller: feeds it, as for prompts; closed by whoever made it.
    """

    def __init__(self, decoder: DecoderGraph, caller: Caller) -> None:
        self._decoder, self._caller = decoder, caller
        self._short: ShortCaller | None = None

    def step(self, cache: Cache, rows: Rows, tokens: Ids, best: int | None) -> Scores:
        """The scores after one token a row, ``[rows, vocabulary]``; neither the cache nor the rows are advanced.

        Args:
            cache: of the rows.
            rows: as they are before.
            tokens: ``[rows]``.
            best: how many of the best scores are wanted; None: all.
        """
        self._decoder.session.count()
        if best is None or best > MOST or (short := self._shorter()) is None:
            return _step(cache, self._caller, rows, tokens)
        short.best = best
        try:
            return _step(cache, short, rows, tokens)
        except (GpuxError, OSError):
            log.info("a step without the head failed; all of the head is read from now on", exc_info=True)
            self._leave()
            return _step(cache, self._caller, rows, tokens)

    def unprepare(self) -> None:
        """What was bound is not what it was."""
        for caller in filter(None, (self._caller, self._short)):
            caller.prepared = False

    def close(self) -> None:
        """Let go of what it made; may be called twice."""
        if self._short is not None:
            self._short.close()

    def _shorter(self) -> ShortCaller | None:
        """What makes steps without the head; None where that is not possible, or not yet."""
        if self._short is None:
            self._decoder.shortlist.count()
            self._short = self._decoder.short_caller()
        elif not self._short.pays:
            self._leave()
        return self._short

    def _leave(self) -> None:
        """Steps compute all scores from now on, in all generations."""
        self._decoder.shortlist.close()
        self.close()
        self._short = None


def _step(cache: Cache, caller: Caller, rows: Rows, tokens: Ids) -> Scores:
    if cache.moves or not caller.prepared:
        cache.bind(caller.binding, 1)
    return caller.step(tokens, rows.width + 1 if rows.even else rows.mask(1), rows.lengths)
