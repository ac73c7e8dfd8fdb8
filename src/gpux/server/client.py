"""A client of the native API, for the commands that manage running servers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from gpux.errors import GpuxError, ServerError, UsageError
from gpux.server.records import servers
from gpux.system.settings import TOKEN_CHARACTERS, Settings

#: Variable with the key that a server needs.
KEY = "GPUX_API_KEY"
#: Seconds to wait for an answer that no load or unload delays.
PATIENCE = 10.0


class ServerClient:
    """Calls the native API of one server.

    Args:
        url: address of the server: ``http://127.0.0.1:5000``.
        key: its API key, if it needs one.

    Raises:
        UsageError: the address or the key is invalid.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not the address of a server", hint="Try --url http://127.0.0.1:5000.")
        if key is not None and not TOKEN_CHARACTERS.fullmatch(key):
            raise UsageError(f"the value of {KEY} is not a key", hint=f"Copy the key again, or unset {KEY}.")
        self.url = f"{parts.scheme}://{parts.netloc}"
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        # Proxies of the environment do not reach this machine. Without TLS, no certificates of authorities are read.
        self._client = httpx2.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False, verify=parts.scheme == "https"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """The document at a path below ``/gpux/v1``.

        Raises:
            GpuxError: the error of the server.
            ServerError: there is no answer, or not one of gpux.
        """
        return self._send("GET", path, None, PATIENCE)

    def post(self, path: str, body: Any = None, *, timeout: float | None = PATIENCE) -> Any:
        """The answer to a request.

        Args:
            path: below ``/gpux/v1``.
            body: JSON-able.
            timeout: seconds to wait for the answer; None: without limit.

        Raises:
            GpuxError: see :meth:`get`.
        """
        return self._send("POST", path, body, timeout)

    def _send(self, method: str, path: str, body: Any, timeout: float | None) -> Any:
        try:
            answer = self._client.request(
                method, f"/gpux/v1{path}", json={} if body is None and method == "POST" else body, timeout=timeout
            )
            found = answer.json()
        except httpx2.ConnectError as exc:
            raise not_running(f"no server answers at {self.url}") from exc
        except (httpx2.HTTPError, ValueError) as exc:
            raise ServerError(
                f"the server at {self.url} gave no answer of gpux", hint="Check the address: `gpux ps` lists servers."
            ) from exc
        if answer.is_success:
            return found
        raise _error(answer.status_code, found)


def clients(settings: Settings, urls: Sequence[str] = ()) -> list[ServerClient]:
    """A client for each server: those at ``urls``, else those that run with this home folder.

    Raises:
        ServerError: no server is running.
        UsageError: an address, or the key in ``GPUX_API_KEY``, is invalid.
    """
    found = list(urls) or [record.url for record in servers(settings)]
    if not found:
        raise not_running("no server is running")
    key = os.environ.get(KEY) or None
    return [ServerClient(url, key) for url in found]


def not_running(message: str) -> ServerError:
    """The error where there is no server to speak to."""
    return ServerError(message, hint="`gpux serve` starts one; --url names one that was started with other settings.")


def _error(status: int, document: Any) -> GpuxError:
    fields = document.get("error") if isinstance(document, dict) else None
    if not isinstance(fields, dict) or "message" not in fields:
        return ServerError(f"the server answered with status {status}", hint="Is it a gpux server? Check the address.")
    error = GpuxError.from_dict(fields)
    if status == 401:
        error.hint = f"Set {KEY} to a key of the server."
    return error
