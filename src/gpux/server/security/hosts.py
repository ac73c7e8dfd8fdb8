"""Names in requests: the ``Host`` and ``Origin`` headers, and the addresses that a server may listen on.

Every decision uses the parser of this module, and never an address that a framework composed from the ``Host`` header.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from gpux.errors import AddressError, HostError, UsageError
from gpux.server.security.keys import read_keys
from gpux.server.settings import ServerSettings

#: host and port of RFC 9110, section 7.2, without the parts that no client sends: percent-encoding, user names
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://([^/?#@\\\s]+)")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Authority:
    """A host in lower case, without brackets, and a port, if one was written."""

    host: str
    port: int | None = None

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_local_name(self) -> bool:
        """``localhost`` and names below it, which no name server of a network answers for (RFC 6761, 6.3)."""
        return self.host == "localhost" or self.host.endswith(".localhost")


@dataclass(frozen=True)
class Origin:
    """The origin of a page."""

    scheme: str
    host: str
    port: int


def parse_authority(text: str) -> Authority | None:
    """``host``, ``host:port``, ``[address]:port``; None for anything else."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    address, name, port = match.groups()
    if port is not None and not 1 <= int(port) <= 65535:
        return None
    if address is not None:
        try:
            return Authority(str(ipaddress.IPv6Address(address)), int(port) if port else None)
        except ValueError:
            return None
    # A name of digits and dots that is no address, as 127.1, is read in several forms by other software.
    numeric = re.fullmatch(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)", name.rpartition(".")[2]) is not None
    found = Authority(name.lower(), int(port) if port else None)
    return None if numeric and not found.is_address else found


def parse_origin(text: str) -> Origin | None:
    """``scheme://host[:port]`` with the scheme http or https; None for anything else, ``null`` included."""
    match = _ORIGIN.fullmatch(text)
    if match is None or (authority := parse_authority(match[2])) is None:
        return None
    return Origin(match[1], authority.host, authority.port or _PORTS[match[1]])


class Hosts:
    """Which hosts a server answers for, and which origins may use it.

    Args:
        hosts: names besides IP addresses and ``localhost``; with a port, for this port only.
        origins: of pages besides the server's own, as a browser writes them.

    Raises:
        UsageError: one of them is not a host or an origin; there are no patterns.
    """

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._hosts = {_host(text) for text in hosts}
        self._origins = {_origin(text) for text in origins}

    def check_host(self, values: list[bytes]) -> Authority:
        """The value of the ``Host`` headers.

        Raises:
            HostError: the header is missing, occurs twice, or names a host that the server does not answer for.
        """
        if len(values) != 1 or (authority := parse_authority(values[0].decode("latin-1"))) is None:
            raise HostError("the Host header is missing or invalid", hint="Send one Host header: host or host:port.")
        listed = authority in self._hosts or Authority(authority.host) in self._hosts
        if not (listed or authority.is_address or authority.is_local_name):
            raise HostError(
                f"this server does not answer for the host {authority.host!r}",
                hint="Use its IP address or localhost, or start it with that name as an allowed host.",
            )
        return authority

    def listed(self, origin: Origin) -> bool:
        """Whether pages of an origin may use the server, besides its own."""
        return origin in self._origins


def own_origin(scheme: str, host: Authority) -> Origin:
    """The origin of the server's own pages."""
    return Origin(scheme, host.host, host.port or _PORTS.get(scheme, 80))


def _host(text: str) -> Authority:
    found = parse_authority(text)
    if found is None:
        raise UsageError(f"{text!r} is not a host name", hint="Write a whole name: models.example.org")
    return found


def _origin(text: str) -> Origin:
    found = parse_origin(text)
    if found is None:
        raise UsageError(f"{text!r} is not an origin", hint="Write scheme, host and port: https://app.example.org")
    return found


def is_loopback(address: str) -> bool:
    """Whether an IP address is one of this machine's loopback addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def check_bind(settings: ServerSettings) -> None:
    """Refuse to listen where other machines can connect, unless requests need a key. No setting overrides this.

    Raises:
        UsageError: the address is not a loopback address, and there is no file of keys; or the file cannot be used.
        AddressError: the host name has no address.
    """
    if settings.api_keys is not None:
        if not read_keys(settings.api_keys):
            raise UsageError(
                f"{settings.api_keys} has no keys, so that no request could be answered",
                hint=f"Run `gpux keys create NAME --file {settings.api_keys}`.",
            )
        return
    try:
        found = socket.getaddrinfo(settings.host or None, settings.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressError(
            f"the host {settings.host!r} has no address", hint="Try --host 127.0.0.1, or an address of this machine."
        ) from None
    # Without a host, sockets listen on every address.
    if not settings.host or not all(is_loopback(str(entry[4][0])) for entry in found):
        raise UsageError(
            f"other machines can connect to {settings.host!r}, and no key is needed",
            hint="Run `gpux keys create NAME`, and start the server with the --api-key-file that it prints.",
        )
