"""Streams of text: an iterator, and one for ``async for``.

The next token is computed when the next piece is requested, so that a slow reader, or one that stops, blocks nothing
and needs no queue.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Self

from gpux.errors import UsageError
from gpux.runtime.generation.results import Generation
from gpux.system.cancel import CancelToken


class TextStreamer:
    """The pieces of one text; ``"".join(streamer)`` is the whole text.

    Closing the streamer, or leaving its ``with`` block, frees the memory of the generation.

    Args:
        pieces: yields the text and returns the generation.
        cancel: ends the generation as ``cancelled``.
        dropped: set when the reader is gone, so that the cache of the generation is not kept.
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
        """Text, tokens, finish reason and timings.

        Raises:
            UsageError: the stream was not read to its end.
        """
        if self._result is None:
            raise UsageError("the stream has not ended", hint="Read its pieces to the end first.")
        return self._result

    def cancel(self) -> None:
        """End after the token that is being computed; the text so far is the result. May be called from any thread."""
        self._cancel.cancel()

    def drop(self) -> None:
        """As :meth:`cancel`, and free the generation's memory as soon as it ends."""
        self._dropped.cancel()
        self._cancel.cancel()

    def close(self) -> None:
        """Free the generation's memory; without a result, if it has not ended. May be called twice."""
        self._pieces.close()
        self._cancel.cancel()  # for pieces that another thread generates, even if none was read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncTextStreamer:
    """As :class:`TextStreamer`, for ``async for``: each token is computed in a thread of the event loop's executor."""

    def __init__(self, stream: TextStreamer) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        import asyncio  # only for callers with an event loop, who have imported it

        step = asyncio.get_running_loop().run_in_executor(None, next, self._stream, None)
        try:
            piece = await asyncio.shield(step)
        except asyncio.CancelledError:
            self._stream.drop()
            await asyncio.wait([step])  # the thread ends after at most one token
            self._stream.close()
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    @property
    def result(self) -> Generation:
        """See :attr:`TextStreamer.result`."""
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
