"""The source cache: scan, verification and removal, without harm to other tools."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from gpux import HuggingFaceManager
from gpux.errors import StorageError
from gpux.source_cache.removal import discard_source, is_downloading, plan_source_removal, remove_unlinked
from gpux.source_cache.scan import CachedRepository, scan, scan_model
from gpux.source_cache.verify import Part, SourceReport, verify_sources
from tests.hub import HubServer

ID = "org/name"
FIRST, SECOND = "1" * 40, "2" * 40
SHARED, OLD, NEW = b"shared weights" * 100, b"old", b"new config"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two commits that share their weights; ``main`` points to the second."""
    cache = tmp_path / "hub"
    write(cache, FIRST, {"model.safetensors": SHARED, "config.json": OLD})
    write(cache, SECOND, {"model.safetensors": SHARED, "onnx/config.json": NEW}, refs=("main", "refs/pr/1"))
    return cache


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def name_of(path: str, content: bytes) -> str:
    return sha256(content) if path.endswith(".safetensors") else git_sha1(content)


def write(
    cache: Path, commit: str, files: dict[str, bytes], *, id: str = ID, refs: tuple[str, ...] = (), kind: str = "models"
) -> Path:
    """A commit in the layout of huggingface_hub."""
    repository = cache / f"{kind}--{id.replace('/', '--')}"
    for path, content in files.items():
        blob = repository / "blobs" / name_of(path, content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        entry = repository / "snapshots" / commit / path
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.symlink_to("../" * (path.count("/") + 2) + f"blobs/{blob.name}")
    for ref in refs:
        (repository / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return repository


def scanned(cache: Path, id: str = ID) -> CachedRepository:
    found = scan_model(cache, id)
    assert found is not None
    return found


def verified(cache: Path) -> SourceReport:
    repository = scanned(cache)
    (report,) = verify_sources([Part(repository, repository.commits)])
    return report


# Scanning


def test_blobs_that_commits_share_are_counted_once(cache: Path) -> None:
    repository = scanned(cache)
    assert (repository.kind, repository.id) == ("model", ID)
    assert repository.size == len(SHARED) + len(OLD) + len(NEW)
    first, second = repository.commits
    assert (first.commit, first.size) == (FIRST, len(SHARED) + len(OLD))
    assert second.revisions == ("main", "refs/pr/1") and first.revisions == ()
    assert [file.path for file in second.files] == ["model.safetensors", "onnx/config.json"]
    assert repository.shared_blobs(first) == repository.shared_blobs(second) == {sha256(SHARED)}
    assert repository.unlinked == ()
    assert [at.commit for at in repository.at("main")] == [SECOND]
    assert [at.commit for at in repository.at(FIRST[:7])] == [FIRST]
    assert repository.at(FIRST[:6]) == () and repository.at(None) == repository.commits
    assert pickle.loads(pickle.dumps(repository)) == repository
    assert json.loads(json.dumps(repository.to_dict()))["commits"][0]["shared_blobs"] == 1


def test_kinds_other_folders_and_an_empty_cache(cache: Path, tmp_path: Path) -> None:
    write(cache, FIRST, {"a.txt": b"a"}, id="gpt2", kind="models")
    write(cache, FIRST, {"a.txt": b"a"}, kind="datasets")
    (cache / "version.txt").write_text("1")
    (cache / ".locks" / "models--org--name").mkdir(parents=True)
    (cache / "models--file").write_text("no folder")
    assert [(found.kind, found.id) for found in scan(cache)] == [("dataset", ID), ("model", "gpt2"), ("model", ID)]
    assert scan(tmp_path / "nowhere") == () and scan_model(tmp_path, ID) is None
    assert scan(cache / "version.txt") == ()


def test_partial_downloads_are_not_blobs(cache: Path) -> None:
    blobs = scanned(cache).path / "blobs"
    for name in ("aa.gpux.incomplete", "aa.gpux.journal", "bb.incomplete", "cc.1234abcd.incomplete"):
        (blobs / name).write_bytes(b"12345")
    with (blobs / "holes.gpux.incomplete").open("wb") as file:
        file.truncate(10**9)
    repository = scanned(cache)
    assert repository.size == len(SHARED) + len(OLD) + len(NEW)
    assert [partial.ours for partial in repository.partials] == [True, True, False, False, True]
    assert repository.partials[-1].size < 10**6
    assert verified(cache).ok


def test_regular_files_and_symlinks_out_of_the_repository(cache: Path, tmp_path: Path) -> None:
    snapshot = scanned(cache).commits[0].path
    (snapshot / "copied.json").write_bytes(b"{}")
    (tmp_path / "elsewhere").write_bytes(b"123")
    (snapshot / "foreign").symlink_to(tmp_path / "elsewhere")
    (snapshot / "dangling").symlink_to(tmp_path / "nowhere")
    (snapshot / "absolute").symlink_to(scanned(cache).path / "blobs" / sha256(SHARED))
    files = {file.path: (file.size, file.blob) for file in scanned(cache).commits[0].files}
    assert files["copied.json"] == (2, None) and files["foreign"] == (3, None) and files["dangling"] == (None, None)
    assert files["absolute"] == (len(SHARED), sha256(SHARED))
    assert scanned(cache).commits[0].size == len(SHARED) + len(OLD) + 5
    assert verified(cache).unchecked == 3


def test_a_cache_behind_a_symlink(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(cache)
    (tmp_path / "x").mkdir()
    assert scanned(tmp_path / "link").size == scanned(cache).size
    assert scanned(Path(f"{tmp_path}/x/../hub")).commits[0].size == scanned(cache).commits[0].size


def test_blobs_in_the_store_that_repositories_share(cache: Path) -> None:
    blob = scanned(cache).path / "blobs" / sha256(SHARED)
    target = cache / "blobs" / "ab" / "abcd"
    target.parent.mkdir(parents=True)
    blob.rename(target)
    blob.symlink_to("../../blobs/ab/abcd")
    repository = scanned(cache)
    assert repository.size == len(OLD) + len(NEW)
    assert repository.commits[0].size == len(SHARED) + len(OLD)
    assert verified(cache).ok
    plan_source_removal(cache, ID).execute()
    assert target.exists()


@pytest.mark.hub
def test_the_scan_agrees_with_huggingface_hub(hub: HubServer, manager: HuggingFaceManager) -> None:
    """With files that huggingface_hub and gpux downloaded."""
    from huggingface_hub import scan_cache_dir, snapshot_download

    cache = manager.settings.hf_cache
    try:
        for label in ("main", "next"):
            hub.move_branch("tiny/moved", "main", label)
            snapshot_download("tiny/moved", cache_dir=cache, endpoint=hub.url, token=False)
    finally:
        hub.move_branch("tiny/moved", "main", "main")
    info = manager.get_model_info("tiny/embed")
    manager.fetch(info, ["config.json", "model.safetensors"])
    theirs = {repo.repo_id: repo for repo in scan_cache_dir(cache).repos}
    ours = {repository.id: repository for repository in scan(cache)}
    assert set(ours) == set(theirs) == {"tiny/moved", "tiny/embed"}
    for id, repository in ours.items():
        assert repository.size == theirs[id].size_on_disk
        sizes = {revision.commit_hash: revision.size_on_disk for revision in theirs[id].revisions}
        assert {commit.commit: commit.size for commit in repository.commits} == sizes
    reports = verify_sources([Part(repository, repository.commits) for repository in ours.values()])
    assert all(report.ok and not report.unchecked for report in reports)


# Verifying


def test_every_kind_of_damage(cache: Path) -> None:
    repository = scanned(cache)
    assert verified(cache).ok and verified(cache).files == 3
    flipped = bytearray(SHARED)
    flipped[700] ^= 1
    (repository.path / "blobs" / sha256(SHARED)).write_bytes(bytes(flipped))
    (repository.path / "blobs" / git_sha1(OLD)).unlink()
    (repository.path / "blobs" / git_sha1(NEW)).write_bytes(NEW[:3])
    (repository.path / "blobs" / "oddly-named").write_bytes(b"x")
    (repository.path / "blobs" / ("0" * 64)).write_bytes(b"x")
    report = verified(cache)
    found = {problem.blob: (problem.kind, problem.files) for problem in report.problems}
    assert found == {
        sha256(SHARED): ("hash", ("model.safetensors",)),
        git_sha1(OLD): ("missing", ("config.json",)),
        git_sha1(NEW): ("hash", ("onnx/config.json",)),
        "0" * 64: ("hash", ()),
    }
    assert (report.files, report.unchecked) == (4, 1)
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False
    second = scanned(cache).at("main")
    (one,) = verify_sources([Part(scanned(cache), second)])
    assert {problem.blob for problem in one.problems} == {sha256(SHARED), git_sha1(NEW)}
    (few,) = verify_sources([Part(scanned(cache), scanned(cache).commits)], only=frozenset({git_sha1(NEW)}))
    assert [problem.blob for problem in few.problems] == [git_sha1(NEW)]


# Removing


def test_a_commit_is_removed_with_the_blobs_that_only_it_uses(cache: Path) -> None:
    plan = plan_source_removal(cache, ID, scanned(cache).at(FIRST))
    assert (plan.bytes_freed, plan.kept) == (len(OLD), len(SHARED))
    assert scanned(cache).commits[0].path.is_dir()  # planning removes nothing
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert json.loads(json.dumps(plan.to_dict()))["bytes_freed"] == len(OLD)
    assert plan.execute() == len(OLD)
    repository = scanned(cache)
    assert [commit.commit for commit in repository.commits] == [SECOND]
    assert repository.size == len(SHARED) + len(NEW)
    assert verified(cache).ok
    assert plan.execute() == 0


def test_the_last_commit_is_removed_with_the_repository(cache: Path) -> None:
    repository = scanned(cache)
    (repository.path / "blobs" / ("9" * 40)).write_bytes(b"1234")
    (repository.path / "blobs" / "aa.gpux.incomplete").write_bytes(b"12345")
    (repository.path / ".no_exist" / FIRST).mkdir(parents=True)
    (repository.path / "trees").mkdir()
    (repository.path / "trees" / f"{FIRST}.json").write_text("[]")
    plan = plan_source_removal(cache, ID)
    assert [removal.reason for removal in plan.removals] == ["requested", "requested", "used by no commit"]
    assert plan.execute() == plan.bytes_freed >= repository.size + 4 + 5
    assert not repository.path.exists()
    assert plan_source_removal(cache, ID).removals == ()


def test_partial_downloads_of_other_tools_are_kept(cache: Path) -> None:
    repository = scanned(cache)
    foreign = repository.path / "blobs" / "bb.1234abcd.incomplete"
    foreign.write_bytes(b"growing")
    plan_source_removal(cache, ID).execute()
    assert [path.name for path in repository.path.rglob("*") if path.is_file()] == [foreign.name]


HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Another process holds the lock, as during a download."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield
        process.communicate("")


def test_nothing_is_removed_while_another_tool_downloads(cache: Path) -> None:
    plan = plan_source_removal(cache, ID)
    with held(cache / ".locks" / "models--org--name" / "some-other-blob.lock"):
        assert is_downloading(cache, scanned(cache))
        with pytest.raises(StorageError, match="being downloaded"):
            plan.execute()
        assert discard_source(ID, FIRST, cache) == 0
        assert scanned(cache).size == len(SHARED) + len(OLD) + len(NEW)
    assert not is_downloading(cache, scanned(cache))
    assert plan.execute() == len(SHARED) + len(OLD) + len(NEW)


def test_discarding_the_source_of_a_conversion(cache: Path) -> None:
    partial = scanned(cache).path / "blobs" / "aa.gpux.incomplete"
    partial.write_bytes(b"12345")
    assert discard_source(ID, "3" * 40, cache) == 0
    assert discard_source("org/none", FIRST, cache) == 0
    assert discard_source(ID, SECOND, cache) == len(NEW)
    assert verified(cache).ok and scanned(cache).commits[0].commit == FIRST
    assert not (scanned(cache).path / "refs" / "main").exists()
    assert discard_source(ID, FIRST, cache) == len(SHARED) + len(OLD)
    assert partial.exists()


def test_a_blob_that_another_commit_links_to_by_now_is_kept(cache: Path) -> None:
    plan = plan_source_removal(cache, ID, scanned(cache).at(FIRST))
    write(cache, "3" * 40, {"config.json": OLD})
    assert plan.execute() == 0
    assert verified(cache).ok


def test_only_unlinked_blobs_are_removed(cache: Path) -> None:
    blobs = scanned(cache).path / "blobs"
    (blobs / ("9" * 40)).write_bytes(b"1234")
    assert remove_unlinked(cache, ID, frozenset({"9" * 40, sha256(SHARED)})) == 4
    assert verified(cache).ok
    assert remove_unlinked(cache, "org/none", frozenset()) == 0


def test_the_lock_of_a_blob_that_is_in_use(cache: Path) -> None:
    (scanned(cache).path / "blobs" / ("9" * 40)).write_bytes(b"1234")
    lock = cache / ".locks" / "models--org--name" / f"{'9' * 40}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert remove_unlinked(cache, ID, frozenset({"9" * 40})) == 0
    assert remove_unlinked(cache, ID, frozenset({"9" * 40})) == 4


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root reads everything")
def test_a_repository_that_cannot_be_read(cache: Path) -> None:
    (scanned(cache).path / "blobs").chmod(0)
    assert "cannot be read" in (scanned(cache).problem or "")
    assert not verified(cache).ok
    (scanned(cache).path / "blobs").chmod(0o755)
