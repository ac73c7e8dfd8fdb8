"""Every error that gpux raises.

::

    GpuxError
    ├── UsageError                 an argument or option that cannot be meant
    │   └── InvalidReferenceError  a model reference in no accepted form
    │       └── WrongKindError     it names a dataset, a Space, a collection or a paper
    ├── ManagerError               the place where models come from
    │   ├── ModelNotFoundError     no such repository, or no right to see it
    │   ├── RevisionNotFoundError
    │   ├── EntryNotFoundError     no such file in the repository
    │   ├── AccessError
    │   │   ├── InvalidTokenError
    │   │   ├── GatedModelError    the repository's page grants access
    │   │   └── DisabledModelError
    │   ├── UnavailableError       may work later
    │   │   ├── NetworkError       nothing answered
    │   │   ├── HubServerError     answered 5xx, or nothing usable
    │   │   ├── RateLimitError
    │   │   └── OfflineError       offline was asked for, and it is not here
    │   └── UnsafePathError        a file name that leaves its folder
    ├── StorageError               this machine's disk
    │   ├── NotWritableError
    │   ├── DiskFullError
    │   ├── CorruptFileError       the bytes are not the ones that were promised
    │   ├── ManifestError
    │   ├── NotStoredError
    │   └── JobNotFoundError
    ├── UnsupportedError           gpux cannot run this model
    │   ├── NoWeightsError
    │   ├── UnsupportedArchitectureError
    │   └── UnsupportedTaskError
    ├── ConversionError            has ``.log``, the exporter's own output
    │   ├── ToolchainMissingError
    │   ├── ToolchainError         its installation failed or is damaged
    │   ├── WorkerCrashedError
    │   ├── OutOfMemoryError       it would take, or took, more than there is
    │   └── ProofError             the ONNX differs from the original
    ├── RunError                   what happens in onnxruntime
    │   ├── DeviceError
    │   ├── InputError
    │   └── SessionError
    └── CancelledError             the caller's token was set

``code`` is stable and the same in the library, in ``--json`` and (later) over HTTP. ``exit_code`` is what the
command line ends with. ``hint`` is the next thing to do, usually a command to type.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar


class GpuxError(Exception):
    """Base of the tree: ``message`` says what happened to what, ``hint`` what to do next."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        """The code is the class's name: ``ModelNotFoundError`` has ``model_not_found``."""
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.details))

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-able values: ``code``, ``message``, ``hint`` and its ``details``."""
        return {"code": self.code, "message": self.message, "hint": self.hint, **_plain(self.details)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GpuxError:
        """The typed error behind :meth:`to_dict`; an unknown code gives a plain :class:`GpuxError`."""
        fields = dict(data)
        kind = error_types().get(fields.pop("code", ""), GpuxError)
        return kind(fields.pop("message", ""), hint=fields.pop("hint", None), **fields)


def _plain(value: Any) -> Any:
    """Paths inside a detail as text, tuples as lists."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _rebuild(kind: type[GpuxError], message: str, hint: str | None, details: dict[str, Any]) -> GpuxError:
    return kind(message, hint=hint, **details)


def error_types() -> dict[str, type[GpuxError]]:
    """Every error type by its ``code``."""
    kinds: list[type[GpuxError]] = [GpuxError]
    for kind in kinds:  # grows while it is walked
        kinds.extend(kind.__subclasses__())
    return {kind.code: kind for kind in kinds}


class UsageError(GpuxError):
    """An argument or option that cannot be meant."""

    exit_code = 2


class InvalidReferenceError(UsageError):
    """A model reference in no accepted form; the message shows the accepted ones."""


class WrongKindError(InvalidReferenceError):
    """It names no model but what ``details["kind"]`` says (``dataset``, ``space`` …), of ``id``, at ``endpoint``."""


class ManagerError(GpuxError):
    """The place where models come from answered with an error."""

    exit_code = 5


class ModelNotFoundError(ManagerError):
    """No such model, or no right to see it: the Hub does not tell which."""

    exit_code = 3


class RevisionNotFoundError(ManagerError):
    """The model has no such branch, tag, pull request or commit."""

    exit_code = 3


class EntryNotFoundError(ManagerError):
    """The model has no such file at this revision."""

    exit_code = 3


class AccessError(ManagerError):
    """The model exists and this user may not have it."""

    exit_code = 4


class InvalidTokenError(AccessError):
    """The token was refused."""


class GatedModelError(AccessError):
    """Access is granted on the model's page, by the owner or by accepting terms."""


class DisabledModelError(AccessError):
    """The Hub switched this model off."""


class UnavailableError(ManagerError):
    """The same request may work later."""


class NetworkError(UnavailableError):
    """Nothing answered: no network, no name, no route, a refused, cut or timed out connection."""


class HubServerError(UnavailableError):
    """The Hub answered 5xx, or nothing that can be understood."""


class RateLimitError(UnavailableError):
    """The Hub answered 429; ``details["retry_after"]`` is in seconds where it said so."""


class OfflineError(UnavailableError):
    """Offline was asked for and what is needed is not on this machine."""


class UnsafePathError(ManagerError):
    """A file name of the repository leads out of the folder it belongs to."""

    exit_code = 6


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


class UnsupportedError(GpuxError):
    """gpux cannot run this model, and says why."""

    exit_code = 7


class NoWeightsError(UnsupportedError):
    """The repository holds no weights in a format that gpux reads."""


class UnsupportedArchitectureError(UnsupportedError):
    """No converter knows the model's architecture."""


class UnsupportedTaskError(UnsupportedError):
    """No converter or pipeline for this task, or no task to be found in the model's files."""


class ConversionError(GpuxError):
    """The converter failed; ``log`` is the file that holds its own output."""

    exit_code = 8

    @property
    def log(self) -> Path | None:
        """The exporter's own output, where there is any."""
        return Path(value) if (value := self.details.get("log")) else None


class ToolchainMissingError(ConversionError):
    """The environment that the converter runs in is not installed."""


class ToolchainError(ConversionError):
    """A toolchain could not be installed, or is damaged."""


class WorkerCrashedError(ConversionError):
    """The conversion process ended without a result: killed, out of memory, crashed."""


class OutOfMemoryError(ConversionError):
    """Too little memory to begin (``needed``, ``available``), or the worker was ended for its ``peak`` (``limit``)."""


class ProofError(ConversionError):
    """The ONNX outputs differ from the original's beyond tolerance."""

    exit_code = 9


class RunError(GpuxError):
    """A model that is stored could not be run."""

    exit_code = 10


class DeviceError(RunError):
    """The device that was asked for is not there, or would not run the whole graph."""


class InputError(RunError):
    """An input of the wrong type, shape, dtype or length."""


class SessionError(RunError):
    """onnxruntime refused the graph, or failed while it ran."""


class CancelledError(GpuxError):
    """The caller's cancel token was set; what had arrived is kept for the next try."""

    exit_code = 130
