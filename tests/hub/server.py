"""The server: two listeners, one application, and the controls and records that tests use."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.hub.access import Gatekeeper
from tests.hub.application import Application
from tests.hub.faults import Fault, FaultPlan
from tests.hub.listener import HOST, ListeningServer, RecordedRequest, Recorder
from tests.hub.settings import Options, User
from tests.hub.store import SPACES, RepoStore

PASSED_ON = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH"})


class HubServer:
    """A Hub on loopback that serves the repositories below `root`. Usable as a context manager.

    `users` maps tokens to accounts; any other token is unknown. `options` are the fields of Options. A free port is
    chosen at the first start if the given port is 0, and kept for later starts, so that a server can be restarted:
    until the context ends, no other process can take it, and connections to the stopped server are refused.
    """

    def __init__(
        self,
        root: Path,
        *,
        users: Mapping[str, User] | None = None,
        port: int = 0,
        cdn_port: int = 0,
        **options: Any,
    ) -> None:
        self.options = Options(**options)
        self._store = RepoStore(Path(root), self.options)
        self._spaces = RepoStore(Path(root), self.options, SPACES)
        gatekeeper = Gatekeeper(users or {}, self.options)
        self._application = Application(self._store, self._spaces, gatekeeper, self.options)
        self._faults = FaultPlan()
        self._recorder = Recorder()
        self._ports = [port, cdn_port]
        self._listeners: list[ListeningServer] = []
        self._held: list[socket.socket] = []  # bound to the ports of a stopped server, and not listening

    def start(self) -> Self:
        """Starts both listeners. Raises OSError if a given port is in use."""
        if self._listeners:
            raise RuntimeError("the server is running")
        answer, faults, recorder = self._application.answer, self._faults, self._recorder
        origin = ListeningServer("origin", self._ports[0], answer, faults, recorder)
        try:
            cdn = ListeningServer("cdn", self._ports[1], answer, faults, recorder)
        except OSError:
            origin.server_close()
            raise
        self._listeners = [origin, cdn]
        self.close()
        self._ports = [listener.server_address[1] for listener in self._listeners]
        self._application.base_url, self._application.cdn.base_url = origin.url, cdn.url
        for listener in self._listeners:
            listener.start()
        return self

    def stop(self) -> None:
        """Stops both listeners and closes their connections, if they are running. Their ports stay taken."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.stop()
            self._held.append(_hold(listener.server_address[1]))

    def close(self) -> None:
        """Frees the ports of a stopped server."""
        while self._held:
            self._held.pop().close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.close()

    @property
    def url(self) -> str:
        """The origin's URL without a trailing slash: the clients' HF_ENDPOINT."""
        return self._listener(0).url

    @property
    def cdn_url(self) -> str:
        """The CDN's URL. Its host and port differ from the origin's: clients must not send it the token."""
        return self._listener(1).url

    def _listener(self, index: int) -> ListeningServer:
        if not self._listeners:
            raise RuntimeError("the server is not running")
        return self._listeners[index]

    @property
    def requests(self) -> list[RecordedRequest]:
        """All requests since the start or the last `clear_requests`, in the order of arrival; a new list."""
        return self._recorder.all()

    def clear_requests(self) -> None:
        """Removes the recorded requests."""
        self._recorder.clear()

    @property
    def errors(self) -> list[BaseException]:
        """Exceptions inside the server; a test should assert that there are none."""
        return list(self._recorder.errors)

    def add_fault(self, fault: Fault) -> None:
        """Adds a fault. Faults of one kind apply in the order in which they were added."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Removes all faults."""
        self._faults.clear()

    def strikes(self, fault: Fault) -> int:
        """How often a fault was applied."""
        return self._faults.strikes(fault)

    def commit(self, repo_id: str, revision: str = "main") -> str:
        """The hash of a revision's commit. Raises KeyError without such a repository."""
        repository = self._store.open(repo_id)
        if repository is None:
            raise KeyError(repo_id)
        return repository.resolve(revision).commit.sha

    def move_branch(self, repo_id: str, branch: str, label: str) -> None:
        """Points a branch, new or existing, to the commit of a label, on this server only."""
        self._store.move_branch(repo_id, branch, label)

    def connection_from(self, address: tuple[str, int]) -> socket.socket:
        """The server's side of the open connection from a client's address. Raises KeyError without one."""
        by_peer = {connection.getpeername(): connection for item in self._listeners for connection in item.connections}
        return by_peer[address]

    def expire_cdn_urls(self) -> None:
        """Makes the CDN refuse all URLs that were issued so far."""
        self._application.cdn.expire_all()

    def refresh(self) -> None:
        """Reads all files again, after some were changed in place."""
        self._store.cache.clear()
        self._spaces.cache.clear()

    def env(self, hf_home: Path) -> dict[str, str]:
        """The environment of a client process: this server, an empty home, no token, no Xet, no telemetry.

        huggingface_hub reads these variables at import. From the present environment only PASSED_ON is copied.
        """
        kept = {key: value for key, value in os.environ.items() if key.upper() in PASSED_ON}
        return kept | self.client_env(hf_home)

    def client_env(self, hf_home: Path) -> dict[str, str]:
        """The variables of `env` that configure huggingface_hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(hf_home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_ETAG_TIMEOUT": "60",
            "HF_HUB_DOWNLOAD_TIMEOUT": "60",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }


def _hold(port: int) -> socket.socket:
    """A socket that has the port and does not listen: the system gives the port to no other process."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((HOST, port))
    return held
