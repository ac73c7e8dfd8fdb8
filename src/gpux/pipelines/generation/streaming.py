"""A text in pieces, as it is written: an iterator, and its twin for ``async for``.

The next token is computed when the next piece is asked for, so a reader that is slow, or that stops, holds nothing up
and nothing back.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Self

from gpux.errors import UsageError
from gpux.runtime.generation.results import Generation
from gpux.system.cancel import CancelToken


class TextStreamer:
    """The pieces of one text; ``"".join(streamer)`` is all of it.

    Closing it, or leaving its ``with`` block or its loop for good, frees the memory of the generation.

    Args:
        pieces: gives the text and returns what was written.
        cancel: what ends the generation, which then is ``cancelled``.
        dropped: set when nobody will read on, so that nothing of the generation is kept either.
    """

    def __init__(
        self, pieces: Generator[str, None, Generation], cancel: CancelToken, dropped: CancelToken | None = None
    ) -> None:
        self._pieces = pieces
        self._cancel, self._dropped = cancel, dropped or CancelToken()
        self._result: Generation | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        try:
            while not (piece := next(self._pieces)):
                pass
        except StopIteration as end:
            if isinstance(end.value, Generation):
                self._result = end.value
            raise StopIteration from None
        return piece

    @property
    def result(self) -> Generation:
        """What was written: text, tokens, finish reason, timings.

        Raises:
            UsageError: the text was not read to its end.
        """
        if self._result is None:
            raise UsageError("the stream has not ended", hint="Read its pieces to the end first.")
        return self._result

    def cancel(self) -> None:
        """End after the token that is being computed; what was written so far is the result. From any thread."""
        self._cancel.cancel()

    def drop(self) -> None:
        """As :meth:`cancel`, and free the generation's memory as soon as it has ended."""
        self._dropped.cancel()
        self._cancel.cancel()

    def close(self) -> None:
        """Free the generation's memory, without a result if it has not ended. May be called twice."""
        self._pieces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncTextStreamer:
    """The same for ``async for``: each token is computed in a thread while the event loop does other things."""

    def __init__(self, stream: TextStreamer) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        import asyncio  # whoever calls this has it; the others need not wait for it

        step = asyncio.get_running_loop().run_in_executor(None, next, self._stream, None)
        try:
            piece = await asyncio.shield(step)
        except asyncio.CancelledError:
            self._stream.drop()
            await asyncio.wait([step])  # the thread is at most one token away from its end
            self._stream.close()
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    @property
    def result(self) -> Generation:
        """What was written; see :attr:`TextStreamer.result`."""
        return self._stream.result

    def cancel(self) -> None:
        """End after the token that is being computed."""
        self._stream.cancel()

    async def aclose(self) -> None:
        """Free the generation's memory. May be called twice."""
        self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
