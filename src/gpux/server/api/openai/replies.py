"""The replies of a worker to one request, read by a task of its own.

The task holds the lease of the model and the request, so that both are released in the task that took them, and at
once when the client leaves: closing only cancels the task, which is possible even where waiting is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, suppress

from gpux.errors import CancelledError, ContextLengthError, GpuxError, InputError, RunError, UsageError
from gpux.server.core import Core
from gpux.server.models import Loaded
from gpux.server.workers.messages import Generate, Generated, Piece

log = logging.getLogger(__name__)
#: Replies that are held for a reader; those of a slower one wait in the worker's own queue, which has a limit.
_AHEAD = 64


class Replies:
    """Iterates over the pieces of a request, and :class:`Generated` at the end.

    Args:
        core: of the server.
        model: its name in the request.
        tasks: that the request needs.
        request: for its worker.
        prepare: completes the request by what is known of the loaded model.
        param: the parameter with the input, which errors of inputs name.
        names: all parameters; an error of an option begins with its name.
        keep_alive: see :meth:`gpux.server.models.Models.lease`.
        counting: gives the tokens of the prompt, which :attr:`prompt_tokens` then has before the first reply.
    """

    def __init__(
        self,
        core: Core,
        model: str,
        tasks: Sequence[str],
        request: Generate,
        prepare: Callable[[Loaded, Generate], None],
        param: str,
        names: Collection[str],
        *,
        keep_alive: float | None = None,
        counting: Callable[[Loaded], Awaitable[int]] | None = None,
    ) -> None:
        self._counting = counting
        self.prompt_tokens = 0
        self._core, self._model, self._tasks, self._request = core, model, tasks, request
        self._prepare, self._param, self._names = prepare, param, names
        self._keep_alive = keep_alive
        self._arrived: asyncio.Queue[Piece | Generated | GpuxError] = asyncio.Queue(_AHEAD)
        self._first: Piece | Generated | None = None
        self._leased = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def begin(self, seconds: float) -> None:
        """Wait until the model is loaded, and then for a first reply, for this many seconds at most.

        Raises:
            GpuxError: the first reply is an error, which still has an HTTP status of its own.
        """
        await self._leased.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self._first = await self._next()

    async def __aiter__(self) -> AsyncIterator[Piece | Generated]:
        """Each reply.

        Raises:
            GpuxError: the request failed.
        """
        while True:
            reply, self._first = self._first or await self._next(), None
            yield reply
            if isinstance(reply, Generated):
                return

    def close(self) -> None:
        """End the request, if it has not ended. May be called twice."""
        self._task.cancel()

    async def _next(self) -> Piece | Generated:
        reply = await self._arrived.get()
        if isinstance(reply, GpuxError):
            raise reply
        if isinstance(reply, Generated) and any(one.finish_reason == "cancelled" for one in reply.sequences):
            raise CancelledError("the server ended the generation", hint="Send the request again.")
        return reply

    async def _read(self) -> None:
        try:
            async with self._core.models.lease(self._model, self._tasks, keep_alive=self._keep_alive) as loaded:
                self._prepare(loaded, self._request)
                if self._counting is not None:
                    self.prompt_tokens = await self._counting(loaded)
                self._leased.set()
                async with aclosing(self._core.generate(loaded, self._request)) as replies:
                    async for reply in replies:
                        await self._arrived.put(reply)
        except GpuxError as error:
            await self._arrived.put(self._of_request(error))
        except Exception:
            log.exception("a generation of %s failed", self._model)
            await self._arrived.put(RunError("the server failed to answer", hint="Its log has the reason."))
        finally:
            self._leased.set()

    def _of_request(self, error: GpuxError) -> GpuxError:
        """An error of the pipeline in the words of the request."""
        param, hint = None, error.hint
        if isinstance(error, InputError):
            param = self._param
        elif isinstance(error, UsageError):
            first = error.message.partition(" ")[0]
            param = first if first in self._names else None
        if isinstance(error, ContextLengthError):  # its own hint names an option of the pipeline
            hint = "Shorten it, or name a model with a longer context."
        return error if param is None else type(error)(error.message, hint=hint, **{"param": param, **error.details})
