"""The process that ``scripts.bench_chat_database`` kills: ``… URL HOME ID``. Each piece is its time."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from gpux import Settings
from gpux.chat.database import open_database


async def main() -> None:
    """Store a question, say so, and add to the answer for ever."""
    url, home, id = sys.argv[1:]
    database = await open_database(url, Settings.from_env(home=Path(home)))
    await database.conversations.create(id=id)
    await database.conversations.add_message(id, str(time.monotonic()))
    answer = await database.answers.begin(id)
    print("stored", flush=True)
    while True:
        database.answers.append(answer, f"{time.monotonic()} ")
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
