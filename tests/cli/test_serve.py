"""``gpux serve`` and the commands for running servers, as a person types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gpux.cli.quantities import Duration, Size
from gpux.model.units import format_duration, parse_duration
from gpux.server.security.keys import create_key
from tests.commands import finished
from tests.server.conftest import filled_home as filled_home
from tests.server.conftest import server as server
from tests.server.running import WRITER, Running, serving
from tests.waiting import wait_until


def gpux(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return finished(*arguments, environment=of(home, environment))


def process(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As :func:`gpux`, in a process."""
    command = [sys.executable, "-P", "-m", "gpux", *arguments]
    given = os.environ | of(home, environment)
    return subprocess.run(command, capture_output=True, text=True, env=given, check=False)


def of(home: Path, environment: dict[str, str]) -> dict[str, str]:
    return {"GPUX_HOME": str(home), "HF_HOME": str(home / "hf"), "NO_COLOR": "1", **environment}


@pytest.fixture(scope="module")
def own(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that is the only one of its home folder, which has the store of the others."""
    home = tmp_path_factory.mktemp("alone")
    (home / "store").symlink_to(filled_home / "store")
    with serving(home, [WRITER, "--keep-alive", "1h"]) as running:
        wait_until(lambda: running.get("/readyz").status_code == 200)
        yield running


# Quantities


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("0", 0),
        (" 2D ", 172800),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["-1", "never", "-1s"])
def test_a_negative_duration_is_endless(text: str) -> None:
    assert parse_duration(text) == float("inf")


@pytest.mark.parametrize("text", ["", "m", "soon", "5 minutes", "1h30", "1e3", "nan", "inf", "--1"])
def test_any_other_text_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_a_duration_is_shown_in_its_two_largest_units() -> None:
    assert [format_duration(value) for value in (0, 59.6, 3599, 90000, float("inf"))] == [
        "0s",
        "1m",
        "59m 59s",
        "1d 1h",
        "never",
    ]


def test_options_refuse_what_is_not_their_quantity() -> None:
    assert Size().convert("4GiB", None, None) == 4 << 30
    with pytest.raises(click.BadParameter, match="4GiB"):
        Size().convert("much", None, None)
    with pytest.raises(click.BadParameter, match="90s"):
        Duration().convert("-1", None, None)


# Starting


def test_the_first_screen_names_address_models_and_apis(own: Running) -> None:
    text = own.log.read_text()
    assert f"gpux serves on {own.url}" in text
    assert f"{WRITER}  text-generation, fp32" in text
    assert "more stored; each is loaded at its first request" in text
    assert f"{own.url}/v1" in text
    assert "Ctrl-C" in text


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModelNotFoundError", encoding="utf-8")
    (tmp_path / "starlette.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'starlette'\", name='starlette')", encoding="utf-8"
    )
    ended = process(tmp_path, "serve", "--json", PYTHONPATH=str(tmp_path))
    error = json.loads(ended.stdout)["error"]
    assert (ended.returncode, error["code"]) == (7, "unsupported")
    assert "pip install 'gpux[server]'" in error["hint"]


def test_the_first_screen_says_which_api_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpux.cli.serve import _addresses

    assert "chat        http://here/api/stream-message" in _addresses("http://here", frozenset())
    monkeypatch.setattr("gpux.server.parts.find_spec", lambda name: None if name == "sqlalchemy" else name)
    rows = _addresses("http://here", frozenset())
    assert "chat        needs `pip install 'gpux[chat]'`" in rows
    assert not any("stream-message" in row for row in rows)
    assert not any(row.startswith("chat") for row in _addresses("http://here", frozenset({"chat"})))


def test_a_model_that_is_not_stored_is_pulled_and_the_pull_s_error_ends_the_command(tmp_path: Path) -> None:
    ended = process(tmp_path, "serve", "org/missing", "--offline", "--json", "--port", "0")
    assert ended.returncode == 5
    assert "offline" in ended.stderr
    assert json.loads(ended.stdout)["error"]["code"] == "offline"


def test_options_that_exclude_each_other_are_an_error(tmp_path: Path) -> None:
    ended = gpux(tmp_path, "serve", "--offline", "--allow-pull")
    assert ended.returncode == 2
    assert "Remove one" in ended.stderr


# Running servers


def test_ps_shows_each_loaded_model(own: Running) -> None:
    (found,) = json.loads(process(own.home, "ps", "--json").stdout)
    assert found["url"] == own.url
    (model,) = found["models"]
    assert (model["name"], model["state"], model["task"]) == (WRITER, "loaded", "text-generation")
    line = gpux(own.home, "ps").stdout.rstrip("\n").split("\t")
    assert line[:6] == [own.url, WRITER, "loaded", "text-generation", "fp32", "cpu"]


def test_load_and_unload_change_what_is_loaded(own: Running) -> None:
    assert "loaded" in process(own.home, "load", "tests/embedder", "--pin").stderr
    pinned = {one["name"]: one["pinned"] for one in own.get("/gpux/v1/loaded").json()["models"]}
    assert pinned["tests/embedder"]
    assert "unloaded" in process(own.home, "unload", "tests/embedder").stderr
    missing = gpux(own.home, "load", "tests/missing", "--json")
    assert missing.returncode == 3
    assert json.loads(missing.stdout)["error"]["code"] == "model_not_found"


def test_without_a_server_the_error_names_the_command_that_starts_one(tmp_path: Path) -> None:
    ended = gpux(tmp_path, "ps")
    assert ended.returncode == 10
    assert "no server is running" in ended.stderr
    assert "gpux serve" in ended.stderr
    assert "no server answers" in gpux(tmp_path, "ps", "--url", "http://127.0.0.1:9").stderr


def test_the_record_of_a_killed_server_is_removed(filled_home: Path, tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        file = tmp_path / "servers" / f"{running.process.pid}.json"
        assert json.loads(file.read_text())["url"] == running.url
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    assert file.exists()
    assert gpux(tmp_path, "ps").returncode == 10
    assert not file.exists()


def test_of_several_servers_one_has_to_be_named(tmp_path: Path) -> None:
    with serving(tmp_path) as first, serving(tmp_path) as second:
        ended = gpux(tmp_path, "stop")
        assert ended.returncode == 2
        assert first.url in ended.stderr
        assert second.url in ended.stderr
        assert "has stopped" in gpux(tmp_path, "stop", second.url).stderr
        assert second.process.wait() == 0
        assert first.url in process(tmp_path, "stop", "--all").stderr
        assert first.process.wait() == 0


def test_unload_needs_a_model_or_all() -> None:
    from gpux.cli.servers import unload_command

    ended = CliRunner().invoke(unload_command, [])
    assert "either a model or --all" in str(ended.exception)


def test_a_server_with_keys_is_managed_with_the_key_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = create_key(file, "ops", scopes=["read", "manage"])[0]
    with serving(tmp_path, ["--api-key-file", str(file)]) as running:
        refused = gpux(tmp_path, "ps")
        assert refused.returncode == 10
        assert "Set GPUX_API_KEY" in refused.stderr
        assert f"curl {running.url}/v1/models -H 'Authorization: Bearer KEY'" in running.log.read_text()
        assert "GPUX_API_KEY=KEY gpux ps" in running.log.read_text()
        assert gpux(tmp_path, "ps", GPUX_API_KEY=key).returncode == 0
        assert "has stopped" in gpux(tmp_path, "stop", GPUX_API_KEY=key).stderr
        assert running.process.wait() == 0


def test_a_server_that_needs_a_key_does_not_hide_the_others(filled_home: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    create_key(file, "ops", scopes=["read"])
    with serving(filled_home, [WRITER]) as first, serving(filled_home, ["--api-key-file", str(file)]) as second:
        listed = gpux(filled_home, "ps")
        assert listed.returncode == 10
        assert listed.stdout.startswith(f"{first.url}\t{WRITER}\t")
        assert f"{second.url}: this server needs a key" in listed.stderr
        by_url = {one["url"]: one for one in json.loads(gpux(filled_home, "ps", "--json").stdout)}
        assert by_url[first.url]["models"][0]["name"] == WRITER
        assert by_url[second.url]["error"]["code"] == "unauthorized"
        stopped = gpux(filled_home, "stop", "--all")
        assert stopped.returncode == 10
        assert f"{first.url} has stopped" in stopped.stderr
        assert f"{second.url}: this server needs a key" in stopped.stderr
        assert first.process.wait() == 0
