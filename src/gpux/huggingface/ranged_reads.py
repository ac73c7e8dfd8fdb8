"""Ranged reads from a Hub: what the source cache holds comes from there, the rest by one request for each part."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gpux.download import hub_errors
from gpux.download.ranges import Range
from gpux.download.requests import HubHttp, Link, RangeRefusedError, RangesIgnoredError
from gpux.download.retry import RETRIED, Patience, Retry
from gpux.errors import HubServerError, OfflineError
from gpux.inspect.reads import FileReads, read_part
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.transfer import Tally
from gpux.source_cache.layout import HubCache
from gpux.system.settings import Settings

#: Nobody waits two minutes to look at a model; the deadline runs from the last byte that came.
PATIENCE = Patience(deadline=5.0, first=0.2, longest=2.0)
#: Bytes that are read of a server that sends the whole file whatever it is asked for.
WHOLE = 16 << 20


class HubReads(FileReads):
    """Files of one model of a Hub."""

    def __init__(self, settings: Settings, info: ModelInfo, *, ask: bool = True) -> None:
        self._ask_hub = ask and not settings.offline
        self._settings = settings
        self._info = info
        self._cache = HubCache(settings.hf_cache, info.id)
        self._http: HubHttp | None = None
        self._links: dict[str, Link] = {}
        self._tallies: dict[str, Tally] = {}  # of each file its own: threads share no counter
        self._lock = threading.Lock()

    @property
    def tally(self) -> Tally:
        """Requests, further tries and bytes so far."""
        found = list(self._tallies.values())
        return Tally(*(sum(getattr(tally, name) for tally in found) for name in ("requests", "retries", "received")))

    def size(self, path: str) -> int:
        """Bytes of a file: as the model's page says, else one request."""
        file = self._file(path)
        if file.size is not None:
            return file.size
        known = self._cache.present(self._info.commit, file)
        if known is None and not self._ask_hub:
            raise self._not_here(path)
        return known.stat().st_size if known else self._link(file).size()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()
            self._http, self._links = None, {}

    def _read(self, path: str, start: int, stop: int) -> bytes:
        file = self._file(path)
        known = self._cache.present(self._info.commit, file)
        if known is not None:
            return read_part(known, start, stop)
        if not self._ask_hub:
            raise self._not_here(path)
        return self._ask(file, start, stop)

    def _ask(self, file: ModelFile, start: int, stop: int) -> bytes:
        """By as many requests as it takes; what one brings before it breaks is kept.

        An answer for the whole file that ends too early and says so is taken for what it is: its reader judges it.
        """
        link, got, tries = self._link(file), bytearray(), Retry(PATIENCE)
        last = time.monotonic()
        while len(got) < stop - start:
            before = len(got)
            try:
                with self._opened(link, file, (start + before, stop)) as chunks:
                    for chunk in chunks:
                        got += chunk
                        last = time.monotonic()
                if start + before == 0 and stop == file.size:
                    break
                if len(got) == before:
                    raise hub_errors.unreachable(link.asked, f"{file.path} ended at byte {start + before}")
            except RETRIED as error:
                self._tallies[file.path].retries += 1
                time.sleep(tries.wait_after(error, last, len(got) > before))
        return bytes(got[: stop - start])

    @contextmanager
    def _opened(self, link: Link, file: ModelFile, wanted: Range) -> Iterator[Iterator[bytes]]:
        """The chunks of a range, of a server that honours ranges or does not."""
        start, stop = wanted
        whole = start == 0 and stop == file.size
        try:
            with link.open(None if whole else wanted) as batches:
                yield _until(batches, stop - start)
        except RangeRefusedError as exc:
            raise HubServerError(f"{file.path} is shorter than the Hub says", status=416) from exc
        except RangesIgnoredError as exc:
            if stop > WHOLE:
                raise HubServerError(f"the Hub sends no part of {file.path}, only all of it", status=416) from exc
            with link.open(None) as batches:
                yield iter([b"".join(_until(batches, stop))[start:]])

    def _not_here(self, path: str) -> OfflineError:
        message = f"{path} of {self._info.id} is not in the source cache"
        if not self._settings.offline:
            return OfflineError(f"{message}, and the Hub does not answer", hint="Try again later.")
        hint = "Leave out --offline, and unset HF_HUB_OFFLINE if it is set."
        return OfflineError(f"offline, and {message}", hint=hint)

    def _file(self, path: str) -> ModelFile:
        file = self._info.file(path)
        if file is None:
            asked = hub_errors.Asked(self._settings.endpoint, self._info.id, self._info.commit, path)
            raise hub_errors.entry_not_found(asked)
        return file

    def _link(self, file: ModelFile) -> Link:
        with self._lock:
            if self._http is None:
                settings = self._settings
                self._http = HubHttp(settings.endpoint, settings.token, settings.timeout, settings.ca_bundle)
            if file.path not in self._links:
                tally = self._tallies.setdefault(file.path, Tally())
                self._links[file.path] = Link(self._http, self._info.id, self._info.commit, file, tally)
            return self._links[file.path]


def _until(batches: Iterator[list[bytes]], length: int) -> Iterator[bytes]:
    """The first ``length`` bytes, then no more is read."""
    left = length
    for chunks in batches:
        piece = b"".join(chunks)[:left]
        left -= len(piece)
        yield piece
        if not left:
            return
