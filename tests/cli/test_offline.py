"""Offline: no command sends a request, and what is not the Hub's word of this moment says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpux import HuggingFaceManager, Settings, pull_model
from gpux.cli import figures
from gpux.cli.main import run
from gpux.managers.info_cache import DatedInfo, InfoCache
from tests.hub import HubServer

pytestmark = pytest.mark.hub

Captured = pytest.CaptureFixture[str]

OFFLINE = 5  # the exit code of OfflineError
STORED, UNKNOWN = "tiny/embed", "tiny/fill"
#: command -> exit code; each is run with --offline and with HF_HUB_OFFLINE=1
COMMANDS: list[tuple[list[str], int]] = [
    (["pull", STORED], 0),
    (["pull", STORED, "--dry-run"], 0),
    (["pull", UNKNOWN], OFFLINE),
    (["pull", STORED, UNKNOWN], OFFLINE),
    (["convert", UNKNOWN], OFFLINE),
    (["run", STORED, "fox"], 0),
    (["run", UNKNOWN, "fox"], OFFLINE),
    (["info", STORED], 0),
    (["info", STORED, "--files"], 0),
    (["info", UNKNOWN], OFFLINE),
    (["info", "spaces/acme/demo"], OFFLINE),
    (["search", "tiny"], OFFLINE),
    (["revisions", STORED], OFFLINE),
    (["outdated"], 0),
    (["update"], OFFLINE),
    (["update", "--dry-run"], OFFLINE),
    (["check", STORED], OFFLINE),
    (["verify"], 0),
    (["verify", "--repair"], 0),
]
#: without the option; they obey the variable, or never ask anyone
BY_VARIABLE: list[tuple[list[str], int]] = [
    (["auth", "status"], 4),
    (["list"], 0),
    (["du"], 0),
    (["pin", STORED], 0),
    (["unpin", STORED], 0),
    (["prune", "--yes"], 0),
    (["rm", STORED, "--yes"], 0),
]


@pytest.fixture
def stored(hub: HubServer, home: Path, pulled: Callable[[str, Path], None]) -> Iterator[HubServer]:
    """A Hub from which one model was pulled; the test must not send further requests."""
    pulled(STORED, home)
    yield hub
    assert [request.path for request in hub.requests] == []


@pytest.mark.parametrize(
    ("args", "code"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_the_option_offline_makes_no_request(stored: HubServer, args: list[str], code: int, capsys: Captured) -> None:
    assert run([*args, "--offline"]) == code
    _check_shown(code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("args", "code"),
    COMMANDS + BY_VARIABLE,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_variable_offline_makes_no_request(
    stored: HubServer, args: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(args) == code
    _check_shown(code, *capsys.readouterr())


def _check_shown(code: int, shown: str, remarks: str) -> None:
    assert "Traceback" not in remarks
    if code == OFFLINE:
        assert "offline" in shown + remarks


@pytest.mark.parametrize(
    "args", [["pull", UNKNOWN], ["info", UNKNOWN], ["search", "x"], ["revisions", STORED]], ids=" ".join
)
def test_the_offline_error_has_a_hint(stored: HubServer, args: list[str], capsys: Captured) -> None:
    assert run([*args, "--offline", "--json"]) == OFFLINE
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "offline"
    assert "--offline" in error["hint"] and "HF_HUB_OFFLINE" in error["hint"]


def test_info_shows_its_age(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    info = HuggingFaceManager(settings).get_model_info(UNKNOWN)
    asked = (datetime.now(UTC) - timedelta(hours=3, minutes=1)).isoformat(timespec="seconds")
    InfoCache(settings.home / "info", settings.endpoint).write(UNKNOWN, None, DatedInfo(info, asked))
    hub.clear_requests()

    assert run(["info", UNKNOWN, "--offline"]) == 0
    shown, remarks = capsys.readouterr()
    assert shown.splitlines()[0] == f"as of\t3 hours ago ({asked})"
    assert remarks == "! offline; shown: the Hub's answer from 3 hours ago\n"
    assert run(["info", UNKNOWN, "--offline", "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["id"], document["retrieved"], document["why"]) == (UNKNOWN, asked, "offline")
    assert document["age"] >= 3 * 3600
    assert hub.requests == []

    assert run(["info", UNKNOWN]) == 0
    shown, remarks = capsys.readouterr()
    assert "as of" not in shown and remarks == ""


def test_info_of_a_hub_that_is_gone(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    HuggingFaceManager(settings).get_model_info(UNKNOWN)
    hub.stop()
    try:
        assert run(["info", UNKNOWN]) == 0
        shown, remarks = capsys.readouterr()
        assert shown.startswith("as of\tless than a minute ago (")
        assert remarks.startswith("! ") and "shown: the Hub's answer from less than a minute ago" in remarks
        assert run(["info", "tiny/classify"]) == OFFLINE
    finally:
        hub.start()


def test_info_of_files_that_another_tool_brought(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    manager = HuggingFaceManager(settings)
    manager.fetch(manager.get_model_info(UNKNOWN), ["config.json"])
    InfoCache(settings.home / "info", settings.endpoint).drop(UNKNOWN, None)

    assert run(["info", UNKNOWN, "--offline"]) == 0
    shown, remarks = capsys.readouterr()
    assert shown.startswith("as of\tfiles on this machine\n")
    assert "the model's files on this machine" in remarks


@pytest.mark.parametrize("offline", [False, True])
def test_a_pull_warns_when_it_uses_the_stored_commit(
    hub: HubServer, settings: Settings, offline: bool, capsys: Captured
) -> None:
    first = pull_model(STORED, settings=settings)
    for blob in settings.hf_cache.rglob("refs/*"):
        blob.unlink()  # so that the source cache cannot resolve the branch
    InfoCache(settings.home / "info", settings.endpoint).drop(STORED, None)
    hub.stop()
    try:
        assert run(["pull", STORED, *(["--offline"] if offline else [])]) == 0
    finally:
        hub.start()
    shown, remarks = capsys.readouterr()
    assert shown.startswith(f"{first.id}@{first.commit[:12]}")
    assert re.search(rf"! .*; using {STORED} at {first.commit[:12]} as it was stored", " ".join(remarks.split()))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "in the future by this machine's clock"),
        (0, "less than a minute ago"),
        (59.9, "less than a minute ago"),
        (60, "1 minute ago"),
        (3 * 3600 + 5, "3 hours ago"),
        (86400, "1 day ago"),
        (400 * 86400, "400 days ago"),
    ],
)
def test_ages_in_words(seconds: float, text: str) -> None:
    assert figures.ago(seconds) == text
