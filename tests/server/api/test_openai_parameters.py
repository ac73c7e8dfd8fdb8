"""Every parameter of OpenAI's API is supported, accepted without effect, or refused by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripts.reference_openai import openai_api

from gpux.server.api.openai.chat import ChatRequest
from gpux.server.api.openai.completions import CompletionRequest
from gpux.server.api.openai.embeddings import EmbeddingRequest
from gpux.server.api.openai.parameters import Parameter, parameters
from tests.server.running import EMBEDDER, WRITER, Running

#: As the Python client 3.57.0 has them; ``./dev clients -- openai`` compares with the newest release.
PUBLISHED = {
    ChatRequest: """audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key
    prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier
    stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity
    web_search_options""",
    CompletionRequest: """best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt
    seed stop stream stream_options suffix temperature top_p user""",
    EmbeddingRequest: "dimensions encoding_format input model user",
}
PATHS = {
    ChatRequest: ("/v1/chat/completions", {"model": WRITER, "messages": [{"role": "user", "content": "a"}]}),
    CompletionRequest: ("/v1/completions", {"model": WRITER, "prompt": "a"}),
    EmbeddingRequest: ("/v1/embeddings", {"model": EMBEDDER, "input": "a"}),
}
KINDS: list[type[msgspec.Struct]] = list(PATHS)  # type: ignore[arg-type]  # mypy joins the classes to their metaclass


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_has_every_published_parameter(kind: type[msgspec.Struct]) -> None:
    known = {one.name for one in parameters(kind) if one.status != "extension"}
    assert known == set(PUBLISHED[kind].split())  # type: ignore[index]


@pytest.mark.parametrize("kind", KINDS)
def test_refused_parameters_are_named(server: Running, kind: type[msgspec.Struct]) -> None:
    path, body = PATHS[kind]  # type: ignore[index]
    for one in parameters(kind):
        if one.status == "refused" or (one.status == "without effect" and one.values):
            answer = server.post(path, {**body, one.name: _other(one)})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, one.name), error


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_request_nothing_are_accepted(server: Running, kind: type[msgspec.Struct]) -> None:
    path, body = PATHS[kind]  # type: ignore[index]
    plain = server.post(path, body).json()
    absent = {one.name: None for one in parameters(kind) if one.name not in body}
    accepted = {one.name: one.values[0] for one in parameters(kind) if one.values}
    free: dict[str, Any] = {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "metadata": {"a": "b"}}
    free = {name: value for name, value in free.items() if name in absent}
    for more in (absent, {**accepted, **free}):
        answer = server.post(path, {**body, **more})
        assert answer.status_code == 200, answer.text
        assert {**answer.json(), "id": "", "created": 0, "usage": {}} == {**plain, "id": "", "created": 0, "usage": {}}


def test_the_page_has_the_tables() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/http/openai.md").read_text(encoding="utf-8")
    note, _, _ = page.partition("# OpenAI's API")
    assert page == openai_api(note)


def _other(one: Parameter) -> Any:
    """A value that the parameter must not have."""
    first = one.values[0] if one.values else "something"
    if isinstance(first, bool):
        return not first
    return [*first, "audio"] if isinstance(first, list) else f"{first}?"
