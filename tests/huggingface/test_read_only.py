"""A source cache and a store on a read-only mount serve what they have, and name the setting where they cannot."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpux import HuggingFaceManager, Settings, Store, errors, pipeline, pull_model
from gpux.cli.main import run
from gpux.model.reference import ModelRef
from tests.hub import HubServer
from tests.read_only import frozen_fixture

__all__ = ["frozen_fixture"]
pytestmark = pytest.mark.hub
MODEL = "tiny/classify"
Freeze = Callable[[Path], None]

#: huggingface_hub fills its cache, as any other tool does.
DOWNLOAD = "import sys; from huggingface_hub import snapshot_download; snapshot_download(sys.argv[1])"


@pytest.fixture(scope="module")
def filled(repositories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that huggingface_hub filled with the whole model."""
    home = tmp_path_factory.mktemp("filled")
    with HubServer(repositories) as hub:
        environ = hub.env(home) | {"HF_HUB_CACHE": str(home / "hub")}
        done = subprocess.run([sys.executable, "-c", DOWNLOAD, MODEL], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home / "hub"


@pytest.fixture
def cache(filled: Path, hub: HubServer, settings: Settings) -> Path:
    """The test's own copy of that cache."""
    return shutil.copytree(filled, settings.hf_cache, symlinks=True)


def _listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_a_complete_cache_is_served(settings: Settings, cache: Path, frozen: Freeze, offline: bool) -> None:
    frozen(cache)
    manager = HuggingFaceManager(settings, offline=offline)
    info = manager.get_model_info(MODEL)

    snapshot = manager.fetch(info, [file.path for file in info.files])

    assert snapshot.report and snapshot.report.cache_hits == len(info.files) > 5
    assert all((snapshot.path / file.path).is_file() for file in info.files)


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_a_pull_and_its_commands(
    settings: Settings,
    cache: Path,
    frozen: Freeze,
    offline: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frozen(cache)
    monkeypatch.setenv("HF_HUB_OFFLINE", str(int(offline)))

    for command in (
        ["pull", MODEL],
        ["info", MODEL],
        ["run", MODEL, "hello"],
        ["verify"],
        ["verify", "--source-only"],
        ["list"],
    ):
        assert run(command) == 0, f"{command}: {capsys.readouterr().err}"
    assert run(["pull", MODEL, "--format", "safetensors"]) == 0
    assert run(["pull", MODEL, "--all"]) == 0, capsys.readouterr().err
    assert run(["du"]) == 0


def test_source_files_that_cannot_be_discarded_are_kept(
    cache: Path, frozen: Freeze, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen(cache)

    assert run(["pull", MODEL, "--discard-source"]) == 0

    assert "the source files are kept: cannot write to" in capsys.readouterr().err


def test_right_links_are_not_made_again(settings: Settings, manager: HuggingFaceManager, cache: Path) -> None:
    before = _listing(cache)
    info = manager.get_model_info(MODEL)

    manager.fetch(info, [file.path for file in info.files])

    assert _listing(cache) == before


def test_the_record_of_the_branch_is_not_needed(settings: Settings, cache: Path, frozen: Freeze) -> None:
    shutil.rmtree(next(cache.glob("models--*")) / "refs")
    frozen(cache)
    manager = HuggingFaceManager(settings)
    info = manager.get_model_info(MODEL)

    assert manager.fetch(info, ["config.json"]).report

    offline = HuggingFaceManager(settings, offline=True)
    assert offline.get_model_info(MODEL).commit == info.commit  # of the Hub's last answer


def test_without_any_record_the_hint_names_a_commit(settings: Settings, cache: Path, frozen: Freeze) -> None:
    shutil.rmtree(next(cache.glob("models--*")) / "refs")
    frozen(cache)

    with pytest.raises(errors.OfflineError, match=MODEL) as caught:
        HuggingFaceManager(settings, offline=True).get_model_info(MODEL)

    named = re.search(r"`gpux ([^`]*)`", str(caught.value.hint))
    assert named
    assert run(named[1].split()) == 0


def test_only_the_folder_of_the_records_is_read_only(settings: Settings, cache: Path, frozen: Freeze) -> None:
    refs = next(cache.glob("models--*")) / "refs"
    (refs / "main").write_text("0" * 40)
    frozen(refs)

    manager = HuggingFaceManager(settings)
    assert manager.fetch(manager.get_model_info(MODEL), ["config.json"]).report


def test_a_snapshot_of_regular_files_is_served(
    settings: Settings, manager: HuggingFaceManager, cache: Path, frozen: Freeze
) -> None:
    """A cache that was copied with links followed."""
    copy = cache.with_name("copy")
    shutil.copytree(cache, copy)
    frozen(copy)
    manager = HuggingFaceManager(settings, hf_cache=copy)
    info = manager.get_model_info(MODEL)

    assert manager.fetch(info, [file.path for file in info.files]).report


def _refused(caught: pytest.ExceptionInfo[errors.NotWritableError], cache: Path) -> None:
    assert str(cache) in caught.value.message
    assert "HF_HUB_CACHE" in str(caught.value.hint)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_names_the_folder_and_the_setting(
    settings: Settings, cache: Path, frozen: Freeze, tmp_path: Path, missing: str
) -> None:
    entry = next(cache.glob(f"models--*/snapshots/*/{missing}"))
    entry.resolve().unlink()
    entry.unlink()
    frozen(cache)
    manager = HuggingFaceManager(settings)
    info = manager.get_model_info(MODEL)

    with pytest.raises(errors.NotWritableError) as caught:
        manager.fetch(info, [missing])

    _refused(caught, cache)
    elsewhere = HuggingFaceManager(settings, hf_cache=tmp_path / "other")  # what the hint says
    assert elsewhere.fetch(info, [missing]).report


def test_an_empty_read_only_cache(settings: Settings, frozen: Freeze, capsys: pytest.CaptureFixture[str]) -> None:
    settings.hf_cache.mkdir(parents=True)
    frozen(settings.hf_cache)

    assert run(["pull", MODEL]) == 6

    remarks = capsys.readouterr().err
    assert str(settings.hf_cache) in remarks
    assert "HF_HUB_CACHE" in remarks


def test_a_damaged_file_names_the_setting(settings: Settings, cache: Path, frozen: Freeze, tmp_path: Path) -> None:
    entry = next(cache.glob("models--*/snapshots/*/config.json"))
    size = entry.stat().st_size
    entry.resolve().chmod(0o644)
    entry.resolve().write_bytes(b"x" * size)
    frozen(cache)
    manager = HuggingFaceManager(settings)
    info = manager.get_model_info(MODEL)

    with pytest.raises(errors.NotWritableError, match="damaged") as caught:
        manager.fetch(info, ["config.json"])

    _refused(caught, cache)
    assert HuggingFaceManager(settings, hf_cache=tmp_path / "other").fetch(info, ["config.json"]).report


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_a_read_only_store_runs_what_it_has(
    settings: Settings,
    frozen: Freeze,
    offline: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stored = pull_model(MODEL, settings=settings)
    assert run(["import", MODEL]) == 0  # the catalog, which records runs
    frozen(settings.home)
    frozen(settings.hf_cache)
    monkeypatch.setenv("HF_HUB_OFFLINE", str(int(offline)))
    capsys.readouterr()

    for command in (["run", MODEL, "hello"], ["list"], ["info", MODEL], ["verify"], ["du"], ["pull", MODEL]):
        assert run(command) == 0, f"{command}: {capsys.readouterr().err}"
    assert pipeline("text-classification", MODEL)("hello")
    assert pull_model(MODEL).path == stored.path
    assert Store(settings.store).get(ModelRef.parse(MODEL)).path == stored.path


@pytest.mark.parametrize(
    "command", [["rm", MODEL, "--yes"], ["pin", MODEL], ["pull", MODEL, "--force"], ["pull", "tiny/fill"]], ids=str
)
def test_changes_of_a_read_only_store_name_the_setting(
    settings: Settings, frozen: Freeze, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pull_model(MODEL, settings=settings)
    frozen(settings.home)
    capsys.readouterr()

    assert run(command) == 6

    remarks = capsys.readouterr().err
    assert "GPUX_HOME" in remarks
    assert str(settings.home) in remarks
