"""The configuration over HTTP, on a real server and its file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpux.chat.api.configuration import ModelChange, OptionsChange, ProviderChange
from gpux.chat.values import ChatOptions, ModelConfig, ProviderConfig
from tests.chat.conftest import Keyed
from tests.chat.service.talking import ENDLESS, reload, talk, talking, with_ollama
from tests.ollama.running import RunningOllama
from tests.server.running import TURNS, WRITER, Running, serving
from tests.waiting import wait_until

OLLAMA = "/api/providers/ollama/config"
MODEL = f"/api/models/hf:{WRITER}/config"


@pytest.mark.parametrize(
    ("change", "of"), [(ProviderChange, ProviderConfig), (ModelChange, ModelConfig), (OptionsChange, ChatOptions)]
)
def test_every_field_can_be_changed(change: type[ProviderChange], of: type[ProviderConfig]) -> None:
    assert change.__struct_fields__ == of.__struct_fields__


def put(server: Running, path: str, body: object, key: str | None = None) -> tuple[int, dict[str, object]]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with server.client() as client:
        response = client.put(path, json=body, headers=headers)
    return response.status_code, response.json()


def test_what_is_in_force_is_read(server: Running, ollama: RunningOllama) -> None:
    found = server.get(OLLAMA).json()
    assert (found["name"], found["baseUrl"], found["timeoutMs"]) == ("ollama", ollama.url, 30_000)
    model = server.get(MODEL).json()
    assert (model["modelName"], model["provider"], model["precision"]) == (f"hf:{WRITER}", "huggingface", None)
    missing = server.get("/api/providers/nobody/config")
    assert (missing.status_code, missing.json()["code"]) == (404, "provider_not_found")
    assert server.get("/api/models/anything/config").json()["modelName"] == "ollama:anything"


def test_changes_are_written_in_force_at_once_and_rolled_back(changing: Running, ollama: RunningOllama) -> None:
    server, file = changing, changing.home / "chat.toml"
    reload(server, with_ollama(ollama.url, "retry_delay_ms = 3"))
    before = file.read_text()
    status, found = put(server, OLLAMA, {"enabled": False})
    assert (status, found["code"]) == (400, "configuration"), "it is the default provider"
    status, found = put(server, OLLAMA, {"timeoutMs": 1234, "defaultModels": []})
    assert (status, found["timeoutMs"]) == (200, 1234)
    assert server.get(OLLAMA).json()["timeoutMs"] == 1234
    written = file.read_text()
    assert written == before + "timeout_ms = 1234\n"
    status, found = put(server, MODEL, {"options": {"maxTokens": 3}, "timeoutMs": 60_000})
    assert status == 200
    assert server.get(MODEL).json()["options"]["maxTokens"] == 3
    answered = talk(server, {"model": f"hf:{WRITER}", "message": "hi"})
    assert answered.end["tokenCount"] == 3, "in force for the next message"
    state = server.post("/api/config/rollback").json()
    assert state["state"] == "ok"
    assert file.read_text() == written
    version = state["version"]
    state = server.post("/api/config/rollback", {"version": version - 1}).json()
    assert state["version"] == version - 1
    assert file.read_text() == before
    missing = server.post("/api/config/rollback", {"version": 999})
    assert (missing.status_code, missing.json()["code"]) == (400, "configuration")
    assert f"{version}, {version - 1}" in missing.json()["hint"]


def test_the_answer_has_the_defaults_and_changes_nothing_when_it_is_sent_back(changing: Running) -> None:
    server, file = changing, changing.home / "chat.toml"
    reload(server, "retry_delay_ms = 3\n[providers.ollama]\ntimeout_ms = 900\n[providers.huggingface]\npriority = 3\n")
    before = file.read_text()
    fallback = os.environ.get("OLLAMA_HOST") or "http://127.0.0.1:11434"
    expected = {"ollama": ("ollama", "ollama:", fallback), "huggingface": ("huggingface", "hf:", None)}
    for name, used in expected.items():
        path = f"/api/providers/{name}/config"
        found = server.get(path).json()
        assert (found["type"], found["prefix"], found["baseUrl"]) == used
        assert put(server, path, found) == (200, found)
        assert file.read_text() == before
    assert put(server, OLLAMA, {**server.get(OLLAMA).json(), "timeoutMs": 800})[0] == 200
    assert file.read_text() == before.replace("900", "800"), "the defaults are not written"
    assert put(server, OLLAMA, {"type": "openai", "baseUrl": fallback})[0] == 403, "the address of another type"


def test_a_provider_is_added_and_answers(keyed: Keyed, ollama: RunningOllama) -> None:
    server, file = keyed.server, keyed.server.home / "chat.toml"
    key = keyed.key("all", "infer", "manage")
    body = {"type": "ollama", "prefix": "second:", "baseUrl": ollama.url}
    status, _ = put(server, "/api/providers/second/config", body, key)
    assert status == 200
    message = {"model": "second:echo:latest", "message": "a b"}
    answered = talk(server, message, json=message, headers={"authorization": f"Bearer {key}"})
    assert (answered.text, answered.session["provider"]) == ("a b", "second")
    assert put(server, "/api/providers/third/config", {**body, "prefix": "second:"}, key)[0] == 400
    before = file.read_text()
    for given, expected in (
        ({"baseUrl": "ftp://x"}, "not an http or https URL"),
        ({"apiKeyEnv": "sk-secret"}, "not the name of a variable"),
    ):
        status, found = put(server, OLLAMA, given, key)
        assert (status, expected in str(found["error"]), "sk-secret" in str(found)) == (400, True, False)
    assert file.read_text() == before


@pytest.mark.parametrize(
    "body",
    [
        {"baseUrl": "http://127.0.0.1:9"},
        {"baseUrl": None},
        {"apiKeyEnv": "HF_TOKEN"},
        {"apiKeyKeyring": "service/name"},
        {"timeoutMs": 1000, "apiKeyEnv": "HF_TOKEN"},
    ],
)
def test_without_a_key_no_address_secret_or_folder_is_changed(server: Running, body: dict[str, object]) -> None:
    """CVE-2026-7147: anyone could let the server connect to an address, here with a secret of its environment."""
    before = (server.home / "chat.toml").read_text()
    for path, given in ((OLLAMA, body), ("/api/providers/evil/config", {"type": "openai", "prefix": "evil:", **body})):
        if path == OLLAMA or any(body.values()):
            status, found = put(server, path, given)
            assert (status, found["code"]) == (403, "forbidden")
    assert put(server, MODEL, {"cacheDirectory": "/tmp/elsewhere"})[0] == 403
    assert put(server, OLLAMA, {"baseUrl": server.get(OLLAMA).json()["baseUrl"]})[0] == 200
    assert (server.home / "chat.toml").read_text() == before


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (OLLAMA, {"timeoutMs": "soon"}, "Expected `int"),
        (OLLAMA, {"timeout": 1}, "unknown field `timeout`"),
        (OLLAMA, {"name": "other"}, "the configuration is of other"),
        (OLLAMA, {"timeoutMs": 0}, "must be between 1 and"),
        (OLLAMA, [], "Expected `object`"),
        ("/api/providers/Bad%20Name/config", {"type": "ollama", "prefix": "b:"}, "not a name of a provider"),
        ("/api/models/ollama:echo/config", {"device": "cpu"}, "the server behind ollama decides that"),
        (f"/api/models/hf:{WRITER}:int8/config", {"precision": "float32"}, "name says int8"),
        (MODEL, {"device": "mps"}, "macOS"),
        (MODEL, {"maxMemory": 4096}, "at least 16.0 MB"),
        (MODEL, {"options": {"temperature": -1}}, "temperature is -1"),
        (MODEL, {"options": {"maxTokens": 0}}, "maxTokens is 0"),
        (MODEL, {"options": {"tempreature": 1}}, "unknown field `tempreature`"),
        (MODEL, {"fallbackModels": ["nobody"]}, "does not begin with the prefix"),
        (MODEL, {"modelName": "hf:other"}, "the configuration is of hf:other"),
    ],
)
def test_what_is_invalid_is_refused_and_not_written(
    home: Path, server: Running, path: str, body: object, expected: str
) -> None:
    before = (server.home / "chat.toml").read_text()
    status, found = put(server, path, body)
    assert status == 400, found
    assert expected in str(found["error"])
    assert found["errorCode"] == "HF_CONFIGURATION_ERROR"
    assert (server.home / "chat.toml").read_text() == before


def test_a_reload_names_every_fault(changing: Running, ollama: RunningOllama) -> None:
    server, file = changing, changing.home / "chat.toml"
    assert server.post("/api/config/reload").json()["state"] == "ok"
    file.write_text("x = 1\nretry_atempts = 1\n")
    response = server.post("/api/config/reload")
    assert response.status_code == 400
    faults = response.json()["faults"]
    assert [(one["source"], one["line"], one["key"]) for one in faults] == [
        ("chat.toml", 1, "x"),
        ("chat.toml", 2, "retry_atempts"),
    ]
    assert faults[1]["hint"] == "Did you mean retry_attempts?"
    assert str(server.home) not in response.text
    assert server.get(OLLAMA).json()["baseUrl"] == ollama.url, "the old one stays in force"
    file.write_text(with_ollama(ollama.url, "[model_defaults]\ndevice = 'cpu'\nprecision = 'float16'"))
    state = server.post("/api/config/reload").json()
    assert state["state"] == "ok"
    assert state["warnings"][0]["key"] == "model_defaults.precision"


def test_an_edit_while_an_answer_comes_changes_the_next_one(changing: Running, ollama: RunningOllama) -> None:
    server = changing
    body = {"model": f"hf:{ENDLESS}", "message": "go", "options": {"temperature": 0}}
    with talking(server, body) as events:
        next(events)
        next(events)
        models = (ENDLESS, WRITER)
        limits = "\n".join(f'[models."hf:{name}"]\noptions = {{ max_tokens = 2 }}' for name in models)
        (server.home / "next.toml").write_text(with_ollama(ollama.url, limits))
        (server.home / "next.toml").replace(server.home / "chat.toml")
        wait_until(lambda: server.get(MODEL).json()["options"].get("maxTokens") == 2)
        assert [next(events).name for _ in range(50)] == [""] * 50, "the answer goes on"
    assert talk(server, {"model": f"hf:{WRITER}", "message": "hi"}).end["tokenCount"] == 2


def cached(server: Running) -> float:
    found = re.search(rf'gpux_cached_prompt_tokens_total{{model="{WRITER}"}} (.*)', server.get("/metrics").text)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("enabled", [True, False])
def test_caches_of_earlier_prompts_can_be_switched_off(changing: Running, ollama: RunningOllama, enabled: bool) -> None:
    server = changing
    reload(server, with_ollama(ollama.url, f"[model_defaults]\nenable_cache = {str(enabled).lower()}"))
    before = cached(server)
    for _ in range(3):
        talk(server, {"model": f"hf:{WRITER}", "message": "a" * 30, "options": {"maxTokens": 4, "temperature": 0}})
    assert (cached(server) > before) == enabled


def test_the_models_of_a_provider_that_are_loaded_at_once(changing: Running, ollama: RunningOllama) -> None:
    server = changing
    reload(server, with_ollama(ollama.url, "[providers.huggingface]\nmax_concurrent_models = 1"))
    for name in (WRITER, TURNS):
        talk(server, {"model": f"hf:{name}", "message": "hi", "options": {"maxTokens": 2}})
    loaded = server.get("/api/models/health").json()["models"]
    assert [one["name"] for one in loaded if one["provider"] == "huggingface"] == [f"hf:{TURNS}"]


def test_the_file_may_be_an_option_and_is_checked_at_the_start(home: Path, ollama: RunningOllama) -> None:
    file = home / "other.toml"
    file.write_text(with_ollama(ollama.url, "retry_delay_ms = 5"))
    with serving(home, ["--config", str(file)]) as server:
        assert server.get(OLLAMA).json()["baseUrl"] == ollama.url
    file.write_text("retry_delay_ms = 'soon'\n")
    with serving(home, ["--config", str(file)]) as server:  # the one before it is kept
        assert server.get("/api/models/health").json()["configuration"]["line"] == 1
    shutil.rmtree(home / "other.toml.versions")
    command = [sys.executable, "-m", "gpux", "serve", "--port", "0", "--json", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "GPUX_HOME": str(home)})
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["line"] == 1


def test_usage(server: Running) -> None:
    talk(server, {"model": "ollama:echo:latest", "message": "one two three"})
    asked = {"provider": "ollama", "model": "ollama:echo:latest"}
    wait_until(lambda: server.get("/api/usage", params=asked).json()["count"])  # it is counted after its end
    found = server.get("/api/usage", params=asked).json()
    assert found["count"] == len(found["usage"]) == 1
    assert found["usage"][0]["requests"] >= 1
    assert server.get("/api/usage", params={"until": "2020-01-01"}).json() == {"usage": [], "count": 0}
    wrong = server.get("/api/usage", params={"since": "yesterday"})
    assert (wrong.status_code, wrong.json()["param"]) == (400, "since")


def test_scopes(keyed: Keyed) -> None:
    server = keyed.server
    user, manager = keyed.key("user", "read", "infer"), keyed.key("manager", "read", "manage")
    assert server.get(OLLAMA).status_code == 401
    assert server.get("/api/models/health").status_code == 401
    headers = {"authorization": f"Bearer {user}"}
    assert server.get(OLLAMA, headers=headers).status_code == 200
    status, found = put(server, OLLAMA, {"timeoutMs": 5}, user)
    assert (status, found["code"], found["scope"]) == (403, "forbidden", "manage")
    for path in ("/api/config/reload", "/api/config/rollback"):
        assert server.post(path, headers=headers).status_code == 403
    assert put(server, OLLAMA, {"timeoutMs": 31_000}, manager)[0] == 200
