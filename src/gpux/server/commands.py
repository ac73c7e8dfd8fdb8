"""Runs gpux commands in processes of their own: those that import onnxruntime or huggingface_hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from gpux.errors import DeadlineError, GpuxError, RunError
from gpux.system.settings import Settings

#: Commands that run at the same time; others wait.
AT_ONCE = 2
#: Seconds that a command may take.
LONGEST = 120.0


class Commands:
    """Runs commands. Used in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running = asyncio.Semaphore(AT_ONCE)

    async def run(self, arguments: Sequence[str], names: Sequence[str] = ()) -> Any:
        """The JSON document that ``gpux ARGUMENTS --json -- NAMES`` prints.

        Args:
            arguments: the command and its options, chosen by the server.
            names: what a client named; it is never read as an option.

        Raises:
            GpuxError: the error of the command.
            DeadlineError: it took longer than :data:`LONGEST` seconds.
        """
        async with self._running:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gpux", *arguments, "--json", "--", *names),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, **self._settings.to_env()},
                start_new_session=True,  # Ctrl-C is the server's to handle
            )
            try:
                async with asyncio.timeout(LONGEST):
                    output, _ = await process.communicate()
            except TimeoutError:
                raise DeadlineError(f"`gpux {arguments[0]}` took longer than {LONGEST:.0f} s") from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        try:
            found = json.loads(output)
        except ValueError:
            raise RunError(
                f"`gpux {arguments[0]}` ended without an answer", hint="Run it on the server's machine."
            ) from None
        if process.returncode and isinstance(found, dict) and isinstance(found.get("error"), dict):
            raise GpuxError.from_dict(found["error"])
        return found
