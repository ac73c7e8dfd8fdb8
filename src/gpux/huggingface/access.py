"""Access checks: whether a model can be downloaded, by whom, how large it is, and what to do if it cannot.

A check sends two requests: the model's info, with the user's token, then a HEAD request for its largest file. The HEAD
request carries the token only if the model is private or gated, since the Hub denies its files to anonymous users; a
file that anonymous users may download, this user may download too. A third request, with the token, follows where an
anonymous HEAD request is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, Literal

from gpux import errors
from gpux.errors import GpuxError, WrongKindError
from gpux.huggingface.manager import HuggingFaceManager
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.system.cancel import CancelToken
from gpux.system.settings import Settings

PARALLEL_CHECKS = 8
_KINDS = {"space": "Space"}
_UNKNOWN = {
    errors.OfflineError: "offline",
    errors.RateLimitError: "the Hub limits requests",
    errors.HubServerError: "the Hub fails",
}


@dataclass(frozen=True)
class AccessReport(Value):
    """Whether one model can be downloaded with the token in use, or without one."""

    reference: str  #: as the caller wrote it
    verdict: str  #: one line, for display
    id: str = ""  #: canonical; empty if the model was not found
    commit: str = ""
    visibility: Literal["public", "private", "unknown"] = "unknown"
    gated: Literal["auto", "manual"] | None = None
    without_token: bool | None = None  #: whether anyone can download it; None if unknown
    with_token: bool | None = None  #: whether it can be downloaded with the token; None without a token, or if unknown
    size: int = 0  #: bytes of all files
    files: tuple[ModelFile, ...] = ()  #: access is granted to all files or to none
    tried: str | None = None  #: the file of the HEAD request
    error: GpuxError | None = None  #: the error that a pull would raise

    @property
    def downloads(self) -> bool:
        """True if a pull could download the files."""
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, with ``downloads`` and the error as a dict."""
        found = super().to_dict()
        return {**found, "downloads": self.downloads, "error": self.error.to_dict() if self.error else None}


def check_access(
    ref: Reference, *, settings: Settings | None = None, cancel: CancelToken | None = None
) -> AccessReport:
    """Check one model; errors are in the report, not raised.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    return AccessCheck(settings or Settings.from_env()).check(ref, cancel)


def check_many(
    refs: Iterable[Reference], *, settings: Settings | None = None, cancel: CancelToken | None = None
) -> list[AccessReport]:
    """Check several models concurrently; the reports are in the order of ``refs``.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    check = AccessCheck(settings or Settings.from_env())
    stop = (cancel or CancelToken()).child()
    with ThreadPoolExecutor(PARALLEL_CHECKS, thread_name_prefix="gpux-check") as pool:
        try:
            # A copy of the context for each: in it, the threads report that they wait for the Hub.
            jobs = [pool.submit(copy_context().run, check.check, ref, stop) for ref in refs]
            return [job.result() for job in jobs]
        finally:
            stop.cancel()  # after Ctrl-C or an error, the other checks end too
            pool.shutdown(wait=False, cancel_futures=True)


class AccessCheck:
    """Checks with the user's token and without a token. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._has_token = settings.token is not None
        self._user = HuggingFaceManager(settings)
        self._anonymous = HuggingFaceManager(replace(settings, token=None))

    def check(self, ref: Reference, cancel: CancelToken | None = None) -> AccessReport:
        """The report on one model."""
        try:
            parsed = ModelRef.parse(ref)
            info = self._user.resolve(parsed, cancel=cancel)
            return self._report(parsed, info, str(ref), cancel)
        except errors.CancelledError:
            raise
        except errors.InvalidTokenError as exc:
            return self._without_the_token(ref, exc, cancel)
        except GpuxError as exc:
            return AccessReport(str(ref), self._refusal(exc), error=exc)

    def _report(self, ref: ModelRef, info: ModelInfo, reference: str, cancel: CancelToken | None) -> AccessReport:
        file = ref.file or _largest(info)
        restricted = info.private or info.gated is not None
        error = None if file is None else self._try(self._user if restricted else self._anonymous, info, file, cancel)
        without = False if restricted else error is None
        if self._has_token and not restricted and isinstance(error, (errors.AccessError, errors.ModelNotFoundError)):
            error = self._try(self._user, info, file or "", cancel)  # restricted by rules that the info does not show
        return AccessReport(
            reference=reference,
            verdict=self._refusal(error) if error else _grant(info, without=without),
            id=info.id,
            commit=info.commit,
            visibility="private" if info.private else "public",
            gated=info.gated,
            without_token=None if isinstance(error, errors.UnavailableError) else without,
            with_token=(error is None) if self._has_token else None,
            size=info.size,
            files=info.files,
            tried=file,
            error=error,
        )

    def _try(
        self, manager: HuggingFaceManager, info: ModelInfo, file: str, cancel: CancelToken | None
    ) -> GpuxError | None:
        try:
            manager.check_file(info, file, cancel=cancel)
        except errors.ManagerError as exc:
            return exc
        return None

    def _without_the_token(
        self, ref: Reference, exc: errors.InvalidTokenError, cancel: CancelToken | None
    ) -> AccessReport:
        """The report without the token: the Hub refuses a wrong token even for public models."""
        anonymous = AccessCheck(self._anonymous.settings).check(ref, cancel)
        verdict = f"the token is refused; without it: {anonymous.verdict}"
        return replace(anonymous, verdict=verdict, with_token=False, error=exc)

    def _refusal(self, error: GpuxError) -> str:
        """The verdict for an error."""
        if isinstance(error, WrongKindError):
            return f"a {_KINDS.get(error.details['kind'], error.details['kind'])}, not a model"
        if isinstance(error, errors.GatedModelError):
            if self._has_token:
                return f"gated, and this token has no access: request it at {error.details['page']}"
            return f"gated: request access at {error.details['page']}, then log in"
        if isinstance(error, errors.ModelNotFoundError):
            return "missing, or private and " + (
                "not accessible with this token" if self._has_token else "needs a token"
            )
        if isinstance(error, errors.DisabledModelError):
            return "disabled by the Hub"
        if isinstance(error, errors.UnavailableError):
            return f"unknown: {_UNKNOWN.get(type(error), 'the Hub does not answer')}"
        return error.message.partition("\n")[0]


def _grant(info: ModelInfo, *, without: bool) -> str:
    """The verdict for a model that can be downloaded."""
    if not info.files:
        return "exists, but has no files"
    if info.private:
        return "private: downloads with this token"
    if info.gated:
        return "gated: this token has access"
    return "public: downloads without a token" if without else "downloads with this token only"


def _largest(info: ModelInfo) -> str | None:
    """The file of the HEAD request: usually the weights, since a README.md may be open where they are not."""
    found = max(info.files, key=lambda file: file.size or 0, default=None)
    return found.path if found else None
