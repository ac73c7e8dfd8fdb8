"""Conversations on a real server: who leaves while an answer comes, what fails, and what is stored of it then."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from tests.chat.conftest import Keyed
from tests.chat.service.talking import ALONE, ENDLESS, Event, chatting, reload, stored, talk, talking
from tests.server.running import WRITER, Running
from tests.waiting import wait_until

MODEL = f"hf:{WRITER}"
LONG = {"model": f"hf:{ENDLESS}", "message": "go on", "options": {"temperature": 0, "maxTokens": 50000}}
SHORT = {"temperature": 0, "maxTokens": 4}


def tokens(events: Iterator[Event], count: int) -> str:
    found = "".join(one.data["token"] for one in islice((one for one in events if not one.name), count))
    assert found
    return found


def answer(server: Running, conversation: str) -> tuple[str, bool, str | None]:
    """The last answer of a conversation: text, partial, error."""
    text, _, partial, error = [one for one in stored(server.home, conversation) if one[1] == "llm"][-1]
    return text, partial, error


def finished(server: Running, conversation: str) -> list[str | None]:
    """Why the answers of a conversation ended; None: they have not."""
    query = "SELECT finish_reason FROM messages WHERE sender = 'llm' AND conversation_id = ? ORDER BY id"
    with closing(sqlite3.connect(server.home / "conversations.db")) as database:
        return [reason for (reason,) in database.execute(query, (conversation,))]


def test_a_client_that_leaves_ends_the_generation(chat: Running) -> None:
    with talking(chat, LONG) as events:
        id = next(events).data["conversationId"]
        read = tokens(events, 20)
    wait_until(lambda: answer(chat, id)[1:] == (True, None) and finished(chat, id) == ["terminated"])
    assert answer(chat, id)[0].startswith(read)
    idle = f'gpux_requests_running{{model="{ENDLESS}"}} 0.0'
    wait_until(lambda: idle in chat.get("/metrics").text)
    assert talk(chat, {"model": MODEL, "message": "hi", "options": SHORT}).end


def test_a_stream_is_terminated_by_its_session(chat: Running) -> None:
    terminate = "mutation ($id: String) { terminateStream(sessionId: $id) { success message error } }"
    with talking(chat, LONG) as events:
        session = next(events).data
        id = session["conversationId"]
        read = tokens(events, 20)
        body = {"query": terminate, "variables": {"id": session["sessionId"]}}
        assert chat.post("/graphql", body).json()["data"]["terminateStream"]["success"]
        *rest, last = events
    assert (last.name, last.data["finishReason"]) == ("end", "terminated")
    assert answer(chat, id) == (read + "".join(one.data["token"] for one in rest), True, None)
    assert not chat.post("/graphql", body).json()["data"]["terminateStream"]["success"]
    more = {"message": "more", "conversationId": id, "options": SHORT}
    assert talk(chat, more).end["finishReason"] == "length"


def test_a_configuration_edited_while_a_stream_runs(chat: Running) -> None:
    file = chat.home / "chat.toml"
    try:
        with talking(chat, LONG) as events:
            tokens(events, 20)
            file.write_text(f'{ALONE}[providers.huggingface]\nprefix = "hub:"\n')
            again = {"model": f"hub:{WRITER}", "message": "hi", "options": SHORT}
            wait_until(lambda: talk(chat, again).status == 200)
            file.write_text("default_provider = [")
            wait_until(lambda: "stays in force" in chat.log.read_text())
            assert talk(chat, again).end
            tokens(events, 100)  # the answer that began before goes on
    finally:
        reload(chat, ALONE)
    assert talk(chat, {"model": MODEL, "message": "hi", "options": SHORT}).end


def test_a_disk_that_refuses_is_an_error_at_the_end(chat: Running) -> None:
    body = {"model": MODEL, "message": "hi", "options": SHORT}
    with talking(chat, LONG) as events:
        id = next(events).data["conversationId"]
        tokens(events, 20)
        # Whatever the server writes from now on fails, as on a full disk.
        before = resource.prlimit(chat.process.pid, resource.RLIMIT_FSIZE, (0, -1))
        try:
            refused = talk(chat, body)
            assert refused.status in (503, 507)
            assert refused.error["code"] in ("database", "disk_full")
            assert str(chat.home) not in str(refused.error)
            assert talk(chat, {**body, "conversationHistory": []}).end
        finally:
            resource.prlimit(chat.process.pid, resource.RLIMIT_FSIZE, before)
    wait_until(lambda: finished(chat, id) == ["terminated"])
    assert talk(chat, body).end


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


def test_conversations_belong_to_the_key_that_began_them(keyed: Keyed) -> None:
    server = keyed.server
    mine, other, reader = keyed.headers("mine", "infer"), keyed.headers("other", "infer"), keyed.headers("r", "read")
    body: dict[str, Any] = {"model": MODEL, "message": "hi", "options": SHORT}
    assert talk(server, body).status == 401
    assert talk(server, body, json=body, headers=reader).status == 403
    begun = talk(server, body, json=body, headers=mine)
    more = {**body, "conversationId": begun.session["conversationId"]}
    refused = talk(server, more, json=more, headers=other)
    assert (refused.status, refused.error["code"]) == (403, "conversation_access")
    assert talk(server, more, json=more, headers=mine).end


def test_many_streams_at_once_lose_no_event(chat: Running) -> None:
    def one(number: int) -> tuple[str, str]:
        found = talk(chat, {"model": MODEL, "message": f"no {number}", "options": SHORT})
        return found.text, found.session["conversationId"]

    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(one, range(40)))
    assert [answer(chat, id) for _, id in found] == [(text, False, None) for text, _ in found]
