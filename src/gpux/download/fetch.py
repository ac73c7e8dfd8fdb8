"""Download of several files of one model into the source cache, where each file is looked for first."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace

from gpux.download.partial import hash_algorithm
from gpux.download.transfer import Transfer
from gpux.errors import ONLINE_HINT, NotWritableError, OfflineError
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.transfer import FileReport, Tally, TransferReport
from gpux.source_cache.layout import HubCache
from gpux.system.cancel import CancelToken
from gpux.system.hashing import hash_file
from gpux.system.progress import ByteCounter
from gpux.system.settings import Settings

PARALLEL_FILES = 8
#: Where the source cache cannot be written and a file of it has to be downloaded.
UNWRITABLE_HINT = (
    "Set HF_HUB_CACHE to a folder that can be written (by default it is in HF_HOME); "
    "what the present one has is then downloaded again."
)
POLL = 0.1  # seconds between looks at the cancel token


class Fetch:
    """One download of files of one model."""

    def __init__(
        self, settings: Settings, info: ModelInfo, cache: HubCache, counter: ByteCounter, cancel: CancelToken
    ) -> None:
        self._settings = settings
        self._info = info
        self._cache = cache
        self._counter = counter
        self._cancel = cancel
        self._stop = cancel.child()

    def run(self, files: Sequence[ModelFile]) -> TransferReport:
        """Download in a few threads, the largest files first; the first failure, or Ctrl-C, stops all threads.

        Raises:
            OfflineError: offline, and a file is not in the source cache.
            CorruptFileError, CancelledError, ManagerError, OSError: as :meth:`Transfer.download`.
        """
        settings, started = self._settings, time.monotonic()
        with (
            Transfer(
                settings.endpoint,
                settings.token,
                settings.timeout,
                ca_bundle=settings.ca_bundle,
                progress=self._counter.warn,
            ) as transfer,
            ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="gpux-fetch") as pool,
        ):
            finished = False
            try:  # before the first thread starts: Ctrl-C at any later moment has to stop them
                by_size = sorted({file.path: file for file in files}.values(), key=lambda file: -(file.size or 0))
                jobs = {file.path: pool.submit(self._fetch, file, transfer) for file in by_size}
                _await(list(jobs.values()), self._cancel)
                finished = True
            finally:
                self._stop.cancel()
                if not finished:
                    transfer.abort()
                pool.shutdown(cancel_futures=True)
        reports = tuple(jobs[path].result() for path in dict.fromkeys(file.path for file in files))
        return TransferReport(reports, time.monotonic() - started)

    def _fetch(self, file: ModelFile, transfer: Transfer) -> FileReport:
        self._stop.check()
        started = time.monotonic()
        report = self._find(file) or self._download(file, transfer)
        self._counter.advance(file, report.size)
        return replace(report, seconds=time.monotonic() - started)

    def _find(self, file: ModelFile) -> FileReport | None:
        """The report of a file that the cache has, with the right hash; a damaged file is deleted.

        Nothing is written if the commit's folder has the file already: the cache may be read-only.
        """
        path = self._cache.present(self._info.commit, file)
        if path is None:
            return None
        size = path.stat().st_size
        if file.etag is None:
            return FileReport(file.path, size, cached=True)
        if hash_file(path, hash_algorithm(file), lambda length: None, self._stop) == file.etag:
            if path == self._cache.blob(file.etag):
                self._cache.link(self._info.commit, file)
            return FileReport(file.path, size, cached=True, verified=True)
        try:
            path.resolve().unlink()
        except OSError as exc:
            what = f"{file.path} of {self._info.id} is damaged in the source cache"
            raise NotWritableError(
                f"{what}, and {path.resolve()} cannot be replaced: {exc.strerror}", hint=UNWRITABLE_HINT, path=str(path)
            ) from exc
        return None

    def _download(self, file: ModelFile, transfer: Transfer) -> FileReport:
        if self._settings.offline:
            message = f"offline, and {file.path} of {self._info.id} is not in the source cache"
            raise OfflineError(message, hint=ONLINE_HINT)
        tally, paths = Tally(), self._cache.blob_paths(file.etag or "")
        with self._cache.lock(file.etag or "", self._stop):
            found = self._find(file)
            if found is not None:
                return found  # another process downloaded it while this one waited for the lock
            on_bytes = functools.partial(self._counter.advance, file)
            transfer.download(self._info.id, self._info.commit, file, paths, on_bytes, self._stop, tally)
            size = paths.blob.stat().st_size
            self._cache.link(self._info.commit, file)
        return FileReport(file.path, size, verified=True, **asdict(tally))


def _await(jobs: Sequence[Future[FileReport]], cancel: CancelToken) -> None:
    """Return when all jobs are done; raise the first failure, or the cancellation, as soon as it occurs."""
    pending: set[Future[FileReport]] = set(jobs)
    while pending:
        done, pending = wait(pending, timeout=POLL, return_when=FIRST_EXCEPTION)
        cancel.check()
        for job in done:
            job.result()
