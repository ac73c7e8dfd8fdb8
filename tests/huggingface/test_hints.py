"""The hints of refusals by the Hub, followed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpux import HuggingFaceManager, Settings, errors, pull_model
from gpux.cli.main import run
from tests.hub import HubServer

pytestmark = [pytest.mark.hub, pytest.mark.usefixtures("hub", "impatient")]
Captured = pytest.CaptureFixture[str]
MODEL = "tiny/embed"


def commands(hint: str | None) -> list[list[str]]:
    """The commands in a hint, without ``gpux``."""
    return [found.split()[1:] for found in re.findall(r"`(gpux [^`]*)`", hint or "")]


def hint_of(capsys: Captured, command: list[str], code: int) -> str:
    capsys.readouterr()
    assert run(command) == code
    remarks = capsys.readouterr().err
    return remarks[remarks.index("→") :]


def test_a_revision_that_does_not_exist(capsys: Captured) -> None:
    (listing,) = commands(hint_of(capsys, ["info", f"{MODEL}@nope"], 3))

    assert run(listing) == 0
    assert "v1\ttag" in capsys.readouterr().out
    assert run(["info", f"{MODEL}@v1"]) == 0


def test_a_file_that_does_not_exist(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    manager = HuggingFaceManager(settings)
    info = manager.get_model_info(f"{MODEL}@v1")

    with pytest.raises(errors.EntryNotFoundError) as caught:
        manager.fetch(info, ["nope.json"])

    (listing,) = commands(caught.value.hint)
    assert listing == ["info", f"{MODEL}@{info.commit}", "--files"]
    assert run(listing) == 0
    assert "config.json" in capsys.readouterr().out


def test_a_token_that_the_hub_refuses(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert ["auth", "status"] in commands(hint_of(capsys, ["info", MODEL], 4))

    hint = hint_of(capsys, ["auth", "status"], 4)
    assert "Unset HF_TOKEN" in hint
    monkeypatch.delenv("HF_TOKEN")
    assert run(["info", MODEL]) == 0


def test_a_token_file_that_is_malformed(settings: Settings, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.token_path.parent.mkdir(parents=True, exist_ok=True)
    settings.token_path.write_text("hf_good, the token of Ada\n")

    named = commands(hint_of(capsys, ["info", MODEL], 4))

    assert named == [["auth", "status"], ["auth", "login"]]
    assert run(["auth", "status"]) == 4
    shown = capsys.readouterr().err
    assert str(settings.token_path) in shown
    assert "hf_good" not in shown
    HuggingFaceManager(settings)  # other commands run
    assert run(["list"]) == 0
    from gpux.huggingface.auth import login

    login("hf_good", Settings.from_env())
    assert run(["info", "acme/private"]) == 0


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", None])
@pytest.mark.parametrize(
    "command", [["search", "tiny"], ["revisions", MODEL], ["info", MODEL], ["pull", MODEL]], ids=str
)
def test_offline(capsys: Captured, monkeypatch: pytest.MonkeyPatch, variable: str | None, command: list[str]) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, "1")

    hint = hint_of(capsys, command if variable else [*command, "--offline"], 5)

    assert (variable or "--offline") in hint
    if variable is not None:
        monkeypatch.delenv(variable)
    for named in commands(hint):
        assert run(named) == 0
    assert run(command) == 0


def test_no_network(settings: Settings, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    pull_model(MODEL, settings=settings)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(errors.NetworkError) as caught:
        HuggingFaceManager().get_model_info(MODEL)

    assert "`--offline` uses what is on this machine" in str(caught.value.hint)
    for command in ("info", "pull"):
        assert run([command, MODEL, "--offline"]) == 0


def test_a_url_of_another_hub(hub: HubServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{hub.url}/{MODEL}"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    hint = hint_of(capsys, ["info", url], 2)

    setting = re.search(r"HF_ENDPOINT=(\S+)", hint)
    assert setting
    monkeypatch.setenv("HF_ENDPOINT", setting[1])
    assert run(["info", url]) == 0


@pytest.mark.parametrize(
    "command",
    [["search", "--min-size", "many"], ["search", "--min-size", "7X"], ["search", "--max-size", ""]],
    ids=str,
)
def test_a_number_of_parameters(capsys: Captured, command: list[str]) -> None:
    hint = hint_of(capsys, command, 2)

    for count in re.findall(r"\d\w*", hint):
        assert run([*command[:-1], count]) == 0


def test_a_source_cache_that_is_removed_elsewhere(settings: Settings, tmp_path: Path, capsys: Captured) -> None:
    pull_model(MODEL, settings=settings)
    from tests.read_only import read_only

    with read_only(settings.hf_cache):
        hint = hint_of(capsys, ["rm", MODEL, "--source", "--yes"], 6)
        assert "Make it writable" in hint
    assert run(["rm", MODEL, "--source", "--yes"]) in (0, 3)
