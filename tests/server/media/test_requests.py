"""Pictures and sounds over HTTP: each API says in its own shape what is wrong with them, and the server goes on."""

from __future__ import annotations

import asyncio
import base64
import re
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from gpux.server.media.addresses import is_public
from gpux.server.media.fetch import Fetcher
from gpux.server.media.intake import Media
from tests.server.api.test_openai_audio import SOUND
from tests.server.media.attacker import PLAIN, Attacker, attacking
from tests.server.running import CLASSIFIER, SPEECH, WRITER, Running
from tests.server.security.serving import Local, local, settings
from tests.server.senses import PICTURES, SOUNDS, SPELLED, gif, png, png_header, tone, wav

#: Keys of an error's body in each API.
SHAPES = {
    "huggingface": {"error", "error_type", "code"},
    "legacy": {"success", "error", "code"},
    "openai": {"error"},
    "anthropic": {"type", "error", "request_id"},
    "ollama": {"error"},
}
#: What decoders, libraries and interpreters say in their errors: it tells what runs here, and may hold addresses.
INTERNALS = re.compile(
    r"0x[0-9a-f]{4}|BytesIO|PIL|Pillow's|sndfile|soundfile|Traceback|Error\b|not processed|broken data stream"
    r"|errno|site-packages|/tmp|/proc|passwd|object at",
    re.IGNORECASE,
)


def text_of(response: httpx2.Response, api: str, status: int = 400) -> str:
    """The text of an error, whose status, shape and words are checked."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == SHAPES[api], body
    if api == "openai":
        assert set(body["error"]) == {"message", "type", "param", "code"}
    if api == "anthropic":
        assert (body["type"], set(body["error"])) == ("error", {"type", "message"})
    if api == "huggingface" and status == 400:
        assert body["error_type"] == "validation"
    found = body["error"]["message"] if api in ("openai", "anthropic") else body["error"]
    assert not INTERNALS.search(found.replace("Pillow reads", "").replace("python -m PIL --help", "")), found
    return str(found)


def coded(data: bytes, kind: str = "image/png") -> str:
    """A data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@cache
def two_hours() -> bytes:
    return wav(np.zeros(7200 * 1000, np.float32), 1000, "FLAC")


FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a cut picture": (PICTURES, lambda: png(size=(64, 64))[:90], "cannot be read"),
    "a text": (PICTURES, lambda: b"these are words, not pixels", "not a picture"),
    "a program": (PICTURES, lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(a) run\n", "PostScript"),
    "an image bomb": (PICTURES, lambda: png_header(60_000, 60_000), "pixels"),
    "10,000 frames": (PICTURES, lambda: gif(10_000), "frames"),
    "two hours": (SPELLED, two_hours, "longer than 3600 seconds"),
    "no samples": (SPELLED, lambda: wav(np.zeros(0, np.float32)), "no samples"),
    "a cut sound": (SOUNDS, lambda: tone()[:3000], "cut off"),
    "a text as sound": (SOUNDS, lambda: b"these are words, not waves", "cannot be read as a sound"),
    "a head of MP4": (SOUNDS, lambda: b"\0\0\0\x20ftypisom" + bytes(200), "sound 0"),
}


def by_json(server: Running, model: str, data: bytes) -> tuple[str, httpx2.Response]:
    return "huggingface", server.post(f"/models/{model}", {"inputs": coded(data)})


def by_body(server: Running, model: str, data: bytes) -> tuple[str, httpx2.Response]:
    return "huggingface", server.post(f"/models/{model}", content=data, headers={"content-type": "image/png"})


def by_form(server: Running, model: str, data: bytes) -> tuple[str, httpx2.Response]:
    files = {"inputs": ("../../etc/passwd.png", data, "image/png")}
    return "huggingface", server.post(f"/models/{model}", files=files)


def by_legacy(server: Running, model: str, data: bytes) -> tuple[str, httpx2.Response]:
    task = {PICTURES: "image-classification", SOUNDS: "audio-classification"}.get(model, "automatic-speech-recognition")
    server.post("/api/huggingface/models", {"model_id": model, "name": model, "model_type": task})
    body = {"model_id": model, "task": task, "inputs": base64.b64encode(data).decode()}
    return "legacy", server.post("/api/huggingface/pipeline", body)


@pytest.mark.parametrize("send", [by_json, by_body, by_form, by_legacy])
@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_read_is_an_error_of_the_request(
    senses: Running, case: str, send: Callable[[Running, str, bytes], tuple[str, httpx2.Response]]
) -> None:
    model, data, words = FILES[case]
    api, answer = send(senses, model, data())
    assert words in text_of(answer, api)
    fine = png() if model == PICTURES else tone()
    assert send(senses, model, fine)[1].status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        *(
            "data:image/png;base64,AAA",
            "data:image/png;base64,",
            "data:image/png,plain",
            "data:,",
            "data:image/png;base64",
        ),
        *("AAAA\nAAAA", "/etc/passwd", "file:///etc/passwd", "../../etc/passwd", "", "ÄÄÄÄ"),
    ],
)
def test_a_text_that_is_no_file_is_refused(senses: Running, url: str) -> None:
    found = text_of(senses.post(f"/models/{PICTURES}", {"inputs": url}), "huggingface")
    assert "base64" in found or "empty" in found
    several = senses.post(f"/models/{PICTURES}", {"inputs": [coded(png()), url]})
    assert "inputs[1]" in text_of(several, "huggingface")
    senses.post("/api/huggingface/models", {"model_id": PICTURES, "name": "a", "model_type": "image-classification"})
    body = {"model_id": PICTURES, "task": "image-classification", "inputs": url}
    text_of(senses.post("/api/huggingface/pipeline", body), "legacy")


METADATA = (
    "http://169.254.169.254/latest/meta-data/iam/",
    "http://[::ffff:a9fe:a9fe]/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://127.0.0.1:1/",
    "http://localhost:1/",
    "http://example.com\\@169.254.169.254/",
)


@pytest.mark.parametrize("url", METADATA)
def test_addresses_are_refused_with_the_option_that_allows_them(senses: Running, url: str) -> None:
    assert "--allow-media-urls" in text_of(senses.post(f"/models/{PICTURES}", {"inputs": url}), "huggingface")
    inner = senses.post(f"/models/{PICTURES}", {"inputs": [{"image": url}]})
    assert "--allow-media-urls" in text_of(inner, "huggingface")
    senses.post("/api/huggingface/models", {"model_id": PICTURES, "name": "a", "model_type": "image-classification"})
    body = {"model_id": PICTURES, "task": "image-classification", "inputs": url}
    assert "--allow-media-urls" in text_of(senses.post("/api/huggingface/pipeline", body), "legacy")


@pytest.fixture(scope="module")
def attacker() -> Iterator[Attacker]:
    """A server of an attacker, in a thread of its own."""
    found: list[Attacker] = []
    started, ended = threading.Event(), threading.Event()

    async def run() -> None:
        async with attacking() as one:
            found.append(one)
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait()
    yield found[0]
    ended.set()
    thread.join()


@pytest.fixture(scope="module")
def fetching(senses_home: Path) -> Iterator[Local]:
    """A server that fetches addresses, also from 127.0.0.1 as if it were public."""

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "media.example.com" else [host]

    given = settings(senses_home, allow_media_urls=True, max_media=200_000, max_body=300_000)
    fetcher = Fetcher(given.max_media, 5.0, resolver=resolver, allowed=lambda ip: ip == "127.0.0.1" or is_public(ip))
    with local(given) as running:
        running.core.media = Media(given, fetcher)
        yield running


def fetch(server: Local, url: Any, model: str = PICTURES) -> httpx2.Response:
    return server.request("POST", f"/models/{model}", json={"inputs": url})


def test_an_address_is_fetched_where_the_server_allows_it(fetching: Local, attacker: Attacker) -> None:
    url = attacker.answer("/red.png", body=png())
    found = fetch(fetching, url).json()
    assert found[0]["label"] == "red"
    assert fetch(fetching, [coded(png()), url]).json() == [found, found]
    assert fetch(fetching, {"image": attacker.redirect("/once", url)}).json() == found
    sound = attacker.answer("/tone.wav", PLAIN.replace("image/png", "audio/wav"), tone())
    assert len(fetch(fetching, sound, SOUNDS).json()) == 4


@pytest.mark.parametrize("url", METADATA)
def test_addresses_of_this_machine_and_of_clouds_are_not_fetched(fetching: Local, url: str) -> None:
    if "127.0.0.1" in url:
        url = url.replace("127.0.0.1", "127.0.0.2")  # the first one is the attacker's here
    assert "not fetched" in text_of(fetch(fetching, url), "huggingface")


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "localhost", "2130706433", "169.254.169.254", "0.0.0.0"])
def test_a_redirect_to_this_machine_is_not_followed(fetching: Local, attacker: Attacker, host: str) -> None:
    url = attacker.redirect(f"/to-{host}", f"http://{host}:{attacker.port}/red.png")
    seen = len(attacker.requests)
    assert "not fetched" in text_of(fetch(fetching, url), "huggingface")
    assert len(attacker.requests) == seen + 1


def test_what_is_fetched_has_limits_and_no_words_of_the_other_server(fetching: Local, attacker: Attacker) -> None:
    large = attacker.answer("/large", body=bytes(200_001))
    assert "200000 bytes" in text_of(fetch(fetching, large), "huggingface", 413)
    pieces = [attacker.answer(f"/piece{number}", body=png() + bytes(190_000)) for number in range(2)]
    assert "together" in text_of(fetch(fetching, pieces), "huggingface", 413)
    page = attacker.answer("/page", "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n", b"the secret of the intranet")
    missing = attacker.answer("/missing", "HTTP/1.1 404 the-secret\r\ncontent-type: image/png\r\n")
    for url in (page, missing, "http://media.example.com:1025/secret"):
        found = text_of(fetch(fetching, url), "huggingface")
        assert not re.search("secret|example|intranet", found), found
    many = text_of(fetch(fetching, [large] * 65), "huggingface", 413)
    assert "65 pictures" in many


def test_addresses_that_do_not_answer_in_time_are_an_error_of_the_api(senses_home: Path, attacker: Attacker) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    attacker.answers["/silent.png"] = lambda writer: None
    urls = [attacker.answer("/quick.png", body=png()), attacker.at("/silent.png")]
    given = settings(senses_home, allow_media_urls=True)
    with local(given) as running:
        running.core.media = Media(given, Fetcher(given.max_media, 0.5, resolver=resolver, allowed=lambda ip: True))
        late = fetch(running, urls)
        assert "did not arrive within 0.5 seconds" in text_of(late, "huggingface", 504)
        assert late.json()["code"] == "deadline"
        model = {"model_id": PICTURES, "name": "a", "model_type": "image-classification"}
        running.request("POST", "/api/huggingface/models", json=model)
        body = {"model_id": PICTURES, "task": "image-classification", "inputs": urls}
        late = running.request("POST", "/api/huggingface/pipeline", json=body)
        assert "did not arrive within 0.5 seconds" in text_of(late, "legacy", 504)
        invalid = fetch(running, [urls[0], "not base64"])
        assert "inputs[1]" in text_of(invalid, "huggingface")


URL = "http://media.example.com:{port}/part.png"
PART = {"type": "text", "text": "What is this?"}


def chat(part: dict[str, Any]) -> dict[str, Any]:
    return {"model": WRITER, "max_tokens": 4, "messages": [{"role": "user", "content": [PART, part]}]}


def turn(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, *parts]}]


IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": URL}}
CALLED = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
SHOWN: dict[str, Any] = {"type": "input_image", "image_url": URL, "detail": "auto"}
SOURCE: dict[str, Any] = {"type": "image", "source": {"type": "url", "url": URL}}
INLINE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
#: API, path, body, the part that the error names.
PARTS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("openai", "/v1/chat/completions", chat(IMAGE), "messages[0].content[1]"),
    ("openai", "/v1/chat/completions", chat({"type": "image_url", "image_url": {"url": coded(png())}}), "content[1]"),
    (
        "openai",
        "/v1/chat/completions",
        chat({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        "messages[0].content[1]",
    ),
    ("openai", "/v1/chat/completions", chat({"type": "file", "file": {"file_id": "f"}}), "messages[0].content[1]"),
    (
        "openai",
        "/v1/chat/completions",
        chat({"type": "video_url", "video_url": {"url": URL}}),
        "messages[0].content[1]",
    ),
    ("openai", f"/models/{WRITER}/v1/chat/completions", chat(IMAGE), "messages[0].content[1]"),
    ("openai", "/v1/responses", {"model": WRITER, "input": turn(SHOWN)}, "input[0].content[1]"),
    (
        "openai",
        "/v1/responses",
        {"model": WRITER, "input": turn({"type": "input_file", "file_url": URL})},
        "input[0].content[1]",
    ),
    (
        "openai",
        "/v1/responses",
        {"model": WRITER, "input": [CALLED, {"type": "function_call_output", "call_id": "c", "output": [SHOWN]}]},
        "input[1].output[0]",
    ),
    ("anthropic", "/v1/messages", chat(SOURCE), "messages[0].content[1]"),
    ("anthropic", "/v1/messages", chat(INLINE), "messages[0].content[1]"),
    ("anthropic", "/v1/messages", chat({"type": "document", "source": {"type": "url", "url": URL}}), "content[1]"),
    ("anthropic", "/v1/messages/count_tokens", chat(SOURCE), "messages[0].content[1]"),
    (
        "ollama",
        "/api/chat",
        {"model": WRITER, "messages": [{"role": "user", "content": "a", "images": [URL]}]},
        "messages[0].images",
    ),
    ("ollama", "/api/generate", {"model": WRITER, "prompt": "a", "images": [URL]}, "images"),
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("api", "path", "body", "part"), PARTS)
def test_a_model_of_texts_refuses_files_before_anything_is_fetched(
    fetching: Local, attacker: Attacker, api: str, path: str, body: dict[str, Any], part: str, stream: bool
) -> None:
    attacker.answer("/part.png", body=png())
    seen = len(attacker.requests)
    sent = _with_port(body, attacker.port)
    if path.endswith("count_tokens"):
        del sent["max_tokens"]
    else:
        sent["stream"] = stream
    answer = fetching.request("POST", path, json=sent)
    found = text_of(answer, api)
    named = answer.json()["error"]["param"] if api == "openai" else found
    assert part in (named or found)
    assert len(attacker.requests) == seen


def _with_port(value: Any, port: int) -> Any:
    if isinstance(value, str):
        return value.replace("{port}", str(port))
    if isinstance(value, dict):
        return {key: _with_port(one, port) for key, one in value.items()}
    return [_with_port(one, port) for one in value] if isinstance(value, list) else value


def test_an_address_is_a_text_to_a_model_of_texts(fetching: Local, attacker: Attacker) -> None:
    url = attacker.answer("/text.png", body=png())
    seen = len(attacker.requests)
    assert fetch(fetching, url, CLASSIFIER).status_code == 200
    assert fetch(fetching, url, WRITER).status_code == 200
    assert len(attacker.requests) == seen


SENT: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("huggingface", f"/models/{PICTURES}", {"json": {"inputs": "AAAA"}}),
    ("huggingface", f"/models/{PICTURES}", {"content": png(), "headers": {"content-type": "image/png"}}),
    ("huggingface", f"/models/{PICTURES}", {"files": {"inputs": png()}}),
    ("openai", "/v1/audio/transcriptions", {"files": {"file": SOUND}, "data": {"model": SPEECH}}),
    ("legacy", "/api/huggingface/pipeline", {"json": {"model_id": PICTURES, "task": "a", "inputs": "AAAA"}}),
    ("ollama", "/api/chat", {"json": {"model": WRITER, "messages": []}}),
    ("anthropic", "/v1/messages", {"json": chat(SOURCE)}),
)


@pytest.mark.parametrize(("api", "path", "sent"), SENT)
def test_pages_without_an_origin_cannot_send_files(senses: Running, api: str, path: str, sent: dict[str, Any]) -> None:
    headers = {**sent.get("headers", {}), "origin": "null"}
    with senses.client() as page:
        text_of(page.post(path, **{**sent, "headers": headers}), api, 403)


def test_the_limits_of_the_server_hold_on_every_path(senses_home: Path) -> None:
    limits = {"max_pixels": 63, "max_frames": 3, "max_seconds": 1, "max_media": 40_000, "max_files": 2}
    with local(settings(senses_home, **limits)) as server:

        def answered(data: bytes, model: str = PICTURES) -> httpx2.Response:
            return fetch(server, coded(data), model)

        small = png(size=(7, 9))
        assert answered(small).status_code == 200
        assert "63 pixels" in text_of(answered(png(size=(8, 8))), "huggingface")
        assert answered(gif(3)).status_code == 200
        assert "3 frames" in text_of(answered(gif(4)), "huggingface")
        assert answered(tone(0.8), SOUNDS).status_code == 200
        assert "1 seconds" in text_of(answered(tone(1.1), SOUNDS), "huggingface")
        assert "40000 bytes" in text_of(answered(tone(2.0), SOUNDS), "huggingface", 413)
        raw = server.request("POST", f"/models/{SOUNDS}", content=tone(2.0), headers={"content-type": "audio/wav"})
        assert "40000 bytes" in text_of(raw, "huggingface", 413)
        form = server.request("POST", f"/models/{SOUNDS}", files={"inputs": tone(2.0)})
        assert "40000 bytes" in text_of(form, "huggingface", 413)
        assert "takes 2" in text_of(fetch(server, [coded(small)] * 3), "huggingface", 413)
        pair = fetch(server, [coded(tone(0.4)), coded(tone(0.5))], SOUNDS)
        assert len(pair.json()) == 2
        assert "at once" in text_of(fetch(server, [coded(tone(0.6)), coded(tone(0.6))], SOUNDS), "huggingface")
        samples = {"array": [0.0] * 16_100, "sampling_rate": 16_000}
        assert "1 seconds" in text_of(fetch(server, samples, SOUNDS), "huggingface")
        files, fields = {"file": tone(1.1)}, {"model": SPELLED}
        found = server.request("POST", "/v1/audio/transcriptions", files=files, data=fields)
        assert "1 seconds" in text_of(found, "openai")
