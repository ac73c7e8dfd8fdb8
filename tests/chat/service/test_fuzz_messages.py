"""Random messages: whatever is sent, an answer ends with an ``end`` or ``error`` event, and no status is above 499."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx2
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.chat.service.talking import PATH, parsed
from tests.server.running import WRITER, Running

SEEN = examples(
    max_examples=int(os.environ.get("GPUX_FUZZ", "25")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TEXT = st.text(max_size=40) | st.sampled_from(["hi", "", "\0", "\ud7ff", "a" * 3000, "{{ x }}", "<assistant>", "ß漢🇩🇪"])
MODELS = st.sampled_from(
    [f"hf:{WRITER}", WRITER, "hf:", "hf:../../etc/passwd", "ollama:x", ":", "", "hf:a:b:c", "x/y:int4", "hf:\0", "é:x"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 0.5, 1e308, 2**63, 2**64])
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OPTIONS = st.dictionaries(
    st.sampled_from(["temperature", "topP", "top_k", "minP", "maxTokens", "max_tokens", "stop", "seed", "x", "topK"]),
    NUMBERS | st.lists(TEXT, max_size=3) | TEXT,
    max_size=4,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool", ""]), "content": TEXT}),
    max_size=4,
)
FIELDS = {
    "model": MODELS | ANY,
    "message": TEXT | ANY,
    "conversationId": TEXT | st.sampled_from(["none", "../x"]) | ANY,
    "conversationHistory": MESSAGES | ANY,
    "options": OPTIONS | ANY,
    "password": TEXT | ANY,
    "images": st.lists(TEXT, max_size=2) | ANY,
    "unknown": ANY,
}
MEANT = st.fixed_dictionaries(
    {"model": MODELS, "message": TEXT}, optional={"options": OPTIONS, "conversationHistory": MESSAGES}
)
BODIES = MEANT | st.fixed_dictionaries({}, optional=FIELDS) | ANY


def check(response: httpx2.Response) -> None:
    assert response.status_code < 500, response.text
    events = list(parsed(iter(response.text.split("\n"))))
    names = [one.name for one in events]
    assert names[-1] in ("end", "error")
    assert not set(names[:-1]) & {"end", "error"}
    if response.status_code >= 400:
        assert names == ["error"]
        assert events[0].data["code"]
        assert events[0].data["errorCode"]


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@SEEN
@given(body=BODIES)
def test_random_json(chat: Running, body: Any) -> None:
    with chat.client() as client:
        check(client.post(PATH, content=encoded(body), headers={"content-type": "application/json"}))


@SEEN
@given(body=st.binary(max_size=200) | st.builds(lambda one, cut: encoded(one)[:cut], BODIES, st.integers(0, 60)))
def test_random_bytes(chat: Running, body: bytes) -> None:
    with chat.client() as client:
        check(client.post(PATH, content=body, headers={"content-type": "application/json"}))


PARTS = st.lists(
    st.tuples(
        st.sampled_from(["model", "message", "conversationId", "conversationHistory", "options", "images", "other"]),
        st.tuples(st.none() | st.sampled_from(["a.png", ""]), TEXT | st.just(WRITER) | st.binary(max_size=30)),
    ),
    max_size=6,
)


@SEEN
@given(parts=PARTS)
def test_random_forms(chat: Running, parts: list[tuple[str, tuple[str | None, str | bytes]]]) -> None:
    files: Any = [
        (name, (file, text if isinstance(text, bytes) else text.encode("utf-8", "replace")))
        for name, (file, text) in parts
    ]
    with chat.client() as client:
        check(client.post(PATH, files=[*files, ("message", (None, b"hi"))]))
