"""Models on this machine: a folder as ``save_pretrained`` writes it, or a single file (:data:`SINGLE_FILES`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpux.errors import CorruptFileError, EntryNotFoundError, ModelNotFoundError, UnsupportedError
from gpux.inspect.formats import external_data_of, weight_formats
from gpux.inspect.headers.onnx_graphs import external_files
from gpux.inspect.reads import FileReads, read_part
from gpux.managers.base import ModelManager
from gpux.managers.card_files import cached_page
from gpux.model.info import ModelFile, ModelInfo, ModelPage, Revision, SourceSnapshot
from gpux.model.json_file import read_json
from gpux.model.reference import ModelRef, Reference
from gpux.system.cancel import CancelToken
from gpux.system.hashing import hash_bytes, hash_file
from gpux.system.progress import ProgressCallback

SINGLE_FILES = (".onnx", ".gguf", ".safetensors")  #: types of files that are a model by themselves


class LocalManager(ModelManager):
    """Models in folders or single files; the commit is a hash of the names and contents of the files."""

    scheme = "local"

    def resolve(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelInfo:
        """The files with their hashes.

        Raises:
            ModelNotFoundError: the folder or file does not exist, or cannot be read completely.
        """
        parsed, token = ModelRef.parse(ref), cancel or CancelToken()
        with _read_errors(parsed.id):
            path = _path(parsed)
            files = tuple(_describe(path, file, token) for file in _files(path))
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
    path = Path(ref.id).expanduser().absolute()
    if path.is_dir() or (path.is_file() and path.suffix.lower() in SINGLE_FILES):
        return path
    what = "not a folder, nor an .onnx, .gguf or .safetensors file" if path.exists() else "no such folder or file"
    hint = "A model of the Hub is named org/name, without a leading ./ or /."
    raise ModelNotFoundError(f"{ref.id}: {what}", hint=hint, model=ref.id)


def _root(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _files(path: Path) -> list[Path]:
    """The files of a folder except hidden ones; of an ONNX file, the file and its external data."""
    if path.is_dir():
        return sorted(
            file
            for file in path.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
    return [path, *(file for file in _external_data(path) if file.is_file())]


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


def _describe(path: Path, file: Path, cancel: CancelToken) -> ModelFile:
    sha256 = hash_file(file, "sha256", lambda length: None, cancel)
    return ModelFile(_relative(path, file), file.stat().st_size, sha256=sha256)


def _commit(files: Iterable[ModelFile]) -> str:
    """40 hexadecimal digits, as of a git commit: a hash of the names and hashes of all files."""
    listing = "".join(f"{file.path}\0{file.sha256}\0" for file in files)
    return hash_bytes(listing.encode(), "sha256")[:40]
