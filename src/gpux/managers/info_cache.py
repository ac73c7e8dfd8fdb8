"""The last info of each model, cached on disk, to be shown with its age when the Hub cannot be reached.

``home/info`` contains one small JSON file for each (endpoint, model, revision), the :data:`KEPT` newest of them. Cached
info is always returned as :class:`DatedInfo`, with the time when the Hub sent it. Only its age decides whether it may
be used: huggingface_hub exposes neither the ETag of a model's info nor a conditional request.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpux.errors import (
    CorruptFileError,
    DisabledModelError,
    ModelNotFoundError,
    RevisionNotFoundError,
    UnavailableError,
    UnsafePathError,
)
from gpux.managers.base import ModelManager
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.json_file import load_json
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.system.cancel import CancelToken
from gpux.system.files import write_atomic
from gpux.system.hashing import hash_bytes

KEPT = 500  #: files at most; the oldest are deleted first
SCHEMA = 2
DEFAULT_BRANCH = "main"  # the branch that a reference without a revision means
#: Errors after which the cached info is wrong.
_GONE = (ModelNotFoundError, RevisionNotFoundError, DisabledModelError)


@dataclass(frozen=True)
class DatedInfo(Value):
    """A model's info with the time when the source sent it."""

    info: ModelInfo
    retrieved: str | None  #: ISO 8601, UTC; None: composed from files on this machine
    why: str | None = None  #: why the source was not reached; None if it was, or if the cached info was new enough

    @property
    def age(self) -> float | None:
        """Seconds since ``retrieved``, negative if the clock was set back; None without that time."""
        if self.retrieved is None:
            return None
        return (datetime.now(UTC) - datetime.fromisoformat(self.retrieved)).total_seconds()

    def is_within(self, max_age: float) -> bool:
        """True if the info is at most that many seconds old; False without a known age."""
        return self.age is not None and 0 <= self.age <= max_age


class InfoCache:
    """The cached info of one endpoint in ``folder``, which need not exist. Reading and writing never raise."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder = folder
        self._endpoint = endpoint

    def path(self, id: str, revision: str | None) -> Path:
        """The file for one model, named by a hash, since endpoints and revisions are not valid file names."""
        name = "\0".join((self._endpoint, id, revision or DEFAULT_BRANCH))
        return self._folder / f"{hash_bytes(name.encode('utf-8', 'surrogatepass'), 'sha256')[:40]}.json"

    def read(self, id: str, revision: str | None) -> DatedInfo | None:
        """The cached info; None if it is missing, damaged, or written by another version."""
        try:
            return _decode(load_json(self.path(id, revision)), id)
        except (OSError, ValueError, TypeError, KeyError, CorruptFileError, UnsafePathError):
            return None

    def write(self, id: str, revision: str | None, known: DatedInfo) -> None:
        """Cache an info in place of the previous one; nothing happens if the folder cannot be written."""
        path = self.path(id, revision)
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            # Not flushed to the disk: damage by a power cut is detected by the digest.
            write_atomic(path, json.dumps(_encode(known)), private=known.info.private)
            if is_new:
                self._drop_oldest()

    def drop(self, id: str, revision: str | None) -> None:
        """Delete a cached info."""
        with suppress(OSError):
            self.path(id, revision).unlink(missing_ok=True)

    def _drop_oldest(self) -> None:
        """Bound the number of files, including temporary files of killed processes."""
        with os.scandir(self._folder) as found:
            entries = [(entry.stat().st_mtime_ns, entry.path) for entry in found]
        for _, path in sorted(entries, reverse=True)[KEPT:]:
            with suppress(OSError):  # another process deleted it
                Path(path).unlink()


class InfoCachingManager(ModelManager):
    """A manager of a remote source that caches the last info of each model.

    A subclass implements :meth:`resolve` by a call of :meth:`cache_info`.
    """

    @abstractmethod
    def resolve(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelInfo:
        """As :meth:`ModelManager.resolve`; sends a request unless offline."""

    def get_model_info(self, ref: Reference, *, revision: str | None = None, max_age: float | None = None) -> ModelInfo:
        """The files and metadata of the model at a commit: one request.

        Args:
            ref: any form that :meth:`ModelRef.parse` accepts.
            revision: branch, tag, ``refs/pr/N`` or commit.
            max_age: seconds; cached info that is not older is returned without a request. None always requests.

        Raises:
            ManagerError: as :meth:`resolve`; :meth:`latest_model_info` falls back to the cached info instead.
        """
        parsed = ModelRef.parse(ref).at(revision)
        known = self.cached_model_info(parsed) if max_age is not None else None
        if known is not None and max_age is not None and known.is_within(max_age):
            return known.info
        return self.resolve(parsed)

    def cached_model_info(self, ref: Reference, *, revision: str | None = None) -> DatedInfo | None:
        """The cached info of the model, without a request; None without one."""
        parsed = ModelRef.parse(ref).at(revision)
        if parsed.endpoint not in (None, self.settings.endpoint):
            return None  # a model of another Hub
        return self._infos().read(parsed.id, parsed.revision)

    def latest_model_info(self, ref: Reference, *, revision: str | None = None) -> DatedInfo:
        """The model's info from the source or, if the source cannot be reached, the cached info with ``why``.

        Offline, the info of a model without cached info is composed from its files on this machine.

        Raises:
            OfflineError: offline, and neither cached info nor files of the model are on this machine.
            ManagerError: as :meth:`resolve`; UnavailableError only without cached info.
        """
        parsed = ModelRef.parse(ref).at(revision)
        if self.settings.offline:
            known = self.cached_model_info(parsed)
            return replace(known, why="offline") if known else DatedInfo(self.resolve(parsed), None, "offline")
        try:
            return DatedInfo(self.resolve(parsed), _now())
        except UnavailableError as exc:
            known = self.cached_model_info(parsed)
            if known is None:
                raise
            return replace(known, why=exc.message)

    def cache_info(self, ref: ModelRef, request: Callable[[], ModelInfo]) -> ModelInfo:
        """Call ``request`` and cache its result; if the model is gone, delete the cached info and raise."""
        infos = self._infos()
        try:
            info = request()
        except _GONE:
            infos.drop(ref.id, ref.revision)
            raise
        known = DatedInfo(info, _now())
        for name in {ref.id, info.id}:  # the id that was requested and the canonical id
            infos.write(name, ref.revision, known)
        return info

    def _infos(self) -> InfoCache:
        return InfoCache(self.settings.home / "info", self.settings.endpoint)


def latest_info(manager: ModelManager, ref: Reference, *, revision: str | None = None) -> DatedInfo:
    """:meth:`InfoCachingManager.latest_model_info`; of a local manager, its info with the present time."""
    if isinstance(manager, InfoCachingManager):
        return manager.latest_model_info(ref, revision=revision)
    return DatedInfo(manager.get_model_info(ref, revision=revision), _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _encode(known: DatedInfo) -> dict[str, Any]:
    answer = {"retrieved": known.retrieved, "info": known.info.to_dict()}
    return {"schema": SCHEMA, "sha256": _digest(answer), "answer": answer}


def _decode(data: Any, id: str) -> DatedInfo:
    """Read the document of :func:`_encode`; a matching digest means that it is unchanged.

    Raises:
        ValueError, TypeError, KeyError: it is damaged, or of another version.
    """
    answer = data["answer"]
    if data["schema"] != SCHEMA or data["sha256"] != _digest(answer):
        raise ValueError("damaged, or of another version")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in answer["info"].items()
    }
    fields["files"] = tuple(ModelFile(**file) for file in fields["files"])
    return DatedInfo(ModelInfo(**{**fields, "requested_id": id}), answer["retrieved"])


def _digest(answer: Any) -> str:
    return hash_bytes(json.dumps(answer, sort_keys=True).encode(), "sha256")
