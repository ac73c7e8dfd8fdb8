"""What every API calls: the one internal request, and the state of the server."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from gpux.errors import GpuxError
from gpux.model.tasks import canonical, tasks_by_inputs
from gpux.server.commands import Commands
from gpux.server.events import Events
from gpux.server.media.intake import Media
from gpux.server.models import Loaded, Models
from gpux.server.observer import Observer
from gpux.server.parts import Service, parts
from gpux.server.pulls import Pulls
from gpux.server.registry import FILE, Registry
from gpux.server.security.access import Access
from gpux.server.settings import ServerSettings
from gpux.server.stats import Stats
from gpux.server.workers.messages import Answer, Answered, Count, Counted, Embed, Embedded, Generate, Generated, Piece

#: Tasks whose models continue a prompt or answer a chat.
TEXT_TASKS = ("text-generation", "text2text-generation", "summarization", "translation")
EMBEDDING_TASKS = ("feature-extraction", "sentence-similarity")


class Core:
    """The models of a server and what it knows about itself. Used in one event loop."""

    def __init__(self, settings: ServerSettings, stats: Stats | None = None, observer: Observer | None = None) -> None:
        self.settings = settings
        self.stats = stats or Stats()
        self.events = Events()
        self.pulls = Pulls(settings.gpux, self.stats, self.events)
        self.models = Models(settings, self.stats, self.events, self.pulls, observer)
        self.registry = Registry(settings.gpux.home / FILE)
        self.commands = Commands(settings.gpux)
        self.access = Access(settings)
        self.media = Media(settings)
        self.started = time.time()
        self.draining = False  #: no new request is accepted
        self.services: dict[str, Service] = {part.name: part.service(self) for part in parts(settings.without)}

    async def start(self) -> None:
        """Begin to load the models that the settings name, and those of the last run; start the parts' services."""
        await self.models.start()
        for service in self.services.values():
            await service.start()

    def end_requests(self, error: GpuxError) -> None:
        """End what runs with an error: the time that it had after the server began to stop has passed."""
        for loaded in self.models.loaded():
            loaded.worker.fail_requests(error)
        for service in self.services.values():
            service.end_requests(error)

    async def close(self) -> None:
        """End all processes; requests that run fail."""
        for service in self.services.values():
            await service.close()
        await self.models.close()
        await self.registry.close()

    async def generate(self, loaded: Loaded, request: Generate) -> AsyncGenerator[Piece | Generated, None]:
        """The pieces of the answers, then :class:`Generated`; cancelled when the iterator is closed early."""
        async with aclosing(loaded.worker.replies(request)) as replies:
            async for reply in replies:
                assert isinstance(reply, (Piece, Generated))
                yield reply

    async def answer(self, loaded: Loaded, request: Answer) -> Answered:
        """The answers to inputs of any task."""
        reply = await loaded.worker.ask(request)
        assert isinstance(reply, Answered)
        return reply

    async def read_inputs(self, loaded: Loaded, task: str, inputs: Any) -> Any:
        """The inputs of a call as :class:`Answer` takes them: of pictures, sounds and videos, their bytes.

        Nothing is fetched for a model of texts, nor for a task that reads something else than the model: its process
        refuses that.

        Args:
            loaded: the model.
            task: of the call.
            inputs: of the request.

        Raises:
            GpuxError: see :meth:`gpux.server.media.intake.Media.read_inputs`.
        """
        others = tasks_by_inputs(canonical(loaded.model.task)) - {loaded.model.pipeline_task}
        if "texts" in loaded.worker.info.capabilities or task in others:
            return inputs
        return await self.media.read_inputs(inputs)

    async def embed(self, loaded: Loaded, request: Embed) -> Embedded:
        """Vectors of texts."""
        reply = await loaded.worker.ask(request)
        assert isinstance(reply, Embedded)
        return reply

    async def count(self, loaded: Loaded, request: Count) -> Counted:
        """Tokens of prompts."""
        reply = await loaded.worker.ask(request)
        assert isinstance(reply, Counted)
        return reply
