"""Repositories on disk: how they are read and written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub import HubServer, RepoSettings, add_repo, folder_files
from tests.hub.card import read_card
from tests.hub.client import ROOT
from tests.hub.conftest import safetensors
from tests.hub.contents import LfsRule, read_commit
from tests.hub.wire import PATIENCE, ask, wait_for


def test_trees_are_named_as_git_names_them(tmp_path: Path) -> None:
    """The ids of `git write-tree` for the same files."""
    for name, content in {"a.txt": b"a\n", "b/c.txt": b"c\n", "b.txt": b"b\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    commit = read_commit("a/b", tmp_path, LfsRule((), 100))
    assert {path: blob.oid for path, blob in commit.files.items()} == {
        "a.txt": "78981922613b2afb6025042ff6bd878ac1994e85",
        "b.txt": "61780798228d17af2d34fce4cfbdf35556832472",
        "b/c.txt": "f2ad6c76f0115a6ba5b00456a849810e7ec0af20",
    }
    assert commit.directories == {"b": "cf67e9ef3a0fc6d858423fc177f2fbbe985a6f17"}


def test_commits_depend_on_content_and_id_alone(tmp_path: Path) -> None:
    files: dict[str, bytes | Path] = {"f": b"x", "g": b"y"}
    for root in ("one", "two"):
        add_repo(tmp_path / root, "a/b", files)
        add_repo(tmp_path / root, "a/c", files)
        add_repo(tmp_path / root, "a/d", {"f": b"x", "g": b"z"})
    with HubServer(tmp_path / "one") as one, HubServer(tmp_path / "two") as two:
        commits = [one.commit(repo) for repo in ("a/b", "a/c", "a/d")]
        assert commits == [two.commit(repo) for repo in ("a/b", "a/c", "a/d")]
        assert len(set(commits)) == 3
        assert all(len(commit) == 40 for commit in commits)


def test_a_plain_folder_is_a_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "org" / "name"
    (folder / "main").mkdir(parents=True)
    (folder / "main" / "config.json").write_text("{}")
    with HubServer(tmp_path) as hub:
        assert ask(f"{hub.url}/org/name/resolve/main/config.json").body == b"{}"
        (folder / "repo.json").write_text(json.dumps({"cardData": {"license": "mit"}, "tags": ["t"]}))
        info = ask(f"{hub.url}/api/models/org/name").json
        assert (info["cardData"], info["tags"]) == ({"license": "mit"}, ["license:mit", "t", "region:us"])
        (folder / "main" / "config.json").write_text("[]")
        hub.refresh()
        assert ask(f"{hub.url}/org/name/resolve/main/config.json").body == b"[]"


def test_files_are_linked(tmp_path: Path) -> None:
    source = tmp_path / "source" / "deep"
    source.mkdir(parents=True)
    (source / "big.bin").write_bytes(bytes(1000))
    folder = add_repo(tmp_path, "a/b", folder_files(tmp_path / "source"))
    assert (folder / "revisions/main/deep/big.bin").samefile(source / "big.bin")


def test_a_label_is_replaced(tmp_path: Path) -> None:
    add_repo(tmp_path, "a/b", {"f": b"x"}, likes=1, tags=["t"])
    with HubServer(tmp_path) as hub:
        before = hub.commit("a/b")
        add_repo(tmp_path, "a/b", {"g": b"x"}, downloads=2)
        assert hub.commit("a/b") != before
        info = ask(f"{hub.url}/api/models/a/b").json
        assert info["siblings"] == [{"rfilename": "g"}]
        assert (info["likes"], info["downloads"], info["tags"]) == (1, 2, ["t", "region:us"])


@pytest.mark.parametrize("repo_id", ["../a", "a/../b", "a/b/c", "", "a/main", "a--b/c", "/a", "a/b.git"])
def test_ids_that_leave_the_folder(tmp_path: Path, repo_id: str) -> None:
    with pytest.raises(ValueError, match="repository"):
        add_repo(tmp_path, repo_id, {})


@pytest.mark.parametrize("name", ["../f", "/f", "a/../../f", "", ".", "a//b"])
def test_file_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        add_repo(tmp_path, "a/b", {name: b""})


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pivate"):
        add_repo(tmp_path, "a/b", {}, pivate=True)
    with pytest.raises(ValueError, match="gated"):
        RepoSettings.from_json({"gated": "yes"})


def test_phantom_files_are_listed_only(tmp_path: Path) -> None:
    add_repo(tmp_path, "a/b", {"f": b"x"}, phantom_files=("../evil",))
    with HubServer(tmp_path) as hub:
        assert {"rfilename": "../evil"} in ask(f"{hub.url}/api/models/a/b").json["siblings"]
        assert ask(f"{hub.url}/api/models/a/b/tree/main").json[-1]["path"] == "../evil"
        assert ask(f"{hub.url}/a/b/resolve/main/..%2Fevil").status == 404


def test_sharded_safetensors(tmp_path: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"metadata": {"total_size": 64}, "weight_map": {"w": shards[0], "v": shards[1]}}
    files: dict[str, bytes | Path] = {shard: safetensors((2, 4)) for shard in shards}
    add_repo(tmp_path, "a/b", {**files, "model.safetensors.index.json": json.dumps(index).encode()})
    with HubServer(tmp_path) as hub:
        assert ask(f"{hub.url}/api/models/a/b").json["safetensors"] == {"parameters": {"F32": 16}, "total": 16}
        found = ask(f"{hub.url}/api/models/a/b/safetensors-metadata/model.safetensors.index.json").json
        assert set(found["headers"]) == set(shards)
        assert found["index"] == {"metadata": {"total_size": 64}}


@pytest.mark.parametrize(
    ("text", "card"),
    [
        ("# no front matter", {}),
        ("---\nlicense: mit\n# no end", {}),
        (
            "---\na: 1\nb: 1.5\nc: true\nd: null\ne: 'x: y'\nf: x # y\n---\n",
            {"a": 1, "b": 1.5, "c": True, "d": None, "e": "x: y", "f": "x"},
        ),
        ("---\nt:\n- a\n- 2\nu:\n  - b\nv: [c, 'd']\n---\n", {"t": ["a", 2], "u": ["b"], "v": ["c", "d"]}),
        ("---\nmodel-index:\n- name: x\n  results: []\nw:\n  text: |\n    a\nlicense: mit\n---\n", {"license": "mit"}),
    ],
)
def test_cards(text: str, card: dict[str, Any]) -> None:
    assert read_card(text) == card


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program(tmp_path: Path, number: int) -> None:
    add_repo(tmp_path / "root", "a/b", {"f": b"x"})
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "tests.hub", "--root", str(tmp_path / "root"), "--ready-file", str(ready)]
    command += ["--user", "t=alice:acme", "--alias", "old=a/b"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = line.strip().removeprefix("HF_ENDPOINT=")
            wait_for(ready.exists)
            assert ready.read_text() == line
            assert ask(f"{url}/api/whoami-v2", token="t").json["name"] == "alice"
            assert ask(f"{url}/api/models/old").headers["location"] == "/api/models/a/b"
            process.send_signal(number)
            assert process.wait(timeout=PATIENCE) == 0
        finally:
            process.kill()
