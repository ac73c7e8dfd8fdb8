"""curl, as the documentation calls it."""

from __future__ import annotations

import json
import shutil
import subprocess

from checks import CHAT, SOUND, SPEECH, SPOKEN, URL, check, main

JSON = ("-H", "Content-Type: application/json")
BODY = json.dumps({"model": CHAT, "messages": [{"role": "user", "content": "abc"}], "max_tokens": 8})


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@check
def answers_a_chat() -> None:
    answer = json.loads(curl(f"{URL}/v1/chat/completions", *JSON, "-d", BODY))
    assert answer["choices"][0]["message"]["content"]


@check
def streams_events() -> None:
    events = curl("-N", f"{URL}/v1/chat/completions", *JSON, "-d", json.dumps({**json.loads(BODY), "stream": True}))
    assert events.endswith("data: [DONE]\n\n")


@check
def transcribes_a_file() -> None:
    def upload(*fields: str) -> str:
        form = [part for field in (f"file=@{SOUND}", f"model={SPEECH}", *fields) for part in ("-F", field)]
        return curl(f"{URL}/v1/audio/transcriptions", *form)

    assert json.loads(upload()) == {"text": SPOKEN}
    assert upload("response_format=text").strip() == SPOKEN
    assert upload("response_format=srt").splitlines()[2] == SPOKEN
    assert upload("response_format=vtt").splitlines()[0] == "WEBVTT"
    words = json.loads(upload("response_format=verbose_json", "timestamp_granularities[]=word"))["words"]
    assert [one["word"] for one in words] == SPOKEN.split()


@check
def shows_metrics_and_health() -> None:
    assert "# TYPE gpux_requests_running gauge" in curl(f"{URL}/metrics")
    assert json.loads(curl(f"{URL}/health"))["status"] == "ok"


@check
def says_what_is_wrong_with_a_body() -> None:
    head, _, body = curl("-i", f"{URL}/v1/chat/completions", *JSON, "-d", "{").replace("\r", "").partition("\n\n")
    assert " 400" in head.splitlines()[0]
    assert json.loads(body)["error"]["message"]


if shutil.which("curl") is None:
    raise SystemExit("curl is not installed")
main("curl", subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()[1])
