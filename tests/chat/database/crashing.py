"""A program that is killed while it stores answers: ``python -m tests.chat.database.crashing URL HOME RUN``.

Prints a line ``question N`` once a message of the user is stored, and ``written N LENGTH`` when the database has that
many characters of the answer to it.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from gpux.chat.database.database import Database
from gpux.system.settings import Settings
from tests.chat.database.access import opened

STREAMS = 3


async def _stream(database: Database, number: str) -> None:
    chat = await database.conversations.create(id=number, llm_model="hf:a", model_provider="huggingface")
    await database.conversations.add_message(chat.id, f"question {number}")
    print("question", number, flush=True)
    answer = await database.answers.begin(chat.id, llm_model="hf:a", model_provider="huggingface")
    for piece in itertools.count():
        database.answers.append(answer, f"{piece} ")
        await asyncio.sleep(0.001)
        if piece % 10 == 0:
            *_, stored = await database.conversations.messages(chat.id)
            print("written", number, len(stored.text), flush=True)


async def main() -> None:
    url, home, run = sys.argv[1:]
    async with opened(url, Settings.from_env(home=Path(home)), flush_ms=20) as database:
        await asyncio.gather(*(_stream(database, f"{run}-{number}") for number in range(STREAMS)))


if __name__ == "__main__":
    asyncio.run(main())
