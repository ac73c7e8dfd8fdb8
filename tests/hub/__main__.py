"""Runs the server in the foreground: `python -m tests.hub --root DIR`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from tests.hub.server import HubServer
from tests.hub.settings import User


def main() -> int:
    """Serves until SIGTERM or SIGINT; prints `HF_ENDPOINT=...` once the server listens."""
    arguments = _parser().parse_args()
    signaled = _signal_socket()
    server = HubServer(
        arguments.root,
        users=dict(arguments.user),
        port=arguments.port,
        cdn_port=arguments.cdn_port,
        aliases=dict(arguments.alias),
        resolve_cache=arguments.resolve_cache,
        strict_401=arguments.strict_401,
        lfs_threshold=arguments.lfs_threshold,
    )
    with server:
        line = f"HF_ENDPOINT={server.url}"
        print(line, flush=True)
        if arguments.ready_file:
            temporary = arguments.ready_file.with_name(f".{arguments.ready_file.name}.{os.getpid()}")
            temporary.write_text(f"{line}\n", encoding="utf-8")
            temporary.replace(arguments.ready_file)
        signaled.recv(1)
    return 0


def _signal_socket() -> socket.socket:
    """A socket that becomes readable on SIGTERM or SIGINT.

    The kernel may deliver a signal to any thread, which writes the byte at once. An Event would be set by the main
    thread only, which is blocked while it waits for that Event.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reading


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description="A Hub on loopback.")
    add = parser.add_argument
    add("--root", type=Path, required=True, metavar="DIR", help="folder with models/<org>/<name>/")
    add("--port", type=int, default=0, help="the origin's port; 0 (the default) for any")
    add("--cdn-port", type=int, default=0, help="the CDN's port; 0 (the default) for any")
    add("--ready-file", type=Path, metavar="FILE", help="file that receives the printed line once the server listens")
    add("--user", type=_user, action="append", default=[], metavar="TOKEN=NAME[:ORG,...]", help="an account")
    add("--alias", type=_pair, action="append", default=[], metavar="OLD=NEW", help="a redirect between ids")
    add("--resolve-cache", action="store_true", help="redirect regular files to /api/resolve-cache")
    add("--strict-401", action="store_true", help="no error code for missing repositories without a token")
    add("--lfs-threshold", type=int, default=10_000, metavar="BYTES", help="size from which files go to LFS")
    return parser


def _pair(text: str) -> tuple[str, str]:
    left, separator, right = text.partition("=")
    if not (left and separator and right):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form LEFT=RIGHT")
    return left, right


def _user(text: str) -> tuple[str, User]:
    token, account = _pair(text)
    name, _, orgs = account.partition(":")
    return token, User(name, tuple(org for org in orgs.split(",") if org))


if __name__ == "__main__":
    sys.exit(main())
