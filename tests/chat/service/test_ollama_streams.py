"""Conversations on a real server with models of an Ollama, which fails, leaves and comes back."""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.chat.conftest import SECRET, Home, Keyed
from tests.chat.service.talking import ENDLESS, Event, Talk, chatting, reload, stored, talk, talking, with_ollama
from tests.ollama.models import UNICODE
from tests.ollama.running import RunningOllama, running_ollama
from tests.server.running import WRITER, Running
from tests.waiting import wait_until

PICTURE = b"\x89PNG\r\n\x1a\n and more"
#: Of the models that never end: the others may take as long as a busy machine needs.
LIMITED = "".join(f'[models."ollama:{name}"]\ntimeout_ms = 300\n' for name in ("stalls", "silent"))
LONG = {"temperature": 0, "maxTokens": 50_000}


@pytest.fixture(scope="module")
def both(new_home: Home, ollama: RunningOllama) -> Iterator[tuple[Running, RunningOllama]]:
    """A server with models of gpux and of an Ollama."""
    with chatting(new_home("both"), with_ollama(ollama.url, "retry_delay_ms = 1", LIMITED)) as server:
        yield server, ollama


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def last_answer(home: Path) -> tuple[str, bool, str | None]:
    text, sender, partial, error = stored(home)[-1]
    assert sender == "llm"
    return text, partial, error


def chat_of_ollama(url: str, model: str, message: str, **options: Any) -> str:
    """The answer of Ollama itself."""
    body = {"model": model, "messages": [{"role": "user", "content": message}], "options": options, "stream": False}
    found = httpx2.post(f"{url}/api/chat", json=body, trust_env=False, timeout=30).json()
    return str(found["message"]["content"])


@pytest.mark.parametrize("model", ["ollama:unicode", "unicode"])
def test_an_answer_is_that_of_ollama(both: tuple[Running, RunningOllama], model: str) -> None:
    found = talk(both[0], {"model": model, "message": "hi"})
    assert found.text == UNICODE
    assert found.session["model"] == "ollama:unicode"
    assert found.session["provider"] == found.end["modelProvider"] == "ollama"
    assert last_answer(both[0].home) == (UNICODE, False, None)


def test_a_conversation_changes_its_provider(both: tuple[Running, RunningOllama]) -> None:
    first = talk(both[0], {"model": f"hf:{WRITER}", "message": "a", "options": {"temperature": 0, "maxTokens": 3}})
    id = first.session["conversationId"]
    second = talk(both[0], {"model": "ollama:counted", "message": "b", "conversationId": id})
    assert second.text == "3 messages from a to b"
    third = talk(both[0], {"message": "c", "conversationId": id})
    assert third.text == "5 messages from a to c"


def test_thoughts_are_not_part_of_an_answer(both: tuple[Running, RunningOllama]) -> None:
    assert talk(both[0], {"model": "ollama:thinking", "message": "so be it"}).text == "so be it"


def test_the_options_that_are_given_are_sent(both: tuple[Running, RunningOllama]) -> None:
    server, ollama = both
    options = {"temperature": 0.5, "maxTokens": 5, "stop": ["zz"], "seed": 3}
    assert len(talk(server, {"model": "ollama:letters", "message": "hi", "options": options}).text) == 5
    assert ollama.state()["bodies"][-1]["options"] == {"temperature": 0.5, "num_predict": 5, "stop": ["zz"], "seed": 3}


FAULTS = {
    "cut": ("provider_unavailable", True),
    "error": ("provider", True),
    "garbage": ("provider", True),
    "endless-line": ("provider", True),
    "stalls": ("deadline", True),
    "unfinished": ("provider_unavailable", True),
    "broken": ("provider", False),
    "busy": ("provider_unavailable", False),
    "silent": ("provider_unavailable", False),
    "none": ("model_not_found", False),
    "tests/embedder": ("input", False),
}


@pytest.mark.parametrize(("fault", "code", "begun"), [(fault, *found) for fault, found in FAULTS.items()])
def test_a_fault_of_ollama_ends_the_answer_with_an_error(
    both: tuple[Running, RunningOllama], fault: str, code: str, begun: bool
) -> None:
    server, ollama = both
    found = talk(server, {"model": f"ollama:{fault}", "message": "hi"})
    assert found.error["code"] == code, found.error
    assert len(found.text) == (3 if begun else 0)
    assert last_answer(server.home) == (found.text, True, code)
    if not begun and fault != "silent":
        assert found.status >= 400
    wait_until(lambda: not ollama.state()["running"])
    assert talk(server, {"model": "ollama:echo", "message": "still here"}).text == "still here"


def test_a_client_that_leaves_ends_the_generation_in_ollama(both: tuple[Running, RunningOllama]) -> None:
    server, ollama = both
    with talking(server, {"model": "ollama:endless", "message": "hi", "options": {}}) as events:
        read = tokens(events, 20)
        wait_until(lambda: ollama.state()["running"])
    wait_until(lambda: not ollama.state()["running"])
    wait_until(lambda: last_answer(server.home)[0].startswith(read))


def tokens(events: Iterator[Event], count: int) -> str:
    return "".join(one.data["token"] for one in islice((one for one in events if not one.name), count))


def test_a_killed_ollama_leaves_the_partial_answer_and_the_conversation_goes_on(changing: Running) -> None:
    server = changing
    with running_ollama() as ollama:
        reload(server, with_ollama(ollama.url, "retry_attempts = 0"))
        with talking(server, {"model": "ollama:endless", "message": "hi"}) as events:
            id = next(events).data["conversationId"]
            read = tokens(events, 50)
            ollama.kill()
            rest = list(events)
        assert rest[-1].data["code"] == "provider_unavailable"
        text, partial, error = last_answer(server.home)
        assert text == read + "".join(one.data["token"] for one in rest[:-1])
        assert (partial, error) == (True, "provider_unavailable")
        refused = talk(server, {"message": "there?", "conversationId": id})
        assert (refused.status, refused.error["errorCode"]) == (503, "HF_CONNECTION_ERROR")
        other = talk(server, {"model": f"hf:{WRITER}", "message": "hi", "options": {"maxTokens": 2}})
        assert other.end["modelProvider"] == "huggingface", "the others answer"
        ollama.start()
        found = talk(server, {"model": "ollama:counted", "message": "again", "conversationId": id})
        assert found.text == "3 messages from hi to again", "what was not answered is left out"


@pytest.mark.parametrize("what", ["nobody", "wrong address", "wrong key"])
def test_an_ollama_that_cannot_be_used(changing: Running, ollama: RunningOllama, locked: str, what: str) -> None:
    url = {"nobody": f"http://127.0.0.1:{closed_port()}", "wrong address": f"{ollama.url}/v2"}.get(what, locked)
    reload(changing, with_ollama(url, "retry_attempts = 0", 'api_key_env = "OLLAMA_KEY"'))
    found = talk(changing, {"model": "ollama:echo", "message": "hi"})
    assert found.status >= 400
    code, error_code = {
        "nobody": ("provider_unavailable", "HF_CONNECTION_ERROR"),
        "wrong address": ("provider", "HF_MODEL_NOT_FOUND"),
        "wrong key": ("provider_access", "HF_AUTHENTICATION_ERROR"),
    }[what]
    assert (found.error["code"], found.error["errorCode"]) == (code, error_code), found.error
    assert found.error["hint"]
    assert SECRET["OLLAMA_KEY"] not in json.dumps(found.error) + changing.log.read_text()


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    """The address of an Ollama that needs a key."""
    with running_ollama(["--key", "right"]) as running:
        yield running.url


def with_picture(server: Running, model: str, **fields: str) -> Talk:
    """A form with a message and a picture."""
    parts: list[Any] = [(name, (None, value)) for name, value in {"model": model, "message": "look", **fields}.items()]
    return talk(server, {}, files=[*parts, ("images", ("cat.png", PICTURE, "text/html"))])


def test_images_of_a_form_and_of_json_reach_a_model_that_reads_them(both: tuple[Running, RunningOllama]) -> None:
    digest = hashlib.sha256(PICTURE).hexdigest()
    found = with_picture(both[0], "ollama:seeing")
    assert found.text == f"{digest} look"
    images = [base64.b64encode(PICTURE).decode()]
    assert talk(both[0], {"model": "ollama:seeing", "message": "look", "images": images}).text == f"{digest} look"
    id = found.session["conversationId"]
    again = talk(both[0], {"message": "and now", "conversationId": id})
    assert again.text == f"{digest} and now", "the images of earlier messages are sent again"


def test_an_image_is_served_to_those_who_may_read_its_conversation(keyed: Keyed) -> None:
    server = keyed.server
    mine, other = (keyed.headers(name, "read", "infer") for name in ("mine", "other"))
    made = '{id: "p", tabName: "p", llmModel: "ollama:seeing", password: "s"}'
    query = f"mutation {{ createConversation(input: {made}) {{ message }} }}"
    assert "errors" not in server.post("/graphql", {"query": query}, headers=mine).json()
    images = [base64.b64encode(PICTURE).decode()]
    for given in ({"model": "ollama:seeing"}, {"conversationId": "p", "password": "s"}):
        body = {"message": "look", "images": images, **given}
        assert talk(server, body, json=body, headers=mine).end
    with closing(sqlite3.connect(server.home / "conversations.db")) as database:
        public, private = (id for (id,) in database.execute("SELECT id FROM images ORDER BY message_id"))
    found = server.get(f"/api/images/{public}", headers=mine)
    assert (found.content, found.headers["content-type"]) == (PICTURE, "image/png")
    assert found.headers["x-content-type-options"] == "nosniff"
    assert server.get(f"/api/images/{private}", headers={**mine, "x-conversation-password": "s"}).content == PICTURE
    for path, headers, status in (
        (public, {}, 401),
        (public, other, 403),
        (private, mine, 403),
        (private, {**mine, "x-conversation-password": "wrong"}, 403),
        ("none", mine, 404),
        ("..%2f..%2fetc", mine, 404),
    ):
        refused = server.get(f"/api/images/{path}", headers=headers)
        assert (refused.status_code, bool(refused.json()["error"])) == (status, True)


@pytest.mark.parametrize("model", ["ollama:echo", f"hf:{WRITER}"])
def test_an_image_for_a_model_of_texts_is_refused(both: tuple[Running, RunningOllama], model: str) -> None:
    found = with_picture(both[0], model)
    assert (found.status, found.error["code"]) == (400, "input")


def test_an_image_for_a_model_of_texts_is_left_out_where_that_is_configured(
    changing: Running, ollama: RunningOllama
) -> None:
    reload(changing, with_ollama(ollama.url, 'images_for_text_models = "drop"'))
    found = with_picture(changing, "ollama:echo")
    assert found.text == "look"
    said = "ollama:echo does not read images and answers the text alone"
    assert found.headers["x-gpux-fallback"] == found.end["fallback"] == said
    assert found.events[1].name == "metadata"
    assert found.events[1].data["fallback"] == said


def test_without_models_of_gpux_the_answers_are_those_of_ollama_and_nothing_of_the_runtime_is_loaded(
    home: Path, ollama: RunningOllama
) -> None:
    with chatting(home, with_ollama(ollama.url), HUGGINGFACE_ENABLED="false") as server:
        for options in ({}, {"temperature": 0.3, "num_predict": 20}):
            given = {"maxTokens" if name == "num_predict" else name: value for name, value in options.items()}
            given.setdefault("maxTokens", 50)
            options["num_predict"] = given["maxTokens"]
            found = talk(server, {"model": "letters", "message": "hi", "options": given})
            assert found.text == chat_of_ollama(ollama.url, "letters", "hi", **options)
        refused = talk(server, {"model": f"hf:{WRITER}", "message": "hi"})
        assert (refused.status, refused.error["code"]) == (404, "provider_not_found")
        loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "onnxruntime" not in loaded
        assert "tokenizers" not in loaded
        assert "numpy" not in loaded


def test_a_server_that_stops_ends_answers(home: Path, ollama: RunningOllama) -> None:
    with chatting(home, with_ollama(ollama.url), "--drain-timeout", "1s") as server, ExitStack() as stack:
        bodies = [{"model": model, "message": "hi", "options": LONG} for model in ("ollama:endless", f"hf:{ENDLESS}")]
        streams = [stack.enter_context(talking(server, body)) for body in bodies]
        ids = [next(events).data["conversationId"] for events in streams]
        for events in streams:
            tokens(events, 20)
        server.process.send_signal(signal.SIGTERM)
        for events in streams:
            last = list(events)[-1]
            assert (last.name, last.data["code"]) == ("error", "overloaded")
        server.process.wait(30)
        assert [stored(home, id)[-1][2:] for id in ids] == [(True, "overloaded")] * 2
