"""Access: can this model be downloaded, by whom, how much is it, and if not, what to do.

The fewest requests that give an honest verdict: the model's info as this user sees it, then one HEAD request for its
largest file. Who sends that depends on what the info says. The Hub lets nobody without a token have the files of a
private or gated model, so there the user's own right is tried; any other model is tried without a token, and what
everybody may have, this user may have. Two requests for each model, three where one is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
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
_CALLED = {"space": "Space"}
_NOT_KNOWN = {
    errors.OfflineError: "offline",
    errors.RateLimitError: "the Hub limits requests",
    errors.HubServerError: "the Hub fails",
}


@dataclass(frozen=True)
class AccessReport(Value):
    """Whether one model can be downloaded with what this user has."""

    reference: str  #: as it was asked for
    verdict: str  #: one line for a person
    id: str = ""  #: canonical; empty where nothing was found
    commit: str = ""
    visibility: Literal["public", "private", "unknown"] = "unknown"
    gated: Literal["auto", "manual"] | None = None
    without_token: bool | None = None  #: can anybody download it; None if that is not known
    with_token: bool | None = None  #: can it be downloaded with the token; None without one, or if that is not known
    size: int = 0  #: bytes of all files
    files: tuple[ModelFile, ...] = ()  #: the Hub grants all of them or none
    tried: str | None = None  #: the file that was asked for
    error: GpuxError | None = None  #: what a pull would end with

    @property
    def downloads(self) -> bool:
        """True if a pull would get the files."""
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, with ``downloads`` and the error's own."""
        found = super().to_dict()
        return {**found, "downloads": self.downloads, "error": self.error.to_dict() if self.error else None}


def check_access(
    ref: Reference, settings: Settings | None = None, *, cancel: CancelToken | None = None
) -> AccessReport:
    """Ask the Hub about one model; what goes wrong is in the report.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    return AccessCheck(settings or Settings.from_env()).check(ref, cancel)


def check_many(
    refs: Iterable[Reference], settings: Settings | None = None, *, cancel: CancelToken | None = None
) -> list[AccessReport]:
    """The same for several, a few at a time; the reports in the order of ``refs``.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    check = AccessCheck(settings or Settings.from_env())
    stop = (cancel or CancelToken()).child()
    with ThreadPoolExecutor(PARALLEL_CHECKS, thread_name_prefix="gpux-check") as pool:
        try:
            return list(pool.map(lambda ref: check.check(ref, stop), refs))
        finally:
            stop.cancel()  # Ctrl-C and errors end the others too
            pool.shutdown(wait=False, cancel_futures=True)


class AccessCheck:
    """Asks as this user and as nobody; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._has_token = settings.token is not None
        self._user = HuggingFaceManager(settings)
        self._nobody = HuggingFaceManager(replace(settings, token=None))

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

    def _report(self, ref: ModelRef, info: ModelInfo, asked: str, cancel: CancelToken | None) -> AccessReport:
        file = ref.file or _largest(info)
        closed = info.private or info.gated is not None
        error = None if file is None else self._try(self._user if closed else self._nobody, info, file, cancel)
        without = False if closed else error is None
        if self._has_token and not closed and isinstance(error, (errors.AccessError, errors.ModelNotFoundError)):
            error = self._try(self._user, info, file or "", cancel)  # closed in a way that its info does not tell
        return AccessReport(
            reference=asked,
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
        """A refused token closes even public models; what the model is without it is worth knowing."""
        nobody = AccessCheck(self._nobody.settings).check(ref, cancel)
        verdict = f"the token is refused; without it: {nobody.verdict}"
        return replace(nobody, verdict=verdict, with_token=False, error=exc)

    def _refusal(self, error: GpuxError) -> str:
        """Why not, in one line."""
        if isinstance(error, WrongKindError):
            return f"a {_CALLED.get(error.details['kind'], error.details['kind'])}, not a model"
        if isinstance(error, errors.GatedModelError):
            if self._has_token:
                return f"gated, and this token has no access: ask at {error.details['page']}"
            return f"gated: ask at {error.details['page']}, then log in"
        if isinstance(error, errors.ModelNotFoundError):
            return "missing, or private and " + ("closed to this token" if self._has_token else "needs a token")
        if isinstance(error, errors.DisabledModelError):
            return "disabled by the Hub"
        if isinstance(error, errors.UnavailableError):
            return f"not known: {_NOT_KNOWN.get(type(error), 'the Hub does not answer')}"
        return error.message.partition("\n")[0]


def _grant(info: ModelInfo, *, without: bool) -> str:
    """What kind of yes."""
    if not info.files:
        return "there, but it has no files"
    if info.private:
        return "private: downloads with this token"
    if info.gated:
        return "gated: this token has access"
    return "public: downloads without a token" if without else "downloads with this token only"


def _largest(info: ModelInfo) -> str | None:
    """The file that is asked for: weights, in most models; a card may be open where they are not."""
    found = max(info.files, key=lambda file: file.size or 0, default=None)
    return found.path if found else None
