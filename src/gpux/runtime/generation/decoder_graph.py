"""A decoder's one graph, run the way its manifest says.

How a graph may be driven stands in :class:`~gpux.model.variant.Driving`. A graph with GroupQueryAttention
(``chunk_rows`` is 1) wants padding on the right, and several tokens after a cache one row at a time; any other wants
it on the left.
"""

from __future__ import annotations

from gpux.errors import UnsupportedError
from gpux.model.variant import Driving
from gpux.runtime.generation.cache import find_caches
from gpux.runtime.generation.calls import Caller
from gpux.runtime.session import Session


class DecoderGraph:
    """A graph that continues token ids, and what of it every generation needs. Safe to use from many threads.

    Args:
        session: the graph; ``input_ids`` and a cache in, ``logits`` and the cache out.
        driving: how it must be driven.
        most_rows: of one call; None for as many as the graph's own limits allow.

    Raises:
        UnsupportedError: the graph has no such cache, or takes an input that a text alone does not give.
    """

    def __init__(
        self,
        session: Session,
        driving: Driving,
        *,
        most_rows: int | None = None,
    ) -> None:
        self.session, self.driving = session, driving
        self.tensors = find_caches(session.inputs, session.outputs)
        if not self.tensors:
            raise UnsupportedError(
                f"{session.path.name} keeps no key-value cache",
                hint="Convert the weights: `gpux pull --force` makes a graph with one.",
            )
        self.shares = driving.chunk_rows is not None  #: past and present are one place
        counted = [session.limits.get(name, {}).get(1) for name in ("attention_mask", "input_ids")]
        self.limit = min((size for size in (driving.max_length, *counted) if size), default=None)
        self.most_rows = most_rows or session.limits.get("input_ids", {}).get(0)  #: of one call; None: any
        self.caller()  # refuses what it cannot feed, before anything is generated

    def caller(self) -> Caller:
        """What feeds the graph, of a generation's own."""
        return Caller(self.session, {tensor.past for tensor in self.tensors})

    def bytes_per_token(self) -> int:
        """Bytes that one token of one row takes in the cache."""
        return sum(tensor.nbytes(1, 1) for tensor in self.tensors) * (1 if self.shares else 2)
