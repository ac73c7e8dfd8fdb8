"""No body makes the server fail: every answer is in the shape of the API and says what is wrong."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.running import CLASSIFIER, MASKS, WRITER, Running

BASE = "/api/huggingface"
IDS = (WRITER, CLASSIFIER, MASKS, "org/absent", "gpt2")
TASKS = (
    *("text-generation", "sentiment-analysis", "fill-mask", "zero-shot-classification", "text-ranking"),
    *("question-answering", "translation_en_to_de", "image-classification", "none"),
)
texts = st.text(max_size=12)
numbers = st.one_of(
    st.integers(-3, 60),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**63, 10**30]),
)
plain = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)), max_leaves=6
)
#: Keys of all bodies and names of options, most of which some task has.
keys = st.sampled_from(
    [
        *("model_id", "name", "model_type", "description", "parameters", "prompt", "task", "inputs", "force_reload"),
        *("max_new_tokens", "temperature", "do_sample", "top_p", "top_k", "repetition_penalty", "seed", "stop"),
        *("max_length", "min_length", "num_return_sequences", "num_beams", "eos_token_id", "bad_words", "batch_size"),
        *("candidate_labels", "hypothesis_template", "function_to_apply", "targets", "truncation", "padding"),
        *("tools", "documents", "chat_template", "chat_template_kwargs", "response_format", "timeout", "logit_bias"),
    ]
)
#: Values as a key has them, in part.
likely: dict[str, st.SearchStrategy[Any]] = {
    "model_id": st.sampled_from(IDS),
    "task": st.sampled_from(TASKS),
    "model_type": st.sampled_from(TASKS),
    "prompt": texts,
    "inputs": st.one_of(texts, st.lists(texts, max_size=3), values),
    "max_new_tokens": st.integers(-1, 40),
    "max_length": st.integers(-1, 40),
    "timeout": st.floats(0, 1),
}


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """An object that is near to a valid body, or any JSON value."""
    if draw(st.integers(0, 7)) == 0:
        return draw(values)
    wanted = {
        "model_id",
        *draw(st.sets(keys, max_size=5)),
        *draw(st.sampled_from([("prompt",), ("task", "inputs"), ()])),
    }
    return {key: draw(likely.get(key, values) if draw(st.integers(0, 5)) else values) for key in sorted(wanted)}


requests = st.tuples(
    st.sampled_from(
        [
            *(("POST", path) for path in ("/models", "/generate", "/generate", "/pipeline", "/pipeline", "/pipeline")),
            *(("PUT", path) for path in ("/models/org/absent", "/models/gpt2")),
            ("POST", "/models/org/absent/load"),
        ]
    ),
    bodies(),
)


def refused_or_answered(response: httpx2.Response, sent: Any) -> None:
    """Assert that an answer has the shape of the API, and is no failure of the server."""
    assert response.status_code < 500, (sent, response.text)
    answer = response.json()
    assert answer["success"] is (response.status_code == 200), (sent, response.text)
    assert answer["success"] or isinstance(answer["error"], str)


def test_any_body_is_answered_or_refused(legacy: Running) -> None:
    with legacy.client() as client:
        for id in (WRITER, CLASSIFIER, MASKS, "org/absent"):
            client.post(f"{BASE}/models", json={"model_id": id, "name": "M", "model_type": "text-generation"})

        @settings(
            max_examples=int(os.environ.get("GPUX_FUZZ", "40")),
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(requests)
        def send(request: tuple[tuple[str, str], Any]) -> None:
            (method, path), body = request
            content = json.dumps(body).encode()
            headers = {"content-type": "application/json"}
            refused_or_answered(client.request(method, BASE + path, content=content, headers=headers), request)

        send()
