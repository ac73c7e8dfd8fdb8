"""Which addresses the server may fetch for a client: http and https on the public internet.

Everything is decided on one parsed address, which is the one that is fetched: two parsers that read ``\\`` or ``@``
differently let an address pass as another one (CVE-2026-24779). A name is resolved once, and the connection is opened
to the address that was checked, since a second answer of the name server may differ (CVE-2025-6242).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gpux.errors import InputError

if TYPE_CHECKING:
    import httpx2

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
#: (host, port) -> its addresses
Resolver = Callable[[str, int], Awaitable[list[str]]]

_LONGEST = 4096
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
#: Names of one machine or one network, whatever they resolve to.
_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "localdomain", "home.arpa")
#: Networks in which ``ipaddress`` finds global addresses, and that lead to other ones or to a host of a cloud.
_REFUSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's own service for its machines
            "192.0.0.0/24",  # of protocols; Oracle's service for its machines
            "192.88.99.0/24",  # relays of 6to4
            "::/96",  # IPv4 as IPv6, of old
            "64:ff9b::/96",  # NAT64
            "64:ff9b:1::/48",
            "2001::/23",  # Teredo and other protocols
            "2002::/16",  # 6to4
            "fec0::/10",  # site-local
        ),
    )
)


def parse_address(text: str) -> httpx2.URL:
    """An http or https address, of which every part is what it seems.

    Raises:
        InputError: it has another scheme, a user or password, no plain host, or characters that programs read
            differently.
    """
    import httpx2

    if len(text) > _LONGEST or not text.isascii() or not text.isprintable() or set(text) & set(' \\"<>^`{|}'):
        raise _refused("has characters that an address has percent-encoded, or is too long")
    if not text[:8].lower().startswith(("http://", "https://")):
        raise _refused("is neither http nor https")
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError) as exc:
        raise _refused("is not valid") from exc
    if url.userinfo or "@" in text[:8] + text[8:].partition("/")[0]:
        raise _refused("has a user or a password in it")
    if url.scheme not in ("http", "https"):
        raise _refused("is neither http nor https")
    if url.port is not None and url.port not in (80, 443) and not 1024 <= url.port <= 65535:
        raise _refused("has the port of another protocol")
    _check_host(host_of(url))
    return url


def host_of(url: httpx2.URL) -> str:
    """The name that is resolved, compared and sent: in ASCII, not as people read it."""
    return url.raw_host.decode("ascii")


def _check_host(host: str) -> None:
    if _ip(host) is not None and "%" not in host:
        return
    labels = host.removesuffix(".").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("has no plain host")
    # Systems read 127.1, 2130706433, 0x7f.0.0.1 and 0177.0.0.1 as 127.0.0.1.
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        raise _refused("has a host of numbers that is not an IP address")
    if len(labels) == 1 or any(host.removesuffix(".").endswith("." + name) for name in _LOCAL_NAMES):
        raise _refused("has the name of a machine that is not on the public internet")


def is_public(address: str) -> bool:
    """Whether an IP address belongs to a machine of the public internet."""
    found = _ip(address)
    if found is None or (isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None):
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if any(found.version == network.version and found in network for network in _REFUSED):
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, by the resolver of the system.

    Raises:
        OSError: it has none.
    """
    if _ip(host) is not None:
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


async def checked_ip(url: httpx2.URL, resolver: Resolver, allowed: Callable[[str], bool]) -> str:
    """The IP address to connect to.

    Args:
        url: of :func:`parse_address`.
        resolver: resolves its host, once.
        allowed: whether an IP address may be connected to; each that the host has must be.

    Raises:
        InputError: one is not, or the host has none.
    """
    try:
        found = await resolver(host_of(url), url.port or (443 if url.scheme == "https" else 80))
    except (OSError, UnicodeError) as exc:
        raise _refused("has a host that is not known") from exc
    if not found:
        raise _refused("has a host that is not known")
    if not all(map(allowed, found)):
        raise _refused("is not on the public internet")
    return found[0]


def _ip(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _refused(reason: str) -> InputError:
    return InputError(f"an address in the request {reason}, and is not fetched", hint="Send the file itself in base64.")
