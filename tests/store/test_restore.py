from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gpux.errors import CancelledError
from gpux.store import Store
from gpux.system.cancel import CancelToken
from tests.store.test_locks import CountingToken
from tests.store.variants import FILES, ID, commit, names
from tests.waiting import wait_until


@pytest.fixture
def originals(tmp_path: Path) -> dict[str, Path]:
    """Intact copies of all files of a variant."""
    for name, content in FILES.items():
        path = tmp_path / "originals" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {name: tmp_path / "originals" / name for name in FILES}


def test_files_are_restored_one_by_one(store: Store, originals: dict[str, Path]) -> None:
    model = commit(store)
    (model.path / "model.onnx").write_bytes(b"damaged")
    (model.path / "onnx" / "weights.bin").unlink()
    (model.path / "onnx").rmdir()
    (model.path / "tokenizer.json").unlink()
    (model.path / "tokenizer.json").symlink_to(originals["tokenizer.json"])
    before = (model.path / "manifest.json").stat().st_mtime_ns
    assert store.restore(model, originals) == tuple(FILES)
    assert store.verify(model).ok
    assert (model.path / "manifest.json").stat().st_mtime_ns == before
    assert list((store.root / "staging").iterdir()) == []
    assert originals["tokenizer.json"].read_bytes() == FILES["tokenizer.json"]


def test_sources_that_do_not_match_the_manifest_are_skipped(store: Store, originals: dict[str, Path]) -> None:
    model = commit(store)
    (model.path / "model.onnx").write_bytes(b"damaged")
    same_size = bytearray(FILES["model.onnx"])
    same_size[0] ^= 1
    for wrong in (b"other", bytes(same_size)):
        originals["model.onnx"].write_bytes(wrong)
        assert store.restore(model, {"model.onnx": originals["model.onnx"]}) == ()
        assert (model.path / "model.onnx").read_bytes() == b"damaged"


def test_unlisted_files_are_deleted(store: Store) -> None:
    model = commit(store)
    (model.path / "deep" / "er").mkdir(parents=True)
    (model.path / "deep" / "er" / "extra").write_text("")
    assert store.restore(model, {}, ["deep/er/extra", "model.onnx", "manifest.json"]) == ()
    assert names(model.path) == {*FILES, "manifest.json"}
    assert store.verify(model).ok


def test_a_folder_in_the_place_of_a_file(store: Store, originals: dict[str, Path]) -> None:
    model = commit(store)
    (model.path / "model.onnx").unlink()
    (model.path / "model.onnx" / "odd").mkdir(parents=True)
    assert store.restore(model, {"model.onnx": originals["model.onnx"]}) == ("model.onnx",)
    assert store.verify(model).ok


def test_restoring_waits_for_a_running_conversion(store: Store, originals: dict[str, Path]) -> None:
    model = commit(store)
    (model.path / "model.onnx").write_bytes(b"damaged")
    waiting = CountingToken()
    thread = threading.Thread(target=lambda: store.restore(model, originals, cancel=waiting))
    with store.lock("hf", ID, model.commit, model.task, "fp32"):
        thread.start()
        wait_until(lambda: waiting.waits)
        assert not store.verify(model).ok
        token = CancelToken()
        token.cancel()
        with pytest.raises(CancelledError):
            store.restore(model, originals, cancel=token)
    thread.join()
    assert store.verify(model).ok


def test_several_variants_are_verified_in_parallel(store: Store) -> None:
    models = [commit(store, precision=precision) for precision in ("fp32", "fp16", "int8")]
    (models[1].path / "model.onnx").write_bytes(FILES["model.onnx"][::-1])
    reports = store.verify_all(models)
    assert [report.ok for report in reports] == [True, False, True]
    assert [report.precision for report in reports] == ["fp32", "fp16", "int8"]
    assert store.verify_all([]) == []
