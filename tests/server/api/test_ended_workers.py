"""What a stream of each API ends with when the model's process dies while it writes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.server.running import RECITER, serving

MESSAGES = [{"role": "user", "content": "Count."}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 30_000},
    "/v1/responses": {"input": "Count.", "max_output_tokens": 30_000},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 30_000},
    "/api/chat": {"messages": MESSAGES, "options": {"num_predict": 30_000}},
    "/api/generate": {"prompt": "Count.", "options": {"num_predict": 30_000}},
}


@pytest.mark.parametrize("path", BODIES)
def test_the_stream_ends_with_the_error_of_its_api(filled_home: Path, path: str) -> None:
    lines = []
    with serving(filled_home) as server, server.client() as client:
        body = {"model": RECITER, "stream": True, **BODIES[path]}
        with client.stream("POST", path, json=body) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if "two " in line and not any("two " in one for one in lines):
                    [worker] = psutil.Process(server.process.pid).children()
                    os.kill(worker.pid, signal.SIGKILL)
                lines.append(line)
    blocks = [block.split("\n") for block in "\n".join(lines).rstrip("\n").split("\n\n" if "/v1/" in path else "\n")]
    events = [json.loads(block[-1].removeprefix("data: ")) for block in blocks]
    names = [block[0].removeprefix("event: ") for block in blocks]
    if path == "/v1/chat/completions":
        error = events[-1]["error"]
        assert (error["type"], error["code"], error["param"]) == ("server_error", "worker_died", None)
        message = error["message"]
    elif path == "/v1/responses":
        assert names[-2:] == ["error", "response.failed"] and events[-2]["code"] == "worker_died"
        failed = events[-1]["response"]
        assert failed["error"] == {"code": "server_error", "message": events[-2]["message"]}
        assert (failed["status"], failed["output"][-1]["status"]) == ("failed", "incomplete")
        message = events[-2]["message"]
    elif path == "/v1/messages":
        assert names[-1] == events[-1]["type"] == "error" and "message_stop" not in names
        assert events[-1]["error"]["type"] == "api_error" and events[-1]["request_id"]
        message = events[-1]["error"]["message"]
    else:
        assert set(events[-1]) == {"error"} and not any(one.get("done") for one in events)
        message = events[-1]["error"]
    assert "was killed by signal 9" in message
