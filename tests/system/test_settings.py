from __future__ import annotations

import json
import os
import pickle
import re
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
    ({"HF_HUB_OFFLINE": " true\r"}, "offline", True),
    ({"HF_HUB_OFFLINE": "oui"}, "offline", False),
    ({"HF_HUB_OFFLINE": " ", "TRANSFORMERS_OFFLINE": "1"}, "offline", True),
    ({"HF_ENDPOINT": " http://127.0.0.1:8123 "}, "endpoint", "http://127.0.0.1:8123"),
    ({"HF_ENDPOINT": "http://127.0.0.1:8123\r"}, "endpoint", "http://127.0.0.1:8123"),
    ({"HF_ENDPOINT": "http://127.0.0.1:8123/\r\n"}, "endpoint", "http://127.0.0.1:8123"),
    ({"HF_ENDPOINT": "\ufeffhttps://hub.example//"}, "endpoint", "https://hub.example"),
    ({"HF_ENDPOINT": '"https://hub.example"'}, "endpoint", "https://hub.example"),
    ({"HF_ENDPOINT": "'https://hub.example/' "}, "endpoint", "https://hub.example"),
    ({"HF_ENDPOINT": "HTTPS://Hub.Example"}, "endpoint", "https://hub.example"),
    ({"HF_ENDPOINT": "https://proxy.example/api/hf/Remote/"}, "endpoint", "https://proxy.example/api/hf/Remote"),
    ({"HF_ENDPOINT": "  "}, "endpoint", DEFAULT_ENDPOINT),
    ({"HF_TOKEN": '"hf_quoted"\r\n'}, "token", "hf_quoted"),
    ({"HF_TOKEN": "hf_wra\r\npped"}, "token", "hf_wrapped"),
    ({"HF_TOKEN": "''", "HUGGING_FACE_HUB_TOKEN": "old"}, "token", "old"),
    ({"GPUX_HOME": "/g \r"}, "home", Path("/g")),
    ({"GPUX_HOME": '"/with space/g"'}, "home", Path("/with space/g")),
    ({"HF_HOME": "/h\n"}, "hf_cache", Path("/h/hub")),
    ({"HF_HOME": " ", "XDG_CACHE_HOME": "/x "}, "hf_cache", Path("/x/huggingface/hub")),
    ({"HF_HUB_CACHE": "''", "HF_HOME": "/h"}, "hf_cache", Path("/h/hub")),
    ({"GPUX_TIMEOUT": " 3 "}, "timeout", 3.0),
    ({"GPUX_TIMEOUT": " "}, "timeout", 10.0),
    ({"GPUX_MAX_CACHE": " 2 kB\r"}, "max_cache", 2000),
    ({"GPUX_MAX_CACHE": " "}, "max_cache", None),
    ({"GPUX_TORCH_INDEX": "https://i\r"}, "torch_index", "https://i"),
    ({"REQUESTS_CA_BUNDLE": "/r.pem "}, "ca_bundle", Path("/r.pem")),
    ({"REQUESTS_CA_BUNDLE": "/r.pem", "SSL_CERT_FILE": " "}, "ca_bundle", Path("/r.pem")),
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("GPUX_TIMEOUT", value) for value in ("soon", "0", "-1", "nan", "inf", "1e999", "1e300", "86401")),
        *(("GPUX_MAX_CACHE", value) for value in ("much", "0", "-1", "0.5", "20 GB or so", "9" * 400, "1e3")),
        ("HF_ENDPOINT", "hub.example"),
        ("HF_ENDPOINT", "hub.example/prefix"),
        ("HF_ENDPOINT", "hub.example:443"),
        ("HF_ENDPOINT", "localhost:8080"),
        ("HF_ENDPOINT", "myhub:8080/hf"),
        ("HF_ENDPOINT", "127.0.0.1"),
        ("HF_ENDPOINT", "https://hub.example?x=1"),
        ("HF_ENDPOINT", "https://hub.example/#models"),
        ("HF_ENDPOINT", "https://ada:secret@hub.example/hf"),
    ],
)
def test_an_invalid_value_is_refused_with_a_valid_one(name: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings.from_env({name: value})
    assert f"{name}={value!r}" in caught.value.message or "secret" in value
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    suggested = re.search(rf"{name}=(\S+?)\.?$", caught.value.hint or "")
    assert suggested, caught.value.hint
    assert Settings.from_env({name: suggested[1]}).to_env()[name]


@pytest.mark.parametrize(
    "value",
    [
        *("ftp://hub.example", "file:///hub", "https://", "http:///models", "http://hub.example:port"),
        *(
            "http://hub.example:70000",
            "http://hub.example:0",
            "http://[::1",
            "https://hub .example",
            "https://hub\texample",
        ),
    ],
)
def test_an_endpoint_without_a_guess_is_refused_with_the_default(value: str) -> None:
    with pytest.raises(UsageError, match="HF_ENDPOINT=") as caught:
        Settings.from_env({"HF_ENDPOINT": value})
    assert caught.value.hint == f"Unset HF_ENDPOINT to use {DEFAULT_ENDPOINT}."
    assert Settings.from_env({}).endpoint == DEFAULT_ENDPOINT


@pytest.mark.parametrize(
    "name", ["GPUX_HOME", "GPUX_TOOLCHAINS", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN_PATH", "XDG_CACHE_HOME"]
)
def test_a_path_of_an_unknown_user_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}='~nobody-here/x'") as caught:
        Settings.from_env({name: "~nobody-here/x"})
    assert caught.value.hint == f"Set {name} to an absolute path."


@pytest.mark.parametrize("token", ["hf_a hf_b", "hf_\u00e4", "hf_\u200b", "hf\ta"])
@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_malformed_token_is_refused_by_the_name_of_its_variable(name: str, token: str) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        Settings.from_env({name: token})
    assert token not in f"{caught.value} {caught.value.hint} {caught.value.details}"
    assert f"unset {name}" in str(caught.value.hint)
    assert Settings.from_env({}).token is None


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("endpoint", "http://127.0.0.1:8123/ \r", "http://127.0.0.1:8123"),
        ("token", " hf_a\n", "hf_a"),
        ("timeout", 3, 3.0),
        ("home", "~/g", "home/g"),
    ],
)
def test_values_of_keywords_are_cleaned_too(home: Path, keyword: str, value: Any, expected: Any) -> None:
    overrides: Any = {keyword: value}
    expected = home.parent / expected if keyword == "home" else expected
    assert getattr(Settings.from_env({}, **overrides), keyword) == expected


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("endpoint", "hub.example"), ("endpoint", ""), ("timeout", 0), ("timeout", 1e300), ("max_cache", 0)],
)
def test_values_of_keywords_are_checked_too(keyword: str, value: Any) -> None:
    overrides: Any = {keyword: value}
    with pytest.raises(UsageError, match=f"{keyword}="):
        Settings.from_env({}, **overrides)


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
