"""Messages to a server's chat, and the events of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.server.running import Running, serving

PATH = "/api/stream-message"
#: The configuration of a server with models of gpux alone.
ALONE = "[providers.ollama]\nenabled = false\n"


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


@contextmanager
def chatting(home: Path, configuration: str = ALONE, *arguments: str, **environment: str) -> Iterator[Running]:
    """A server with a configuration of chats and a database of its own, on the models of another home folder."""
    (home / "chat.toml").write_text(configuration)
    with serving(home, arguments, environment={"GPUX_CONFIG": str(home / "chat.toml"), **environment}) as running:
        yield running
