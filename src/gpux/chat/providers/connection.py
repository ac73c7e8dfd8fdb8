"""HTTP to the server behind a chat provider: its address and key, JSON answers, streams by line, and typed errors.

The only importer of httpx2 in this package.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from gpux import __version__
from gpux.chat.provider import ProviderSetup
from gpux.chat.values import ProviderConfig
from gpux.errors import (
    ConfigurationError,
    GpuxError,
    InputError,
    ModelNotFoundError,
    ProviderAccessError,
    ProviderError,
    ProviderUnavailableError,
)
from gpux.system import keystore
from gpux.system.proxies import masked
from gpux.system.settings import TOKEN_CHARACTERS, proxies

_T = TypeVar("_T")

#: Seconds to open a connection: a server that is there accepts it at once, also while it loads a model.
CONNECT: Final = 5.0
#: Seconds to wait for the end of a stream whose content is complete.
REST: Final = 0.5
#: Bytes of an answer that is read as a whole: the list of a catalogue with some thousand models has a few MB.
LARGEST: Final = 64 << 20
#: Bytes of one line of a stream.
LONGEST_LINE: Final = 8 << 20
#: Characters of a server's text in a message.
QUOTED: Final = 300

#: Makes the error for a status of 400 or more out of the server's message; None: the one of the status.
Refusal = Callable[[int, str | None], GpuxError | None]


class Connection:
    """One server. Connections are opened as they are needed, so that a restarted server is found again.

    Args:
        setup: of the provider.
        url: of the server, without a slash at its end.
        key: sent as a bearer token, if there is one.

    Raises:
        UsageError: the proxy of the environment cannot be used.
    """

    def __init__(self, setup: ProviderSetup, url: str, key: str | None) -> None:
        self.url = url
        self._name = setup.config.name
        self._key = key
        seconds = setup.config.timeout_ms / 1000
        self._limit = httpx2.Timeout(seconds, connect=min(seconds, CONNECT))
        answer = setup.configuration.stream_timeout_ms / 1000
        self._stream_limit = httpx2.Timeout(answer, connect=min(answer, CONNECT))
        proxy = proxies().for_url(url)
        headers = {"accept-encoding": "identity", "user-agent": f"gpux/{__version__}"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=self._limit,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=32),
            proxy=None if proxy is None else proxy.url,
            trust_env=False,  # proxies are those above: httpx2 ignores networks and ports in NO_PROXY
            follow_redirects=False,  # a key belongs to one server
            verify=_trusted(url, setup),
        )

    async def aclose(self) -> None:
        """Close the connections; requests that run end with an error."""
        await self._client.aclose()

    async def request(
        self,
        method: str,
        path: str,
        kind: type[_T],
        body: Mapping[str, Any] | None = None,
        refusal: Refusal | None = None,
    ) -> _T:
        """The JSON answer to a request.

        Args:
            method: of HTTP.
            path: behind the server's URL.
            kind: type of the answer.
            body: sent as JSON.
            refusal: see :data:`Refusal`.

        Raises:
            ProviderUnavailableError: the server cannot be reached, or did not answer in time.
            GpuxError: the server refused the request, or its answer has another form.
        """
        async with self._sent(method, path, body, self._limit) as response:
            data = await self._whole(response)
            self._check(response, data, refusal)
        return self.decoded(data, kind)

    @asynccontextmanager
    async def stream(
        self, path: str, body: Mapping[str, Any], refusal: Refusal | None = None
    ) -> AsyncIterator[tuple[str, AsyncGenerator[bytes]]]:
        """The media type of an answer, and its lines without their ends as they arrive; not the empty ones.

        Raises:
            ProviderUnavailableError: the server cannot be reached, did not answer in time, or the answer broke off;
                raised by the lines too.
            GpuxError: the server refused the request.
        """
        async with self._sent("POST", path, body, self._stream_limit) as response:
            if response.status_code >= 300:
                self._check(response, await self._whole(response), refusal)
            media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            async with aclosing(self._lines(response)) as lines:
                yield media, lines

    async def rest(self, lines: AsyncGenerator[bytes]) -> None:
        """Read the end of a stream whose content is complete, so that its connection is used again."""
        try:
            async with asyncio.timeout(REST):
                async for _ in lines:
                    pass
        except (TimeoutError, ProviderUnavailableError):
            pass

    def decoded(self, data: bytes, kind: type[_T]) -> _T:
        """A JSON text of the server.

        Raises:
            ProviderError: it is not JSON, or of another form.
        """
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:  # its kind for a wrong form too
            raise ProviderError(
                f"{self._name} answered in a form that is not of its API ({error}): {_quoted(data)}",
                hint=f"Is {self.url} the right address? It is `base_url` in [providers.{self._name}].",
                provider=self._name,
            ) from error

    def failed(self, message: str) -> ProviderError:
        """The error for a message that the server sent in place of the rest of an answer."""
        return ProviderError(
            f"{self._name} could not complete the answer: {self._public(message)}",
            hint="Its log says more.",
            provider=self._name,
            status=200,
        )

    def broken(self, cause: BaseException | None = None) -> ProviderUnavailableError:
        """The error for an answer without an end."""
        why = "" if cause is None else f" ({_reason(cause)})"
        return ProviderUnavailableError(
            f"the answer of {self._name} broke off{why}",
            hint=f"Was the server at {self.url} stopped? Send the message again.",
            provider=self._name,
            status=200,
        )

    # Inside

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, body: Mapping[str, Any] | None, limit: httpx2.Timeout
    ) -> AsyncIterator[httpx2.Response]:
        content = None if body is None else msgspec.json.encode(body)
        headers = None if body is None else {"content-type": "application/json"}
        request = self._client.build_request(
            method, f"{self.url}{path}", content=content, headers=headers, timeout=limit
        )
        try:
            response = await self._client.send(request, stream=True)
        except (httpx2.RequestError, RuntimeError) as error:  # RuntimeError: the client is closed
            raise self._unreachable(error) from error
        try:
            yield response
        finally:
            await response.aclose()

    async def _whole(self, response: httpx2.Response) -> bytes:
        found = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                found += chunk
                if len(found) > LARGEST:
                    raise ProviderError(
                        f"the answer of {self._name} is larger than {LARGEST >> 20} MiB",
                        hint=f"Is {self.url} the right address?",
                        provider=self._name,
                    )
        except httpx2.RequestError as error:
            raise self._unreachable(error) from error
        return bytes(found)

    async def _lines(self, response: httpx2.Response) -> AsyncGenerator[bytes]:
        rest = bytearray()
        try:
            # Bytes, since ``aiter_lines`` also splits at characters that JSON may contain, such as U+2028.
            async for chunk in response.aiter_bytes():
                first, *others = chunk.split(b"\n")
                rest += first
                for other in others:
                    if stripped := bytes(rest).strip():
                        yield stripped
                    rest = bytearray(other)
                if len(rest) > LONGEST_LINE:
                    raise ProviderError(
                        f"{self._name} sent a line of more than {LONGEST_LINE >> 20} MiB",
                        hint=f"Is {self.url} the right address?",
                        provider=self._name,
                    )
        except (httpx2.RequestError, httpx2.StreamError) as error:
            raise self.broken(error) from error
        if stripped := bytes(rest).strip():
            yield stripped

    def _check(self, response: httpx2.Response, data: bytes, refusal: Refusal | None) -> None:
        status = response.status_code
        if status < 300:
            return
        said = _message(data)
        if status >= 400 and refusal is not None and (error := refusal(status, said)) is not None:
            raise error
        raise self._refused(status, said, response)

    def _refused(self, status: int, said: str | None, response: httpx2.Response) -> GpuxError:
        name, text = self._name, self._public(said) if said else f"status {status}"
        details: dict[str, Any] = {"provider": name, "status": status}
        if status in (401, 403):
            return ProviderAccessError(f"{name} refused the key: {text}", hint=self._key_hint(), **details)
        if status in (400, 413, 415, 422) and said:
            return InputError(f"{name} refused the request: {text}", hint="Change what its message names.", **details)
        if status == 429 or status in (408, 503, 504):
            if (wait := response.headers.get("retry-after", "")).isdecimal():
                details["retry_after"] = int(wait[:9])
            return ProviderUnavailableError(f"{name} cannot answer now: {text}", hint="Try again later.", **details)
        if status < 500:
            hint = f"Is {self.url} the right address? It is `base_url` in [providers.{name}]."
            return ProviderError(f"{name} answered with status {status}: {text}", hint=hint, **details)
        return ProviderError(
            f"{name} failed: {text}", hint=f"The log of the server at {self.url} says more.", **details
        )

    def _key_hint(self) -> str:
        if self._key is None:
            return f"Set `api_key_env` in [providers.{self._name}] to the name of the variable that holds the key."
        return f"Is the key of [providers.{self._name}] valid for {self.url}?"

    def _unreachable(self, error: Exception) -> ProviderUnavailableError:
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            message = f"{self._name} did not answer in time at {self.url}"
        else:
            message = f"{self._name} cannot be reached at {self.url}: {_reason(error)}"
        return ProviderUnavailableError(
            message, hint=f"Start it, or set `base_url` in [providers.{self._name}].", provider=self._name
        )

    def _public(self, message: str) -> str:
        """A server's text for a message: short, printable, without the key, which some servers repeat."""
        if self._key is not None:
            message = message.replace(self._key, "***")
        return "".join(one if one.isprintable() else " " for one in message[:QUOTED]).strip()


def checked_url(text: str, config: ProviderConfig) -> str:
    """The address of a server, without slashes at its end.

    Raises:
        ConfigurationError: it is not an http or https URL, or has a user name, a query or a fragment.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        valid = False
    if not valid or any(one.isspace() or not one.isprintable() for one in text):
        raise ConfigurationError(
            f"the address of the chat provider {config.name} is invalid: {masked(text)!r}",
            hint="Write it as http://host:port.",
            key=f"providers.{config.name}.base_url",
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            f"the address of the chat provider {config.name} has a user name, a query or a fragment",
            hint="Write it as http://host:port, and the key into the variable that `api_key_env` names.",
            key=f"providers.{config.name}.base_url",
        )
    return text.rstrip("/")


async def api_key(config: ProviderConfig, default_variable: str | None = None) -> str | None:
    """The key of a provider: from the variable, or the entry of the key store, that its configuration names.

    Args:
        config: of the provider.
        default_variable: read where the configuration names neither; it may be unset.

    Raises:
        ConfigurationError: the variable is not set, the key store has no such entry, or the key has characters that
            a header must not have.
        StorageError: the key store cannot be read.
    """
    if config.api_key_env or not config.api_key_keyring:
        variable, key = config.api_key_env or default_variable, "api_key_env"
        found = os.environ.get(variable, "").strip() if variable else None
        source, hint = f"the variable {variable}", "Set it where the server is started."
        if not found and not config.api_key_env:
            return None
    else:
        key, entry = "api_key_keyring", config.api_key_keyring
        found = await asyncio.to_thread(keystore.read_entry, entry)
        source, hint = f"the entry {entry} of the key store", f"Store it: `keyring set {keystore.ENTRIES} {entry}`."
    where = f"providers.{config.name}.{key}"
    if not found:
        raise ConfigurationError(
            f"the key of the chat provider {config.name} is missing: {source}", hint=hint, key=where
        )
    if not TOKEN_CHARACTERS.fullmatch(found):
        raise ConfigurationError(
            f"{source} has characters that a key of the chat provider {config.name} cannot have",
            hint="Copy the key again.",
            key=where,
        )
    return found


def not_found(name: str, model: str, hint: str) -> ModelNotFoundError:
    """The error for a model that a server does not have."""
    return ModelNotFoundError(f"{name} has no model {model}", hint=hint, model=model)


def _trusted(url: str, setup: ProviderSetup) -> ssl.SSLContext:
    """Reading the certificates of all authorities takes 25 ms, and is of no use without TLS."""
    if not url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    from gpux.download.hub_http import trusted  # where it is needed, since it loads the rest of a download

    return trusted(setup.settings.ca_bundle)


def _message(data: bytes) -> str | None:
    """What a server says about an error: ``{"error": "…"}``, OpenAI's and other shapes; None for other documents."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for key in ("error", "message", "detail"):
        value = found.get(key) if isinstance(found, dict) else None
        if isinstance(value, dict):
            value = value.get("message")
        if value:
            return value if isinstance(value, str) else json.dumps(value)
    return None


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _quoted(data: bytes) -> str:
    text = data[:80].decode("utf-8", "replace")
    return repr(text if len(data) <= 80 else f"{text}…")
