"""The input of every decoding loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpux.errors import CancelledError, UsageError
from gpux.runtime.generation.choose.processors import Processor
from gpux.runtime.generation.choose.row import Constraint, Row
from gpux.runtime.generation.engine.state import Scores, State
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import FinishReason
from gpux.system.cancel import CancelToken


@dataclass(frozen=True)
class DecodeRequest:
    """Prompts that are decoded together, with everything that decides their tokens.

    Args:
        prompts: token ids of each prompt; of an encoder-decoder, those that its decoder starts with.
        options: for all prompts; each prompt gets ``options.num_return_sequences`` sequences.
        text_context: token ids before each sequence's text, which decide whether it begins with a space; by default the
            prompts. No loop reads them.
        encoder_input_ids: token ids that the encoder read for each prompt; by default the prompts.
        random_streams: for each sequence, which of the seed's random streams it draws from; by default 0, 1, 2 …
        constraint: builds the constraint of one sequence; None: any text.
        processors: of every sequence, after those of the options.
        cancel: when set, every unfinished sequence ends as ``cancelled``.
        deadline: in seconds of ``time.monotonic()``; from then on every unfinished sequence ends as ``deadline``.

    Raises:
        UsageError: a list does not have one entry for each prompt or sequence.
    """

    prompts: Sequence[Sequence[int]]
    options: GenerationOptions
    text_context: Sequence[Sequence[int]] | None = None
    encoder_input_ids: Sequence[Sequence[int]] | None = None
    random_streams: Sequence[int] | None = None
    constraint: Callable[[], Constraint] | None = None
    processors: Sequence[Processor] = ()
    cancel: CancelToken | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        for name, expected, what in (
            ("text_context", len(self.prompts), "prompts"),
            ("encoder_input_ids", len(self.prompts), "prompts"),
            ("random_streams", self.sequences, "sequences"),
        ):
            given = getattr(self, name)
            if given is not None and len(given) != expected:
                raise UsageError(f"{len(given)} {name} for {expected} {what}", hint=f"Give {expected}.")

    @property
    def sequences(self) -> int:
        """Number of sequences of all prompts."""
        return len(self.prompts) * self.options.num_return_sequences

    @property
    def encoder_ids(self) -> Sequence[Sequence[int]]:
        """``encoder_input_ids``, or the prompts of a model without an encoder."""
        return self.prompts if self.encoder_input_ids is None else self.encoder_input_ids

    def interrupted(self) -> FinishReason | None:
        """``cancelled`` or ``deadline`` if decoding has to end now."""
        return interrupted(self.cancel, self.deadline)

    def rows(self, limit: int | None) -> list[Row]:
        """A row for each sequence, in the order of the prompts.

        Args:
            limit: tokens that a row may have, prompt included.

        Raises:
            UsageError: the options are for beam search.
            InputError: a prompt is empty.
            ContextLengthError: a prompt leaves no room for an answer.
        """
        if self.options.num_beams > 1:
            raise UsageError("this loop decodes without beams, and num_beams is above 1", hint="Set num_beams=1.")
        count, streams = self.options.num_return_sequences, self.random_streams or range(self.sequences)
        return [
            Row(
                number,
                self.prompts[number // count],
                self.options,
                limit,
                None if self.constraint is None else self.constraint(),
                streams[number],
                self.encoder_ids[number // count],
                self.processors,
            )
            for number in range(self.sequences)
        ]


def interrupted(cancel: CancelToken | None, deadline: float | None) -> FinishReason | None:
    """``cancelled`` if ``cancel`` is set, ``deadline`` if ``time.monotonic()`` is past it, else None."""
    if cancel is not None and cancel.cancelled:
        return "cancelled"
    return "deadline" if deadline is not None and time.monotonic() >= deadline else None


def prefill(state: State, request: DecodeRequest) -> Scores | FinishReason:
    """Scores of each prompt's next token, ``[prompts, vocabulary]``; or why decoding ended while the prompts were read.

    Raises:
        ContextLengthError, CacheMemoryError: see :meth:`State.start`.
    """
    if reason := request.interrupted():
        return reason
    try:
        return state.start(request.prompts)
    except CancelledError:
        return request.interrupted() or "cancelled"
