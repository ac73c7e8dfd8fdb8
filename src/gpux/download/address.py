"""The bytes at an address that a user gave, such as that of a picture: no Hub, no token, no retries."""

from __future__ import annotations

from urllib.parse import urlsplit

from gpux.errors import InputError, ManagerError

MOST_BYTES = 256 << 20  #: of a response


def is_address(text: str) -> bool:
    """Whether a text is an http or https address."""
    return text[:8].lower().startswith(("http://", "https://"))


def read_address(url: str, timeout: float = 20.0, most: int = MOST_BYTES) -> bytes:
    """The body of one GET request, through the proxies of the environment.

    Args:
        url: http or https.
        timeout: seconds for opening a connection and for each read.
        most: the longest body that is read, in bytes.

    Raises:
        InputError: the server refuses, does not answer, or sends more than ``most`` bytes.
    """
    # here, since pictures and sounds of this machine are opened without an HTTP library
    from gpux.download.hub_errors import RequestContext
    from gpux.download.hub_http import REDIRECTS, HubHttp

    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.hostname}{parts.path}"  # without a user, a password or a signed query
    context = RequestContext(endpoint=f"{parts.scheme}://{parts.hostname}", file=shown)
    http = HubHttp(context.endpoint, None, timeout)
    try:
        for _ in range(REDIRECTS):
            response = http.get(url, None, context)
            try:
                if response.is_redirect and "Location" in response.headers:
                    url = http.redirect_target(url, response.headers["Location"], context)
                    continue
                if response.status_code >= 400:
                    raise InputError(f"{shown} is refused with status {response.status_code}")
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > most:
                        raise InputError(f"{shown} sends more than {most >> 20} MB")
                return bytes(body)
            finally:
                response.close()
        raise InputError(f"{shown} redirects more than {REDIRECTS} times")
    except ManagerError as exc:
        raise InputError(f"{shown} cannot be fetched: {exc}", hint=exc.hint) from exc
    finally:
        http.close()
