from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from gpux.errors import CancelledError
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, event_to_dict
from tests.store.variants import FILES, commit


def test_an_intact_variant(store: Store) -> None:
    model = commit(store)
    events: list[Event] = []
    report = store.verify(model, progress=events.append)
    assert report.ok
    assert (report.files, report.size, report.id) == (3, model.size, model.id)
    assert event_to_dict(events[-1])["done"] == model.size == sum(map(len, FILES.values()))
    assert pickle.loads(pickle.dumps(report)) == report
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_every_kind_of_damage(store: Store, tmp_path: Path) -> None:
    names = ("flipped", "gone", "longer", "linked", "hard")
    model = commit(store, files={"model.onnx": b"x"} | dict.fromkeys(names, b"content"))
    flip(model.path / "flipped")
    (model.path / "gone").unlink()
    (model.path / "longer").write_bytes(b"contents")
    (model.path / "linked").rename(tmp_path / "linked")
    (model.path / "linked").symlink_to(tmp_path / "linked")
    (tmp_path / "hard").hardlink_to(model.path / "hard")
    (model.path / "sub").mkdir()
    (model.path / "sub" / "extra").write_bytes(b"")
    found = {problem.file: problem.kind for problem in store.verify(model).problems}
    assert found == {
        "flipped": "hash",
        "gone": "missing",
        "longer": "size",
        "linked": "link",
        "hard": "link",
        "sub/extra": "extra",
    }
    quick = {problem.file for problem in store.verify(model, hashes=False).problems}
    assert quick == set(found) - {"flipped"}


def test_damage_to_the_manifest_and_the_folder(store: Store) -> None:
    model = commit(store)
    changed = replace(model, manifest=replace(model.manifest, license="other"))
    assert [problem.kind for problem in store.verify(changed).problems] == ["manifest"]
    (model.path / "manifest.json").write_text("{")
    report = store.verify(model)
    assert [problem.kind for problem in report.problems] == ["manifest"]
    assert not report.to_dict()["ok"]
    store.removal_plan([model]).execute()
    assert [problem.kind for problem in store.verify(model).problems] == ["unreadable"]


def test_cancel(store: Store) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        store.verify(commit(store), cancel=token)
