"""The last answer of a Hub about a model, kept so that it can be shown, with its age, when nobody can be asked.

``home/info`` holds one small JSON file for each (endpoint, model, revision) that was ever asked for, the newest
:data:`KEPT` of them. A kept answer is never taken for the Hub's own of this moment: it travels as :class:`KnownInfo`,
which tells when it was given. How old an answer may be is all that can be said: huggingface_hub exposes neither the
ETag of a model's description nor a conditional request for one, so "unchanged since" cannot be asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpux.errors import (
    DisabledModelError,
    ModelNotFoundError,
    RevisionNotFoundError,
    UnavailableError,
    UnsafePathError,
)
from gpux.managers.base import ModelManager
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.system.cancel import CancelToken

KEPT = 500  #: answers at most; the least recently given go first
SCHEMA = 1
DEFAULT_BRANCH = "main"  # what a Hub calls the branch that no revision stands for
#: Answers that say: what was known is not so any more.
_OVER = (ModelNotFoundError, RevisionNotFoundError, DisabledModelError)


@dataclass(frozen=True)
class KnownInfo(Value):
    """What is known of a model, and since when."""

    info: ModelInfo
    asked: str | None  #: ISO 8601, UTC: when the source said so; None: put together from files on this machine
    why: str | None = None  #: why this is not the source's answer of this moment; None if it is, or was taken for it

    @property
    def age(self) -> float | None:
        """Seconds since it was asked, below zero if the clock was set back; None if it never was."""
        if self.asked is None:
            return None
        return (datetime.now(UTC) - datetime.fromisoformat(self.asked)).total_seconds()

    def is_within(self, max_age: float) -> bool:
        """True if the answer is at most that many seconds old; an age that is not known is too old."""
        return self.age is not None and 0 <= self.age <= max_age


class InfoCache:
    """Kept answers of one endpoint under ``folder``, which need not exist. Reading and writing never fail."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder = folder
        self._endpoint = endpoint

    def path(self, id: str, revision: str | None) -> Path:
        """The file of one answer: named by a hash, since neither endpoints nor revisions are plain names."""
        name = "\0".join((self._endpoint, id, revision or DEFAULT_BRANCH))
        return self._folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}.json"

    def read(self, id: str, revision: str | None) -> KnownInfo | None:
        """The kept answer; None where there is none, or a damaged one, or one of another version."""
        try:
            text = self.path(id, revision).read_text(encoding="utf-8")
            return _decode(json.loads(text), id)
        except (OSError, ValueError, TypeError, KeyError, RecursionError, UnsafePathError):
            return None

    def write(self, id: str, revision: str | None, known: KnownInfo) -> None:
        """Keep an answer in the place of the former one; a folder that refuses keeps nothing."""
        path = self.path(id, revision)
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            _replace(path, json.dumps(_encode(known)), private=known.info.private)
            if is_new:
                self._drop_oldest()

    def drop(self, id: str, revision: str | None) -> None:
        """Forget an answer."""
        with suppress(OSError):
            self.path(id, revision).unlink(missing_ok=True)

    def _drop_oldest(self) -> None:
        """Keep the number bounded; what a killed process left half-written counts too."""
        with os.scandir(self._folder) as found:
            entries = [(entry.stat().st_mtime_ns, entry.path) for entry in found]
        for _, path in sorted(entries, reverse=True)[KEPT:]:
            with suppress(OSError):  # another process was faster
                Path(path).unlink()


class RemembersInfo(ModelManager):
    """A manager of a remote source that keeps the last answer about each model.

    Its :meth:`resolve` hands what it does to :meth:`remembered`; the methods here do the rest.
    """

    @abstractmethod
    def resolve(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelInfo:
        """As :meth:`ModelManager.resolve` says; always asks, unless offline."""

    def get_model_info(self, ref: Reference, *, revision: str | None = None, max_age: float | None = None) -> ModelInfo:
        """What the source says of the model, weights not included: one request.

        Args:
            ref: any form that :meth:`ModelRef.parse` accepts.
            revision: branch, tag, ``refs/pr/N`` or commit.
            max_age: seconds; an answer that is not older is taken without a request. By default the source is asked.

        Raises:
            ManagerError: as :meth:`resolve` does; :meth:`latest_model_info` is what falls back to a kept answer.
        """
        parsed = ModelRef.parse(ref).at(revision)
        known = self.known_model_info(parsed) if max_age is not None else None
        if known is not None and max_age is not None and known.is_within(max_age):
            return known.info
        return self.resolve(parsed)

    def known_model_info(self, ref: Reference, *, revision: str | None = None) -> KnownInfo | None:
        """The last answer about the model, with its age and without a request; None if none is kept."""
        parsed = ModelRef.parse(ref).at(revision)
        if parsed.endpoint not in (None, self.settings.endpoint):
            return None  # another Hub's model of that name
        return self._infos().read(parsed.id, parsed.revision)

    def latest_model_info(self, ref: Reference, *, revision: str | None = None) -> KnownInfo:
        """What the source says of the model or, where it cannot be asked, what it said last; ``why`` tells then.

        Offline, a model of which no answer is kept is described by the files of it that are here.

        Raises:
            OfflineError: offline, and nothing here tells of the model.
            ManagerError: as :meth:`resolve` does; UnavailableError only if no answer is kept.
        """
        parsed = ModelRef.parse(ref).at(revision)
        if self.settings.offline:
            known = self.known_model_info(parsed)
            return replace(known, why="offline") if known else KnownInfo(self.resolve(parsed), None, "offline")
        try:
            return KnownInfo(self.resolve(parsed), _now())
        except UnavailableError as exc:
            known = self.known_model_info(parsed)
            if known is None:
                raise
            return replace(known, why=exc.message)

    def remembered(self, ref: ModelRef, ask: Callable[[], ModelInfo]) -> ModelInfo:
        """What ``ask`` answers, which is kept; where it says that there is no such thing, the kept answer goes."""
        infos = self._infos()
        try:
            info = ask()
        except _OVER:
            infos.drop(ref.id, ref.revision)
            raise
        known = KnownInfo(info, _now())
        for name in {ref.id, info.id}:  # a short or former name, and the one it stands for
            infos.write(name, ref.revision, known)
        return info

    def _infos(self) -> InfoCache:
        return InfoCache(self.settings.home / "info", self.settings.endpoint)


def latest_info(manager: ModelManager, ref: Reference, *, revision: str | None = None) -> KnownInfo:
    """:meth:`RemembersInfo.latest_model_info` of managers that have it; others are asked, which costs no network."""
    if isinstance(manager, RemembersInfo):
        return manager.latest_model_info(ref, revision=revision)
    return KnownInfo(manager.get_model_info(ref, revision=revision), _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _encode(known: KnownInfo) -> dict[str, Any]:
    answer = {"asked": known.asked, "info": known.info.to_dict()}
    return {"schema": SCHEMA, "sha256": _digest(answer), "answer": answer}


def _decode(data: Any, id: str) -> KnownInfo:
    """Read what :func:`_encode` wrote. The digest stands for every check: what it fits is what was written.

    Raises:
        ValueError: or TypeError, KeyError: it is damaged, or another version's.
    """
    answer = data["answer"]
    if data["schema"] != SCHEMA or data["sha256"] != _digest(answer):
        raise ValueError("damaged, or of another version")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in answer["info"].items()
    }
    fields["files"] = tuple(ModelFile(**file) for file in fields["files"])
    return KnownInfo(ModelInfo(**{**fields, "requested_id": id}), answer["asked"])


def _digest(answer: Any) -> str:
    return hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()


def _replace(path: Path, text: str, *, private: bool) -> None:
    """Write in one step; a private model's file is its owner's alone from its first byte on.

    Not flushed to the disk: after a power cut the digest tells, and the Hub is asked again.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123 - a handle has no path
            file.write(text)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
