"""The graphs of one variant by name, each opened on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from numpy.typing import ArrayLike, NDArray

from gpux.errors import UsageError
from gpux.model.variant import GraphSpec, StoredModel
from gpux.runtime.session import Session


class Graphs:
    """Named graphs in one folder, such as an encoder and its decoder. Safe to use from many threads.

    Args:
        folder: contains the files.
        files: graph name -> file, relative to the folder.
        open_session: opens a file; by default on the CPU.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str],
        open_session: Callable[[Path], Session] = lambda path: Session(path, device="cpu"),
    ) -> None:
        self._files = dict(files)
        self._paths = {name: folder / file for name, file in files.items()}
        self._open = open_session
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls,
        model: StoredModel,
        *,
        device: str | int = "auto",
        threads: int | None = None,
        allow_cpu_nodes: bool = False,
        spinning: bool = False,
        huge_pages: bool = False,
    ) -> Self:
        """The graphs of a stored variant.

        Args:
            model: the variant.
            device: as all further arguments, that of :class:`~gpux.runtime.session.Session`, for each graph.
            threads: see there.
            allow_cpu_nodes: see there.
            spinning: see there.
            huge_pages: see there.
        """

        def open_session(path: Path) -> Session:
            return Session(
                path,
                device=device,
                threads=threads,
                allow_cpu_nodes=allow_cpu_nodes,
                spinning=spinning,
                huge_pages=huge_pages,
            )

        return cls(model.path, {graph.name: graph.file for graph in model.manifest.graphs}, open_session)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the graphs."""
        return tuple(self._paths)

    def specs(self) -> tuple[GraphSpec, ...]:
        """Files, inputs and outputs of all graphs, which are opened now if they were not yet."""
        sessions = {name: self.session(name) for name in self._files}
        return tuple(
            GraphSpec(name, file, sessions[name].inputs, sessions[name].outputs) for name, file in self._files.items()
        )

    @property
    def memory_bytes(self) -> int:
        """Approximate bytes of the opened graphs, see :attr:`Session.memory_bytes`."""
        with self._lock:
            return sum(session.memory_bytes for session in self._sessions.values())

    def session(self, name: str) -> Session:
        """The session of one graph; opens it on the first call.

        Raises:
            UsageError: no graph has that name.
            DeviceError: the device cannot run the graph.
            SessionError: the graph cannot be loaded.
        """
        with self._lock:
            if name not in self._sessions:
                if name not in self._paths:
                    raise UsageError(f"no graph {name!r}", hint=f"The graphs are: {', '.join(self._paths)}.")
                self._sessions[name] = self._open(self._paths[name])
            return self._sessions[name]

    def run(self, name: str, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """Run one graph and return its outputs by name; see :meth:`Session.run`."""
        return self.session(name).run(inputs)

    def close(self) -> None:
        """Close all sessions; may be called twice."""
        with self._lock:
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
