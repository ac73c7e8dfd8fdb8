"""``kill -9`` of the server, of a model's process and of Ollama at random instants of streams.

`./dev chat_kills` does it 20 times for each, and checks then too that a stored answer lacks at most its last half
second; the suite does it once, since a machine that is busy may take longer to write.
"""

from __future__ import annotations

import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.chat.conftest import Home
from tests.chat.service.talking import ENDLESS, chatting, stored, talk, talking, workers
from tests.ollama.running import RunningOllama, running_ollama
from tests.server.running import Running
from tests.waiting import wait_until

MANY = "GPUX_KILLS" in os.environ
TIMES = int(os.environ.get("GPUX_KILLS", "1"))
#: Seconds of an answer that may be missing in the database.
LOST = 0.5
STREAMS = (f"hf:{ENDLESS}", "ollama:endless", "ollama:endless")


@dataclass
class Reader(threading.Thread):
    """Reads an answer until it ends."""

    server: Running
    model: str
    message: str
    pieces: list[tuple[float, str]] = field(default_factory=list)  #: when each one came
    conversation: str = ""
    last: str = ""  #: name of the last event; empty: the connection broke, or a token
    error: dict[str, Any] = field(default_factory=dict)
    begun: threading.Event = field(default_factory=threading.Event)
    leaving: bool = False

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        body = {"model": self.model, "message": self.message, "options": {"maxTokens": 60_000}}
        try:
            with talking(self.server, body) as events:
                for one in events:
                    if one.name == "session":
                        self.conversation = one.data["conversationId"]
                    elif not one.name:
                        self.pieces.append((time.monotonic(), one.data["token"]))
                        self.begun.set()
                    self.last = one.name
                    if one.name == "error":
                        self.error = one.data
                    if self.leaving:
                        return
        except httpx2.TransportError:
            self.last = ""
        finally:
            self.begun.set()

    def text_before(self, instant: float) -> str:
        return "".join(text for when, text in self.pieces if when <= instant)


def streams(server: Running, number: int) -> list[Reader]:
    """Answers of which a part is stored, and that do not end by themselves."""
    assert talk(server, {"model": STREAMS[0], "message": "load", "options": {"maxTokens": 1}}).end
    readers = [Reader(server, model, f"{number} {place}") for place, model in enumerate(STREAMS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.begun.wait()
        wait_until(lambda id=reader.conversation: stored(server.home, id)[1:] and stored(server.home, id)[1][0])  # type: ignore[misc]
    if MANY:
        time.sleep(random.uniform(0, 1.5))
    return readers


def check(home: Path, readers: list[Reader], killed: float, ended: tuple[str, ...]) -> None:
    """Every message of a user is stored, and every partial answer, flagged."""
    for reader in readers:
        reader.leaving = not reader.model.startswith(ended)
        reader.join(60)
    for reader in readers:
        question, (text, _, partial, _) = stored(home, reader.conversation)
        assert question[:2] == (reader.message, "user")
        received = reader.text_before(math.inf)
        assert text
        assert received.startswith(text) or text.startswith(received)
        if reader.leaving:
            assert not reader.error, "the others are answered"
        else:
            assert partial
            if MANY:
                assert text.startswith(reader.text_before(killed - LOST))


@pytest.fixture(scope="module")
def killed_ollama() -> Iterator[RunningOllama]:
    with running_ollama() as running:
        yield running


@pytest.fixture(scope="module")
def server(new_home: Home, killed_ollama: RunningOllama) -> Iterator[Running]:
    with chatting(new_home("chat-kills"), configuration(killed_ollama)) as running:
        yield running


def configuration(ollama: RunningOllama) -> str:
    return f'retry_attempts = 1\nretry_delay_ms = 1\n[providers.ollama]\nbase_url = "{ollama.url}"\n'


def finish_reasons(home: Path, readers: list[Reader]) -> set[str | None]:
    """Why the answers have ended; None: nobody knows."""
    query = "SELECT finish_reason FROM messages WHERE sender = 'llm' AND conversation_id = ?"
    with closing(sqlite3.connect(home / "conversations.db")) as database:
        return {row[0] for reader in readers for row in database.execute(query, (reader.conversation,))}


def goes_on(server: Running, reader: Reader) -> None:
    """The next message of a conversation is answered, with what is stored of it."""
    text = stored(server.home, reader.conversation)[1][0]
    body = {"message": "go on", "conversationId": reader.conversation, "options": {"maxTokens": 3}}
    found = talk(server, body)
    assert found.session["model"].startswith(reader.model)
    if reader.model.startswith("hf:"):
        assert found.end["promptTokens"] > len(text)


@pytest.mark.parametrize("number", range(TIMES))
def test_the_server_is_killed(home: Path, ollama: RunningOllama, number: int) -> None:
    with chatting(home, configuration(ollama)) as server:
        readers = streams(server, number)
        killed = time.monotonic()
        server.process.kill()
        server.process.wait()
        for reader in readers:
            reader.join(60)
            assert not reader.error
    check(home, readers, killed, ("hf:", "ollama:"))
    assert finish_reasons(home, readers) == {None}
    with chatting(home, configuration(ollama)) as server:
        for reader in readers:
            goes_on(server, reader)


def test_the_process_of_the_model_is_killed(server: Running) -> None:
    for number in range(TIMES):
        readers = streams(server, number)
        killed = time.monotonic()
        for worker in workers(server):
            worker.kill()
        for reader in readers:
            if reader.model.startswith("hf:"):
                reader.join(60)
                assert (reader.error["code"], reader.error["errorCode"]) == ("worker_died", "HF_MODEL_INFERENCE_FAILED")
        check(server.home, readers, killed, ("hf:",))
        if not MANY:
            goes_on(server, readers[0])
        # Started again explicitly, since a model that dies often stays down.
        assert server.post("/gpux/v1/load", {"model": ENDLESS}).status_code == 200


def test_ollama_is_killed(server: Running, killed_ollama: RunningOllama) -> None:
    for number in range(TIMES):
        readers = streams(server, number)
        killed = time.monotonic()
        killed_ollama.kill()
        for reader in readers:
            if reader.model.startswith("ollama:"):
                reader.join(60)
                assert reader.error
        check(server.home, readers, killed, ("ollama:",))
        killed_ollama.start()
