"""Download of one blob into the source cache: resumed, hashed as it arrives, retried, cancellable.

The only importer of httpx2 in gpux. The plain ``resolve`` URL serves every file of the Hub. A redirect to another
origin (the CDN) is followed without the token.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urljoin, urlsplit

import httpx2

from gpux.cancel import CancelToken
from gpux.errors import CorruptFileError, HubServerError, NetworkError, RateLimitError
from gpux.managers import hub_errors
from gpux.managers.connections import Connections
from gpux.managers.hub_errors import Asked
from gpux.types import ModelFile

CHUNK = 1 << 20
REDIRECTS = 5
#: Seconds before each further try after one that brought nothing; about +-25 % at random.
BACKOFF = (0.5, 1.0, 2.0, 4.0)
LONGEST_WAIT = 60  # seconds that a 429 may ask for before it becomes an error

OnBytes = Callable[[int], None]  #: how many of the file's bytes have arrived so far


class Transfer:
    """One connection pool to one Hub; safe to use from several threads."""

    def __init__(self, endpoint: str, token: str | None, timeout: float) -> None:
        self._endpoint = endpoint
        self._token = token
        self._connections = Connections()
        self._http = httpx2.Client(timeout=timeout, follow_redirects=False, headers={"Accept-Encoding": "identity"})

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def abort(self) -> None:
        """End all transfers at once, those that wait for an answer too; they fail with ``NetworkError``."""
        self._connections.cut()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def download(
        self, model: str, commit: str, file: ModelFile, partial: Path, on_bytes: OnBytes, cancel: CancelToken
    ) -> None:
        """Fill ``partial`` with the file's content, going on from what it holds; its hash is right on return.

        Raises:
            CorruptFileError: size or hash is wrong, also when fetched anew.
            NetworkError: the connection fails again and again.
            ManagerError: the Hub refuses; the subclass says why.
            CancelledError: ``cancel`` was set; ``partial`` keeps what arrived.
        """
        asked = Asked(self._endpoint, model, commit, file.path, with_token=self._token is not None)
        url = f"{self._endpoint}/{model}/resolve/{quote(commit, safe='')}/{quote(file.path)}"
        if self._attempt(url, file, partial, asked, on_bytes, cancel) == file.etag:
            return
        partial.unlink()
        actual = self._attempt(url, file, partial, asked, on_bytes, cancel)
        if actual != file.etag:
            partial.unlink()
            raise CorruptFileError(
                f"{file.path} of {model} arrives damaged: its hash should be {file.etag} and is {actual}",
                hint="A proxy or mirror on the way may change files. Try again later, or another network.",
                model=model,
                file=file.path,
                expected=file.etag,
                actual=actual,
            )

    def _attempt(
        self, url: str, file: ModelFile, partial: Path, asked: Asked, on_bytes: OnBytes, cancel: CancelToken
    ) -> str:
        """Fetch until the file is whole, and return its hash; only tries that bring nothing are counted."""
        with _open_for_resume(partial) as sink:
            hasher = _Frontier(file, sink)
            fruitless = 0
            while True:
                before = hasher.position
                on_bytes(before)
                try:
                    self._stream(url, file, sink, hasher, asked, on_bytes, cancel)
                    return hasher.digest()
                except (HubServerError, NetworkError, RateLimitError) as exc:
                    fruitless = 0 if hasher.position > before else fruitless + 1
                    _wait_or_give_up(exc, fruitless, cancel)

    def _stream(
        self,
        url: str,
        file: ModelFile,
        sink: BinaryIO,
        hasher: _Frontier,
        asked: Asked,
        on_bytes: OnBytes,
        cancel: CancelToken,
    ) -> None:
        if file.size is not None and hasher.position == file.size:
            return
        with self._get(url, hasher.position, asked) as response:
            if response.status_code == 200 and hasher.position:
                hasher.restart()  # the server ignores ranges
            try:
                for chunk in response.iter_bytes():  # as they come: a cut then loses no buffered rest
                    cancel.check()
                    sink.write(chunk)
                    hasher.update(chunk)
                    on_bytes(hasher.position)
            except httpx2.TransportError as exc:
                raise hub_errors.unreachable(asked, exc) from exc
        if file.size is not None and hasher.position < file.size:
            raise hub_errors.unreachable(asked, f"{asked.file} ended at byte {hasher.position} of {file.size}")

    @contextmanager
    def _get(self, url: str, offset: int, asked: Asked) -> Iterator[httpx2.Response]:
        """GET from ``offset`` on, following redirects by hand; yields a 200 or 206."""
        for _ in range(REDIRECTS):
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            if self._token and _origin(url) == _origin(self._endpoint):
                headers["Authorization"] = f"Bearer {self._token}"
            try:
                request = self._http.build_request(
                    "GET", url, headers=headers, extensions={"trace": self._connections.trace}
                )
                response = self._http.send(request, stream=True)
            except httpx2.TransportError as exc:
                raise hub_errors.unreachable(asked, exc) from exc
            try:
                if response.is_redirect:
                    url = urljoin(url, response.headers["Location"])
                    continue
                if response.status_code not in (200, 206):
                    raise hub_errors.from_response(response.status_code, response.headers, asked)
                yield response
                return
            finally:
                response.close()
        raise HubServerError(f"{asked.endpoint} redirects {asked.file} more than {REDIRECTS} times")


class _Frontier:
    """The hash of a file's bytes up to where they have arrived without a gap."""

    def __init__(self, file: ModelFile, sink: BinaryIO) -> None:
        self._file = file
        self._sink = sink
        self._begin()
        if file.size is not None and sink.seek(0, os.SEEK_END) > file.size:
            sink.truncate(0)  # longer than the whole file: not its prefix
        sink.seek(0)
        while chunk := sink.read(CHUNK):
            self.update(chunk)

    def _begin(self) -> None:
        self.position = 0
        self._hash = new_hash(self._file)

    def update(self, chunk: bytes) -> None:
        self.position += len(chunk)
        self._hash.update(chunk)

    def restart(self) -> None:
        self._sink.seek(0)
        self._sink.truncate()
        self._begin()

    def digest(self) -> str:
        return self._hash.hexdigest()


def new_hash(file: ModelFile) -> hashlib._Hash:
    """The hash that names the file's blob: sha256 for LFS files, else git's sha1 of a header and the content."""
    if file.sha256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % (file.size or 0), usedforsecurity=False)


def hash_file(path: Path, file: ModelFile) -> str:
    """The hash of a file on disk, to be compared with ``file.etag``."""
    found = new_hash(file)
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _open_for_resume(partial: Path) -> BinaryIO:
    partial.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")


def _wait_or_give_up(exc: HubServerError | NetworkError | RateLimitError, fruitless: int, cancel: CancelToken) -> None:
    if fruitless > len(BACKOFF):
        raise exc
    seconds = BACKOFF[max(fruitless, 1) - 1] * random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries
    if isinstance(exc, RateLimitError):
        asked_for = exc.details.get("retry_after")
        if asked_for is None or asked_for > LONGEST_WAIT:
            raise exc
        seconds = asked_for + seconds / 4
    if cancel.wait(seconds):
        cancel.check()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
