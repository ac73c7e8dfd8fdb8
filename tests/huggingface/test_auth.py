"""Login and logout: tokens are validated, stored as huggingface_hub stores them, and never shown."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpux import HuggingFaceManager, Settings, errors
from gpux.huggingface import auth as tokens
from gpux.huggingface.auth import Account, account_from
from gpux.system.keystore import key_store_mark
from gpux.system.settings import token_sources
from tests.hub import Fault, HubServer
from tests.hub.wire import PATIENCE

ADA = Account("ada", ("acme",), "user", "read", "token")


def _settings(**overrides: object) -> Settings:
    return Settings.from_env(timeout=PATIENCE, **overrides)


@pytest.mark.parametrize("token", ["hf_abc", " hf_abc\n", "\thf_abc\r\n"])
def test_white_space_around_a_token_is_removed(token: str) -> None:
    assert tokens.check_token(token) == "hf_abc"


@pytest.mark.parametrize("token", ["", " \n", "hf_a hf_b", "hf_a\nhf_b", "hf_ä", "hf_\x00"])
def test_a_malformed_token_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(errors.InvalidTokenError) as caught:
        tokens.check_token(token)
    assert "hf_" not in f"{caught.value!r} {caught.value.hint} {caught.value.details}"


@pytest.mark.parametrize(
    ("found", "account"),
    [
        ({"name": "ada"}, Account("ada")),
        ({"name": "ada", "auth": {"type": "oauth"}, "orgs": []}, Account("ada")),
        (
            {"type": "org", "name": "acme", "auth": {"accessToken": {"role": "fineGrained", "displayName": "ci"}}},
            Account("acme", (), "org", "fineGrained", "ci"),
        ),
    ],
    ids=["bare", "oauth", "fine-grained"],
)
def test_accounts(found: dict[str, object], account: Account) -> None:
    assert account_from(found) == account


@pytest.mark.parametrize("found", [{}, {"name": ""}, [], None])
def test_a_response_without_an_account_is_an_error(found: object) -> None:
    with pytest.raises(errors.HubServerError):
        account_from(found)  # type: ignore[arg-type]


@pytest.mark.hub
def test_whoami(hub: HubServer, settings: Settings) -> None:
    assert HuggingFaceManager(settings, token="hf_good").whoami() == ADA
    assert [request.path for request in hub.requests] == ["/api/whoami-v2"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.hub
@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        ({}, errors.AccessError),
        ({"token": "hf_bad"}, errors.InvalidTokenError),
        ({"token": "hf_a\nhf_b"}, errors.InvalidTokenError),
        ({"token": "hf_good", "offline": True}, errors.OfflineError),
        ({"token": "hf_good", "endpoint": "http://127.0.0.1:9"}, errors.NetworkError),
    ],
    ids=["none", "refused", "impossible", "offline", "no network"],
)
def test_whoami_refused(settings: Settings, overrides: dict[str, object], kind: type[errors.GpuxError]) -> None:
    with pytest.raises(errors.GpuxError) as caught:
        HuggingFaceManager(settings, **overrides).whoami()
    assert type(caught.value) is kind


@pytest.mark.hub
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("status", status=401, times=None), errors.InvalidTokenError),
        (Fault("status", status=404, times=None), errors.HubServerError),
        (Fault("status", status=503, times=None), errors.HubServerError),
        (Fault("status", status=429, times=None), errors.RateLimitError),
        (Fault("status", status=200, body=b"<html>", times=None), errors.HubServerError),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_whoami_with_a_faulty_hub(
    hub: HubServer, settings: Settings, fault: Fault, kind: type[errors.GpuxError]
) -> None:
    hub.add_fault(fault)
    with pytest.raises(kind) as caught:
        HuggingFaceManager(settings, token="hf_good").whoami()
    assert type(caught.value) is kind


@pytest.mark.hub
def test_a_token_that_is_invalid_in_a_header_is_not_quoted(settings: Settings) -> None:
    """The HTTP libraries quote an invalid header in their message."""
    for call in ("get_model_info", "list_revisions"):
        with pytest.raises(errors.InvalidTokenError) as caught:
            getattr(HuggingFaceManager(settings, token="hf_se\ncret"), call)("tiny/embed")
        assert "cret" not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"


@pytest.mark.hub
def test_login_writes_the_bare_token_readable_by_its_owner_only(settings: Settings) -> None:
    old = os.umask(0)  # the mode must not depend on it
    try:
        done = tokens.login(" hf_good\n", settings)
    finally:
        os.umask(old)

    path = settings.token_path
    assert path.read_bytes() == b"hf_good"
    assert (done.source, done.place, done.account) == ("file", str(path), ADA)
    assert "hf_good" not in f"{done!r} {done.to_dict()}"
    assert _settings().token == "hf_good"
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]  # no temporary file, no stored_tokens
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.hub
def test_huggingface_hub_reads_the_login(hub: HubServer, settings: Settings) -> None:
    tokens.login("hf_good", settings)
    program = "import huggingface_hub as h; print(h.get_token(), h.whoami()['name'])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "hf_good ada\n", result.stderr


@pytest.mark.hub
def test_a_login_of_huggingface_hub_is_read(hub: HubServer, settings: Settings) -> None:
    program = "import huggingface_hub as h; h.login('hf_good')"
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    stored = settings.token_path.with_name("stored_tokens")
    before = stored.read_bytes()

    assert tokens.status(_settings()).account == ADA
    tokens.login("hf_other", settings)
    done = tokens.logout(settings)

    assert done.other_tokens == str(stored)
    assert stored.read_bytes() == before  # it may contain OAuth refresh tokens
    assert _settings().token is None


@pytest.mark.hub
@pytest.mark.parametrize("token", ["hf_bad", "", "hf_a hf_b"])
def test_a_refused_token_does_not_replace_the_old_one(settings: Settings, token: str) -> None:
    tokens.login("hf_good", settings)
    with pytest.raises(errors.InvalidTokenError) as caught:
        tokens.login(token, settings)
    assert settings.token_path.read_text() == "hf_good"
    assert "hf_bad" not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.hub
def test_a_symlink_to_a_token_file_stays_a_symlink(settings: Settings, tmp_path: Path) -> None:
    settings.token_path.parent.mkdir()
    settings.token_path.symlink_to(tmp_path / "shared")
    tokens.login("hf_good", settings)
    assert settings.token_path.is_symlink()
    assert (tmp_path / "shared").read_text() == "hf_good"


@pytest.mark.hub
def test_a_token_file_that_cannot_be_written(settings: Settings, home: Path) -> None:
    settings.token_path.mkdir(parents=True)  # a folder in place of the file
    with pytest.raises(errors.NotWritableError, match="token"):
        tokens.login("hf_good", settings)
    assert list(settings.token_path.parent.iterdir()) == [settings.token_path]

    (home / "file").touch()  # a file in place of the folder
    blocked = Settings.from_env({**os.environ, "HF_HOME": str(home / "file")})
    with pytest.raises(errors.NotWritableError, match="file"):
        tokens.login("hf_good", blocked)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may enter every folder")
def test_a_home_that_may_not_be_entered(home: Path) -> None:
    (home / "hf").mkdir(mode=0)
    assert _settings().token is None
    with pytest.raises(errors.NotWritableError):
        tokens.logout(_settings())
    (home / "hf").chmod(0o700)


def test_logout_without_a_token(home: Path) -> None:
    assert tokens.logout(_settings()) == tokens.Logout(())
    (home / "hf" / "token").mkdir(parents=True)
    assert tokens.logout(_settings()) == tokens.Logout(())


@pytest.mark.hub
def test_readers_never_read_a_partial_token(settings: Settings) -> None:
    tokens.login("hf_good", settings)
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(settings.token_path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(10):
        tokens.login("hf_other" if number % 2 else "hf_good", settings)
    stop.set()
    reader.join()
    assert seen <= {"hf_good", "hf_other"}


@pytest.mark.hub
def test_status_shows_the_source_of_the_token(hub: HubServer, settings: Settings) -> None:
    tokens.login("hf_good", settings)
    hub.clear_requests()
    found = tokens.status(_settings())
    assert (found.source, found.place, found.account, found.unused) == ("file", str(settings.token_path), ADA, ())
    assert len(hub.requests) == 1
    given = tokens.status(_settings(token="hf_other"))
    assert (given.source, given.account, given.unused) == (
        "argument",
        Account("bob", (), "user", "read", "token"),
        (str(settings.token_path),),
    )


@pytest.mark.hub
def test_the_environment_takes_precedence_over_the_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_other")
    assert tokens.login("hf_good", settings).overridden_by == "HUGGING_FACE_HUB_TOKEN"
    found = tokens.status(_settings())
    assert (found.source, found.place, found.account and found.account.name) == (
        "environment",
        "HUGGING_FACE_HUB_TOKEN",
        "bob",
    )
    done = tokens.logout(settings)
    assert (done.removed, done.still_set) == ((str(settings.token_path),), "HUGGING_FACE_HUB_TOKEN")
    assert tokens.logout(settings).removed == ()


@pytest.mark.hub
def test_the_error_of_a_refused_token_names_its_source(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(errors.InvalidTokenError, match="HF_TOKEN") as caught:
        tokens.status(_settings())
    assert "Unset HF_TOKEN" in (caught.value.hint or "")
    assert "hf_bad" not in f"{caught.value!r} {caught.value.to_dict()}"


@pytest.mark.hub
def test_status_without_a_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.AccessError, match="not logged in"):
        tokens.status(_settings())
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    with pytest.raises(errors.AccessError, match="not used"):
        tokens.status(_settings())
    assert hub.requests == []


@pytest.mark.hub
def test_offline_status_sends_no_request(hub: HubServer, settings: Settings) -> None:
    tokens.login("hf_good", settings)
    hub.clear_requests()
    found = tokens.status(_settings(offline=True))
    assert (found.source, found.account, hub.requests) == ("file", None, [])


def test_the_key_store_is_not_read_without_its_marker(home: Path) -> None:
    program = "import sys; from gpux import Settings; Settings.from_env(); print('keyring' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_a_missing_key_store_is_an_error_of_status_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``pip uninstall keyring``."""
    settings = _settings()
    settings.token_path.parent.mkdir()
    key_store_mark(settings.token_path).touch()
    monkeypatch.setitem(sys.modules, "keyring", None)

    assert _settings().token is None
    with pytest.raises(errors.StorageError, match="not installed"):
        tokens.status(_settings())
    with pytest.raises(errors.StorageError, match="not installed"):
        tokens.logout(settings)
    settings.token_path.write_text("hf_good")
    assert [source.kind for source in _first(settings)] == ["file"]
    assert tokens.status(_settings(offline=True)).source == "file"


def _first(settings: Settings) -> list[tokens.TokenSource]:
    return [next(token_sources(settings.token_path))]
