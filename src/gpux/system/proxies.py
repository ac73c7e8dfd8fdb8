"""Which proxy a request uses: the variables that curl and urllib read, and the hosts that NO_PROXY excludes from them.

httpx2 reads the same variables, but it opens every proxy that they name, also one that NO_PROXY makes unnecessary, and
it ignores the networks and ports in NO_PROXY.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from urllib.parse import SplitResult, urlsplit

from gpux.errors import UsageError

SCHEMES = ("http", "https", "socks5", "socks5h")  #: of a proxy's URL; those that httpx2 supports
_PORTS = {"http": 80, "https": 443}
PROXY_HINT = (
    "Write it as http://host:port or socks5://host:port, unset it, or list the hosts to reach directly in NO_PROXY."
)


@dataclass(frozen=True)
class Proxy:
    """One proxy and the variable that names it."""

    variable: str
    url: str

    @property
    def is_socks(self) -> bool:
        """True for a SOCKS proxy, for which httpx2 needs the package socksio."""
        return self.url.startswith("socks")

    def __repr__(self) -> str:
        return f"Proxy({self.variable}={masked(self.url)})"


@dataclass(frozen=True, repr=False)
class Proxies:
    """The proxies of an environment."""

    variables: Mapping[str, tuple[str, str]]  #: ``http``, ``https`` or ``all`` -> name and value of the variable
    excluded: tuple[str, ...] = ()  #: the entries of NO_PROXY
    of_the_system: bool = False  #: from the system's settings, which have their own list of excluded hosts

    def for_url(self, url: str) -> Proxy | None:
        """The proxy for a request to ``url``; None for a direct connection.

        Raises:
            UsageError: the variable that applies does not contain the URL of a proxy.
        """
        parts = urlsplit(url)
        variable, value = self.variables.get(parts.scheme) or self.variables.get("all") or ("", "")
        if not value or self._excludes(parts):
            return None
        return Proxy(variable, _checked(variable, value))

    def _excludes(self, parts: SplitResult) -> bool:
        host = parts.hostname or ""
        port = parts.port or _PORTS.get(parts.scheme)
        if self.of_the_system and _system().proxy_bypass(host):
            return True
        return any(_matches(entry, parts.scheme, host.rstrip("."), port) for entry in self.excluded)


def read_proxies(environ: Mapping[str, str]) -> Proxies:
    """The proxies of an environment, whose values are clean; on macOS and Windows without any, those of the system.

    As in urllib, the lower-case name of a variable takes precedence, also if it is empty, and ``HTTP_PROXY`` is ignored
    in a CGI process, where a request can set it.
    """
    variables = {}
    for scheme in ("http", "https", "all"):
        lower, upper = f"{scheme}_proxy", f"{scheme}_proxy".upper()
        name = lower if lower in environ else upper
        if environ.get(name) and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
            variables[scheme] = (name, environ[name])
    excluded = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    of_the_system = not variables and sys.platform in ("darwin", "win32")
    if of_the_system:
        found = _system().getproxies()
        variables = {scheme: ("the system's proxy", found[scheme]) for scheme in ("http", "https") if scheme in found}
    return Proxies(variables, tuple(filter(None, re.split(r"[,\s]+", excluded))), of_the_system)


def masked(url: str) -> str:
    """``url`` without its user name and password."""
    return re.sub(r"^((?:[^/@]*//)?).*@", r"\1***@", url, flags=re.DOTALL)


def _system() -> ModuleType:
    import urllib.request  # deferred for the start-up time of `import gpux`

    return urllib.request


def _checked(variable: str, value: str) -> str:
    """The proxy's URL; one without a scheme is an HTTP proxy, as in curl."""
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme.lower() in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        valid = False
    if not valid or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise UsageError(f"{variable}={masked(value)!r} is not the URL of a proxy", hint=PROXY_HINT)
    return url


def _matches(entry: str, scheme: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY means the host: ``*``, a host with its subdomains, an address or a network.

    A scheme before it and a port behind it restrict it.
    """
    if entry == "*":
        return True
    wanted, separator, rest = entry.lower().partition("://")
    if separator and wanted not in ("all", scheme):
        return False
    name, its_port = _host_and_port(rest if separator else entry.lower())
    if its_port is not None and its_port != port:
        return False
    if (address := _address(host)) is not None:
        network = _network(name)
        return network is not None and address in network
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _host_and_port(entry: str) -> tuple[str, int | None]:
    """``host``, ``host:80``, ``[::1]:80``, ``::1`` and ``10.0.0.0/8``."""
    match = re.fullmatch(r"\[(?P<v6>[^\]]*)\](?P<bits>/\d+)?(?::(?P<p6>\d+))?|(?P<host>[^:]*):(?P<port>\d+)", entry)
    if match is None:
        return entry, None
    if match["v6"] is not None:
        return match["v6"] + (match["bits"] or ""), int(match["p6"]) if match["p6"] else None
    return match["host"], int(match["port"])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None
