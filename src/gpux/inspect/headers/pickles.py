"""The imports of pickle files, found in their opcodes with ranged reads; nothing is executed.

A pickle names the functions that loading it calls, so the imports show what it can do. PyTorch's files are zip archives
whose ``*/data.pkl`` is the pickle (``torch/serialization.py``); before PyTorch 1.6, several concatenated pickles.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gpux.errors import CorruptFileError
from gpux.inspect.reads import FileReads
from gpux.model.values import Value

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
LARGEST = 32 << 20  #: maximum bytes of a pickle that are read
TAIL = 64 << 10  #: bytes at the end of an archive that contain its directory
_LEGACY = 5  #: pickles of a PyTorch file before 1.6
#: Modules whose functions only build tensors and containers.
_INNOCUOUS = frozenset(
    {"torch", "torch._utils", "torch.storage", "torch._tensor", "torch.nn.parameter", "collections", "numpy", "_codecs"}
    | {"numpy.core.multiarray", "numpy._core.multiarray", "torch.serialization", "torch._weights_only_unpickler"}
)
#: Names of these modules, or of ``builtins``, that can do more.
_CALLS = frozenset(
    {"eval", "exec", "compile", "open", "getattr", "__import__", "apply", "breakpoint", "input", "globals", "load"}
)
_BUILTINS = frozenset({"builtins", "__builtin__"})
_HARMLESS = frozenset(
    {"set", "frozenset", "list", "dict", "tuple", "int", "float", "str", "bytes", "bytearray", "slice"}
)
_TEXTS = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)


@dataclass(frozen=True, order=True)
class PickleImport(Value):
    """A name that loading the pickle imports and may call."""

    module: str
    name: str

    @property
    def innocuous(self) -> bool:
        """True for names that every file of tensors imports; False means that the import should be reviewed."""
        if self.module in _BUILTINS:
            return self.name in _HARMLESS
        return self.module in _INNOCUOUS and self.name not in _CALLS

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def is_pickle(path: str) -> bool:
    """Whether a file name is that of a pickle, or of an archive that may contain some."""
    return path.lower().endswith(SUFFIXES)


def read_imports(reads: FileReads, path: str) -> tuple[PickleImport, ...]:
    """The imports of a file.

    Raises:
        CorruptFileError: the file is not a pickle, or is truncated.
        ManagerError: the source refuses; the subclass states why.
    """
    size = reads.size(path)
    if reads.read(path, 0, 4) == b"PK\x03\x04":
        return _of_archive(_Ranged(reads, path, size), path)
    return imports(reads.read(path, 0, LARGEST), path, pickles=_LEGACY)


def imports(data: bytes, path: str, *, pickles: int = 1) -> tuple[PickleImport, ...]:
    """The imports of the first ``pickles`` concatenated pickles.

    Raises:
        CorruptFileError: the first one is not a pickle, or is truncated.
    """
    found: set[PickleImport] = set()
    source = io.BytesIO(data)
    for number in range(pickles):
        if source.tell() >= len(data):
            break
        try:
            found |= set(_imports(pickletools.genops(source)))
        except (ValueError, IndexError, struct.error, UnicodeDecodeError) as exc:
            if number == 0:
                raise _broken(path, f"it is not a pickle ({exc})") from exc
            break
    return tuple(sorted(found))


def _imports(opcodes: Iterable[tuple[Any, Any, Any]]) -> Iterator[PickleImport]:
    """``GLOBAL`` and ``INST`` contain module and name; ``STACK_GLOBAL`` uses the last two strings."""
    texts: list[str] = []
    memo: dict[int, str] = {}
    last: str | None = None
    for opcode, argument, _ in opcodes:
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            yield PickleImport(module, name)
        elif opcode.name == "STACK_GLOBAL":
            module, name = ["?", "?", *texts][-2:]
            yield PickleImport(module, name)
        last = _text(opcode.name, argument, last, memo, texts)


def _text(name: str, argument: Any, last: str | None, memo: dict[int, str], texts: list[str]) -> str | None:
    """Record a string that an opcode pushes or fetches from the memo; returns it for a following ``MEMOIZE``."""
    if name in _TEXTS:
        texts.append(str(argument))
        return texts[-1]
    if name == "MEMOIZE":
        memo[len(memo)] = last or ""
    elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
        memo[int(argument)] = last or ""
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        texts.append(memo.get(int(argument), "?"))
        return texts[-1]
    return None if name not in ("FRAME", "MEMOIZE") else last


def _of_archive(file: _Ranged, path: str) -> tuple[PickleImport, ...]:
    found: set[PickleImport] = set()
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith((".pkl", ".pickle"))]
            for entry in entries:
                if entry.file_size > LARGEST:
                    raise _broken(path, f"its pickle {entry.filename!r} has {entry.file_size} bytes")
                found |= set(imports(archive.read(entry), path))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError, struct.error) as exc:
        raise _broken(path, f"it is not an archive ({exc})") from exc
    return tuple(sorted(found))


class _Ranged(io.RawIOBase):
    """A file object over ranged reads, which keeps the end of the file: it contains the archive's directory."""

    def __init__(self, reads: FileReads, path: str, size: int) -> None:
        self._reads = reads
        self._path = path
        self._size = size
        self._place = 0
        self._base = max(0, size - TAIL)
        self._kept = reads.read(path, self._base, size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if place < 0:
            raise OSError(f"negative file position {place}")
        self._place = place
        return place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._place + size, self._size)
        if not self._base <= self._place or stop > self._base + len(self._kept):
            ahead = min(max(stop, self._place + TAIL), self._size)  # the header of an entry precedes its content
            self._base, self._kept = self._place, self._reads.read(self._path, self._place, ahead)
        data = self._kept[self._place - self._base : stop - self._base]
        self._place = max(self._place, stop)
        return data


def _broken(path: str, why: str) -> CorruptFileError:
    return CorruptFileError(f"cannot inspect {path}: {why}", hint="Do not load it.", file=path)
