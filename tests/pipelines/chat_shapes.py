"""Chat templates in the shapes of published models, with their test cases; written for these tests.

``scripts/update_chat_goldens.py`` renders the same cases with transformers and writes ``chat_goldens.json``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

Case = dict[str, Any]
NOW = datetime(2025, 3, 9, 14, 5, tzinfo=UTC)  #: the time of strftime_now in goldens and tests

USER = {"role": "user", "content": "What is <b>5 & 7</b>?\n"}
TURNS = [USER, {"role": "assistant", "content": " It is 12. "}, {"role": "user", "content": "Größe 東京 🌍"}]
SYSTEM = [{"role": "system", "content": "Be brief.\nBe kind."}, *TURNS]
TWO_USERS = [USER, {"role": "user", "content": "And?"}]
BEGUN = [USER, {"role": "assistant", "content": "It is "}]
THOUGHT = [
    USER,
    {"role": "assistant", "content": "<think>\n5+7\n</think>\n\nIt is 12."},
    {"role": "user", "content": "Sure?"},
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'How\'s the weather in a "city"?',
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "description": "1 ≤ days"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "description": "Now.", "parameters": {"type": "object"}}}
CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather in Köln?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "abcdef123",
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "abcdef123", "name": "weather", "content": '{"sky": "grey"}'},
]
ANSWERED = [*CALLED, {"role": "tool", "tool_call_id": "abcdef123", "name": "weather", "content": "wind"}, *TURNS[1:]]
PAPERS = [{"title": "Sums", "text": "5 + 7 = 12"}, {"title": "Tides", "text": "They turn."}]
PARTS = [
    {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "What is it? "}, {"type": "text", "text": "Say."}],
    }
]


def add(a: int, b: float, note: str | None = None, way: Literal["up", "down"] = "up") -> float:
    """Adds two numbers.

    Both may be negative.

    Args:
        a: the first,
            which comes first
        b: the second: a float
        note: what it is for
        way: how to round

    Returns:
        their sum
    """
    return a + b


def tags(names: list[str], weights: dict[str, float]) -> list[str]:
    """Tags of a text.

    Args:
        names: all names
        weights: theirs
    """
    return sorted(names, key=lambda name: weights[name])


class Shape(NamedTuple):
    """Files of a model's folder, by name: JSON values and texts; and arguments of rendering, by name of the case."""

    files: dict[str, Any]
    cases: dict[str, Case]


def write(shape: Shape, folder: Path) -> Path:
    """The shape's files in a folder."""
    for name, content in shape.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def source(name: str) -> str:
    """A template of ``chat_templates/``."""
    return (Path(__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def config(template: Any, **tokens: Any) -> dict[str, Any]:
    return {"tokenizer_config.json": {"chat_template": template, **tokens}}


TALKS: dict[str, Case] = {
    "turns": {"messages": TURNS, "add_generation_prompt": True},
    "system": {"messages": SYSTEM, "add_generation_prompt": True},
    "whole": {"messages": TURNS, "add_generation_prompt": False},
    "begun": {"messages": BEGUN, "continue_final_message": True},
}
TOOLS: dict[str, Case] = {
    "tools": {"messages": SYSTEM, "tools": [WEATHER, TIME], "add_generation_prompt": True},
    "called": {"messages": CALLED, "tools": [WEATHER], "add_generation_prompt": True},
    "answered": {"messages": ANSWERED, "tools": [WEATHER], "add_generation_prompt": True},
}


LISTED = [
    {"name": "default", "template": source("command-r")},
    {"name": "tool_use", "template": source("command-r-tools")},
    {"name": "rag", "template": source("command-r-rag")},
]
RAG: Case = {"messages": TURNS, "documents": PAPERS, "chat_template": "rag", "citation_mode": "fast"}

SHAPES: dict[str, Shape] = {
    "chatml": Shape(config(source("chatml"), eos_token="<|im_end|>", bos_token=None), TALKS),
    "chatml-tools": Shape(
        config(source("chatml-tools")), TALKS | TOOLS | {"functions": {"messages": TURNS, "tools": [add, tags]}}
    ),
    "thinking": Shape(
        config(source("thinking")),
        TALKS
        | {"thought": {"messages": THOUGHT, "add_generation_prompt": True}}
        | {"last thought": {"messages": THOUGHT[:2], "add_generation_prompt": False}}
        | {"no thinking": {"messages": TURNS, "add_generation_prompt": True, "enable_thinking": False}},
    ),
    "llama-2": Shape(
        config(source("llama-2"), bos_token="<s>", eos_token="</s>"), TALKS | {"two users": {"messages": TWO_USERS}}
    ),
    "llama-3": Shape(config(source("llama-3"), bos_token="<|begin_of_text|>"), TALKS),
    "llama-3.1": Shape(
        config(source("llama-3.1"), bos_token="<|begin_of_text|>"),
        TALKS
        | {"tools": {"messages": TURNS, "tools": [WEATHER, TIME], "add_generation_prompt": True}}
        | {"called": TOOLS["called"]}
        | {"system tools": {**TOOLS["tools"], "tools_in_user_message": False, "date_string": "1 Jan 2030"}}
        | {
            "a dict from a tool": {
                "messages": [*CALLED[:2], {"role": "tool", "content": {"sky": "grey", "t": [1.5, None]}}]
            }
        }
        | {"two calls": {"messages": [CALLED[0], {**CALLED[1], "tool_calls": CALLED[1]["tool_calls"] * 2}]}},
    ),
    "mistral": Shape(
        config(source("mistral"), bos_token="<s>", eos_token="</s>"),
        TALKS
        | TOOLS
        | {"two users": {"messages": TWO_USERS}}
        | {"another role": {"messages": [USER, {"role": "narrator", "content": "x"}]}},
    ),
    "gemma": Shape(
        config(source("gemma"), bos_token={"__type": "AddedToken", "content": "<bos>", "special": True}),
        TALKS | {"two users": {"messages": TWO_USERS}},
    ),
    "phi-3": Shape(config(source("phi-3"), eos_token="<|endoftext|>"), TALKS),
    "zephyr": Shape(config(source("zephyr"), eos_token="</s>"), TALKS),
    "command-r": Shape(
        config(LISTED, bos_token="<BOS_TOKEN>"),
        TALKS
        | {"tools": TOOLS["tools"], "called": TOOLS["called"], "rag": RAG}
        | {"functions": {"messages": TURNS, "tools": [add, tags]}},
    ),
    "deepseek": Shape(
        config(source("deepseek"), bos_token={"__type": "AddedToken", "content": "<｜begin▁of▁sentence｜>"}),
        TALKS | {"thought": {"messages": THOUGHT, "add_generation_prompt": True}},
    ),
    "granite": Shape(
        config(source("granite")),
        TALKS
        | {"tools": TOOLS["tools"]}
        | {"documents": {"messages": TURNS, "documents": PAPERS, "add_generation_prompt": True}}
        | {"both": {"messages": TURNS, "documents": PAPERS, "tools": [TIME]}}
        | {"controls": {"messages": TURNS, "add_generation_prompt": True, "controls": {"length": "short"}}},
    ),
    "smol": Shape(
        config(source("smol")),
        TALKS | {"no thinking": {"messages": TURNS, "enable_thinking": False, "add_generation_prompt": True}},
    ),
    "vision": Shape(config(source("vision")), {"parts": {"messages": PARTS, "add_generation_prompt": True}}),
    "files": Shape(
        {
            **config("of the config {{ bos_token }}", bos_token="<s>"),
            "chat_template.jinja": source("chatml") + "\n",
            "additional_chat_templates/tool_use.jinja": source("chatml-tools"),
            "additional_chat_templates/brief.jinja": "{{ messages | map(attribute='role') | join('>') }}",
        },
        TALKS | TOOLS | {"named": {"messages": TURNS, "chat_template": "brief"}},
    ),
    "tokens": Shape(
        {
            "tokenizer_config.json": {
                "chat_template": source("tokens"),
                "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False},
                "eos_token": "</s>",
                "pad_token": None,
                "additional_special_tokens": ["<a>", {"__type": "AddedToken", "content": "<b>", "special": True}],
                "extra_special_tokens": {"image_token": "<image>"},
                "added_tokens_decoder": {},
            },
            "special_tokens_map.json": {"eos_token": "</s>", "bos_token": "<s>"},
        },
        {"all": {"messages": TURNS, "greeting": "hi"}, "overruled": {"messages": TURNS, "eos_token": "<mine>"}},
    ),
    "map": Shape(
        {
            "tokenizer_config.json": {"chat_template": source("tokens")},
            "special_tokens_map.json": {
                "bos_token": {
                    "content": "<m>",
                    "lstrip": False,
                    "rstrip": False,
                    "single_word": False,
                    "normalized": False,
                },
                "additional_special_tokens": ["<x>"],
            },
        },
        {"all": {"messages": TURNS}},
    ),
    "given": Shape(
        config(source("chatml")),
        {
            "template": {
                "messages": TURNS,
                "chat_template": source("phi-3"),
                "eos_token": "<e>",
                "add_generation_prompt": True,
            }
        },
    ),
}
