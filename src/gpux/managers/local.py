"""Models on this machine: a folder as ``save_pretrained`` writes it, or a single file (:data:`SINGLE_FILES`).

A repository's folder in a Hugging Face cache (``models--org--name``) stands for the snapshot that ``main`` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpux.errors import CorruptFileError, EntryNotFoundError, ModelNotFoundError, UnsupportedError
from gpux.inspect.formats import external_data_of, weight_formats
from gpux.inspect.headers.onnx_graphs import external_files
from gpux.inspect.reads import FileReads, read_part
from gpux.managers.base import ModelManager
from gpux.managers.card_files import cached_page
from gpux.managers.file_hashes import FileHashes
from gpux.model.info import ModelFile, ModelInfo, ModelPage, Revision, SourceSnapshot
from gpux.model.json_file import read_json
from gpux.model.reference import ModelRef, Reference, local_path
from gpux.system.cancel import CancelToken
from gpux.system.hashing import hash_bytes
from gpux.system.progress import ProgressCallback

SINGLE_FILES = (".onnx", ".gguf", ".safetensors")  #: types of files that are a model by themselves


class LocalManager(ModelManager):
    """Models in folders or single files; the commit is a hash of the names and contents of the files.

    Hashes of unchanged files are kept (:mod:`gpux.managers.file_hashes`), so that large weights are read once.
    """

    scheme = "local"

    def resolve(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelInfo:
        """The files with their hashes.

        Raises:
            ModelNotFoundError: the folder or file does not exist, or cannot be read completely.
            CorruptFileError: a file changes while it is read, or config.json is not JSON.
            UnsafePathError: an ONNX file reads weights from outside of its folder.
        """
        parsed, token = ModelRef.parse(ref), cancel or CancelToken()
        with _read_errors(parsed.id):
            path = _path(parsed)
            found = _files(path)
            hashes = FileHashes(self.settings.home / "hashes", path).of(found, token)
            files = tuple(
                ModelFile(_relative(path, file), size, sha256=sha256)
                for file, (size, sha256) in zip(found, hashes, strict=True)
            )
            config = read_json(_root(path) / "config.json", hint="Correct the file.") if path.is_dir() else {}
        return ModelInfo(
            scheme=self.scheme,
            id=str(path),
            requested_id=str(path),
            commit=_commit(files),
            files=files,
            formats=weight_formats(file.path for file in files),
            model_type=config.get("model_type"),
            architectures=tuple(config.get("architectures") or ()),
        )

    def fetch(
        self,
        info: ModelInfo,
        paths: Iterable[str],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> SourceSnapshot:
        """Check that the files exist; they are used in place."""
        wanted = tuple(paths)
        with _read_errors(info.id):
            folder = _root(Path(info.id))
            for path in wanted:
                if not (folder / path).is_file():
                    raise EntryNotFoundError(f"{info.id} has no file {path!r}", model=info.id, file=path)
        return SourceSnapshot(info, folder, wanted)

    def page(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelPage:
        """The folder or file and its README.md; no file is hashed, so the commit is empty."""
        parsed = ModelRef.parse(ref)
        with _read_errors(parsed.id):
            path = _path(parsed)
            files = tuple(ModelFile(_relative(path, file), file.stat().st_size) for file in _files(path))
        info = ModelInfo(
            scheme=self.scheme,
            id=str(path),
            requested_id=str(path),
            files=files,
            formats=weight_formats(file.path for file in files),
        )
        return cached_page(info, _root(path))

    def open_reads(self, info: ModelInfo, *, network: bool = True) -> FileReads:
        """Byte ranges of the files in place."""
        return _LocalReads(_root(Path(info.id)), info)

    def cached(self, info: ModelInfo, paths: Iterable[str]) -> set[str]:
        """All ``paths``: the files are used in place."""
        return set(paths)

    def check_unchanged(self, id: str, commit: str) -> None:
        """Look for other files or contents; unchanged files are not read again."""
        if self.resolve(ModelRef(self.scheme, id)).commit != commit:
            raise CorruptFileError(
                f"the files of {id} changed while the model was pulled; nothing was stored",
                hint="Run the same command again when the program that writes them has ended.",
                model=id,
            )

    def search_models(
        self, query: str = "", *, task: str | None = None, author: str | None = None, limit: int = 20
    ) -> list[ModelInfo]:
        """Raises UnsupportedError: folders are not searched."""
        raise UnsupportedError("folders are not searched", hint="Search the Hub with `gpux search`.")

    def list_revisions(self, ref: Reference) -> list[Revision]:
        """A folder has no revisions: an empty list."""
        parsed = ModelRef.parse(ref)
        with _read_errors(parsed.id):
            _path(parsed)
        return []


class _LocalReads(FileReads):
    """Byte ranges of the files in a folder."""

    def __init__(self, folder: Path, info: ModelInfo) -> None:
        self._folder = folder
        self._info = info

    def size(self, path: str) -> int:
        file = self._info.file(path)
        if file is None or file.size is None:
            raise EntryNotFoundError(f"{self._info.id} has no file {path!r}", model=self._info.id, file=path)
        return file.size

    def _read(self, path: str, start: int, stop: int) -> bytes:
        with _read_errors(self._info.id):
            return read_part(self._folder / path, start, stop)


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    """Turn OSErrors into ModelNotFoundError."""
    try:
        yield
    except OSError as exc:
        at = f" ({exc.filename})" if exc.filename and str(exc.filename) != name else ""
        hint = "Name a folder that contains only the files of a model, all of them readable."
        raise ModelNotFoundError(f"{name} cannot be read: {exc.strerror or exc}{at}", hint=hint, model=name) from exc


def _path(ref: ModelRef) -> Path:
    path = _snapshot(local_path(ref.id))
    if path.is_dir() or (path.is_file() and path.suffix.lower() in SINGLE_FILES):
        return path
    what = "not a folder, nor an .onnx, .gguf or .safetensors file" if path.exists() else "no such folder or file"
    hint = "A model of the Hub is named org/name, without a leading ./ or /."
    raise ModelNotFoundError(f"{ref.id}: {what}", hint=hint, model=ref.id)


def _snapshot(path: Path) -> Path:
    """The snapshot that a repository's folder of a Hugging Face cache stands for; any other path unchanged."""
    snapshots = path / "snapshots"
    if not snapshots.is_dir() or (path / "config.json").exists():
        return path
    main = path / "refs" / "main"
    commits = sorted(child for child in snapshots.iterdir() if child.is_dir())
    named = snapshots / main.read_text(encoding="utf-8").strip() if main.is_file() else None
    if named in commits:
        return named
    if len(commits) == 1:
        return commits[0]
    hint = f"Name one of them: {', '.join(str(commit) for commit in commits)}." if commits else "Download it again."
    what = f"{path} has {len(commits)} snapshots, and main names none of them"
    raise ModelNotFoundError(what, hint=hint, model=str(path))


def _root(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _files(path: Path) -> list[Path]:
    """The files of a folder except hidden ones; of an ONNX file, the file and its external data."""
    if path.is_dir():
        return sorted(_inside(path, frozenset()))
    return [path, *(file for file in _external_data(path) if file.is_file())]


def _inside(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """The files below a folder, those of linked folders too.

    Raises:
        ModelNotFoundError: a link leads nowhere.
    """
    place = os.path.realpath(folder)
    if place in above:  # a link to a folder above
        return
    for child in folder.iterdir():
        if child.name.startswith("."):
            continue
        if child.is_dir():
            yield from _inside(child, above | {place})
        elif child.is_file():
            yield child
        elif child.is_symlink():
            raise ModelNotFoundError(
                f"{child} is a link to {child.readlink()}, which does not exist",
                hint="Restore that file, or remove the link if the model does not need it.",
                model=str(folder),
            )


def _external_data(path: Path) -> list[Path]:
    """The files that an ONNX file names; by usual names where it cannot be read."""
    if path.suffix.lower() != ".onnx":
        return []
    try:
        return [path.parent / file.path for file in external_files(path)]
    except CorruptFileError:
        names = [file.name for file in path.parent.iterdir() if file.is_file()]
        return [path.parent / name for name in external_data_of(path.name, names)]


def _relative(path: Path, file: Path) -> str:
    return file.relative_to(_root(path)).as_posix()


def _commit(files: Iterable[ModelFile]) -> str:
    """40 hexadecimal digits, as of a git commit: a hash of the names and hashes of all files."""
    listing = "".join(f"{file.path}\0{file.sha256}\0" for file in files)
    return hash_bytes(listing.encode(), "sha256")[:40]
