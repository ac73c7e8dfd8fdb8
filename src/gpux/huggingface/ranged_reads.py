"""Reads of byte ranges of a model's files: from the source cache if the file is there, else by one request each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gpux.download import hub_errors, retry
from gpux.download.hub_http import HubHttp, RangeRefusedError, RangesIgnoredError, RemoteFile
from gpux.download.ranges import Range
from gpux.download.retry import RETRYABLE, Retry, describe_wait
from gpux.errors import ONLINE_HINT, HubServerError, OfflineError
from gpux.inspect.reads import FileReads, read_part
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.transfer import Tally
from gpux.source_cache.layout import HubCache
from gpux.system.progress import Warned, wait_listener
from gpux.system.settings import Settings

#: Bytes that are read, at most, from a server that ignores ranges and sends the whole file.
WHOLE = 16 << 20


class HubReads(FileReads):
    """Byte ranges of the files of one model of a Hub. Thread-safe."""

    def __init__(self, settings: Settings, info: ModelInfo, *, network: bool = True) -> None:
        self._online = network and not settings.offline
        self._settings = settings
        self._info = info
        self._cache = HubCache(settings.hf_cache, info.id)
        self._http: HubHttp | None = None
        self._remote_files: dict[str, RemoteFile] = {}
        self._tallies: dict[str, Tally] = {}  # one per file: threads must not share a counter
        self._lock = threading.Lock()
        self._report = wait_listener()  # of the thread that opens the files, not of those that read

    @property
    def tally(self) -> Tally:
        """Requests, retries and bytes so far."""
        found = list(self._tallies.values())
        return Tally(*(sum(getattr(tally, name) for tally in found) for name in ("requests", "retries", "received")))

    def size(self, path: str) -> int:
        """Bytes of a file: from the model's info, else from the cache, else by one request."""
        file = self._file(path)
        if file.size is not None:
            return file.size
        cached = self._cache.present(self._info.commit, file)
        if cached is None and not self._online:
            raise self._not_cached(path)
        return cached.stat().st_size if cached else self._remote_file(file).size()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()
            self._http, self._remote_files = None, {}

    def _read(self, path: str, start: int, stop: int) -> bytes:
        file = self._file(path)
        cached = self._cache.present(self._info.commit, file)
        if cached is not None:
            return read_part(cached, start, stop)
        if not self._online:
            raise self._not_cached(path)
        return self._request(file, start, stop)

    def _request(self, file: ModelFile, start: int, stop: int) -> bytes:
        """The bytes by as many requests as needed; bytes of a response that breaks off are kept.

        A whole file that is complete by its own Content-Length, though shorter than the Hub's metadata, is returned as
        it is; the caller judges it.
        """
        remote, got, attempts = self._remote_file(file), bytearray(), Retry(retry.READ_POLICY)
        last = time.monotonic()
        while len(got) < stop - start:
            before = len(got)
            try:
                with self._opened(remote, file, (start + before, stop)) as chunks:
                    for chunk in chunks:
                        got += chunk
                        last = time.monotonic()
                if start + before == 0 and stop == file.size:
                    break
                if len(got) == before:
                    raise hub_errors.unreachable(remote.context, f"{file.path} ended at byte {start + before}")
            except RETRYABLE as error:
                self._tallies[file.path].retries += 1
                seconds = attempts.delay_after(error, last, len(got) > before)
                if seconds >= attempts.policy.announced:
                    self._report(Warned(describe_wait(error, seconds)))
                time.sleep(seconds)
        return bytes(got[: stop - start])

    @contextmanager
    def _opened(self, remote: RemoteFile, file: ModelFile, wanted: Range) -> Iterator[Iterator[bytes]]:
        """The chunks of a range, whether or not the server supports ranges."""
        start, stop = wanted
        whole = start == 0 and stop == file.size
        try:
            with remote.open(None if whole else wanted) as batches:
                yield _first(batches, stop - start)
        except RangeRefusedError as exc:
            raise HubServerError(f"{file.path} is shorter than the Hub's metadata says", status=416) from exc
        except RangesIgnoredError as exc:
            if stop > WHOLE:
                message = f"the Hub sends {file.path} as a whole only, not the requested range"
                raise HubServerError(message, status=416) from exc
            with remote.open(None) as batches:
                yield iter([b"".join(_first(batches, stop))[start:]])

    def _not_cached(self, path: str) -> OfflineError:
        message = f"{path} of {self._info.id} is not in the source cache"
        if not self._settings.offline:
            return OfflineError(f"{message}, and the Hub does not answer", hint="Try again later.")
        return OfflineError(f"offline, and {message}", hint=ONLINE_HINT)

    def _file(self, path: str) -> ModelFile:
        file = self._info.file(path)
        if file is None:
            context = hub_errors.RequestContext(self._settings.endpoint, self._info.id, self._info.commit, path)
            raise hub_errors.entry_not_found(context)
        return file

    def _remote_file(self, file: ModelFile) -> RemoteFile:
        with self._lock:
            if self._http is None:
                settings = self._settings
                self._http = HubHttp(settings.endpoint, settings.token, settings.timeout, settings.ca_bundle)
            if file.path not in self._remote_files:
                tally = self._tallies.setdefault(file.path, Tally())
                remote = RemoteFile(self._http, self._info.id, self._info.commit, file, tally)
                self._remote_files[file.path] = remote
            return self._remote_files[file.path]


def _first(batches: Iterator[list[bytes]], length: int) -> Iterator[bytes]:
    """The first ``length`` bytes; reading stops there."""
    left = length
    for chunks in batches:
        piece = b"".join(chunks)[:left]
        left -= len(piece)
        yield piece
        if not left:
            return
