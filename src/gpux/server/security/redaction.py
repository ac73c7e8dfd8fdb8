"""Errors as clients may see them: without paths of this machine, addresses, tokens and texts of decoders.

The messages of an error whose class is about the request pass. Those of all other classes were written for the person
who runs the server: a client gets a sentence for the class, and the log has the message. What passes is searched for
paths and tokens nevertheless, since a message may quote another.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from gpux import errors
from gpux.errors import GpuxError

log = logging.getLogger(__name__)

#: Classes about the request or the state of the server, whose messages are written for clients; and their subclasses.
FOR_CLIENTS: tuple[type[GpuxError], ...] = (
    errors.UsageError,
    errors.UnsupportedError,
    errors.ModelNotFoundError,
    errors.RevisionNotFoundError,
    errors.GatedModelError,
    errors.NotStoredError,
    errors.JobNotFoundError,
    errors.InputError,
    errors.CacheMemoryError,
    errors.ServerError,
    errors.CancelledError,
    errors.ConfigurationError,
    errors.ProviderNotFoundError,
    errors.ProviderError,
    errors.ConversationNotFoundError,
    errors.ConversationAccessError,
)
#: class -> what clients get in place of its message; the nearest class counts
SENTENCES: dict[type[GpuxError], str] = {
    errors.GpuxError: "the server failed to answer",
    errors.ManagerError: "the Hub answered with an error",
    errors.EntryNotFoundError: "the model lacks a file that is needed",
    errors.AccessError: "the server has no access to the model",
    errors.DisabledModelError: "the Hub has disabled the model",
    errors.UnavailableError: "the Hub cannot be reached now",
    errors.OfflineError: "the server is offline, and a file of the model is not on it",
    errors.RateLimitError: "the Hub accepts no more requests of the server for some time",
    errors.UnsafePathError: "the model has a file with an invalid name",
    errors.StorageError: "the server's disk refused an operation",
    errors.NotWritableError: "the server cannot write to its disk",
    errors.DiskFullError: "the server's disk is full",
    errors.CorruptFileError: "a file of the server is damaged",
    errors.ManifestError: "the stored model is damaged, or of another version of gpux",
    errors.ConversionError: "the model could not be converted",
    errors.ToolchainMissingError: "the server has no toolchain to convert models",
    errors.OutOfMemoryError: "the server has too little memory to convert the model",
    errors.ProofError: "the converted model answers differently from the original",
    errors.RunError: "the model could not answer",
    errors.DeviceError: "the device of the server cannot run the model",
    errors.SessionError: "onnxruntime failed to run the model",
    errors.NumericError: "the model computed no numbers: its outputs are NaN",
    errors.ChatError: "the conversation could not be answered",
    errors.DatabaseError: "the database of conversations cannot be read or written now",
    errors.SchemaVersionError: "the database of conversations is of a newer version of gpux",
}
#: Details that clients get: numbers, and names that they have sent themselves or can list.
DETAILS = frozenset(
    {
        *("param", "model", "task", "scope", "allow", "retry_after", "should_retry", "stopping", "tokens", "limit"),
        "needed",
        *("available", "free", "index", "job", "kind", "option", "status", "provider"),
    }
)
_HINT = "The server's log has the reason."
_SECRETS = re.compile(r"\b(?:hf|gpux)_[A-Za-z0-9_-]{10,}|(?<=://)[^/\s@]+:[^/\s@]+@|\b0x[0-9a-fA-F]{6,}\b")
#: Absolute paths in the folders that systems have; a path of an API begins with none of them.
_PATHS = re.compile(
    r"(?<![\w:/.])(?:~|/(?:bin|boot|data|dev|etc|home|lib|lib64|media|mnt|opt|private|proc|root|run|sbin|snap|srv|sys|tmp"
    r"|usr|var|workspace|Users|Applications|Library|System|Volumes))/[^\s'\"`,;:)\]}>]*"
    r"|(?<!\w)[A-Za-z]:\\[^\s'\"`,;)\]}>]*"
)
#: What decoders of pictures, sounds and numbers say: it may hold addresses (CVE-2026-22778).
_DECODERS = re.compile(
    r"\b(cannot be (?:read|opened)(?: as a sound)?|is not valid base64|is not an array of numbers): .*", re.DOTALL
)


def public(error: GpuxError) -> GpuxError:
    """The same error as a client may see it, of the same class; the log has what it may not see."""
    if not isinstance(error, FOR_CLIENTS):
        log.warning("%s: %s", error.code, f"{error.message} {error.hint or ''}".rstrip())
    return shown(error)


def shown(error: GpuxError) -> GpuxError:
    """The same as :func:`public`, without an entry in the log: for an error that is shown again and again."""
    if isinstance(error, FOR_CLIENTS):
        message = clean(error.message)
    else:
        message = next(SENTENCES[kind] for kind in type(error).__mro__ if kind in SENTENCES)
    hint = None if error.hint is None else clean(error.hint)
    if hint is not None and hint != error.hint:
        hint = _HINT
    details = {name: _detail(value) for name, value in error.details.items() if name in DETAILS}
    return type(error)(message, hint=hint, **details)


def clean(text: str) -> str:
    """A text without paths of this machine, memory addresses, tokens and reasons of decoders."""
    for folder in _own_folders():
        text = text.replace(folder, "…")
    return _PATHS.sub("…", _SECRETS.sub("…", _DECODERS.sub(r"\1", text)))


def _detail(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    return value if isinstance(value, (bool, int, float)) or value is None else clean(str(value))


def _own_folders() -> list[str]:
    """Folders of this process, the longest first, so that the name of an account is not left from a shorter one."""
    global _folders
    if _folders is None:
        # Not by tempfile.gettempdir, which writes a file, and raises an error where the disk is full.
        named = [os.environ.get(name) for name in ("GPUX_HOME", "HF_HOME", "TMPDIR", "TEMP", "TMP")]
        found = {sys.prefix, str(Path.home()), str(Path.cwd()), *(one for one in named if one)}
        _folders = sorted((one for one in found if len(one) > 1), key=len, reverse=True)
    return _folders


_folders: list[str] | None = None
