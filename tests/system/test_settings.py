from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from platformdirs import user_cache_path

from gpux.errors import UsageError
from gpux.system.settings import DEFAULT_ENDPOINT, Settings, SettingsOverrides

READ = "HF_ GPUX_ HUGGING TRANSFORMERS_ XDG_"

VARIABLES: list[tuple[dict[str, str], str, Any]] = [
    ({"GPUX_HOME": "/g"}, "home", Path("/g")),
    ({"GPUX_HOME": "/g"}, "store", Path("/g/store")),
    ({"GPUX_HOME": "/g"}, "logs", Path("/g/logs")),
    ({"GPUX_HOME": "/g"}, "toolchains", Path("/g/toolchains")),
    ({"GPUX_HOME": "/g", "GPUX_TOOLCHAINS": "/t"}, "toolchains", Path("/t")),
    ({"GPUX_TIMEOUT": "2.5"}, "timeout", 2.5),
    ({}, "timeout", 10.0),
    ({"GPUX_TORCH_INDEX": "https://i"}, "torch_index", "https://i"),
    ({"GPUX_TORCH_INDEX": ""}, "torch_index", None),
    ({"HF_HOME": "/h"}, "hf_cache", Path("/h/hub")),
    ({"HF_HOME": "/h"}, "token_path", Path("/h/token")),
    ({"XDG_CACHE_HOME": "/x"}, "hf_cache", Path("/x/huggingface/hub")),
    ({"XDG_CACHE_HOME": "/x"}, "token_path", Path("/x/huggingface/token")),
    ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "hf_cache", Path("/h/hub")),
    ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "hf_cache", Path("/old")),
    ({"HF_HUB_CACHE": "/new", "HUGGINGFACE_HUB_CACHE": "/old"}, "hf_cache", Path("/new")),
    ({"HF_HOME": "/h", "HF_TOKEN_PATH": "/t"}, "token_path", Path("/t")),
    ({"HF_ENDPOINT": "http://127.0.0.1:8123/"}, "endpoint", "http://127.0.0.1:8123"),
    ({"HF_ENDPOINT": ""}, "endpoint", DEFAULT_ENDPOINT),
    ({}, "endpoint", DEFAULT_ENDPOINT),
    ({"HF_TOKEN": "new", "HUGGING_FACE_HUB_TOKEN": "old"}, "token", "new"),
    ({"HUGGING_FACE_HUB_TOKEN": "old"}, "token", "old"),
    ({"HF_TOKEN": " \n", "HUGGING_FACE_HUB_TOKEN": "old"}, "token", "old"),
    ({"HF_TOKEN": " padded\n"}, "token", "padded"),
    ({"HF_TOKEN": "new", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, "token", None),
    ({}, "token", None),
    ({}, "offline", False),
    ({"HF_HUB_OFFLINE": "1"}, "offline", True),
    ({"HF_HUB_OFFLINE": "Yes"}, "offline", True),
    ({"HF_HUB_OFFLINE": "on"}, "offline", True),
    ({"HF_HUB_OFFLINE": "TRUE"}, "offline", True),
    ({"HF_HUB_OFFLINE": "0"}, "offline", False),
    ({"HF_HUB_OFFLINE": "false"}, "offline", False),
    ({"TRANSFORMERS_OFFLINE": "1"}, "offline", True),
]


@pytest.mark.parametrize(("environ", "name", "expected"), VARIABLES)
def test_every_variable(environ: dict[str, str], name: str, expected: Any) -> None:
    assert getattr(Settings.from_env(environ), name) == expected


def test_without_variables_folders_are_in_the_user_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GPUX_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.from_env()
    assert settings.home == user_cache_path("gpux", appauthor=False)
    assert settings.home.is_relative_to(home)
    assert settings.hf_cache == home / ".cache" / "huggingface" / "hub"


def test_the_process_environment_is_the_default(home: Path) -> None:
    settings = Settings.from_env()
    assert (settings.home, settings.hf_cache) == (home / "gpux", home / "hf" / "hub")


def test_a_given_environment_is_the_only_one(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    settings = Settings.from_env({"XDG_CACHE_HOME": str(cache)})
    assert settings.hf_cache.is_relative_to(cache)
    if sys.platform == "linux":
        assert settings.home == cache / "gpux"


@pytest.mark.parametrize("value", ["~/g", "$HOME/g", "${HOME}/g"])
def test_paths_are_expanded(home: Path, value: str) -> None:
    environ = {"HOME": str(home), "GPUX_HOME": value, "HF_HOME": value}
    settings = Settings.from_env(environ)
    assert (settings.home, settings.hf_cache) == (home / "g", home / "g" / "hub")


@pytest.mark.parametrize(
    ("content", "token"), [(b"hf_file\n", "hf_file"), (b"", None), (b" \n", None), (b"\xff\xfe", None), (None, None)]
)
def test_the_token_file(tmp_path: Path, content: bytes | None, token: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    assert Settings.from_env({"HF_TOKEN_PATH": str(file)}).token == token
    assert Settings.from_env({"HF_TOKEN_PATH": str(file), "HF_TOKEN": ""}).token == token
    assert Settings.from_env({"HF_TOKEN_PATH": str(file), "HF_TOKEN": "hf_env"}).token == "hf_env"


def test_overrides_take_precedence_over_the_environment() -> None:
    environ = {"HF_TOKEN": "env", "HF_ENDPOINT": "http://env", "HF_HUB_OFFLINE": "1"}
    settings = Settings.from_env(environ, token="given", endpoint=None, offline=False)
    assert (settings.token, settings.endpoint, settings.offline) == ("given", "http://env", False)
    again = settings.with_overrides(timeout=1.0, token=None)
    assert (again.timeout, again.token) == (1.0, "given")
    assert settings.timeout == 10.0


def test_every_setting_can_be_overridden() -> None:
    fields = get_type_hints(Settings)
    assert {name: kind if kind == kind | None else kind | None for name, kind in fields.items()} == get_type_hints(
        SettingsOverrides
    )


def test_an_unknown_override_is_an_error() -> None:
    with pytest.raises(UsageError, match="tokn") as caught:
        Settings.from_env({}, tokn="x")
    assert "token" in (caught.value.hint or "")


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "1e999", " "])
def test_a_timeout_is_a_number_of_seconds(value: str) -> None:
    with pytest.raises(UsageError, match="GPUX_TIMEOUT"):
        Settings.from_env({"GPUX_TIMEOUT": value})


def test_the_token_is_not_shown(home: Path) -> None:
    settings = Settings.from_env({"HF_TOKEN": "hf_secret"})
    assert "hf_secret" not in f"{settings!r} {settings}"
    data = settings.to_dict()
    assert "hf_secret" not in json.dumps(data)
    assert data["endpoint"] == DEFAULT_ENDPOINT


def test_settings_pickle_with_their_token() -> None:
    settings = Settings.from_env({"HF_TOKEN": "hf_secret"})
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert pickle.loads(pickle.dumps(settings)).token == "hf_secret"


PROGRAM = """
import huggingface_hub, json
from huggingface_hub import constants as hub
from gpux import Settings
ours = Settings.from_env()
print(json.dumps([
    [hub.HF_HUB_CACHE, hub.HF_TOKEN_PATH, hub.ENDPOINT, hub.HF_HUB_OFFLINE, huggingface_hub.get_token()],
    [str(ours.hf_cache), str(ours.token_path), ours.endpoint, ours.offline, ours.token],
]))
"""


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"XDG_CACHE_HOME": "$HOME/x"},
        {"HF_HOME": "~/h", "HF_ENDPOINT": "http://127.0.0.1:8123/", "HF_TOKEN": "t"},
        {"HF_HUB_CACHE": "/new", "HUGGINGFACE_HUB_CACHE": "/old", "HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "old"},
        {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"},
        {"TRANSFORMERS_OFFLINE": "YES", "HF_TOKEN_PATH": "$HOME/token"},
    ],
    ids=str,
)
def test_huggingface_hub_reads_the_same(environ: dict[str, str], home: Path) -> None:
    (home / "token").write_text("hf_file\n", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(tuple(READ.split()))}
    result = subprocess.run([sys.executable, "-c", PROGRAM], env=kept | environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    theirs, ours = json.loads(result.stdout)
    assert ours == theirs
