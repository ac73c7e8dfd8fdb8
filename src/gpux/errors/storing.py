"""Errors of this machine's disk."""

from __future__ import annotations

from gpux.errors.base import GpuxError


class StorageError(GpuxError):
    """This machine's disk: the store, the source cache, the toolchains."""

    exit_code = 6


class NotWritableError(StorageError):
    """A folder that gpux must write to refuses."""


class DiskFullError(StorageError):
    """Not enough space; ``details`` has ``needed`` and ``free`` in bytes where they are known."""


class CorruptFileError(StorageError):
    """Size or hash of a file is not the promised one; ``details`` has ``expected`` and ``actual``."""


class ManifestError(StorageError):
    """A manifest that is damaged, or of a schema that this version does not read."""


class NotStoredError(StorageError):
    """The store has no such model."""

    exit_code = 3


class JobNotFoundError(StorageError):
    """No background job has this id."""

    exit_code = 3
