"""Small variants to fill a store with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, ProofCase, StoredModel, TensorSpec
from gpux.store import Staging, Store
from gpux.system.files import exchange

ID = "org/name"
COMMITS = tuple(character * 40 for character in "abcdef")
COMMIT = COMMITS[0]
FILES = {"model.onnx": b"graph" * 400, "tokenizer.json": b"{}", "onnx/weights.bin": bytes(range(256)) * 64}


def manifest(**changes: Any) -> Manifest:
    """A manifest with a value in every field except ``files``, which the store adds."""
    tensor = TensorSpec("input_ids", "int64", ("batch", None, 4))
    values: dict[str, Any] = {
        "scheme": "hf",
        "id": ID,
        "commit": COMMIT,
        "task": "feature-extraction",
        "precision": "fp32",
        "recipe": "optimum",
        "graphs": (GraphSpec("model", "model.onnx", (tensor,), (tensor,)),),
        "files": (),
        "call_spec": CallSpec("left", 512, True, True),
        "proof": Proof("proven", (ProofCase("short", {"input_ids": (1, 4)}, 1e-7, 1e-4, True),), {"torch": "2.8"}),
        "versions": {"optimum-onnx": "0.1.0"},
        "model_type": "bert",
    }
    return Manifest(**(values | changes))


def fill(staging: Staging, files: dict[str, bytes] = FILES) -> None:
    for name, content in files.items():
        target = staging.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def commit(store: Store, *, replace: bool = False, files: dict[str, bytes] = FILES, **changes: Any) -> StoredModel:
    with store.staging() as staging:
        fill(staging, files)
        (staging.scratch / "reference.npz").write_bytes(b"arrays")
        return staging.commit(manifest(**changes), replace=replace)


def can_exchange(folder: Path) -> bool:
    """Whether the file system can exchange two folders in one step."""
    pair = [folder / "swap-a", folder / "swap-b"]
    for path in pair:
        path.mkdir(exist_ok=True)
    return exchange(*pair)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
