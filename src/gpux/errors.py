"""Every error that gpux raises.

::

    GpuxError
    ├── UsageError                 an argument or option that is invalid
    │   └── InvalidReferenceError  a model reference in none of the accepted forms
    │       └── WrongKindError     a reference to a dataset, a Space, a collection or a paper
    ├── ManagerError               the Hub, or another source of models
    │   ├── ModelNotFoundError     no such repository, or no permission to see it
    │   ├── RevisionNotFoundError
    │   ├── EntryNotFoundError     no such file in the repository
    │   ├── AccessError
    │   │   ├── InvalidTokenError
    │   │   ├── GatedModelError    access has to be requested on the repository's page
    │   │   └── DisabledModelError
    │   ├── UnavailableError       the same request may succeed later
    │   │   ├── NetworkError       no response
    │   │   ├── HubServerError     a 5xx response, or one that cannot be read
    │   │   ├── RateLimitError
    │   │   └── OfflineError       gpux is offline, and the file is not on this machine
    │   └── UnsafePathError        a file name that leads out of its folder
    ├── StorageError               the disk of this machine
    │   ├── NotWritableError
    │   ├── DiskFullError
    │   ├── CorruptFileError       the content does not match its size, hash or format
    │   ├── ManifestError
    │   ├── NotStoredError
    │   └── JobNotFoundError
    ├── UnsupportedError           gpux cannot run this model
    │   ├── NoWeightsError
    │   ├── UnsupportedArchitectureError
    │   └── UnsupportedTaskError
    ├── ConversionError            ``.log`` is the output of the exporter
    │   ├── ToolchainMissingError
    │   ├── ToolchainError         the installation failed or is damaged
    │   ├── WorkerCrashedError
    │   ├── OutOfMemoryError       the conversion needs more memory than is available
    │   └── ProofError             the ONNX differs from the original
    ├── RunError                   a stored model cannot be run
    │   ├── DeviceError
    │   ├── InputError
    │   │   ├── ContextLengthError a prompt longer than the model's context
    │   │   └── ChatTemplateError  missing, broken, or it rejects the messages
    │   ├── SessionError
    │   ├── CacheMemoryError       the KV cache of a generation does not fit into memory
    │   └── NumericError           the outputs of the model are NaN
    ├── ServerError                a request to `gpux serve`, or the server itself
    │   ├── UnauthorizedError      no key, or an unknown one
    │   ├── ForbiddenError         the key or the origin does not allow the request
    │   ├── HostError              the ``Host`` header names a host that the server does not answer for
    │   ├── PathNotFoundError
    │   ├── MethodError            the path has no such method
    │   ├── UnsupportedOperationError  the path is of an API, and gpux has no such operation
    │   ├── MediaTypeError         a body of a type or an encoding that the path does not take
    │   ├── TooLargeError          a body or one of its parts
    │   ├── SlowClientError        a body did not arrive in time
    │   ├── TooManyAttemptsError   too many wrong keys of an address, or passwords of a conversation
    │   ├── BusyError              the model's queue, or the memory of its KV caches, is full
    │   ├── OverloadedError        the machine cannot take the model now
    │   ├── DoesNotFitError        the machine can never take the model
    │   ├── DeadlineError          an answer, or a load, took longer than the server allows
    │   ├── SlowReaderError        the client did not read the pieces of its answer
    │   ├── WorkerDiedError        the process of a model ended
    │   └── AddressError           the server cannot listen on its address
    ├── ChatError                  a conversation, or what answers it
    │   ├── ConfigurationError     the file or a variable of the configuration is invalid
    │   ├── ProviderNotFoundError  no chat provider has this name or prefix, or it is switched off
    │   ├── ProviderError          the server behind a chat provider answered with an error
    │   │   ├── ProviderAccessError  it refused the key
    │   │   └── ProviderUnavailableError  it cannot be reached, or did not answer in time
    │   ├── ConversationNotFoundError
    │   ├── ConversationAccessError  the conversation is private, and the password is missing or wrong
    │   └── DatabaseError          the database of conversations cannot be used
    │       └── SchemaVersionError  a newer version of gpux has written it
    └── CancelledError             the cancel token of the caller was set

``code`` is stable, and the same in the library, in ``--json`` and over HTTP. ``exit_code`` is the exit status of the
command line, ``http_status`` the status of a response of `gpux serve`.
``hint`` is the next thing to do, usually a command to type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

__all__ = [
    "AccessError",
    "AddressError",
    "BusyError",
    "CacheMemoryError",
    "CancelledError",
    "ChatError",
    "ChatTemplateError",
    "ConfigurationError",
    "ContextLengthError",
    "ConversationAccessError",
    "ConversationNotFoundError",
    "ConversionError",
    "CorruptFileError",
    "DatabaseError",
    "DeadlineError",
    "DeviceError",
    "DisabledModelError",
    "DiskFullError",
    "DoesNotFitError",
    "EntryNotFoundError",
    "ForbiddenError",
    "GatedModelError",
    "GpuxError",
    "HostError",
    "HubServerError",
    "InputError",
    "InvalidReferenceError",
    "InvalidTokenError",
    "JobNotFoundError",
    "ManagerError",
    "ManifestError",
    "MediaTypeError",
    "MethodError",
    "ModelNotFoundError",
    "NetworkError",
    "NoWeightsError",
    "NotStoredError",
    "NotWritableError",
    "NumericError",
    "OfflineError",
    "OutOfMemoryError",
    "OverloadedError",
    "PathNotFoundError",
    "ProofError",
    "ProviderAccessError",
    "ProviderError",
    "ProviderNotFoundError",
    "ProviderUnavailableError",
    "RateLimitError",
    "RevisionNotFoundError",
    "RunError",
    "SchemaVersionError",
    "ServerError",
    "SessionError",
    "SlowClientError",
    "SlowReaderError",
    "StorageError",
    "TooLargeError",
    "TooManyAttemptsError",
    "ToolchainError",
    "ToolchainMissingError",
    "UnauthorizedError",
    "UnavailableError",
    "UnsafePathError",
    "UnsupportedArchitectureError",
    "UnsupportedError",
    "UnsupportedOperationError",
    "UnsupportedTaskError",
    "UsageError",
    "WorkerCrashedError",
    "WorkerDiedError",
    "WrongKindError",
    "error_types",
]


class GpuxError(Exception):
    """Base of the tree.

    ``message`` states what happened and to which model or file, ``hint`` what to do next, ``details`` the values that
    programs need, such as ``free`` and ``needed`` of a full disk.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

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
        """The error as JSON-able values: ``code``, ``message``, ``hint`` and each of the ``details``.

        Left out are the exit code, which follows from ``code``, and the exception that caused this one, with both
        tracebacks: :meth:`from_dict` restores everything else.
        """
        return {"code": self.code, "message": self.message, "hint": self.hint, **_plain(self.details)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GpuxError:
        """The error that :meth:`to_dict` was called on; an unknown code gives a plain :class:`GpuxError`."""
        fields = dict(data)
        kind = error_types().get(fields.pop("code", ""), GpuxError)
        return kind(fields.pop("message", ""), hint=fields.pop("hint", None), **fields)


def _plain(value: Any) -> Any:
    """A detail with paths as text and tuples as lists."""
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
    """An argument or option that is invalid."""

    code = "usage"
    exit_code = 2
    http_status = 400


class InvalidReferenceError(UsageError):
    """A model reference in none of the accepted forms, which the message lists."""

    code = "invalid_reference"


class WrongKindError(InvalidReferenceError):
    """A reference to a dataset, Space, collection or paper: ``details`` has ``kind``, ``id`` and ``endpoint``."""

    code = "wrong_kind"


class CancelledError(GpuxError):
    """The cancel token of the caller was set; bytes that had arrived are kept for the next attempt."""

    code = "cancelled"
    exit_code = 130
    http_status = 499


class UnsupportedError(GpuxError):
    """gpux cannot run this model; the message has the reason."""

    code = "unsupported"
    exit_code = 7
    http_status = 400


class NoWeightsError(UnsupportedError):
    """The repository holds no weights in a format that gpux reads."""

    code = "no_weights"


class UnsupportedArchitectureError(UnsupportedError):
    """No converter supports the architecture of the model."""

    code = "unsupported_architecture"


class UnsupportedTaskError(UnsupportedError):
    """No converter or pipeline supports the task, or the files of the model do not name one."""

    code = "unsupported_task"


class ManagerError(GpuxError):
    """The Hub, or another source of models, answered with an error."""

    code = "manager"
    exit_code = 5
    http_status = 502


class ModelNotFoundError(ManagerError):
    """No such model, or no permission to see it: the Hub does not distinguish the two."""

    code = "model_not_found"
    exit_code = 3
    http_status = 404


class RevisionNotFoundError(ManagerError):
    """The model has no such branch, tag, pull request or commit."""

    code = "revision_not_found"
    exit_code = 3
    http_status = 404


class EntryNotFoundError(ManagerError):
    """The model has no such file at this revision."""

    code = "entry_not_found"
    exit_code = 3
    http_status = 404


class AccessError(ManagerError):
    """The model exists, and this user has no access to it."""

    code = "access"
    exit_code = 4
    http_status = 403


class InvalidTokenError(AccessError):
    """The Hub rejected the token."""

    code = "invalid_token"


class GatedModelError(AccessError):
    """Access has to be requested on the page of the model: the owner grants it, or its terms have to be accepted."""

    code = "gated_model"


class DisabledModelError(AccessError):
    """The Hub has disabled this model."""

    code = "disabled_model"


class UnavailableError(ManagerError):
    """The same request may succeed later."""

    code = "unavailable"
    http_status = 503


class NetworkError(UnavailableError):
    """No response: no network, no such host, no route, or a connection that was refused, closed or timed out."""

    code = "network"


class HubServerError(UnavailableError):
    """The Hub answered with a 5xx status, or with a response that cannot be read."""

    code = "hub_server"


class RateLimitError(UnavailableError):
    """The Hub answered with status 429; ``details["retry_after"]`` has the seconds to wait, if the Hub sent them."""

    code = "rate_limit"


#: The hint of an :class:`OfflineError` that a network would solve.
ONLINE_HINT = "Remove --offline, and unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE if they are set."


class OfflineError(UnavailableError):
    """gpux is offline, and a file that it needs is not on this machine."""

    code = "offline"


class UnsafePathError(ManagerError):
    """A file name of the repository leads out of its folder."""

    code = "unsafe_path"
    exit_code = 6


class StorageError(GpuxError):
    """An error of the disk: in the store, the source cache or the toolchains."""

    code = "storage"
    exit_code = 6


class NotWritableError(StorageError):
    """A folder that gpux has to write to is not writable."""

    code = "not_writable"


class DiskFullError(StorageError):
    """Not enough space; ``details`` has ``needed`` and ``free`` in bytes, as far as they are known."""

    code = "disk_full"
    http_status = 507


class CorruptFileError(StorageError):
    """A file has another size, hash or format than expected; ``details`` may have ``expected`` and ``actual``."""

    code = "corrupt_file"


class ManifestError(StorageError):
    """A manifest is damaged, or has a schema that this version does not read."""

    code = "manifest"


class NotStoredError(StorageError):
    """The store has no such model."""

    code = "not_stored"
    exit_code = 3
    http_status = 404


class JobNotFoundError(StorageError):
    """No background job has this id."""

    code = "job_not_found"
    exit_code = 3
    http_status = 404


class ConversionError(GpuxError):
    """The converter failed; ``log`` is the file with its output."""

    code = "conversion"
    exit_code = 8
    http_status = 422

    @property
    def log(self) -> Path | None:
        """The file with the output of the exporter; None if the exporter did not start."""
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
    """Too little memory to begin (``needed``, ``available``), or the worker exceeded its ``limit`` (``peak``)."""

    code = "out_of_memory"
    http_status = 503


class ProofError(ConversionError):
    """The outputs of the ONNX, or the answers of its pipeline, differ from those of the original model."""

    code = "proof"
    exit_code = 9


class RunError(GpuxError):
    """A stored model cannot be run."""

    code = "run"
    exit_code = 10


class DeviceError(RunError):
    """The requested device is not available, or cannot run the whole graph."""

    code = "device"
    http_status = 400


class InputError(RunError):
    """An input of the wrong type, shape, dtype or length."""

    code = "input"
    http_status = 400


class SessionError(RunError):
    """onnxruntime rejected the graph, or failed while running it."""

    code = "session"


class ContextLengthError(InputError):
    """A prompt is longer than the model's context: it has ``tokens``, and ``limit`` leaves room for the answer."""

    code = "context_length"


class ChatTemplateError(InputError):
    """The model has no chat template, its template is broken, or the template rejects the messages."""

    code = "chat_template"


class CacheMemoryError(RunError):
    """The KV cache of a generation needs more memory than is available (``needed``, ``available``)."""

    code = "cache_memory"
    http_status = 503


class NumericError(RunError):
    """The outputs of the model are NaN: an overflow, or damaged weights."""

    code = "numeric"


class ServerError(GpuxError):
    """A request to `gpux serve` failed for a reason of HTTP, or the server could not run."""

    code = "server"
    exit_code = 10


class UnauthorizedError(ServerError):
    """The request has no API key, or an unknown one."""

    code = "unauthorized"
    http_status = 401


class ForbiddenError(ServerError):
    """The key does not have the needed scope, or a page of another origin sent the request."""

    code = "forbidden"
    http_status = 403


class HostError(ServerError):
    """The ``Host`` header is missing, or names a host that the server does not answer for."""

    code = "host"
    http_status = 421


class PathNotFoundError(ServerError):
    """No API has this path."""

    code = "path_not_found"
    http_status = 404


class MethodError(ServerError):
    """The path has no such method; ``details["allow"]`` has those that it has."""

    code = "method"
    http_status = 405


class UnsupportedOperationError(ServerError):
    """The path is of an API that the server has, and gpux does not offer what it does."""

    code = "unsupported_operation"
    http_status = 501


class MediaTypeError(ServerError):
    """The body has a type, a charset or an encoding that the path does not take."""

    code = "media_type"
    http_status = 415


class SlowClientError(ServerError):
    """The body of a request did not arrive in time."""

    code = "slow_client"
    http_status = 408


class TooManyAttemptsError(ServerError):
    """Too many wrong keys of an address, or passwords of a conversation; ``details`` has ``retry_after`` in seconds."""

    code = "too_many_attempts"
    http_status = 429


class TooLargeError(ServerError):
    """The body of a request, or a part of it, is larger than the server accepts."""

    code = "too_large"
    http_status = 413


class BusyError(ServerError):
    """The queue of a model, or the memory for its KV caches, is full; ``details`` has ``retry_after`` in seconds."""

    code = "busy"
    http_status = 429


class OverloadedError(ServerError):
    """The machine cannot take another model now; ``details`` may have ``retry_after`` in seconds."""

    code = "overloaded"
    http_status = 503


class DoesNotFitError(ServerError):
    """The machine can never take the model: ``details`` has ``needed`` and ``limit`` in bytes."""

    code = "does_not_fit"
    http_status = 400


class DeadlineError(ServerError):
    """The answer was not complete, or the model not open, within the limits of the server."""

    code = "deadline"
    http_status = 504


class SlowReaderError(ServerError):
    """The client did not read the pieces of its answer as fast as the server has to keep them."""

    code = "slow_reader"
    http_status = 408


class WorkerDiedError(ServerError):
    """The process of a model ended, so that its requests failed; the next request starts it anew.

    ``details`` has ``exit_status``, negative for a signal, and ``should_retry``: whether the next request can succeed.
    """

    code = "worker_died"


class AddressError(ServerError):
    """The server cannot listen on its address: it is in use, or not of this machine."""

    code = "address"


class ChatError(GpuxError):
    """A conversation could not be answered, read or stored."""

    code = "chat"
    exit_code = 10


class ConfigurationError(ChatError):
    """A value of the configuration is invalid; ``details`` has ``source`` (a file or a variable), ``line``, ``key``."""

    code = "configuration"
    exit_code = 2
    http_status = 400


class ProviderNotFoundError(ChatError):
    """No chat provider has this name or prefix, or it is switched off in the configuration."""

    code = "provider_not_found"
    exit_code = 3
    http_status = 404


class ProviderError(ChatError):
    """The server behind a chat provider answered with an error; ``details`` has ``provider`` and its ``status``."""

    code = "provider"
    exit_code = 5
    http_status = 502


class ProviderAccessError(ProviderError):
    """The server behind a chat provider refused the key, or needs one."""

    code = "provider_access"
    exit_code = 4


class ProviderUnavailableError(ProviderError):
    """The server behind a chat provider cannot be reached, or did not answer in time."""

    code = "provider_unavailable"
    http_status = 503


class ConversationNotFoundError(ChatError):
    """No conversation, or no message, has this id."""

    code = "conversation_not_found"
    exit_code = 3
    http_status = 404


class ConversationAccessError(ChatError):
    """The conversation is private, and the password is missing or wrong."""

    code = "conversation_access"
    exit_code = 4
    http_status = 403


class DatabaseError(ChatError):
    """The database of conversations cannot be opened, read or written."""

    code = "database"
    exit_code = 6
    http_status = 503


class SchemaVersionError(DatabaseError):
    """The tables of the database were written by a newer version of gpux."""

    code = "schema_version"
