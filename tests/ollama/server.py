"""The program: ``python -m tests.ollama.server --port 0``. Prints its URL once it listens.

Requests and answers have the form of https://docs.ollama.com/api. What a model does wrong is in its name:

- ``cut``: the connection ends after three tokens
- ``error``: a line with an error after three tokens
- ``garbage``: a line that is not JSON
- ``endless-line``: a line without an end
- ``dies``: the process ends, as after ``kill -9``
- ``stalls``: no more tokens
- ``unfinished``: the stream ends without its last line
- ``silent``: not even a status
- ``busy``: 503, as with a full queue
- ``broken``: 500

``GET /tests`` answers the bodies of chats, and how many answers run.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.ollama.models import CONTEXT, MODELS, Model, letters, recited, words

VERSION = "0.33.0"
NANO = 1_000_000_000


class State:
    """What the server knows."""

    def __init__(self, models: int, *, others: bool) -> None:
        self.models = dict(MODELS) if others else {}
        for place in range(models):
            name = f"many/model-{place:04}:latest"
            self.models[name] = Model(name, letters)
        self.loaded: dict[str, datetime] = {}
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.running = 0

    def find(self, name: str) -> Model | None:
        return self.models.get(name) or self.models.get(f"{name}:latest") or self.models.get(f"{name}:fp32")


def error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)


def missing(name: str) -> Response:
    return error(404, f"model '{name}' not found")


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


async def body_of(request: Request) -> dict[str, Any] | Response:
    data = await request.body()
    if not data:
        return error(400, "missing request body")
    try:
        found = json.loads(data)
    except ValueError as why:
        return error(400, str(why))
    return found if isinstance(found, dict) else error(400, "json: cannot unmarshal")


class Server:
    """The endpoints."""

    def __init__(self, state: State, key: str | None) -> None:
        self.state = state
        self.key = key

    def app(self) -> Starlette:
        routes = [
            Route("/", self.root),
            Route("/tests", self.tests),
            Route("/api/version", self.version),
            Route("/api/tags", self.tags),
            Route("/api/ps", self.ps),
            Route("/api/show", self.show, methods=["POST"]),
            Route("/api/chat", self.chat, methods=["POST"]),
            Route("/api/generate", self.generate, methods=["POST"]),
            Route("/api/embed", self.embed, methods=["POST"]),
            Route("/api/embeddings", self.embeddings, methods=["POST"]),
            *(Route(f"/api/{name}", self.absent, methods=["POST"]) for name in ("create", "copy", "push", "pull")),
            Route("/{path:path}", self.unknown, methods=["GET", "POST", "DELETE"]),
        ]
        return Starlette(routes=routes)

    # Plain answers

    async def root(self, request: Request) -> Response:
        return PlainTextResponse("Ollama is running")

    async def tests(self, request: Request) -> Response:
        return JSONResponse({"bodies": self.state.bodies, "headers": self.state.headers, "running": self.state.running})

    async def version(self, request: Request) -> Response:
        return self.refusal(request) or JSONResponse({"version": VERSION})

    async def tags(self, request: Request) -> Response:
        return self.refusal(request) or JSONResponse({"models": [one.tag() for one in self.state.models.values()]})

    async def ps(self, request: Request) -> Response:
        return JSONResponse(
            {
                "models": [
                    self.state.models[name].tag()
                    | {"expires_at": until.isoformat(), "size_vram": 0, "context_length": CONTEXT}
                    for name, until in self.state.loaded.items()
                ]
            }
        )

    async def show(self, request: Request) -> Response:
        body = await body_of(request)
        if isinstance(body, Response):
            return body
        name = body.get("model") or body.get("name") or ""
        if not name:
            return error(400, "model is required")
        model = self.state.find(name)
        return missing(name) if model is None else JSONResponse(model.shown())

    async def absent(self, request: Request) -> Response:
        return error(501, "this server does not write models")

    async def unknown(self, request: Request) -> Response:
        return PlainTextResponse("404 page not found", 404)

    def refusal(self, request: Request) -> Response | None:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return error(401, "unauthorized")
        return None

    # Generation

    async def chat(self, request: Request) -> Response:
        body = await body_of(request)
        if isinstance(body, Response):
            return body
        self.state.headers.append(dict(request.headers))
        self.state.bodies.append(body)
        messages = body.get("messages") or []
        if any(one.get("role") not in ("system", "user", "assistant", "tool") for one in messages):
            return error(400, "invalid role")
        return self.refusal(request) or await self.answer(body, messages, chat_content)

    async def generate(self, request: Request) -> Response:
        body = await body_of(request)
        if isinstance(body, Response):
            return body
        if body.get("suffix"):
            return error(400, f"{body.get('model')} does not support insert")
        messages = []
        if body.get("prompt"):
            how = {"raw": body.get("raw") or False, "system": body.get("system") or ""}
            messages = [{"role": "user", "content": body["prompt"], **{name: one for name, one in how.items() if one}}]
        return self.refusal(request) or await self.answer(body, messages, generate_content)

    async def answer(self, body: dict[str, Any], messages: list[Any], content: Any) -> Response:
        name = str(body.get("model") or "")
        if not name:
            return error(400, "model is required")
        model = self.state.find(name)
        if model is None:
            return missing(name)
        if not messages:
            return self.load(model, name, body, content)
        if (refusal := refused(model, name, body, messages)) is not None:
            return refusal
        if model.fault == "silent":
            await asyncio.Event().wait()
        self.state.loaded[model.name] = datetime.now(UTC) + timedelta(minutes=5)
        steps = self.steps(model, name, body, messages, content)
        if body.get("stream", True) is not False:
            return StreamingResponse(steps, media_type="application/x-ndjson")
        return await whole(steps, content)

    def load(self, model: Model, name: str, body: Mapping[str, Any], content: Any) -> Response:
        reason = "load"
        if body.get("keep_alive") == 0:
            reason = "unload"
            self.state.loaded.pop(model.name, None)
        else:
            self.state.loaded[model.name] = datetime.now(UTC) + timedelta(minutes=5)
        head = {"model": name, "created_at": now(), **content("")}
        return JSONResponse({**head, "done": True, "done_reason": reason})

    async def steps(
        self, model: Model, name: str, body: Mapping[str, Any], messages: list[Any], content: Any
    ) -> AsyncIterator[bytes]:
        begun = time.monotonic_ns()
        self.state.running += 1
        try:
            options = body.get("options") or {}
            limit = options.get("num_predict", -1)
            limit = math.inf if limit is None or limit < 0 else limit
            reason, produced = "stop", 0
            head = {"model": name, "done": False}
            for part in recited(messages, body) if model.recites else ():
                yield line({**head, "created_at": now(), **content(**part)})
            for thought in words(model.thinking) if body.get("think") is not False else ():
                await asyncio.sleep(model.delay)
                yield line({**head, "created_at": now(), **content("", thought)})
            tokens = iter(()) if model.recites else model.answer(messages, options)
            for token in stopped(tokens, options.get("stop") or ()):
                if produced >= limit:
                    reason = "length"
                    break
                if model.fault is not None and produced == model.after:
                    async for data in faulty(model.fault):
                        yield data
                    return
                await asyncio.sleep(model.delay)
                produced += 1
                piece = {**head, "created_at": now(), **content(token)}
                if body.get("logprobs"):
                    piece["logprobs"] = [scored(token, body.get("top_logprobs") or 0)]
                yield line(piece)
            yield line({"model": name, "created_at": now(), **content(""), **ended(reason, begun, messages, produced)})
        finally:
            self.state.running -= 1

    # Vectors

    async def embed(self, request: Request) -> Response:
        body = await body_of(request)
        if isinstance(body, Response):
            return body
        if self.state.find(str(body.get("model") or "")) is None:
            return missing(str(body.get("model")))
        texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input") or []
        vectors = [vector(text, body.get("dimensions") or 32) for text in texts]
        return JSONResponse({"model": body["model"], "embeddings": vectors, "prompt_eval_count": len(texts)})

    async def embeddings(self, request: Request) -> Response:
        body = await body_of(request)
        return body if isinstance(body, Response) else JSONResponse({"embedding": vector(body.get("prompt", ""), 32)})


def refused(model: Model, name: str, body: Mapping[str, Any], messages: list[Any]) -> Response | None:
    """The answer to a request that the model cannot answer."""
    if "completion" not in model.capabilities:
        return error(400, f'"{name}" does not support chat')
    if any(one.get("images") for one in messages) and "vision" not in model.capabilities:
        return error(400, "this model is missing data required for image input")
    if body.get("think") and "thinking" not in model.capabilities:
        return error(400, f'"{name}" does not support thinking')
    if model.fault == "busy":
        return error(503, "server busy, please try again.  maximum pending requests exceeded")
    if model.fault == "broken":
        return error(500, "llama runner process has terminated: exit status 2")
    return None


def chat_content(content: str, thinking: str = "", tool_calls: Sequence[Any] = ()) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    return {"message": message}


def generate_content(content: str, thinking: str = "", tool_calls: Sequence[Any] = ()) -> dict[str, Any]:
    return {"response": content, **({"thinking": thinking} if thinking else {})}


def line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def stopped(tokens: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The tokens until the text has one of the stop texts, at the borders of tokens."""
    text = ""
    for token in tokens:
        text += token
        if any(one in text for one in stops):
            return
        yield token


async def faulty(fault: str) -> AsyncIterator[bytes]:
    if fault == "cut":
        raise ConnectionAbortedError("this answer is cut off")
    if fault == "dies":
        os._exit(9)
    if fault == "stalls":
        await asyncio.Event().wait()
    elif fault == "error":
        yield line({"error": "an error was encountered while running the model: unexpected EOF"})
    elif fault == "garbage":
        yield b"<html>Bad Gateway</html>\n"
    elif fault == "endless-line":
        yield b'{"message": {"content": "'
        while True:
            await asyncio.sleep(0.001)  # else a client that has left is not noticed
            yield b"a" * (1 << 20)


def ended(reason: str, begun: int, messages: list[Any], produced: int) -> dict[str, Any]:
    took = max(time.monotonic_ns() - begun, 2)
    return {
        "done": True,
        "done_reason": reason,
        "total_duration": took,
        "load_duration": 1,
        "prompt_eval_count": sum(len(str(one.get("content", ""))) for one in messages),
        "prompt_eval_duration": 1,
        "eval_count": produced,
        "eval_duration": took,
    }


async def whole(steps: AsyncIterator[bytes], content: Any) -> Response:
    """A stream as one answer."""
    documents = [json.loads(data) async for data in steps]
    if "error" in documents[-1]:
        return error(500, documents[-1]["error"])
    chat = content is chat_content
    parts = [one["message"] if chat else {"content": one["response"], **one} for one in documents]
    text, thinking = ("".join(one.get(name, "") for one in parts) for name in ("content", "thinking"))
    calls = [call for one in parts for call in one.get("tool_calls", ())]
    logs = [entry for one in documents for entry in one.get("logprobs", ())]
    return JSONResponse({**documents[-1], **content(text, thinking, calls), **({"logprobs": logs} if logs else {})})


def scored(token: str, alternatives: int) -> dict[str, Any]:
    one = {"token": token, "logprob": -0.5, "bytes": list(token.encode())}
    return one | ({"top_logprobs": [one] * alternatives} if alternatives else {})


def vector(text: str, size: int) -> list[float]:
    numbers = [hashlib.sha256(f"{place} {text}".encode()).digest()[0] - 127.5 for place in range(size)]
    length = math.sqrt(sum(one * one for one in numbers))
    return [one / length for one in numbers]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--models", type=int, default=0, help="further models in the list")
    parser.add_argument("--no-others", action="store_true", help="have the further models alone")
    parser.add_argument("--key", help="that requests need")
    arguments = parser.parse_args()
    app = Server(State(arguments.models, others=not arguments.no_others), arguments.key).app()
    listener = socket.create_server(("127.0.0.1", arguments.port), backlog=2048)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off")
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
