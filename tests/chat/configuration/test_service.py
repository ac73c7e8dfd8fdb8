"""The service that reads, follows and writes the configuration, on real files."""

from __future__ import annotations

import asyncio
import logging
import stat
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpux.chat.configuration import ModelConfigurationService
from gpux.chat.configuration.versions import KEPT
from gpux.chat.values import ChatConfiguration, ChatOptions, ModelConfig, ProviderConfig
from gpux.errors import ConfigurationError, NotWritableError, ProviderNotFoundError, UsageError
from gpux.system.settings import Settings
from tests.read_only import read_only
from tests.waiting import until

GOOD = "retry_attempts = 1  # once\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf" / "chat.toml"


@pytest.fixture
def made(file: Path, home: Path) -> Callable[..., ModelConfigurationService]:
    file.parent.mkdir()

    def make(text: str | None = GOOD, **environ: str) -> ModelConfigurationService:
        if text is not None:
            file.write_text(text, encoding="utf-8")
        return ModelConfigurationService(Settings.from_env(), file, environ)

    return make


Made = Callable[..., ModelConfigurationService]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


# Where the file is


def test_the_default_file_may_be_missing(home: Path) -> None:
    service = ModelConfigurationService(Settings.from_env(), environ={})
    assert service.path == home / "gpux" / "chat.toml"
    assert not service.configured
    run(service.load_configurations())
    assert service.state == "ok"
    assert ModelConfigurationService(Settings.from_env(), environ={"GPUX_RETRY_ATTEMPTS": "1"}).configured
    service.path.parent.mkdir()
    service.path.write_text("")
    assert service.configured


def test_a_file_that_is_named_must_exist(made: Made, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = made(None)
    assert service.configured
    with pytest.raises(ConfigurationError, match="the file does not exist"):
        run(service.load_configurations())
    monkeypatch.setenv("GPUX_CONFIG", "~/mine.toml")
    service = ModelConfigurationService(Settings.from_env())
    assert service.path == home / "mine.toml"
    with pytest.raises(ConfigurationError, match="the file does not exist"):
        service.current  # noqa: B018 - the access is the test


def test_a_folder_in_place_of_the_file(made: Made, file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        run(made(None).load_configurations())


def test_the_process_environment_is_the_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRY_ATTEMPTS", "9")
    assert ModelConfigurationService(Settings.from_env()).current.retry_attempts == 9


# What is in force


def test_models_and_providers(made: Made) -> None:
    service = made('[models."hf:a/b"]\ntimeout_ms = 5\n')
    assert service.get_model_config("hf:a/b").timeout_ms == 5
    assert service.get_model_config("hf:new").timeout_ms == 300_000
    assert service.get_provider_config("ollama").priority == 100
    with pytest.raises(ProviderNotFoundError, match="no provider 'openai'"):
        service.get_provider_config("openai")


def test_the_source_cache_of_a_model(made: Made, file: Path) -> None:
    service = made('cache_directory = "all"\n[models."hf:org/one"]\ncache_directory = "/one"\n')
    assert service.cache_of("org/one") == Path("/one")
    assert service.cache_of("org/two:int8") == file.parent / "all"
    assert made("").cache_of("org/one") is None


def test_validation_reads_the_file_and_changes_nothing(made: Made, file: Path) -> None:
    service = made()
    run(service.load_configurations())
    file.write_text("x = 1\ny = 2\n")
    found = run(service.validate_configuration())
    assert not found.valid
    assert found.errors == (f"{file}:1: x: unknown key", f"{file}:2: y: unknown key")
    assert service.state == "ok"
    assert service.current.retry_attempts == 1
    file.write_text("[model_defaults]\ndevice = 'cpu'\nprecision = 'float16'\n")
    found = run(service.validate_configuration())
    assert found.valid
    assert len(found.warnings) == 1


def test_a_broken_file_keeps_the_old_configuration_and_is_logged_once(
    made: Made, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = made()

    async def use() -> None:
        await service.load_configurations()
        file.write_text("retry_attempts = 2\nretry_delay_ms = 'x'\n")
        for _ in range(3):
            with pytest.raises(ConfigurationError, match="retry_delay_ms"):
                await service.reload_configurations()
        assert (service.state, service.current.retry_attempts) == ("degraded", 1)
        assert service.error is not None
        assert service.error.details["line"] == 2
        file.write_text("retry_attempts = 2\n")
        await service.reload_configurations()
        assert service.current.retry_attempts == 2

    with caplog.at_level(logging.ERROR):
        run(use())
    (record,) = caplog.records
    assert f"{file}:2: retry_delay_ms: it is a text" in record.getMessage()


def test_a_start_with_a_broken_file_uses_the_last_one_that_was_in_force(made: Made, file: Path) -> None:
    run(made().load_configurations())
    service = made("retry_attempts = ")
    run(service.load_configurations())
    assert (service.state, service.current.retry_attempts) == ("degraded", 1)
    with pytest.raises(ConfigurationError):
        run(made("retry_attempts = ", RETRY_DELAY_MS="x").load_configurations())


def test_a_start_with_a_broken_file_and_no_version_is_refused(made: Made) -> None:
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        run(made("retry_attempts = ").load_configurations())


def test_a_folder_that_cannot_be_written_keeps_no_versions(
    made: Made, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = made()
    file.with_name("chat.toml.versions").write_text("a file in its place")
    run(service.load_configurations())
    assert service.current.retry_attempts == 1
    assert service.versions() == []
    assert "cannot be kept for a rollback" in caplog.text


# Writing


def test_comments_and_order_are_kept(made: Made, file: Path) -> None:
    text = "# mine\nretry_attempts = 1 # once\n\n[providers.ollama] # here\n  timeout_ms = 5  # short\npriority = 1\n"
    service = made(text)
    config = msgspec.structs.replace(service.get_provider_config("ollama"), timeout_ms=7)
    run(service.update_provider_config("ollama", config))
    assert file.read_text() == text.replace("timeout_ms = 5", "timeout_ms = 7")
    assert service.get_provider_config("ollama") == config
    assert made(None).get_provider_config("ollama") == config


def test_a_model_is_added_changed_and_its_keys_removed(made: Made, file: Path) -> None:
    service = made()
    config = ModelConfig(
        model_name="hf:org/name",
        provider="huggingface",
        precision="int8",
        max_memory=2 << 30,
        retry_attempts=1,
        options=ChatOptions(temperature=0.5, stop=("a", 'b"')),
        fallback_models=("ollama:small",),
    )
    run(service.update_model_config("hf:org/name", config))
    assert made(None).get_model_config("hf:org/name") == config
    written = file.read_text()
    assert written.startswith(GOOD)
    assert "retry_attempts" not in written.removeprefix(GOOD), "only what differs from the defaults is written"
    plain = ModelConfig(model_name="hf:org/name", provider="huggingface", retry_attempts=1)
    run(service.update_model_config("hf:org/name", plain))
    assert service.get_model_config("hf:org/name") == plain
    assert "precision" not in file.read_text()


def test_the_file_is_created(home: Path) -> None:
    service = ModelConfigurationService(Settings.from_env(), environ={})
    config = ProviderConfig(name="vllm", type="openai", prefix="vllm:", base_url="http://127.0.0.1:8000/v1")
    run(service.update_provider_config("vllm", config))
    assert stat.S_IMODE(service.path.stat().st_mode) == 0o600
    assert service.path.read_text().startswith("# Configuration")
    assert ModelConfigurationService(Settings.from_env(), environ={}).get_provider_config("vllm") == config


def test_nothing_is_written_where_the_result_is_invalid_or_would_not_be_in_force(made: Made, file: Path) -> None:
    service = made(GOOD, HUGGINGFACE_ENABLED="false")
    run(service.load_configurations())
    on = msgspec.structs.replace(service.get_provider_config("huggingface"), enabled=True)
    with pytest.raises(ConfigurationError, match="it is set by HUGGINGFACE_ENABLED"):
        run(service.update_provider_config("huggingface", on))
    wrong = msgspec.structs.replace(service.get_provider_config("ollama"), base_url="ftp://x")
    with pytest.raises(ConfigurationError, match="not an http or https URL"):
        run(service.update_provider_config("ollama", wrong))
    with pytest.raises(UsageError, match="not of openai"):
        run(service.update_provider_config("openai", wrong))
    with pytest.raises(UsageError, match="prefix of a provider"):
        run(service.update_model_config("llama", ModelConfig(model_name="llama", provider="ollama")))
    with pytest.raises(UsageError, match="not of hf:x"):
        run(service.update_model_config("hf:x", ModelConfig(model_name="hf:x", provider="ollama")))
    assert file.read_text() == GOOD
    assert len(service.versions()) == 1


def test_a_default_cannot_be_unset_for_one_model(made: Made, file: Path) -> None:
    text = "[model_defaults]\nmax_memory = '1GB'\n"
    service = made(text)
    with pytest.raises(ConfigurationError, match=r"it is set by .*chat\.toml:2"):
        run(service.update_model_config("hf:a", ModelConfig(model_name="hf:a", provider="huggingface")))
    assert file.read_text() == text


def test_a_broken_file_is_not_changed(made: Made, file: Path) -> None:
    service = made()
    run(service.load_configurations())
    file.write_text("oops = ")
    config = msgspec.structs.replace(service.get_provider_config("ollama"), timeout_ms=7)
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        run(service.update_provider_config("ollama", config))
    assert file.read_text() == "oops = "


def test_a_link_is_followed_and_permissions_are_kept(made: Made, file: Path, tmp_path: Path) -> None:
    target = tmp_path / "real.toml"
    target.write_text(GOOD)
    target.chmod(0o644)
    service = made(None)
    file.symlink_to(target)
    config = msgspec.structs.replace(service.get_provider_config("ollama"), timeout_ms=7)
    run(service.update_provider_config("ollama", config))
    assert file.is_symlink()
    assert "timeout_ms = 7" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) & 0o044


def test_a_folder_without_permission(made: Made, file: Path) -> None:
    service = made()
    config = msgspec.structs.replace(service.get_provider_config("ollama"), timeout_ms=7)
    with read_only(file.parent), pytest.raises(NotWritableError, match="cannot write"):
        run(service.update_provider_config("ollama", config))


def test_concurrent_updates_lose_nothing(made: Made, file: Path) -> None:
    service = made()

    async def use() -> None:
        await service.load_configurations()

        async def add(number: int) -> None:
            name = f"hf:org/m{number}"
            config = ModelConfig(model_name=name, provider="huggingface", timeout_ms=number + 1, retry_attempts=1)
            other = ModelConfigurationService(Settings.from_env(), file, {})
            await (service if number % 2 else other).update_model_config(name, config)

        await asyncio.gather(*(add(number) for number in range(12)))

    run(use())
    assert [made(None).get_model_config(f"hf:org/m{number}").timeout_ms for number in range(12)] == list(range(1, 13))


# Versions


def test_the_last_good_versions_are_kept(made: Made, file: Path) -> None:
    service = made()

    async def use() -> None:
        await service.load_configurations()
        for number in range(KEPT + 5):
            file.write_text(f"retry_attempts = {number}\n")
            await service.reload_configurations()
            file.write_text("broken =")
            with pytest.raises(ConfigurationError):
                await service.reload_configurations()

    run(use())
    versions = service.versions()
    assert [one.number for one in versions] == list(range(KEPT + 6, 6, -1))
    assert not any(one.in_file for one in versions)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in file.parent.glob("chat.toml.versions/*.toml"))


def test_rollback_goes_back_step_by_step(made: Made, file: Path) -> None:
    service = made("retry_attempts = 1\n")

    async def use() -> None:
        await service.load_configurations()
        with pytest.raises(ConfigurationError, match="no earlier version"):
            await service.rollback()
        for number in (2, 3):
            file.write_text(f"retry_attempts = {number}\n")
            await service.reload_configurations()
        file.write_text("broken = ")
        assert (await service.rollback()).number == 3, "the last one that was in force"
        assert file.read_text() == "retry_attempts = 3\n"
        assert (await service.rollback()).number == 2
        assert service.current.retry_attempts == 2
        assert [one.in_file for one in service.versions()] == [False, True, False]
        file.write_text("broken again = ")
        assert (await service.rollback()).number == 2, "the last one that was in force, not the highest"
        assert (await service.rollback()).number == 1
        assert (await service.rollback(3)).number == 3
        assert service.current.retry_attempts == 3
        with pytest.raises(ConfigurationError, match=r"no version 9 .*") as caught:
            await service.rollback(9)
        assert caught.value.hint == "Kept versions: 3, 2, 1."

    run(use())


def test_a_version_that_is_no_longer_valid_is_not_restored(made: Made, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    service = made(f"models_path = '{folder}'\n")
    run(service.load_configurations())
    file.write_text(GOOD)
    run(service.reload_configurations())
    folder.rmdir()
    with pytest.raises(ConfigurationError, match="there is no folder"):
        run(service.rollback())
    assert file.read_text() == GOOD


# Following


@asynccontextmanager
async def following(service: ModelConfigurationService) -> AsyncIterator[asyncio.Queue[ChatConfiguration]]:
    changes: asyncio.Queue[ChatConfiguration] = asyncio.Queue()

    async def note(before: ChatConfiguration, now: ChatConfiguration) -> None:
        assert before != now
        await changes.put(now)

    await service.load_configurations()
    task = asyncio.create_task(service.follow(note))
    try:
        yield changes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def write_in_place(file: Path, text: str) -> None:
    file.write_text(text)


def replace_by_rename(file: Path, text: str) -> None:
    other = file.with_name(".chat.toml.swp")
    other.write_text(text)
    other.replace(file)


def write_beside_and_keep_a_backup(file: Path, text: str) -> None:
    file.rename(file.with_name("chat.toml~"))
    file.write_text(text)


def delete_and_create(file: Path, text: str) -> None:
    file.unlink()
    file.write_text(text)


@pytest.mark.parametrize("edit", [write_in_place, replace_by_rename, write_beside_and_keep_a_backup, delete_and_create])
def test_changes_of_the_file_are_seen(made: Made, file: Path, edit: Callable[[Path, str], None]) -> None:
    service = made()

    async def use() -> None:
        async with following(service) as changes:
            for number in (2, 3):
                edit(file, f"retry_attempts = {number}\n")
                assert (await changes.get()).retry_attempts == number
            assert service.current.retry_attempts == 3

    run(use())


def test_a_file_that_is_created_later_is_seen(home: Path) -> None:
    service = ModelConfigurationService(Settings.from_env(), environ={})

    async def use() -> None:
        async with following(service) as changes:
            await asyncio.sleep(0)
            service.path.parent.mkdir()
            service.path.write_text(GOOD)
            assert (await changes.get()).retry_attempts == 1

    run(use())


def test_a_change_behind_links_is_seen(made: Made, file: Path, tmp_path: Path) -> None:
    """As in a mounted ConfigMap: the file is a link into a folder that is a link, which is replaced."""
    for name, number in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chat.toml").write_text(f"retry_attempts = {number}\n")
    service = made(None)
    data = file.parent / "..data"
    data.symlink_to(tmp_path / "one")
    file.symlink_to("..data/chat.toml")

    async def use() -> None:
        async with following(service) as changes:
            (file.parent / "next").symlink_to(tmp_path / "two")
            (file.parent / "next").replace(data)
            assert (await changes.get()).retry_attempts == 2
            (tmp_path / "two" / "chat.toml").write_text("retry_attempts = 5\n")
            assert (await changes.get()).retry_attempts == 5

    run(use())


def test_a_broken_file_degrades_until_it_is_repaired(made: Made, file: Path) -> None:
    service = made()

    async def use() -> None:
        async with following(service) as changes:
            file.write_text("retry_attempts = \n")
            await until(lambda: service.state != "ok")
            assert changes.empty()
            file.unlink()
            await until(lambda: "does not exist" in str(service.error), lambda: service.error)
            assert service.current.retry_attempts == 1
            file.write_text("retry_attempts = 4\n")
            assert (await changes.get()).retry_attempts == 4
            assert not service.error

    run(use())


def test_changes_by_the_service_itself_are_followed_too(made: Made, file: Path) -> None:
    service = made()

    async def use() -> None:
        async with following(service) as changes:
            config = msgspec.structs.replace(service.get_provider_config("ollama"), timeout_ms=7)
            await asyncio.sleep(0)
            await service.update_provider_config("ollama", config)
            await service.applied()
            assert changes.get_nowait().providers["ollama"].timeout_ms == 7
            await service.rollback()
            assert (await changes.get()).providers["ollama"].timeout_ms == 30_000

    run(use())


def test_without_the_extra_nothing_is_followed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    service = made()
    monkeypatch.setitem(sys.modules, "watchfiles", None)

    async def follow(before: ChatConfiguration, now: ChatConfiguration) -> None:
        raise AssertionError

    with pytest.raises(ModuleNotFoundError):
        run(service.follow(follow))


def test_an_error_of_the_follower_does_not_end_following(made: Made, file: Path) -> None:
    service = made()
    seen: list[int] = []

    async def fail(before: ChatConfiguration, now: ChatConfiguration) -> None:
        seen.append(now.retry_attempts)
        raise ValueError("no")

    async def use() -> None:
        await service.load_configurations()
        task = asyncio.create_task(service.follow(fail))
        for number in (2, 3):
            file.write_text(f"retry_attempts = {number}\n")
            await until(lambda number=number: number in seen, lambda: seen)  # type: ignore[misc]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(use())
