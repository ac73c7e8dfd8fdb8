"""The cache of model infos: round trip, bounds, damage, and when cached info is returned."""

from __future__ import annotations

import json
import os
import pickle
import stat
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpux import HuggingFaceManager, LocalManager, ModelFile, ModelInfo, Settings, errors, pull_model
from gpux.managers import info_cache
from gpux.managers.info_cache import DatedInfo, InfoCache, latest_info
from tests.hub import Fault, HubServer
from tests.models.bert import bert_repository

INFO = ModelInfo(
    "hf",
    "org/name",
    "org/name",
    "a" * 40,
    "main",
    (ModelFile("config.json", 3, "b" * 40), ModelFile("naïve.bin", None, sha256="c" * 64)),
    ("safetensors",),
    tags=("x", "y"),
    gated="auto",
    last_modified="2026-01-02T03:04:05+00:00",
)


def ago(**age: float) -> str:
    return (datetime.now(UTC) - timedelta(**age)).isoformat(timespec="seconds")


@pytest.fixture
def cache(tmp_path: Path) -> InfoCache:
    return InfoCache(tmp_path / "info", "http://hub")


def files_of(cache: InfoCache) -> list[Path]:
    return sorted(cache.path("x", None).parent.iterdir())


def test_a_cached_info_is_read_back_equal(cache: InfoCache) -> None:
    known = DatedInfo(INFO, ago(hours=3))

    cache.write("org/name", None, known)

    assert cache.read("org/name", None) == known
    assert cache.read("org/name", "main") == known  # the default branch
    assert pickle.loads(pickle.dumps(known)) == known
    assert cache.read("org/name", "v1") is None
    assert cache.read("org/other", None) is None
    assert InfoCache(files_of(cache)[0].parent, "http://mirror").read("org/name", None) is None


def test_the_requested_id_is_kept_beside_the_canonical_id(cache: InfoCache) -> None:
    cache.write("short", None, DatedInfo(INFO, ago()))

    found = cache.read("short", None)

    assert found is not None and (found.info.id, found.info.requested_id) == ("org/name", "short")


def test_ages() -> None:
    assert DatedInfo(INFO, None).age is None and not DatedInfo(INFO, None).is_within(1e9)
    old, future = DatedInfo(INFO, ago(hours=2)), DatedInfo(INFO, ago(hours=-2))
    assert old.is_within(3 * 3600) and not old.is_within(3600)
    assert future.age is not None and future.age < 0 and not future.is_within(1e9)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: text.replace("org/name", "org/game"),
        lambda text: text.replace('"schema": 2', '"schema": 3'),
        lambda text: text.replace('"retrieved"', '"received"'),
        lambda text: "\ud800",
    ],
    ids=["empty", "half", "list", "deep", "flipped", "newer", "renamed", "not-utf8"],
)
def test_a_damaged_file_counts_as_absent(cache: InfoCache, damage: object) -> None:
    cache.write("org/name", None, DatedInfo(INFO, ago()))
    (file,) = files_of(cache)
    file.write_bytes(damage(file.read_text()).encode("utf-8", "surrogatepass"))  # type: ignore[operator]

    assert cache.read("org/name", None) is None
    cache.write("org/name", None, DatedInfo(INFO, ago()))
    assert cache.read("org/name", None) is not None


def test_an_unsafe_file_name_is_not_read_back(cache: InfoCache) -> None:
    cache.write("org/name", None, DatedInfo(INFO, ago()))
    (file,) = files_of(cache)
    document = json.loads(file.read_text())
    document["answer"]["info"]["files"][0]["path"] = "../outside"
    document["sha256"] = info_cache._digest(document["answer"])
    file.write_text(json.dumps(document))

    assert cache.read("org/name", None) is None


def test_the_number_is_bounded_and_the_oldest_are_deleted(cache: InfoCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info_cache, "KEPT", 3)
    for number in range(5):
        cache.write(f"org/m{number}", None, DatedInfo(INFO, ago()))
        os.utime(cache.path(f"org/m{number}", None), (number + 1, number + 1))
    cache.write("org/m3", None, DatedInfo(INFO, ago()))  # written again
    cache.write("org/m5", None, DatedInfo(INFO, ago()))

    assert [number for number in range(6) if cache.read(f"org/m{number}", None)] == [3, 4, 5]
    assert len(files_of(cache)) == 3


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root and Windows write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    cache = InfoCache(tmp_path / "info", "http://hub")
    cache.write("org/name", None, DatedInfo(INFO, ago()))
    assert cache.read("org/name", None) is None


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "info").write_text("in the way")
    cache = InfoCache(tmp_path / "info", "http://hub")
    cache.write("org/name", None, DatedInfo(INFO, ago()))
    cache.drop("org/name", None)
    assert cache.read("org/name", None) is None


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_the_file_of_a_private_model_is_readable_by_its_owner_only(cache: InfoCache) -> None:
    for id, private in (("org/private", True), ("org/public", False)):
        cache.write(id, None, DatedInfo(replace(INFO, private=private), ago()))
    before = os.umask(0o022)
    os.umask(before)

    assert stat.S_IMODE(cache.path("org/private", None).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.path("org/public", None).stat().st_mode) == 0o666 & ~before
    cache.write("org/public", None, DatedInfo(replace(INFO, private=True), ago()))  # it became private
    assert stat.S_IMODE(cache.path("org/public", None).stat().st_mode) == 0o600


# Through the manager


def kept(settings: Settings) -> InfoCache:
    return InfoCache(settings.home / "info", settings.endpoint)


@pytest.mark.hub
def test_the_cache_contains_no_token(hub: HubServer, settings: Settings) -> None:
    manager = HuggingFaceManager(settings, token="hf_good")

    info = manager.get_model_info("acme/private")

    known = manager.cached_model_info("acme/private")
    assert known is not None and known.info == info and known.age is not None and known.why is None
    (file,) = files_of(kept(settings))
    assert "hf_good" not in file.read_text()
    assert sys.platform == "win32" or stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(hub.requests) == 1


@pytest.mark.hub
def test_cached_info_is_returned_only_with_max_age(
    hub: HubServer, settings: Settings, manager: HuggingFaceManager
) -> None:
    first = manager.get_model_info("tiny/embed")
    assert manager.get_model_info("tiny/embed", max_age=3600) == first
    assert len(hub.requests) == 1
    assert manager.get_model_info("tiny/embed") == first
    assert len(hub.requests) == 2

    kept(settings).write("tiny/embed", None, DatedInfo(first, ago(hours=2)))
    assert manager.get_model_info("tiny/embed", max_age=3600) == first
    assert len(hub.requests) == 3
    assert manager.get_model_info("tiny/fill", max_age=3600).id == "tiny/fill"
    assert len(hub.requests) == 4


@pytest.mark.usefixtures("impatient")
@pytest.mark.hub
@pytest.mark.parametrize(
    "fault",
    [Fault("status", status=503, times=None), Fault("status", status=429, times=None), Fault("drop", times=None)],
)
def test_cached_info_replaces_a_failing_hub(hub: HubServer, settings: Settings, fault: Fault) -> None:
    manager = HuggingFaceManager(settings)
    first = manager.latest_model_info("tiny/embed")
    assert first.why is None
    kept(settings).write("tiny/embed", None, DatedInfo(first.info, ago(hours=3)))
    hub.add_fault(fault)

    again = manager.latest_model_info("tiny/embed")

    assert again.info == first.info and again.why
    assert again.age is not None and again.age >= 3 * 3600
    with pytest.raises(errors.UnavailableError):
        manager.latest_model_info("tiny/fill")  # not in the cache
    with pytest.raises(errors.UnavailableError):
        manager.get_model_info("tiny/embed")  # never silently


@pytest.mark.hub
def test_offline_cached_info_or_the_files_in_the_source_cache(hub: HubServer, settings: Settings) -> None:
    pull_model("tiny/embed", settings=settings)
    hub.clear_requests()
    offline = HuggingFaceManager(settings, offline=True)

    known = offline.latest_model_info("tiny/embed")
    assert known.why == "offline" and known.age is not None and known.info.task == "sentence-similarity"

    kept(settings).drop("tiny/embed", None)
    bare = offline.latest_model_info("tiny/embed")
    assert bare.why == "offline" and bare.age is None and bare.info.commit == known.info.commit
    with pytest.raises(errors.OfflineError):
        offline.latest_model_info("tiny/fill")
    assert hub.requests == []


@pytest.mark.hub
def test_a_short_id_is_cached_under_its_canonical_id_too(hub: HubServer, settings: Settings) -> None:
    HuggingFaceManager(settings).get_model_info("gpt2")
    offline = HuggingFaceManager(settings, offline=True)

    short, full = (offline.latest_model_info(name).info for name in ("gpt2", "openai-community/gpt2"))

    assert short.requested_id == "gpt2" and full.requested_id == full.id == short.id == "openai-community/gpt2"


@pytest.mark.hub
def test_the_info_of_a_removed_model_is_deleted(hub: HubServer, settings: Settings) -> None:
    HuggingFaceManager(settings, token="hf_good").get_model_info("acme/private")
    manager = HuggingFaceManager(settings)
    assert manager.cached_model_info("acme/private") is not None

    with pytest.raises(errors.ModelNotFoundError):
        manager.latest_model_info("acme/private")

    assert manager.cached_model_info("acme/private") is None


@pytest.mark.usefixtures("impatient")
@pytest.mark.hub
def test_the_cache_is_separate_for_each_endpoint(hub: HubServer, settings: Settings) -> None:
    HuggingFaceManager(settings).get_model_info("tiny/embed")
    other = HuggingFaceManager(settings, endpoint="http://127.0.0.1:9")

    assert other.cached_model_info("tiny/embed") is None
    assert other.cached_model_info(f"{hub.url}/tiny/embed") is None


@pytest.mark.hub
def test_a_pull_by_branch_ignores_cached_info(hub: HubServer, settings: Settings) -> None:
    manager = HuggingFaceManager(settings)
    manager.get_model_info("tiny/moved")
    hub.move_branch("tiny/moved", "main", "next")
    try:
        model = manager.pull_model("tiny/moved")
        assert model.commit == hub.commit("tiny/moved")
    finally:
        hub.move_branch("tiny/moved", "main", "main")


@pytest.mark.hub
def test_a_home_that_cannot_be_written_is_not_an_error(settings: Settings) -> None:
    settings.home.parent.mkdir(parents=True, exist_ok=True)
    settings.home.write_text("in the way")

    assert HuggingFaceManager(settings).get_model_info("tiny/embed").id == "tiny/embed"


def test_latest_info_of_a_manager_without_a_cache(tmp_path: Path) -> None:
    folder = bert_repository(tmp_path / "mine", "fill-mask", onnx=True)

    known = latest_info(LocalManager(), folder)

    assert known.info.id == str(folder) and known.why is None
