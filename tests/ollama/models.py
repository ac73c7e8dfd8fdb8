"""The models of the server: each one answers in its own way, and some fail in their own way."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

CONTEXT = 64
#: Code points of one, two, three and four bytes; combined letters, flags and families are several of them; U+2028 ends
#: a line for ``str.splitlines``, and not in JSON.
UNICODE = 'a é e\u0301 ß 漢字 🇩🇪 👨\u200d👩\u200d👧 नमस्ते \u2028 \u200f العربية \U0001d518 "quoted" \\ \t end'
Messages = Sequence[Mapping[str, Any]]
Answer = Callable[[Messages, Mapping[str, Any]], Iterator[str]]


@dataclass(frozen=True)
class Model:
    """A model, whose name has a tag."""

    name: str
    answer: Answer
    capabilities: tuple[str, ...] = ("completion",)
    thinking: str = ""  #: comes before the answer, word by word
    delay: float = 0.0  #: seconds before each token
    fault: str | None = None  #: ``cut`` …, see ``tests.ollama.server``
    after: int = 3  #: tokens before the fault
    recites: bool = False  #: answers as :func:`recited`
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def tag(self) -> dict[str, Any]:
        """The model in a list."""
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": "2026-10-05T17:37:44.706015396-07:00",
            "size": 3_825_819_519,
            "digest": self.digest,
            "details": self.details(),
        }

    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "3.2B",
            "quantization_level": "Q4_K_M",
        }

    def shown(self) -> dict[str, Any]:
        """The model as ``/api/show`` describes it."""
        return {
            "license": "MIT License\n\nPermission is hereby granted …",
            "modelfile": "",
            "parameters": 'temperature 0.7\nstop "<|end|>"',
            "template": "{{ .Prompt }}",
            "details": self.details(),
            "model_info": {
                "general.architecture": "llama",
                "general.parameter_count": 3_212_749_888,
                "llama.context_length": CONTEXT,
                **self.info,
            },
            "capabilities": list(self.capabilities),
            "modified_at": "2026-10-05T17:37:44.706015396-07:00",
        }


def echo(messages: Messages, options: Mapping[str, Any]) -> Iterator[str]:
    """The last message, word by word."""
    yield from words(str(messages[-1]["content"]))


def letters(messages: Messages, options: Mapping[str, Any]) -> Iterator[str]:
    """Letters without an end, one a token; others for other messages and for other options."""
    free = {name: value for name, value in options.items() if name not in ("num_predict", "stop")}
    seed = json.dumps([list(messages), free], sort_keys=True)
    for place in count():
        yield chr(ord("a") + hashlib.sha256(f"{seed} {place}".encode()).digest()[0] % 26)


def counted(messages: Messages, options: Mapping[str, Any]) -> Iterator[str]:
    """How many messages there are, with the first and the last one."""
    yield f"{len(messages)} messages"
    yield f" from {messages[0]['content']!s}"
    yield f" to {messages[-1]['content']!s}"


def unicode(messages: Messages, options: Mapping[str, Any]) -> Iterator[str]:
    """:data:`UNICODE`, one code point a token."""
    yield from UNICODE


def described(messages: Messages, options: Mapping[str, Any]) -> Iterator[str]:
    """The hashes of the images."""
    import base64

    for message in messages:
        for image in message.get("images") or ():
            yield f"{hashlib.sha256(base64.b64decode(image, validate=True)).hexdigest()} "
    yield str(messages[-1]["content"])


def recited(messages: Messages, body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Messages of a model that thinks and calls tools: greetings, a call of the first tool, or what a tool said."""
    if messages[-1].get("role") == "tool":
        yield {"content": f"It is {messages[-1]['content']}."}
        return
    tools = body.get("tools")
    if body.get("think") is not False:
        for word in words("I need the weather." if tools else "A greeting."):
            yield {"content": "", "thinking": word}
    if tools:
        call = {"name": tools[0]["function"]["name"], "arguments": {"location": "San Francisco"}}
        yield {"content": "", "tool_calls": [{"function": call}]}
    else:
        for word in words("Hello there, you."):
            yield {"content": word}


def words(text: str) -> list[str]:
    """A text in pieces that begin with their spaces."""
    return re.findall(r"\s*\S+|\s+$", text)


MODELS = {
    one.name: one
    for one in (
        Model("tests/writer:fp32", letters),
        Model("tests/reciter:fp32", letters, ("completion", "tools", "thinking"), recites=True),
        Model("tests/embedder:fp32", letters, ("embedding",)),
        Model("echo:latest", echo),
        Model("letters:latest", letters),
        Model("counted:latest", counted),
        Model("unicode:latest", unicode),
        Model("thinking:latest", echo, ("completion", "thinking"), thinking="Let me think. Yes."),
        Model("seeing:latest", described, ("completion", "vision")),
        Model("slow:latest", echo, delay=0.05),
        Model("late:latest", echo, delay=1.0),
        Model("endless:latest", letters, delay=0.005),
        *(
            Model(f"{fault}:latest", letters, fault=fault)
            for fault in ("cut", "error", "garbage", "endless-line", "dies", "stalls")
        ),
        *(Model(f"{fault}:latest", letters, fault=fault) for fault in ("busy", "broken", "silent", "unfinished")),
    )
}
