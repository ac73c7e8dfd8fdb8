"""Download of one blob into the source cache, from its first byte to its right hash.

Large files come in several ranges at once, as many as pay; what has arrived survives the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from gpux.download import retry
from gpux.download.hub_errors import unreachable
from gpux.download.partial import Partial, discard, finish
from gpux.download.ranges import Range, pieces
from gpux.download.requests import HubHttp, Link, RangeRefusedError, RangesIgnoredError
from gpux.download.retry import RETRIED, Patience, Retry
from gpux.download.slots import CAP, Lanes
from gpux.errors import CorruptFileError, ManagerError, RateLimitError
from gpux.model.info import ModelFile
from gpux.model.transfer import Tally
from gpux.source_cache.layout import Places
from gpux.system.cancel import CancelToken

LARGE = 32 << 20  #: bytes from which a file comes in several ranges
PIECE = 16 << 20  #: bytes of one range

OnBytes = Callable[[int], None]  #: how many of the file's bytes have arrived so far


class Transfer:
    """Downloads from one Hub, which share its connections; safe to use from several threads."""

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        timeout: float,
        *,
        ca_bundle: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._http = HubHttp(endpoint, token, timeout, ca_bundle)
        self._lanes = Lanes()
        self._patience = patience or retry.PATIENCE

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def abort(self) -> None:
        """End all transfers at once, those that wait for an answer too; they fail with ``NetworkError``."""
        self._http.cut()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def download(
        self,
        model: str,
        commit: str,
        file: ModelFile,
        places: Places,
        on_bytes: OnBytes,
        cancel: CancelToken,
        tally: Tally | None = None,
    ) -> None:
        """Bring the blob, going on from what an earlier process left; its hash is right on return.

        It is fetched anew once when the hash is wrong, or when the server says that the file is shorter.

        Raises:
            CorruptFileError: size or hash is wrong, twice. Nothing is left on the disk.
            NetworkError, HubServerError, RateLimitError: no byte came until the deadline.
            ManagerError: the Hub refuses; the subclass says why.
            CancelledError: ``cancel`` was set; what arrived is kept.
            OSError: the disk refuses; what arrived is kept.
        """
        tally = tally or Tally()
        link = Link(self._http, model, commit, file, tally)
        if file.size is None:
            file = replace(file, size=link.size())
        actual = ""
        for _ in range(2):
            with Partial(places.partial, places.journal, file, sparse=_is_large(file)) as partial:
                fetch = _Fetch(link, partial, self._lanes, self._patience, on_bytes, tally, self.abort)
                try:
                    actual = fetch.run(cancel, parallel=_is_large(file))
                except RangeRefusedError:
                    actual = "that of a shorter file"
            if actual == file.etag:
                finish(places.partial, places.journal, places.blob)
                return
            discard(places.partial, places.journal)
        raise _wrong(model, file, actual)


class _Fetch:
    """One try at one file: its gaps, the threads that fill them, and the one that follows with the hash."""

    def __init__(
        self,
        link: Link,
        partial: Partial,
        lanes: Lanes,
        patience: Patience,
        on_bytes: OnBytes,
        tally: Tally,
        abort: Callable[[], None],
    ) -> None:
        self._link = link
        self._partial = partial
        self._lanes = lanes
        self._patience = patience
        self._on_bytes = on_bytes
        self._tally = tally
        self._abort = abort
        self._pieces: deque[Range] = deque()
        self._hashes_here = True

    def run(self, cancel: CancelToken, *, parallel: bool) -> str:
        """Fetch until the file is whole, and return its hash.

        A server that does not honour ranges is asked for the whole file instead; what is here of it is kept.
        """
        self._on_bytes(self._partial.arrived)
        gaps = self._partial.gaps()
        self._pieces.extend(pieces(gaps, PIECE) if parallel else gaps)
        try:
            if parallel:
                self._hashes_here = False
                self._in_threads(cancel, min(CAP, len(self._pieces)))
            else:
                self._fill_gaps(cancel)
        except RangesIgnoredError:
            self._hashes_here = True
            self._fill((0, self._partial.size), cancel, whole=True)
        self._partial.catch_up(cancel)
        return self._partial.hexdigest()

    def _in_threads(self, cancel: CancelToken, workers: int) -> None:
        """Fill the gaps in several threads; the first failure stops them all, and is raised."""
        stop = cancel.child()
        failures: list[BaseException] = []

        def ended(job: Future[None]) -> None:
            if (failure := job.exception()) is not None:
                failures.append(failure)
                stop.cancel()
                if failures[0] is failure and not isinstance(failure, (RangesIgnoredError, RangeRefusedError)):
                    self._abort()  # the pull ends: nobody waits for what a server still may say

        with ThreadPoolExecutor(workers + 1, thread_name_prefix="gpux-range") as pool:
            pool.submit(self._partial.follow, stop).add_done_callback(ended)
            for number in range(workers):
                pool.submit(self._fill_gaps, stop, further=number > 0).add_done_callback(ended)
        if failures:
            raise failures[0]

    def _fill_gaps(self, cancel: CancelToken, *, further: bool = False) -> None:
        """Fetch piece after piece, the first ones first, so that the hash can follow."""
        while self._pieces:
            with self._lanes.lane(cancel, further=further, needed=lambda: bool(self._pieces)) as admitted:
                try:
                    piece = self._pieces.popleft() if admitted else None
                except IndexError:  # another thread took the last one
                    return
                if piece:
                    self._fill(piece, cancel)

    def _fill(self, piece: Range, cancel: CancelToken, *, whole: bool = False) -> None:
        """Fetch a piece, by as many requests as it takes; ``whole`` asks for the file without a range."""
        tries = Retry(self._patience)
        while gaps := self._partial.gaps(*piece):
            start = 0 if whole else gaps[0][0]
            try:
                self._read(start, piece[1], cancel)
                if left := self._partial.gaps(*piece):
                    raise unreachable(self._link.asked, f"{self._link.asked.file} ended at byte {left[0][0]}")
            except RETRIED as error:
                left = self._partial.gaps(*piece)
                if left:  # else all came, and only the end of the answer is missing
                    self._tally.retries += 1
                    self._wait(error, tries.wait_after(error, self._partial.last_arrival, left != gaps), cancel)

    def _read(self, start: int, stop: int, cancel: CancelToken) -> None:
        """Write what one answer brings."""
        whole = start == 0 and stop == self._partial.size
        with self._link.open(None if whole else (start, stop)) as batches:
            for chunks in batches:
                came = sum(map(len, chunks))
                if start + came > stop:  # more than was announced
                    came, chunks = stop - start, [b"".join(chunks)[: stop - start]]
                if not came:
                    return
                self._partial.write(start, chunks)
                start += came
                if self._hashes_here:
                    self._partial.catch_up(cancel)
                self._lanes.arrived(came)
                self._on_bytes(self._partial.arrived)
                cancel.check()  # after what came is written

    def _wait(self, error: ManagerError, seconds: float, cancel: CancelToken) -> None:
        if isinstance(error, RateLimitError):
            self._lanes.close_for(seconds)  # the limit is one for all connections
        if cancel.wait(seconds):
            cancel.check()


def _is_large(file: ModelFile) -> bool:
    return (file.size or 0) >= LARGE


def _wrong(model: str, file: ModelFile, actual: str) -> CorruptFileError:
    return CorruptFileError(
        f"{file.path} of {model} arrives damaged: its hash should be {file.etag} and is {actual}",
        hint="A proxy or mirror on the way may change files. Try again later, or another network.",
        model=model,
        file=file.path,
        expected=file.etag,
        actual=actual,
    )
