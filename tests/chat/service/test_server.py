"""Conversations on a real server: who leaves or dies while an answer comes, and what is stored of it then."""

from __future__ import annotations

import resource
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gpux.server.security.keys import create_key
from tests.chat.service.talking import (
    ALONE,
    ENDLESS,
    Event,
    chatting,
    stored,
    talk,
    talking,
    workers,
)
from tests.server.running import WRITER
from tests.waiting import wait_until

MODEL = f"hf:{WRITER}"
LONG = {"model": f"hf:{ENDLESS}", "message": "go on", "options": {"temperature": 0, "maxTokens": 50000}}
SHORT = {"temperature": 0, "maxTokens": 4}


def tokens(events: Iterator[Event], count: int) -> str:
    found = "".join(one.data["token"] for one in islice((one for one in events if not one.name), count))
    assert found
    return found


def answers(home: Path) -> list[tuple[str, bool, str | None]]:
    return [(text, partial, error) for text, sender, partial, error in stored(home) if sender == "llm"]


def test_a_client_that_leaves_ends_the_generation(home: Path) -> None:
    with chatting(home) as server:
        with talking(server, LONG) as events:
            read = tokens(events, 20)
        wait_until(lambda: answers(home)[0][1:] == (True, None) and _finished(home) == ["terminated"])
        assert answers(home)[0][0].startswith(read)
        idle = f'gpux_requests_running{{model="{ENDLESS}"}} 0.0'
        wait_until(lambda: idle in server.get("/metrics").text)
        assert talk(server, {"model": MODEL, "message": "hi", "options": SHORT}).end


def test_a_stream_is_terminated_by_its_session(home: Path) -> None:
    terminate = "mutation ($id: String) { terminateStream(sessionId: $id) { success message error } }"
    with chatting(home) as server:
        with talking(server, LONG) as events:
            session = next(events).data
            read = tokens(events, 20)
            body = {"query": terminate, "variables": {"id": session["sessionId"]}}
            assert server.post("/graphql", body).json()["data"]["terminateStream"]["success"]
            *rest, last = events
        assert (last.name, last.data["finishReason"]) == ("end", "terminated")
        assert answers(home) == [(read + "".join(one.data["token"] for one in rest), True, None)]
        assert not server.post("/graphql", body).json()["data"]["terminateStream"]["success"]
        more = {"message": "more", "conversationId": session["conversationId"], "options": SHORT}
        assert talk(server, more).end["finishReason"] == "length"


def test_a_killed_server_keeps_the_message_and_the_partial_answer_and_goes_on(home: Path) -> None:
    with chatting(home) as server, talking(server, LONG) as events:
        session = next(events)
        read = tokens(events, 200)
        wait_until(lambda: len(answers(home)[0][0]) >= 200)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        with pytest.raises(httpx2.TransportError):
            list(events)
    assert [one[0] for one in stored(home) if one[1] == "user"] == ["go on"]
    ((text, partial, _),) = answers(home)
    assert text.startswith(read)
    assert partial
    assert _finished(home) == [None]
    with chatting(home) as server:
        body = {"message": "more", "conversationId": session.data["conversationId"], "options": SHORT}
        found = talk(server, body)
        assert found.session["model"] == f"hf:{ENDLESS}"
        assert found.end["promptTokens"] > len(text)


def test_a_killed_worker_is_an_error_and_the_next_message_is_answered(home: Path) -> None:
    with chatting(home) as server:
        with talking(server, LONG) as events:
            session = next(events)
            tokens(events, 20)
            (worker,) = workers(server)
            worker.kill()
            last = list(events)[-1]
        assert last.name == "error"
        assert last.data["code"] == "worker_died"
        assert last.data["errorCode"] == "HF_MODEL_INFERENCE_FAILED"
        assert answers(home)[0][1:] == (True, "worker_died")
        assert talk(server, {"message": "b", "conversationId": session.data["conversationId"], "options": SHORT}).end


def test_a_server_that_stops_ends_a_stream_with_an_error(home: Path) -> None:
    with chatting(home, ALONE, "--drain-timeout", "1s") as server:
        with talking(server, LONG) as events:
            tokens(events, 20)
            server.process.send_signal(signal.SIGTERM)
            last = list(events)[-1]
        assert (last.name, last.data["code"]) == ("error", "overloaded")
        server.process.wait(30)
        assert answers(home)[0][1:] == (True, "overloaded")


def test_a_configuration_edited_while_a_stream_runs(home: Path) -> None:
    with chatting(home) as server:
        with talking(server, {**LONG, "options": {"temperature": 0, "maxTokens": 2000}}) as events:
            tokens(events, 20)
            (home / "chat.toml").write_text(f'{ALONE}[providers.huggingface]\nprefix = "hub:"\n')
            again = {"model": f"hub:{WRITER}", "message": "hi", "options": SHORT}
            wait_until(lambda: talk(server, again).status == 200)
            (home / "chat.toml").write_text("default_provider = [")
            wait_until(lambda: "stays in force" in server.log.read_text())
            assert talk(server, again).end
            last = list(events)[-1]
        assert (last.name, last.data["tokenCount"]) == ("end", 2000)


def test_a_disk_that_refuses_is_an_error_at_the_end(home: Path) -> None:
    with chatting(home) as server:
        assert talk(server, {"model": f"hf:{ENDLESS}", "message": "hi", "options": SHORT}).end
        with talking(server, LONG) as events:
            tokens(events, 20)
            # Whatever the server writes from now on fails, as on a full disk.
            before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, -1))
            body = {"model": MODEL, "message": "hi", "options": SHORT}
            refused = talk(server, body)
            assert refused.status in (503, 507)
            assert refused.error["code"] in ("database", "disk_full")
            assert talk(server, {**body, "conversationHistory": []}).end
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
        wait_until(lambda: _finished(home)[-1] == "terminated")
        assert talk(server, body).end


def test_a_database_that_another_program_locks(home: Path) -> None:
    with chatting(home) as server:
        body = {"model": MODEL, "message": "hi", "options": SHORT}
        assert talk(server, body).end
        with closing(sqlite3.connect(home / "conversations.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            found = talk(server, body)
            assert (found.status, found.error["code"]) == (503, "database")
            assert str(home) not in str(found.error)
        assert talk(server, body).end


def test_a_broken_configuration_does_not_take_the_server_down(home: Path) -> None:
    with chatting(home, "default_provider = [") as server:
        body = {"model": MODEL, "message": "hi", "options": SHORT}
        found = talk(server, body)
        assert (found.status, found.error["code"], found.error["errorCode"]) == (
            *(503, "configuration", "HF_CONFIGURATION_ERROR"),
        )
        assert server.get("/health").status_code == 200
        (home / "chat.toml").write_text(ALONE)
        assert talk(server, body).end


def test_conversations_belong_to_the_key_that_began_them(home: Path) -> None:
    keys = home / "keys.json"
    mine, other, reader = (
        {"authorization": f"Bearer {create_key(keys, name, scopes=scopes)[0]}"}
        for name, scopes in (("mine", ("infer",)), ("other", ("infer",)), ("reader", ("read",)))
    )
    with chatting(home, ALONE, "--api-key-file", str(keys)) as server:
        body: dict[str, Any] = {"model": MODEL, "message": "hi", "options": SHORT}
        assert talk(server, body).status == 401
        assert talk(server, body, json=body, headers=reader).status == 403
        begun = talk(server, body, json=body, headers=mine)
        more = {**body, "conversationId": begun.session["conversationId"]}
        refused = talk(server, more, json=more, headers=other)
        assert (refused.status, refused.error["code"]) == (403, "conversation_access")
        assert talk(server, more, json=more, headers=mine).end


def test_many_streams_at_once_lose_no_event(home: Path) -> None:
    with chatting(home) as server:
        talk(server, {"model": MODEL, "message": "hi", "options": SHORT})

        def one(number: int) -> str:
            return talk(server, {"model": MODEL, "message": f"no {number}", "options": SHORT}).text

        with ThreadPoolExecutor(40) as pool:
            found = list(pool.map(one, range(40)))
        assert sorted(text for text, _, _ in answers(home)[1:]) == sorted(found)


def _finished(home: Path) -> list[str | None]:
    with closing(sqlite3.connect(home / "conversations.db")) as database:
        rows = database.execute("SELECT finish_reason FROM messages WHERE sender = 'llm' ORDER BY id").fetchall()
    return [reason for (reason,) in rows]
