"""The sockets that a server listens on, and errors that say why it cannot."""

from __future__ import annotations

import errno
import os
import socket
import sys

import psutil

from gpux.errors import AddressError
from gpux.server.records import servers
from gpux.system.settings import Settings

#: Ports that macOS uses for AirPlay.
AIRPLAY = (5000, 7000)


def listen(host: str, port: int, settings: Settings) -> list[socket.socket]:
    """Bind a socket for each address of the host. They do not accept connections yet.

    Args:
        host: an IP address, or a name of this machine such as ``localhost``.
        port: 0 for any free one, the same on every address.
        settings: say where other servers are recorded.

    Raises:
        AddressError: the port is in use, needs other rights, or the host is not of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as exc:
        raise AddressError(f"no address is known for {host!r}", hint="Try --host 127.0.0.1.") from exc
    bound: list[socket.socket] = []
    refused: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            bound.append(_bind(family, (address[0], port)))
        except OSError as exc:
            if exc.errno != errno.EADDRNOTAVAIL:  # a name may have an address of IPv6 that this machine does not use
                _close(bound)
                raise _address_error(exc, host, port, settings) from exc
            refused = exc
        else:
            port = bound[-1].getsockname()[1]
    if refused is not None and not bound:
        raise _address_error(refused, host, port, settings) from refused
    return bound


def url_of(sockets: list[socket.socket]) -> str:
    """The address under which this machine reaches the server: ``http://127.0.0.1:5000``."""
    host, port = sockets[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind(family: int, address: tuple[str | int, int]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows the option lets two servers share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(128)  # of two servers that start at once, one fails here; clients wait until the models are loaded
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _address_error(exc: OSError, host: str, port: int, settings: Settings) -> AddressError:
    if exc.errno == errno.EADDRINUSE:
        return _in_use(host, port, settings)
    if exc.errno in (errno.EACCES, errno.EPERM):
        return AddressError(
            f"port {port} needs administrator rights", hint=f"Choose a port above 1023: gpux serve --port {port + 8000}"
        )
    return AddressError(
        f"{host} is not an address of this machine",
        hint="Try --host 127.0.0.1, or --host 0.0.0.0 for all addresses of this machine.",
    )


def _in_use(host: str, port: int, settings: Settings) -> AddressError:
    other = f"gpux serve --port {_free_port(host, port)}"
    for record in servers(settings):
        if record.port == port:
            return AddressError(
                f"a gpux server is already running on port {port}: {record.url}, process {record.process.pid}",
                hint=f"Use that one, end it with `gpux stop {record.url}`, or start a second one: `{other}`.",
                pid=record.process.pid,
            )
    process = _holder(port)
    named = f" by {process.name()} (process {process.pid})" if process is not None else ""
    hint = f"Choose another port: `{other}`."
    if sys.platform == "darwin" and port in AIRPLAY:
        hint += " macOS holds this port for AirPlay Receiver, which System Settings > General > AirDrop can turn off."
    details = {"pid": process.pid} if process is not None else {}
    return AddressError(f"port {port} on {host} is in use{named}", hint=hint, **details)


def _holder(port: int) -> psutil.Process | None:
    """The process that listens on a port; None where the system does not say."""
    try:
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr[1] == port and one.pid:
                process = psutil.Process(one.pid)
                process.name()
                return process
    except psutil.Error:
        return None
    return None


def _free_port(host: str, port: int) -> int:
    """The next port on which a server could listen."""
    for candidate in range(port + 1, min(port + 100, 65536)):
        try:
            with socket.create_server((host, candidate), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                return candidate
        except OSError:
            continue
    return 0
