"""Graphs for fixed shapes: what generation can run, and a typed refusal for the rest."""

from __future__ import annotations

from collections.abc import Sequence

from gpux.errors import UnsupportedError
from gpux.model.graph_io import is_cache_input
from gpux.model.variant import TensorSpec
from gpux.runtime.session import Session

#: Inputs with an axis of tokens, of any number in a graph that reads a prompt.
_BY_TOKEN = ("input_ids", "attention_mask")
_BY_ROW = (*_BY_TOKEN, "encoder_attention_mask", "encoder_hidden_states", "pixel_values", "flattened_patches")


def most_rows(readers: Sequence[Session], *others: Session, limit: int | None = None) -> int | None:
    """Rows of one call at most: 1 for graphs with a fixed batch of one, or the smallest limit in a graph; None: any.

    Args:
        readers: the graphs of a model that read whole texts.
        others: those that read one token for each row in a call.
        limit: of the caller.

    Raises:
        UnsupportedError: a graph has a fixed batch of several rows, or one that reads texts a fixed number of tokens.
    """
    for session in readers:
        reads_text = any(spec.name == "input_ids" for spec in session.inputs)  # an encoder of pictures has a mask too
        for spec in session.inputs if reads_text else ():
            if spec.name in _BY_TOKEN and isinstance(spec.shape[-1], int):
                raise _refused(session, f"{spec.shape[-1]} token(s) in each call ({spec.name})")
    sessions = dict.fromkeys((*readers, *others))
    limits = [session.limits.get(name, {}).get(0) for session in sessions for name in ("input_ids", "pixel_values")]
    fixed = [_rows(session, spec) for session in sessions for spec in session.inputs if _has_rows(spec)]
    return min((size for size in (limit, *limits, *fixed) if size is not None), default=None)


def _has_rows(spec: TensorSpec) -> bool:
    return spec.name in _BY_ROW or (is_cache_input(spec.name) and len(spec.shape) == 4)


def _rows(session: Session, spec: TensorSpec) -> int | None:
    rows = spec.shape[0]
    if isinstance(rows, int) and rows > 1:
        raise _refused(session, f"{rows} rows in each call")
    return rows if isinstance(rows, int) else None


def _refused(session: Session, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{session.path.name} reads exactly {what}, and text is generated in calls of other sizes",
        hint="Convert the original weights with `gpux convert`, or run the graph yourself with gpux.Session.",
    )
