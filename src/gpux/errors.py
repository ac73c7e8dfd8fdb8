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
    │   │   ├── ContextLengthError a prompt that the model cannot read whole
    │   │   └── ChatTemplateError  none, broken, or it refuses the messages
    │   ├── SessionError
    │   ├── CacheMemoryError       a generation's cache would not fit
    │   └── NumericError           the model answers NaN
    └── CancelledError             the caller's token was set

``code`` is stable and the same in the library, in ``--json`` and (later) over HTTP. ``exit_code`` is what the
command line ends with. ``hint`` is the next thing to do, usually a command to type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

__all__ = [
    "AccessError",
    "CacheMemoryError",
    "CancelledError",
    "ChatTemplateError",
    "ContextLengthError",
    "ConversionError",
    "CorruptFileError",
    "DeviceError",
    "DisabledModelError",
    "DiskFullError",
    "EntryNotFoundError",
    "GatedModelError",
    "GpuxError",
    "HubServerError",
    "InputError",
    "InvalidReferenceError",
    "InvalidTokenError",
    "JobNotFoundError",
    "ManagerError",
    "ManifestError",
    "ModelNotFoundError",
    "NetworkError",
    "NoWeightsError",
    "NotStoredError",
    "NotWritableError",
    "NumericError",
    "OfflineError",
    "OutOfMemoryError",
    "ProofError",
    "RateLimitError",
    "RevisionNotFoundError",
    "RunError",
    "SessionError",
    "StorageError",
    "ToolchainError",
    "ToolchainMissingError",
    "UnavailableError",
    "UnsafePathError",
    "UnsupportedArchitectureError",
    "UnsupportedError",
    "UnsupportedTaskError",
    "UsageError",
    "WorkerCrashedError",
    "WrongKindError",
    "error_types",
]


class GpuxError(Exception):
    """Base of the tree: ``message`` says what happened to what, ``hint`` what to do next."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

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

    code = "usage"
    exit_code = 2


class InvalidReferenceError(UsageError):
    """A model reference in no accepted form; the message shows the accepted ones."""

    code = "invalid_reference"


class WrongKindError(InvalidReferenceError):
    """It names no model but what ``details["kind"]`` says (``dataset``, ``space`` …), of ``id``, at ``endpoint``."""

    code = "wrong_kind"


class CancelledError(GpuxError):
    """The caller's cancel token was set; what had arrived is kept for the next try."""

    code = "cancelled"
    exit_code = 130


class UnsupportedError(GpuxError):
    """gpux cannot run this model, and says why."""

    code = "unsupported"
    exit_code = 7


class NoWeightsError(UnsupportedError):
    """The repository holds no weights in a format that gpux reads."""

    code = "no_weights"


class UnsupportedArchitectureError(UnsupportedError):
    """No converter knows the model's architecture."""

    code = "unsupported_architecture"


class UnsupportedTaskError(UnsupportedError):
    """No converter or pipeline for this task, or no task to be found in the model's files."""

    code = "unsupported_task"


class ManagerError(GpuxError):
    """The place where models come from answered with an error."""

    code = "manager"
    exit_code = 5


class ModelNotFoundError(ManagerError):
    """No such model, or no right to see it: the Hub does not tell which."""

    code = "model_not_found"
    exit_code = 3


class RevisionNotFoundError(ManagerError):
    """The model has no such branch, tag, pull request or commit."""

    code = "revision_not_found"
    exit_code = 3


class EntryNotFoundError(ManagerError):
    """The model has no such file at this revision."""

    code = "entry_not_found"
    exit_code = 3


class AccessError(ManagerError):
    """The model exists and this user may not have it."""

    code = "access"
    exit_code = 4


class InvalidTokenError(AccessError):
    """The token was refused."""

    code = "invalid_token"


class GatedModelError(AccessError):
    """Access is granted on the model's page, by the owner or by accepting terms."""

    code = "gated_model"


class DisabledModelError(AccessError):
    """The Hub switched this model off."""

    code = "disabled_model"


class UnavailableError(ManagerError):
    """The same request may work later."""

    code = "unavailable"


class NetworkError(UnavailableError):
    """Nothing answered: no network, no name, no route, a refused, cut or timed out connection."""

    code = "network"


class HubServerError(UnavailableError):
    """The Hub answered 5xx, or nothing that can be understood."""

    code = "hub_server"


class RateLimitError(UnavailableError):
    """The Hub answered 429; ``details["retry_after"]`` is in seconds where it said so."""

    code = "rate_limit"


class OfflineError(UnavailableError):
    """Offline was asked for and what is needed is not on this machine."""

    code = "offline"


class UnsafePathError(ManagerError):
    """A file name of the repository leads out of the folder it belongs to."""

    code = "unsafe_path"
    exit_code = 6


class StorageError(GpuxError):
    """This machine's disk: the store, the source cache, the toolchains."""

    code = "storage"
    exit_code = 6


class NotWritableError(StorageError):
    """A folder that gpux must write to refuses."""

    code = "not_writable"


class DiskFullError(StorageError):
    """Not enough space; ``details`` has ``needed`` and ``free`` in bytes where they are known."""

    code = "disk_full"


class CorruptFileError(StorageError):
    """Size or hash of a file is not the promised one; ``details`` has ``expected`` and ``actual``."""

    code = "corrupt_file"


class ManifestError(StorageError):
    """A manifest that is damaged, or of a schema that this version does not read."""

    code = "manifest"


class NotStoredError(StorageError):
    """The store has no such model."""

    code = "not_stored"
    exit_code = 3


class JobNotFoundError(StorageError):
    """No background job has this id."""

    code = "job_not_found"
    exit_code = 3


class ConversionError(GpuxError):
    """The converter failed; ``log`` is the file that holds its own output."""

    code = "conversion"
    exit_code = 8

    @property
    def log(self) -> Path | None:
        """The exporter's own output, where there is any."""
        return Path(value) if (value := self.details.get("log")) else None


class ToolchainMissingError(ConversionError):
    """The environment that the converter runs in is not installed."""

    code = "toolchain_missing"


class ToolchainError(ConversionError):
    """A toolchain could not be installed, or is damaged."""

    code = "toolchain"


class WorkerCrashedError(ConversionError):
    """The conversion process ended without a result: killed, out of memory, crashed."""

    code = "worker_crashed"


class OutOfMemoryError(ConversionError):
    """Too little memory to begin (``needed``, ``available``), or the worker was ended for its ``peak`` (``limit``)."""

    code = "out_of_memory"


class ProofError(ConversionError):
    """The ONNX outputs differ from the original's beyond tolerance."""

    code = "proof"
    exit_code = 9


class RunError(GpuxError):
    """A model that is stored could not be run."""

    code = "run"
    exit_code = 10


class DeviceError(RunError):
    """The device that was asked for is not there, or would not run the whole graph."""

    code = "device"


class InputError(RunError):
    """An input of the wrong type, shape, dtype or length."""

    code = "input"


class SessionError(RunError):
    """onnxruntime refused the graph, or failed while it ran."""

    code = "session"


class ContextLengthError(InputError):
    """A prompt is longer than the model can read: ``tokens``, and the ``limit`` that leaves room for an answer."""

    code = "context_length"


class ChatTemplateError(InputError):
    """The model has no chat template, its template is broken, or it refuses these messages."""

    code = "chat_template"


class CacheMemoryError(RunError):
    """The key-value cache of a generation would take more memory than there is (``needed``, ``available``)."""

    code = "cache_memory"


class NumericError(RunError):
    """The scores of the next token are not numbers: overflow, or damaged weights."""

    code = "numeric"
