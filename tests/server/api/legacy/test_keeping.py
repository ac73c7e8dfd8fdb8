"""The registry keeps what was answered, through kills and beside another server."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gpux.errors import BusyError
from gpux.server.api.legacy import API
from gpux.server.registry import FILE
from gpux.store import Store
from gpux.system.settings import Settings
from tests.pipelines.writer import writer
from tests.server.running import WRITER, Running, put, serving

BASE = "/api/huggingface"
BODY = {"model_id": WRITER, "name": "W", "model_type": "text-generation"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    settings = Settings.from_env({"GPUX_HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")})
    put(Store(settings.store), writer(tmp_path / "scratch"), WRITER)
    return tmp_path


def generate(server: Running) -> Any:
    body = {"model_id": WRITER, "prompt": "abc", "max_new_tokens": 3}
    answer = server.post(f"{BASE}/generate", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def registered(server: Running) -> Any:
    return server.get(f"{BASE}/models/{WRITER}").json()["model"]


def change(server: Running, method: str, body: Any = None) -> httpx2.Response:
    with server.client() as client:
        return client.request(method, f"{BASE}/models/{WRITER}", json=body)


def kill(server: Running) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def test_every_answered_request_survives_a_kill(home: Path) -> None:
    with serving(home) as server:
        server.post(f"{BASE}/models", BODY)
        assert registered(server)["usage_count"] == 0
        generate(server)
        change(server, "PUT", {"description": "new"})
        kill(server)
    with serving(home) as server:
        found = registered(server)
        assert (found["usage_count"], found["description"]) == (1, "new")
        assert found["last_used"] is not None


def test_two_servers_on_one_registry_lose_no_use(home: Path) -> None:
    with serving(home) as one, serving(home) as other:
        one.post(f"{BASE}/models", BODY)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(generate, [one, other] * 5))
        assert registered(one) == registered(other)
        assert registered(one)["usage_count"] == 10
        assert change(other, "DELETE").json()["models_data"]["count"] == 0
        assert one.get(f"{BASE}/models").json()["count"] == 0


def test_twenty_requests_at_once_are_all_answered(legacy: Running) -> None:
    legacy.post(f"{BASE}/models", BODY)
    before = registered(legacy)["usage_count"]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(generate, [legacy] * 20))
    assert all(answer["success"] for answer in answers)
    assert registered(legacy)["usage_count"] == before + 20


def test_a_damaged_registry_is_an_error_that_says_what_to_do(home: Path) -> None:
    (home / FILE).write_bytes(b"damaged " * 100)
    with serving(home) as server:
        for answer in (server.get(f"{BASE}/models"), server.post(f"{BASE}/models", BODY)):
            assert (answer.status_code, answer.json()["success"]) == (500, False)
            assert "is damaged" in answer.json()["error"] and str(home) not in answer.text
        assert f"{home / FILE}: " in server.log.read_text() and "move the file elsewhere" in server.log.read_text()
        assert server.get("/v1/models").status_code == 200  # the other APIs go on
        for part in home.glob(f"{FILE}*"):
            part.rename(home / f"aside-{part.name}")
        assert server.post(f"{BASE}/models", BODY).status_code == 200


def test_a_full_queue_is_503_with_the_seconds_to_wait() -> None:
    answer = API.respond(BusyError("the queue of the model is full", retry_after=2.4))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
