"""The health of chats, on a real server."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chat.api.asking import data, error
from tests.chat.service.talking import chatting, reload, talk, with_ollama
from tests.ollama.running import RunningOllama, running_ollama
from tests.server.running import WRITER, Running
from tests.waiting import wait_until


def test_everything_works(server: Running) -> None:
    talk(server, {"model": f"hf:{WRITER}", "message": "hi", "options": {"maxTokens": 2}})
    found = server.get("/api/models/health").json()
    assert (found["healthy"], found["status"], found["database"]) == (True, "healthy", None)
    assert found["configuration"]["state"] == "ok"
    assert {one["provider"]: one["status"] for one in found["providers"]} == {
        "ollama": "healthy",
        "huggingface": "healthy",
    }
    loaded = {one["name"]: one["memoryBytes"] for one in found["models"]}
    assert loaded[f"hf:{WRITER}"] > 1_000_000
    assert found["memory"]["total"] >= loaded[f"hf:{WRITER}"]


def test_one_provider(server: Running) -> None:
    found = server.get("/api/providers/ollama/health").json()
    assert (found["provider"], found["healthy"], found["status"]) == ("ollama", True, "healthy")
    assert found["responseTime"] >= 0
    assert found["lastChecked"].endswith("Z")
    missing = server.get("/api/providers/nobody/health")
    assert (missing.status_code, missing.json()["code"]) == (404, "provider_not_found")
    assert missing.json()["errorCode"] == "HF_MODEL_NOT_FOUND"


def test_a_provider_that_dies_and_comes_back(changing: Running) -> None:
    server = changing
    with running_ollama() as ollama:
        reload(server, with_ollama(ollama.url, "health_check_interval_ms = 100"))
        ollama.kill()
        gone = server.get("/api/providers/ollama/health").json()
        assert (gone["healthy"], gone["status"]) == (False, "unhealthy")
        assert gone["error"]
        wait_until(lambda: server.get("/api/models/health").json()["status"] == "degraded")
        found = server.get("/api/models/health").json()
        assert found["healthy"], "the other provider answers"
        ollama.start()
        wait_until(lambda: server.get("/api/models/health").json()["status"] == "healthy")


def test_a_broken_configuration_file_is_shown_with_its_line(changing: Running, ollama: RunningOllama) -> None:
    server, file = changing, changing.home / "chat.toml"
    wait_until(lambda: server.get("/api/models/health").json()["status"] == "healthy")
    file.write_text("retry_attempts = 1\nretry_delay_ms = 'soon'\n")
    wait_until(lambda: server.get("/api/models/health").json()["configuration"]["state"] == "degraded")
    found = server.get("/api/models/health").json()
    assert (found["healthy"], found["status"]) == (True, "degraded")
    configuration = found["configuration"]
    assert (configuration["line"], configuration["key"]) == (2, "retry_delay_ms")
    assert configuration["problem"]["code"] == "configuration"
    assert str(server.home) not in server.get("/api/models/health").text
    assert server.log.read_text().count("retry_delay_ms: it is a text") == 1, "logged once"
    file.write_text(with_ollama(ollama.url))
    wait_until(lambda: server.get("/api/models/health").json()["status"] == "healthy")


def test_a_database_that_cannot_be_opened(home: Path, ollama: RunningOllama) -> None:
    (home / "conversations.db").write_bytes(b"not a database" * 100)
    with chatting(home, with_ollama(ollama.url)) as server:
        found = server.get("/api/models/health").json()
        assert (found["status"], found["database"]["code"]) == ("degraded", "database")
        assert data(server, "{ availableModels { count } }")["count"] > 0
        refused = error(server, "{ conversations { count } }")
        assert refused["extensions"]["code"] == "database"
        assert str(home) not in json.dumps(refused)
