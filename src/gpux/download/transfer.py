"""Download of one blob into the source cache, from its first byte to its verified hash.

A large file is downloaded in several ranges at once, as many as raise the throughput; ranges that arrived are kept
when the process ends.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from gpux.download import retry
from gpux.download.hub_errors import unreachable
from gpux.download.hub_http import HubHttp, RangeRefusedError, RangesIgnoredError, RemoteFile
from gpux.download.partial import PartialFile, discard, finish
from gpux.download.ranges import Range, split
from gpux.download.retry import RETRYABLE, Retry, RetryPolicy, describe_wait
from gpux.download.slots import CAP, ConnectionSlots
from gpux.errors import CorruptFileError, ManagerError, RateLimitError
from gpux.model.info import ModelFile
from gpux.model.transfer import Tally
from gpux.source_cache.layout import BlobPaths
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback, Warned, silent

LARGE = 32 << 20  #: bytes from which a file is downloaded in several ranges
RANGE = 16 << 20  #: bytes of one range

OnBytes = Callable[[int], None]  #: called with the number of the file's bytes that have arrived so far


class Transfer:
    """Downloads from one Hub that share its connections. Thread-safe."""

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        timeout: float,
        *,
        ca_bundle: Path | None = None,
        policy: RetryPolicy | None = None,
        progress: ProgressCallback = silent,
    ) -> None:
        """``progress`` receives a warning when the Hub does not answer and the transfer waits."""
        self._http = HubHttp(endpoint, token, timeout, ca_bundle)
        self._slots = ConnectionSlots()
        self._policy = policy or retry.DEFAULT_POLICY
        self._announce = _Announcer(progress, self._policy.announced)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def abort(self) -> None:
        """End all transfers at once, including requests that wait for a response; they raise ``NetworkError``."""
        self._http.abort()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def download(
        self,
        model: str,
        commit: str,
        file: ModelFile,
        paths: BlobPaths,
        on_bytes: OnBytes,
        cancel: CancelToken,
        tally: Tally | None = None,
    ) -> None:
        """Download the blob, continuing from what an earlier process wrote; its hash is verified on return.

        The file is downloaded once more if the hash is wrong, or if the server answers that the file is shorter.

        Raises:
            CorruptFileError: size or hash is wrong twice. Nothing is left on the disk.
            NetworkError, HubServerError, RateLimitError: no byte arrived until the deadline.
            ManagerError: the Hub refuses; the subclass says why.
            CancelledError: ``cancel`` was set; what arrived is kept.
            OSError: the file system refuses; what arrived is kept.
        """
        tally = tally or Tally()
        remote = RemoteFile(self._http, model, commit, file, tally)
        if file.size is None:
            file = replace(file, size=remote.size())
        actual = ""
        for _ in range(2):
            with PartialFile(paths.partial, paths.journal, file, sparse=_is_large(file)) as partial:
                attempt = _Attempt(
                    remote, partial, self._slots, self._policy, on_bytes, tally, self.abort, self._announce
                )
                try:
                    actual = attempt.run(cancel, parallel=_is_large(file))
                except RangeRefusedError:
                    actual = "that of a shorter file"
            if actual == file.etag:
                finish(paths.partial, paths.journal, paths.blob)
                return
            discard(paths.partial, paths.journal)
        raise _wrong_hash(model, file, actual)


class _Attempt:
    """One download of one file: its gaps, the threads that fill them, and the thread that hashes."""

    def __init__(
        self,
        remote: RemoteFile,
        partial: PartialFile,
        slots: ConnectionSlots,
        policy: RetryPolicy,
        on_bytes: OnBytes,
        tally: Tally,
        abort: Callable[[], None],
        announce: _Announcer,
    ) -> None:
        self._announce = announce
        self._remote = remote
        self._partial = partial
        self._slots = slots
        self._policy = policy
        self._on_bytes = on_bytes
        self._tally = tally
        self._abort = abort
        self._pending: deque[Range] = deque()
        self._hash_inline = True  # hash in the thread that downloads

    def run(self, cancel: CancelToken, *, parallel: bool) -> str:
        """Download until the file is complete, and return its hash.

        From a server that ignores ranges the whole file is requested instead; bytes that arrived are kept.
        """
        self._on_bytes(self._partial.arrived)
        gaps = self._partial.gaps()
        self._pending.extend(split(gaps, RANGE) if parallel else gaps)
        try:
            if parallel:
                self._hash_inline = False
                self._in_threads(cancel, min(CAP, len(self._pending)))
            else:
                self._fill_gaps(cancel)
        except RangesIgnoredError:
            self._hash_inline = True
            self._fill((0, self._partial.size), cancel, whole=True)
        self._partial.catch_up(cancel)
        return self._partial.hexdigest()

    def _in_threads(self, cancel: CancelToken, workers: int) -> None:
        """Fill the gaps in several threads; the first failure stops all of them and is raised."""
        stop = cancel.child()
        failures: list[BaseException] = []

        def ended(job: Future[None]) -> None:
            if (failure := job.exception()) is not None:
                failures.append(failure)
                stop.cancel()
                if failures[0] is failure and not isinstance(failure, (RangesIgnoredError, RangeRefusedError)):
                    self._abort()  # the pull fails: no thread waits for a server that is silent

        with ThreadPoolExecutor(workers + 1, thread_name_prefix="gpux-range") as pool:
            pool.submit(self._partial.follow, stop).add_done_callback(ended)
            for number in range(workers):
                pool.submit(self._fill_gaps, stop, extra=number > 0).add_done_callback(ended)
        if failures:
            raise failures[0]

    def _fill_gaps(self, cancel: CancelToken, *, extra: bool = False) -> None:
        """Download range after range from the start of the file on, so that the hash can follow."""
        while self._pending:
            with self._slots.slot(cancel, extra=extra, needed=lambda: bool(self._pending)) as admitted:
                try:
                    gap = self._pending.popleft() if admitted else None
                except IndexError:  # another thread took the last one
                    return
                if gap:
                    self._fill(gap, cancel)

    def _fill(self, gap: Range, cancel: CancelToken, *, whole: bool = False) -> None:
        """Download a range by as many requests as needed; ``whole`` requests the file without a range."""
        attempts = Retry(self._policy)
        while gaps := self._partial.gaps(*gap):
            start = 0 if whole else gaps[0][0]
            try:
                self._read(start, gap[1], cancel)
                if left := self._partial.gaps(*gap):
                    context = self._remote.context
                    raise unreachable(context, f"{context.file} ended at byte {left[0][0]}")
            except RETRYABLE as error:
                left = self._partial.gaps(*gap)
                if left:  # otherwise all bytes arrived, and only the end of the response is missing
                    self._tally.retries += 1
                    seconds = attempts.delay_after(error, self._partial.last_arrival, left != gaps)
                    self._wait(error, seconds, cancel)

    def _read(self, start: int, stop: int, cancel: CancelToken) -> None:
        """Write the body of one response."""
        whole = start == 0 and stop == self._partial.size
        with self._remote.open(None if whole else (start, stop)) as batches:
            for chunks in batches:
                length = sum(map(len, chunks))
                if start + length > stop:  # the server sends more than requested
                    length, chunks = stop - start, [b"".join(chunks)[: stop - start]]
                if not length:
                    return
                self._partial.write(start, chunks)
                start += length
                if self._hash_inline:
                    self._partial.catch_up(cancel)
                self._slots.arrived(length)
                self._on_bytes(self._partial.arrived)
                cancel.check()  # after what arrived is written

    def _wait(self, error: ManagerError, seconds: float, cancel: CancelToken) -> None:
        self._announce(error, seconds)
        if isinstance(error, RateLimitError):
            self._slots.close_for(seconds)  # the limit applies to all connections
        if cancel.wait(seconds):
            cancel.check()


class _Announcer:
    """Reports that transfers wait, once for all that wait at the same time. Thread-safe."""

    def __init__(self, progress: ProgressCallback, least: float) -> None:
        """``least`` is the shortest wait that is reported, in seconds."""
        self._progress = progress
        self._least = least
        self._until = 0.0
        self._lock = threading.Lock()

    def __call__(self, error: ManagerError, seconds: float) -> None:
        if seconds < self._least:
            return
        with self._lock:
            now = time.monotonic()
            is_new, self._until = now >= self._until, max(self._until, now + seconds)
        if is_new:
            self._progress(Warned(describe_wait(error, seconds)))


def _is_large(file: ModelFile) -> bool:
    return (file.size or 0) >= LARGE


def _wrong_hash(model: str, file: ModelFile, actual: str) -> CorruptFileError:
    return CorruptFileError(
        f"{file.path} of {model} arrives damaged: its hash should be {file.etag} and is {actual}",
        hint="A proxy or mirror may change files. Try again later, or from another network.",
        model=model,
        file=file.path,
        expected=file.etag,
        actual=actual,
    )
