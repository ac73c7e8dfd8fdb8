"""How the process of a worker starts and ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from gpux.errors import CancelledError, GpuxError, WorkerDiedError
from gpux.server.workers import framing
from gpux.server.workers.messages import Embed, Embedded, Open
from gpux.server.workers.worker import Worker
from tests.server.running import EMBEDDER
from tests.server.workers.conftest import SETTINGS, started, stored_model
from tests.waiting import until


def test_it_ends_when_the_server_has_ended_even_while_it_runs(filled_home: Path) -> None:
    model = stored_model(filled_home, EMBEDDER)

    async def work() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "gpux.server.workers.program",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(framing.encode(Open(str(model.path), model.task, "cpu", 2, SETTINGS)))
        size = framing.size_of(await process.stdout.readexactly(framing.HEADER))
        await process.stdout.readexactly(size)
        process.stdin.write(framing.encode(Embed(1, ["the quick fox " * 10] * 50_000, {})))
        await process.stdin.drain()
        process.stdin.close()
        assert await process.wait() == 0

    asyncio.run(work())


def test_signals_are_the_servers_to_handle_and_closing_cancels_what_waits(filled_home: Path) -> None:
    async def work() -> None:
        async with started(stored_model(filled_home, EMBEDDER)) as worker:
            for number in (signal.SIGTERM, signal.SIGINT):
                psutil.Process(worker.pid).send_signal(number)
            worker.use_cores([min(psutil.Process().cpu_affinity())])
            assert isinstance(await worker.ask(Embed(0, ["a fox", "a dog"], {})), Embedded)
            asked = [asyncio.ensure_future(worker.ask(Embed(0, ["a fox"] * 20_000, {}))) for _ in range(4)]
            await until(lambda: worker.load.running > 0)
            await worker.close()
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(one, (Embedded, CancelledError, WorkerDiedError)) for one in found)
            assert any(isinstance(one, CancelledError) for one in found)

    asyncio.run(work())


def test_a_model_that_cannot_be_opened_says_why(filled_home: Path) -> None:
    model = stored_model(filled_home, EMBEDDER)

    async def work() -> None:
        opening = Open(str(model.path), "fill-mask", "cpu", 2, SETTINGS)
        with pytest.raises(GpuxError, match="fill-mask"):
            await (await Worker.launch(opening, model.id, log=filled_home / "logs" / "worker.log")).ready()

    asyncio.run(work())
