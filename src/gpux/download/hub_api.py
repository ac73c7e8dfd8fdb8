"""Requests for metadata of a Hub: JSON, pages of JSON, and checks without a body.

They follow the retry policy of downloads. Each attempt runs in a thread, so that a call can be cancelled and has a
deadline also while a host name is resolved or a server is silent; an attempt that is abandoned is ended with its
connection, and sends no further request. huggingface_hub's own calls are not used: most accept no timeout, some repeat
a request several times and others never, its HTTP library depends on its release, and it reads the environment once,
when it is imported.
"""

from __future__ import annotations

import json
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from gpux.download import hub_errors, retry
from gpux.download.hub_errors import RequestContext
from gpux.download.hub_http import REDIRECTS, HubHttp
from gpux.download.retry import RETRYABLE, Retry, RetryPolicy, describe_wait
from gpux.errors import HubServerError
from gpux.system.cancel import CancelToken
from gpux.system.progress import Warned, wait_listener

POLL = 0.05  # seconds between looks at the cancel token
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NEXT = re.compile(r"<([^>]*)>[^,]*;\s*rel=\"?next\"?")


@dataclass(frozen=True)
class Response:
    """A response that was read completely; ``headers`` are case-insensitive."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class HubApi:
    """The metadata API of one Hub. Thread-safe."""

    def __init__(self, endpoint: str, token: str | None, timeout: float, ca_bundle: Path | None = None) -> None:
        """``timeout`` is in seconds, for opening a connection and for each read.

        Raises:
            InvalidTokenError, UsageError: as :class:`HubHttp`.
        """
        self._endpoint = endpoint
        self._timeout = timeout
        self._open: Callable[[], HubHttp] = lambda: HubHttp(endpoint, token, timeout, ca_bundle)
        self._idle: deque[HubHttp] = deque([self._open()])  # each is used by one call at a time
        weakref.finalize(self, _close_all, self._idle)

    def get(
        self,
        path: str,
        context: RequestContext,
        cancel: CancelToken | None = None,
        *,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON at ``path``, which begins with a slash.

        Raises:
            HubServerError: the Hub fails, or the response is not JSON.
            ManagerError: the Hub refuses, or does not answer; the subclass says why.
            CancelledError: ``cancel`` was set.
        """
        return self._json("GET", self._endpoint + path, context, cancel, params=params)[0]

    def post(self, path: str, context: RequestContext, cancel: CancelToken | None, form: Mapping[str, Any]) -> Any:
        """The JSON response to a form; raises as :meth:`get`."""
        return self._json("POST", self._endpoint + path, context, cancel, form=form)[0]

    def pages(
        self, path: str, context: RequestContext, cancel: CancelToken | None, params: Mapping[str, Any]
    ) -> Iterator[list[Any]]:
        """The pages of a JSON list; each is requested when it is needed. Raises as :meth:`get`.

        The header ``Link`` of a page names the next one, whose address contains the query (RFC 8288).
        """
        url, query = self._endpoint + path, dict(params)
        while url:
            page, response = self._json("GET", url, context, cancel, params=query or None)
            if not isinstance(page, list):
                raise hub_errors.invalid_description(context, "it is not a list")
            yield page
            following = _NEXT.search(response.headers.get("Link", ""))
            url, query = (urljoin(response.url, following[1]) if following else ""), {}

    def head(self, path: str, context: RequestContext, cancel: CancelToken | None = None) -> None:
        """Check that ``path`` is served; a redirect to another origin (the CDN) is not followed.

        Raises as :meth:`get`.
        """
        self._request("HEAD", self._endpoint + path, context, cancel)

    def _json(
        self, method: str, url: str, context: RequestContext, cancel: CancelToken | None, **sent: Any
    ) -> tuple[Any, Response]:
        found: list[Any] = []

        def decode(response: Response) -> None:
            found[:] = [_decoded(response, context)]

        response = self._request(method, url, context, cancel, decode, **sent)
        return found[0], response

    def _request(
        self,
        method: str,
        url: str,
        context: RequestContext,
        cancel: CancelToken | None,
        check: Callable[[Response], None] = lambda response: None,
        **sent: Any,
    ) -> Response:
        """The response after as many attempts as the policy allows; ``check`` raises for one that is incomplete."""
        policy = retry.METADATA_POLICY
        policy = replace(policy, deadline=policy.deadline * self._timeout)
        attempts, cancel = Retry(policy), cancel or CancelToken()
        while True:
            try:
                response = self._attempt(_Attempt(method, url, context, sent), policy, cancel)
                check(response)
                return response
            except RETRYABLE as error:
                seconds = attempts.delay_after(error, 0.0, got=False)
                if seconds >= policy.announced:
                    wait_listener()(Warned(describe_wait(error, seconds)))
                if cancel.wait(seconds):
                    cancel.check()

    def _attempt(self, attempt: _Attempt, policy: RetryPolicy, cancel: CancelToken) -> Response:
        """Run one attempt in a thread; end its connection if it exceeds its deadline or is cancelled."""
        cancel.check()
        try:
            http = self._idle.pop()
        except IndexError:
            http = self._open()
        thread = threading.Thread(target=attempt.run, args=(http,), name="gpux-hub", daemon=True)
        thread.start()
        silent = 2 * self._timeout
        try:
            attempt.wait(silent, max(silent, policy.deadline, policy.stated or 0.0), cancel)
        except BaseException:  # also KeyboardInterrupt
            attempt.abandon(http)
            raise
        self._idle.append(http)
        if attempt.failure is not None:
            raise attempt.failure
        assert attempt.response is not None  # it ended without a failure
        return attempt.response


class _Attempt:
    """One request with its redirects."""

    def __init__(self, method: str, url: str, context: RequestContext, sent: Mapping[str, Any]) -> None:
        self.context = context
        self.began = threading.Event()  #: the headers of a response arrived
        self.ended = threading.Event()
        self.response: Response | None = None
        self.failure: BaseException | None = None
        self._method = method
        self._url = url
        self._sent = sent
        self._abandoned = False
        self._lock = threading.Lock()

    def run(self, http: HubHttp) -> None:
        try:
            self.response = self._follow(http)
        except BaseException as exc:  # noqa: BLE001 - raised in the caller's thread
            self.failure = exc
        finally:
            with self._lock:
                self.ended.set()
                if self._abandoned:
                    http.close()

    def abandon(self, http: HubHttp) -> None:
        """End the attempt with its connections."""
        with self._lock:
            self._abandoned = True
            http.abort()
            if self.ended.is_set():
                http.close()

    def wait(self, silent: float, longest: float, cancel: CancelToken) -> None:
        """Return when the attempt has ended.

        Args:
            silent: seconds until the headers of a response have to be there.
            longest: seconds until its body has to be there.
            cancel: ends the wait.

        Raises:
            NetworkError: it takes longer.
            CancelledError: ``cancel`` was set.
        """
        since = time.monotonic()
        while not self.ended.wait(POLL):
            cancel.check()
            waited = time.monotonic() - since
            if waited > (longest if self.began.is_set() else silent):
                raise hub_errors.unreachable(self.context, f"no response for {waited:.0f} s")

    def _follow(self, http: HubHttp) -> Response:
        url, sent = self._url, self._sent
        for _ in range(REDIRECTS):
            headers = {"Accept-Encoding": "gzip, deflate"}
            response = http.send(self._method, url, self.context, headers=headers, **sent)
            try:
                self.began.set()
                status, location = response.status_code, response.headers.get("Location")
                if status in _REDIRECTS and location is not None:
                    target = http.redirect_target(url, location, self.context)
                    if self._method == "HEAD" and not http.is_origin(target):
                        return Response(url, response.headers, b"")
                    url, sent = target, {name: value for name, value in sent.items() if name != "params"}
                    continue
                if not 200 <= status < 300:
                    raise hub_errors.refusal(status, response.headers, self.context)
                return Response(url, response.headers, http.read(response, self.context))
            finally:
                response.close()
        raise HubServerError(
            f"{self.context.endpoint} redirects a request more than {REDIRECTS} times",
            hint=hub_errors.ENDPOINT_HINT,
            status=status,
        )


def _decoded(response: Response, context: RequestContext) -> Any:
    """The JSON of a response.

    Raises:
        NetworkError: it ends within a value: the connection was closed early, and nothing announced the length.
        HubServerError: it is not JSON.
    """
    try:
        text = response.body.decode("utf-8-sig")
        return json.loads(text)
    except json.JSONDecodeError as exc:
        if exc.pos >= len(text.rstrip()) or exc.msg.startswith("Unterminated string"):
            raise hub_errors.unreachable(context, f"the response ended after {len(response.body)} bytes") from exc
        raise hub_errors.invalid_description(context, exc) from exc
    except ValueError as exc:  # not UTF-8
        raise hub_errors.invalid_description(context, exc) from exc


def _close_all(idle: deque[HubHttp]) -> None:
    while idle:
        idle.pop().close()
