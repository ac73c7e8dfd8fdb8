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

from gpux.errors.base import (
    CancelledError,
    GpuxError,
    InvalidReferenceError,
    NoWeightsError,
    UnsupportedArchitectureError,
    UnsupportedError,
    UnsupportedTaskError,
    UsageError,
    WrongKindError,
    error_types,
)
from gpux.errors.converting import (
    ConversionError,
    OutOfMemoryError,
    ProofError,
    ToolchainError,
    ToolchainMissingError,
    WorkerCrashedError,
)
from gpux.errors.managing import (
    AccessError,
    DisabledModelError,
    EntryNotFoundError,
    GatedModelError,
    HubServerError,
    InvalidTokenError,
    ManagerError,
    ModelNotFoundError,
    NetworkError,
    OfflineError,
    RateLimitError,
    RevisionNotFoundError,
    UnavailableError,
    UnsafePathError,
)
from gpux.errors.running import (
    CacheMemoryError,
    ChatTemplateError,
    ContextLengthError,
    DeviceError,
    InputError,
    NumericError,
    RunError,
    SessionError,
)
from gpux.errors.storing import (
    CorruptFileError,
    DiskFullError,
    JobNotFoundError,
    ManifestError,
    NotStoredError,
    NotWritableError,
    StorageError,
)

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
