"""Several processes on one database, some of which are killed."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import sys
from pathlib import Path

from gpux.system.settings import Settings
from tests.chat.database import crashing
from tests.chat.database.access import opened

ROOT = Path(__file__).parents[3]


def started(url: str, settings: Settings, run: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", crashing.__name__, url, str(settings.home), run]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def killed_after(process: subprocess.Popen[str], lines: int) -> tuple[set[str], dict[str, int]]:
    """What the process has said when it was killed: stored questions, and lengths of answers in the database."""
    assert process.stdout is not None
    said = list(itertools.islice(process.stdout, lines))
    assert len(said) == lines, "the program ended by itself"
    process.kill()
    said += process.stdout.readlines()  # what it wrote before it was killed
    process.wait()
    process.stdout.close()
    questions: set[str] = set()
    written: dict[str, int] = {}
    for kind, number, *length in (line.split() for line in said if line.endswith("\n")):
        if kind == "question":
            questions.add(number)
        else:
            written[number] = int(length[0])
    return questions, written


def test_a_killed_process_loses_no_question_and_no_written_piece(migrated: str, settings: Settings) -> None:
    instants = random.Random(7)

    pieces = "".join(f"{piece} " for piece in range(200_000))

    async def check(questions: set[str], written: dict[str, int]) -> None:
        async with opened(migrated, settings) as database:
            for number in questions:
                question, *answers = await database.conversations.messages(number)
                assert (question.text, question.partial) == (f"question {number}", False)
                for answer in answers:
                    assert answer.partial
                    assert answer.llm_model == "hf:a"
                    assert pieces.startswith(answer.text)
                    assert len(answer.text) >= written.get(number, 0)

    for run in range(3):
        process = started(migrated, settings, str(run))
        asyncio.run(check(*killed_after(process, instants.randrange(1, 40))))


def test_two_servers_use_one_database(url: str, settings: Settings) -> None:
    first, second = started(url, settings, "a"), started(url, settings, "b")  # both may create the tables
    heard = [killed_after(process, 30) for process in (first, second)]

    async def check() -> None:
        async with opened(url, settings) as database:
            for questions, written in heard:
                assert questions
                for number, length in written.items():
                    _, answer = await database.conversations.messages(number)
                    assert len(answer.text) >= length

    asyncio.run(check())
