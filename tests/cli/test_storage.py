"""Checking, repairing, listing, measuring, pinning and removing what is on the disk, as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpux import HuggingFaceManager, Settings, Store, pull_model
from gpux.cli.main import run
from gpux.errors import UsageError
from gpux.model.variant import StoredModel
from gpux.source_cache.scan import CachedRepository, scan_model
from tests.hub import HubServer
from tests.models.bert import bert_repository

pytestmark = pytest.mark.hub

Captured = pytest.CaptureFixture[str]
ID = "tiny/classify"


@pytest.fixture
def model(settings: Settings) -> StoredModel:
    """A shipped variant, with its source files in the cache."""
    return pull_model(ID, settings=settings)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.store)


def answer(capsys: Captured, *args: str, code: int = 0) -> Any:
    """The one JSON document that the command prints."""
    capsys.readouterr()
    assert run([*args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def source(settings: Settings, id: str = ID) -> CachedRepository:
    found = scan_model(settings.hf_cache, id)
    assert found is not None
    return found


def blob_of(settings: Settings, name: str, id: str = ID) -> Path:
    """The blob of a source file, as the first commit links to it."""
    return (source(settings, id).commits[0].path / name).resolve()


def dd(path: Path) -> None:
    """Overwrite a few bytes in the middle, as a failing disk would; the size stays."""
    seek = path.stat().st_size // 2
    command = ["dd", "if=/dev/urandom", f"of={path}", "bs=1", "count=16", f"seek={seek}", "conv=notrunc"]
    subprocess.run(command, check=True, capture_output=True)


def downloads(hub: HubServer) -> list[str]:
    return [request.path for request in hub.requests if request.method == "GET" and "/api/" not in request.path]


# Verify and repair


def test_verify_finds_no_damage_and_makes_no_request(hub: HubServer, model: StoredModel, capsys: Captured) -> None:
    hub.clear_requests()
    variant, files = answer(capsys, "verify")
    assert (variant["kind"], variant["id"], variant["ok"]) == ("variant", ID, True)
    assert (files["kind"], files["commits"], files["ok"], files["unchecked"]) == ("source", [model.commit], True, 0)
    assert [entry["kind"] for entry in answer(capsys, "verify", "--store-only")] == ["variant"]
    assert [entry["kind"] for entry in answer(capsys, "verify", ID, "--source-only")] == ["source"]
    assert answer(capsys, "verify", "--repair") == answer(capsys, "verify")
    assert run(["verify", "--store-only"]) == 0
    assert capsys.readouterr().out.split("\t")[2:4] == [model.task, "fp32"]
    assert hub.requests == []
    assert run(["verify", "--source-only", "--store-only"]) == 2


def test_a_damaged_blob_is_fetched_again_and_nothing_else(
    hub: HubServer, model: StoredModel, settings: Settings, capsys: Captured
) -> None:
    blob = blob_of(settings, "onnx/model.onnx")
    before, size = blob.read_bytes(), blob.stat().st_size
    dd(blob)
    assert run(["verify"]) == 6
    shown, remarks = capsys.readouterr()
    assert "DAMAGED" in shown and "onnx/model.onnx has the hash" in remarks and "gpux verify --repair" in remarks

    hub.clear_requests()
    assert run(["verify", "--repair"]) == 0
    shown, remarks = capsys.readouterr()
    assert "repaired (" in shown and "DAMAGED" not in shown
    assert "1 of 1 repaired" in remarks and "fetched: 1 file fetched again" in remarks
    assert blob.read_bytes() == before
    assert {path.rpartition("/")[2] for path in downloads(hub) if "resolve" in path} == {"model.onnx"}
    assert size <= sum(request.bytes_sent for request in hub.requests if request.listener == "cdn") < size + 10_000
    assert all(entry["ok"] for entry in answer(capsys, "verify"))

    dd(blob)
    *_, files = answer(capsys, "verify", "--repair")
    assert files["repair"]["repaired"] and files["repair"]["received"] == size


def test_gone_and_unused_blobs(model: StoredModel, settings: Settings, capsys: Captured) -> None:
    blob_of(settings, "config.json").unlink()
    unused = source(settings).path / "blobs" / ("0" * 64)
    unused.write_bytes(b"no commit links here")
    *_, files = answer(capsys, "verify", code=6)
    assert sorted(problem["kind"] for problem in files["problems"]) == ["hash", "missing"]
    assert run(["verify", "--repair", ID]) == 0
    assert "1 file fetched again, 1 removed that no commit uses" in capsys.readouterr().err
    assert not unused.exists() and (source(settings).commits[0].path / "config.json").exists()


def test_a_shipped_variant_is_restored_from_its_source_files(
    hub: HubServer, model: StoredModel, store: Store, capsys: Captured
) -> None:
    dd(model.path / "model.onnx")
    (model.path / "config.json").unlink()
    (model.path / "stray").write_text("")
    hub.clear_requests()
    assert run(["verify", "--repair"]) == 0
    assert "restored: copied from its source files" in capsys.readouterr().err
    assert store.verify(model).ok and downloads(hub) == []


def test_both_sides_damaged(hub: HubServer, model: StoredModel, settings: Settings, capsys: Captured) -> None:
    dd(model.path / "model.onnx")
    dd(blob_of(settings, "onnx/model.onnx"))
    hub.clear_requests()
    variant, files = answer(capsys, "verify", "--repair")
    assert (variant["repair"]["method"], files["repair"]["method"]) == ("restored", "fetched")
    assert (variant["repair"]["received"], files["repair"]["received"]) == (
        0,
        blob_of(settings, "onnx/model.onnx").stat().st_size,
    )


def test_offline_reports_files_that_cannot_be_repaired(
    hub: HubServer, model: StoredModel, settings: Settings, store: Store, capsys: Captured
) -> None:
    dd(model.path / "model.onnx")
    hub.clear_requests()
    assert answer(capsys, "verify", "--repair", "--offline")[0]["repair"]["repaired"]  # its source is here
    dd(model.path / "model.onnx")
    dd(blob_of(settings, "onnx/model.onnx"))
    variant, files = answer(capsys, "verify", "--repair", "--offline", code=6)
    assert not variant["repair"]["repaired"] and not files["repair"]["repaired"]
    assert "offline" in files["repair"]["message"] and "offline" in variant["repair"]["message"]
    assert hub.requests == []
    assert run(["verify", "--repair", "--offline"]) == 6
    assert "NOT repaired" in capsys.readouterr().err
    assert run(["verify", "--repair"]) == 0
    assert store.verify(model).ok


def test_a_damaged_manifest_is_rebuilt(model: StoredModel, store: Store, capsys: Captured) -> None:
    (model.path / "manifest.json").write_text("{")
    assert run(["verify", ID]) == 6
    capsys.readouterr()
    variant, _ = answer(capsys, "verify", "--repair", ID)
    assert variant["repair"]["method"] == "rebuilt"
    (again,) = store.models()
    assert again.path == model.path and again.manifest.files == model.manifest.files


def test_discarded_sources_travel_again(
    hub: HubServer, model: StoredModel, settings: Settings, capsys: Captured
) -> None:
    assert run(["rm", ID, "--source", "--dry-run"]) == 0
    assert " would be freed." in capsys.readouterr().err
    shutil.rmtree(source(settings).path)
    dd(model.path / "model.onnx")
    (variant,) = answer(capsys, "verify", "--repair")
    assert variant["repair"]["method"] == "restored"
    assert variant["repair"]["received"] == (model.path / "model.onnx").stat().st_size


def test_a_folder_that_changed_repairs_nothing(
    settings: Settings, tmp_path: Path, store: Store, capsys: Captured
) -> None:
    folder = bert_repository(tmp_path / "mine", "text-classification", onnx=True, safetensors=False)
    local = pull_model(folder, settings=settings)
    dd(local.path / "model.onnx")
    assert answer(capsys, "verify", "--repair")[0]["repair"]["method"] == "restored"
    dd(local.path / "model.onnx")
    (folder / "README.md").write_text("changed")
    (variant,) = answer(capsys, "verify", "--repair", code=6)
    assert "leads to another variant" in variant["repair"]["message"]
    assert store.models() == [local]


def test_a_deleted_repository_does_not_stop_other_repairs(
    hub: HubServer, model: StoredModel, settings: Settings, capsys: Captured
) -> None:
    other = pull_model("tiny/fill", settings=settings)
    gone = source(settings).path.with_name("models--tiny--gone")
    shutil.copytree(source(settings).path, gone, symlinks=True)
    for repository in ("tiny/gone", "tiny/fill"):
        dd(blob_of(settings, "onnx/model.onnx", repository))
    found = {entry["id"]: entry for entry in answer(capsys, "verify", "--repair", "--source-only", code=6)}
    assert found[other.id]["ok"] and found[ID]["ok"]
    assert "still damaged, 1 of 1: " in found["tiny/gone"]["repair"]["message"]


# List and du


def test_list_shows_both_sides_and_what_cannot_run(
    manager: HuggingFaceManager, model: StoredModel, settings: Settings, capsys: Captured
) -> None:
    info = manager.get_model_info("tiny/weights")
    manager.fetch(info, ["model.safetensors", "config.json"])
    variant, bare = answer(capsys, "list")
    assert (variant["kind"], variant["id"], variant["size"]) == ("variant", ID, model.size)
    assert variant["source_size"] == source(settings).size and variant["pinned"] is False
    assert (bare["kind"], bare["id"], bare["commit"], bare["size"]) == ("source", "tiny/weights", info.commit, 0)
    assert bare["source_size"] == source(settings, "tiny/weights").size
    assert len(answer(capsys, "list", "--runnable")) == 1
    run(["list"])
    assert "tiny/weights" in (shown := capsys.readouterr().out) and "source only" in shown


def test_du_adds_up(manager: HuggingFaceManager, model: StoredModel, settings: Settings, capsys: Captured) -> None:
    (source(settings).path / "blobs" / "aa.gpux.incomplete").write_bytes(b"x" * 1000)
    settings.logs.mkdir(parents=True)
    (settings.logs / "a.log").write_bytes(b"x" * 500)
    found = answer(capsys, "du")
    assert (found["variants"], found["logs"], found["partial"]) == (1, 500, 1000)
    assert found["source"] == source(settings).size == found["repositories"][0]["size"]
    assert found["store"] >= model.size
    assert found["total"] == found["store"] + found["unfinished"] + found["source"] + 1500 + found["toolchains"]
    run(["du"])
    assert f"source cache\t{ID}\t" in capsys.readouterr().out


def test_du_of_nothing(capsys: Captured) -> None:
    assert run(["du"]) == 0
    assert capsys.readouterr() == ("total\t\t0 B\n", "")


# Pins and the quota


def test_pins_are_shown_and_obeyed(model: StoredModel, store: Store, capsys: Captured) -> None:
    assert answer(capsys, "pin", ID)[0]["pinned"] is True
    assert answer(capsys, "list")[0]["pinned"] is True
    assert store.eviction_plan(0).removals == ()
    run(["list"])
    assert "pinned" in capsys.readouterr().out
    assert run(["unpin", ID]) == 0
    assert "not pinned" in capsys.readouterr().out
    assert not store.pinned(model)
    assert run(["pin", "tiny/nothing"]) == 3


def test_du_shows_the_quota(model: StoredModel, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("GPUX_MAX_CACHE", "20GB")
    assert answer(capsys, "du")["max_cache"] == 20_000_000_000
    run(["du"])
    assert "1 variant, limited to 20.0 GB" in capsys.readouterr().out
    monkeypatch.setenv("GPUX_MAX_CACHE", "plenty")
    assert run(["du"]) == 2


@pytest.mark.parametrize(
    ("text", "size"), [("20GB", 20 * 10**9), ("1.5 TiB", 3 * 2**39), ("500m", 5 * 10**8), ("7", 7), ("", None)]
)
def test_sizes_as_people_write_them(text: str, size: int | None) -> None:
    assert Settings.from_env({"GPUX_MAX_CACHE": text}).max_cache == size


@pytest.mark.parametrize("text", ["0", "-1GB", "3PB", "GB", "nan"])
def test_sizes_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(UsageError, match="GPUX_MAX_CACHE"):
        Settings.from_env({"GPUX_MAX_CACHE": text})


# Rm


@pytest.mark.parametrize("task", ["text-classification", "sentiment-analysis", "text_ranking"])
def test_tasks_have_every_name_that_a_pull_takes(model: StoredModel, store: Store, task: str) -> None:
    assert run(["pin", ID, "--task", task]) == 0 and store.pinned(model)
    assert run(["rm", ID, "--task", "translation_en_to_de", "--yes"]) == 3
    assert run(["rm", ID, "--task", task, "--yes"]) == 0 and not store.models()


def test_rm_keeps_the_source_by_default(model: StoredModel, settings: Settings, store: Store, capsys: Captured) -> None:
    assert run(["rm", ID, "--yes"]) == 0
    assert store.models() == [] and source(settings).commits
    capsys.readouterr()
    assert run(["rm", ID, "--yes"]) == 3
    assert f"`gpux rm {ID} --source`" in capsys.readouterr().err
    size = source(settings).size
    plan = answer(capsys, "rm", ID, "--source", "--dry-run")
    assert (plan["bytes_freed"], plan["removed"]) == (size, False) and source(settings).size == size
    assert run(["rm", ID, "--source", "--yes"]) == 0
    assert scan_model(settings.hf_cache, ID) is None


def test_rm_source_keeps_what_another_revision_needs(hub: HubServer, settings: Settings, capsys: Captured) -> None:
    try:
        hub.move_branch("tiny/moved", "main", "next")
        newer = pull_model("tiny/moved", settings=settings)
    finally:
        hub.move_branch("tiny/moved", "main", "main")
    older = pull_model("tiny/moved", settings=settings)
    assert older.commit != newer.commit
    shared = source(settings, "tiny/moved").shared_blobs(source(settings, "tiny/moved").commits[0])
    assert shared
    plan = answer(capsys, "rm", f"tiny/moved@{older.commit}", "--source", "--yes")
    assert plan["removed"] and plan["source"][0]["kept"] > 0
    (left,) = source(settings, "tiny/moved").commits
    assert left.commit == newer.commit
    assert all(entry["ok"] for entry in answer(capsys, "verify"))


def test_rm_source_waits_for_no_conversion(
    model: StoredModel, settings: Settings, store: Store, capsys: Captured
) -> None:
    with store.lock("hf", ID, model.commit, "fill-mask", "fp32"):
        assert run(["rm", ID, "--source", "--yes"]) == 6
    assert "in use" in capsys.readouterr().err
    assert store.models() == [model] and source(settings).commits


@pytest.mark.toolchain
def test_a_converted_graph_is_made_and_proven_again(
    settings: Settings, warm_toolchains: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("GPUX_TOOLCHAINS", str(warm_toolchains))
    model = pull_model("tiny/weights", settings=settings.with_overrides(toolchains=warm_toolchains))
    assert model.manifest.proof.status == "proven"
    (model.path / "config.json").unlink()
    assert answer(capsys, "verify", "--repair")[0]["repair"]["method"] == "restored"
    dd(model.path / "model.onnx")
    (variant, _) = answer(capsys, "verify", "--repair")
    assert (variant["repair"]["method"], variant["repair"]["received"]) == ("rebuilt", 0)
    (again,) = store.models()
    assert again.path == model.path and again.manifest.proof.status == "proven" and store.verify(again).ok
