"""Messages to a server's chat, and the events of its answers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnx
import psutil
from onnx import helper, numpy_helper

from gpux.model.variant import CallSpec
from gpux.store import Store
from gpux.system.settings import Settings
from tests.chat.database.access import empty_database
from tests.pipelines.writer import EOS, writer
from tests.runtime.generation.tiny_graphs import HIDDEN
from tests.server.running import Running, put, serving

PATH = "/api/stream-message"
#: The configuration of a server with models of gpux alone.
ALONE = "[providers.ollama]\nenabled = false\n"


#: A model that does not end by itself, and writes some hundred tokens a second.
ENDLESS = "tests/endless"
_CONTEXT = 1 << 16
#: Columns of a matrix by which each token is multiplied, so that it takes a few milliseconds.
_WIDE = 2048


def endless(home: Path, settings: Settings) -> None:
    """Store :data:`ENDLESS` below a home folder."""
    spec = CallSpec("left", _CONTEXT, chunks_after_cache=True)
    model = writer(home / "scratch" / "endless", "rotary", call_spec=spec, generation_config={"suppress_tokens": [EOS]})
    config = json.loads((model.path / "config.json").read_text())
    (model.path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": _CONTEXT}))
    _slow_down(model.path / "model.onnx")
    put(Store(settings.store), model, ENDLESS)


def _slow_down(file: Path) -> None:
    """Compute more for each token, with the same result."""
    model = onnx.load(file)
    graph = model.graph
    head = next(node for node in graph.node if node.output[0] == "logits")
    name = head.input[0]
    matrices = {"wide": (HIDDEN, _WIDE), "square": (_WIDE, _WIDE), "narrow": (_WIDE, HIDDEN)}
    for matrix, shape in matrices.items():
        values = np.full(shape, 0.0 if matrix == "narrow" else 0.01, np.float32)
        graph.initializer.append(numpy_helper.from_array(values, matrix))
        graph.node.insert(len(graph.node) - 1, helper.make_node("MatMul", [name, matrix], [f"by_{matrix}"]))
        name = f"by_{matrix}"
    graph.node.insert(len(graph.node) - 1, helper.make_node("Add", [head.input[0], name], ["slowly"]))
    head.input[0] = "slowly"
    onnx.save(model, file)


@dataclass(frozen=True)
class Event:
    """One event; tokens have no name."""

    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Talk:
    """The whole answer to a message."""

    status: int
    headers: httpx2.Headers
    events: list[Event]

    @property
    def text(self) -> str:
        return "".join(one.data["token"] for one in self.events if not one.name)

    @property
    def session(self) -> dict[str, Any]:
        assert self.events[0].name == "session"
        return self.events[0].data

    @property
    def end(self) -> dict[str, Any]:
        assert self.events[-1].name == "end", self.events[-1]
        return self.events[-1].data

    @property
    def error(self) -> dict[str, Any]:
        assert self.events[-1].name == "error", self.events[-1]
        return self.events[-1].data


def parsed(lines: Iterator[str]) -> Iterator[Event]:
    """Events of a stream, each as soon as its blank line has come."""
    name, data = "", None
    for line in lines:
        assert "\r" not in line
        if line.startswith(":"):
            continue
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
        else:
            assert line == "", line
            if data is not None:
                yield Event(name, data)
            name, data = "", None


@contextmanager
def talking(server: Running, body: dict[str, Any], path: str = PATH, **arguments: Any) -> Iterator[Iterator[Event]]:
    """The events of an answer as they come."""
    with server.client() as client, client.stream("POST", path, json=body, **arguments) as response:
        assert response.headers["content-type"] == "text/event-stream"
        yield parsed(response.iter_lines())


def talk(server: Running, body: dict[str, Any], path: str = PATH, **arguments: Any) -> Talk:
    """The answer to a message, whole."""
    arguments = arguments or {"json": body}
    with server.client() as client:
        response = client.post(path, **arguments)
    assert response.headers["content-type"] == "text/event-stream", response.text
    assert b"\r" not in response.content
    events = list(parsed(iter(response.text.split("\n"))))
    assert events[-1].name in ("end", "error"), "an answer has an end"
    assert sum(one.name in ("end", "error") for one in events) == 1
    return Talk(response.status_code, response.headers, events)


def with_ollama(ollama: str, top: str = "", table: str = "") -> str:
    """The configuration of a server with models of gpux and of an Ollama, whose models need no prefix."""
    return f'default_provider = "ollama"\n{top}\n[providers.ollama]\nbase_url = "{ollama}"  # here\n{table}'


@contextmanager
def chatting(home: Path, configuration: str = ALONE, *arguments: str, **environment: str) -> Iterator[Running]:
    """A server with a configuration of chats and a database of its own, on the models of another home folder."""
    (home / "chat.toml").write_text(configuration)
    if not (home / "conversations.db").exists():
        (home / "conversations.db").write_bytes(empty_database())
    with serving(home, arguments, environment={"GPUX_CONFIG": str(home / "chat.toml"), **environment}) as running:
        yield running


def stored(home: Path, conversation: str | None = None) -> list[tuple[str, str, bool, str | None]]:
    """The messages of a server's database, of all conversations or of one: text, sender, partial, error."""
    statement = "SELECT text, sender, partial, error FROM messages WHERE conversation_id = ?1 OR ?1 IS NULL ORDER BY id"
    with closing(sqlite3.connect(home / "conversations.db")) as database:
        rows = database.execute(statement, (conversation,)).fetchall()
    return [(text, sender, bool(partial), error) for text, sender, partial, error in rows]


def reload(server: Running, configuration: str) -> None:
    """Put a configuration of chats in force."""
    (server.home / "chat.toml").write_text(configuration)
    response = server.post("/api/config/reload")
    assert response.status_code == 200, response.text


def workers(server: Running) -> list[psutil.Process]:
    """The processes of a server's models."""
    return [
        one for one in psutil.Process(server.process.pid).children() if "gpux.server.workers.program" in one.cmdline()
    ]
