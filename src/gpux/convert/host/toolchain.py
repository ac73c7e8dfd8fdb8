"""Toolchains: isolated environments with pinned packages, made when a converter needs them and only then.

A virtual environment cannot be renamed, so it is made in place, under a lock, and counts only with its marker, the
last file written. An installation that was cut off leaves no marker, and the next one starts over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from gpux.convert.host.pip import SizeReport, disk_full, interpreter, make_environment, pip, size_report
from gpux.errors import NotWritableError, ToolchainError, ToolchainMissingError, UsageError
from gpux.model.values import Value
from gpux.system.cancel import CancelToken
from gpux.system.launch import LAUNCHER
from gpux.system.process import converse
from gpux.system.progress import ProgressCallback, StageFinished, StageStarted, silent
from gpux.system.settings import Settings

Status = Literal["missing", "incomplete", "outdated", "ready"]
MARKER = "toolchain.json"
WORKER = "gpux.convert.worker"
STAGE = "toolchain"
#: A disk with less than this is full: a failed installation is then no one else's fault.
_FULL = 32_000_000


@dataclass(frozen=True)
class ToolchainRemoval(Value):
    """What removing a toolchain deletes; nothing happens before :meth:`execute`."""

    name: str
    path: Path
    size: int  #: bytes that it frees

    def execute(self) -> None:
        """Delete it: the marker first, so that what a crash leaves counts for nothing."""
        with FileLock(_lock_file(self.path)):
            _delete(self.path)


class Toolchain:
    """One isolated environment, by the name of its requirement file."""

    def __init__(self, name: str, settings: Settings) -> None:
        if name not in toolchain_names():
            raise UsageError(f"no toolchain {name!r}", hint=f"There are: {', '.join(toolchain_names())}.")
        self.name = name
        self.path = settings.toolchains / name
        self.requirements = _requirements(name)
        self.log = settings.logs / f"toolchain-{name}.log"
        self._torch_index = settings.torch_index

    @property
    def python(self) -> Path:
        """Its interpreter, there or not."""
        return interpreter(self.path)

    def status(self) -> Status:
        """``incomplete``: an installation was cut off; ``outdated``: made from other requirements than today's."""
        if not self.path.is_dir():
            return "missing"
        marker = self._marker()
        if marker is None or not self.python.is_file():
            return "incomplete"
        return "ready" if marker.get("requirements") == self._digest() else "outdated"

    def check_ready(self) -> None:
        """Return if it can be used.

        Raises:
            ToolchainMissingError: it cannot; the hint is the command that installs it.
        """
        status = self.status()
        if status != "ready":
            raise ToolchainMissingError(
                f"the toolchain {self.name}, which converts models, is {status}",
                hint=f"Install it with `gpux toolchain install {self.name}`, or `pip install 'gpux[{self._extra()}]'`.",
                toolchain=self.name,
                status=status,
            )

    def versions(self) -> dict[str, str]:
        """Library -> version, from the marker; empty without one."""
        marker = self._marker() or {}
        return {str(name): str(version) for name, version in marker.get("versions", {}).items()}

    def pins(self) -> dict[str, str]:
        """Package -> version, as the requirement file has them."""
        lines = self.requirements.read_text(encoding="utf-8").splitlines()
        return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))

    def converts(self) -> dict[str, int]:
        """Hub task -> how many model types its converter takes for it, most first."""
        table = json.loads((_FOLDER.parent / f"{self.name}_architectures.json").read_text(encoding="utf-8"))
        return dict(Counter(task for tasks in table["architectures"].values() for task in tasks).most_common())

    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.lstat().st_size for file in self.path.rglob("*") if not file.is_dir())

    def size_report(self, cancel: CancelToken | None = None) -> SizeReport:
        """What :meth:`install` would download, by pip's dry run; takes some seconds.

        Which build of torch that is, with or without CUDA, is up to the index: ``GPUX_TORCH_INDEX`` adds one.

        Raises:
            ToolchainError: pip cannot find the packages.
        """
        return size_report(self.requirements, self._index_options(), cancel or CancelToken())

    def install(self, progress: ProgressCallback = silent, cancel: CancelToken | None = None) -> None:
        """Make the environment, from nothing, unless it is ready.

        Raises:
            ToolchainError: pip failed; the message has its last lines, ``.log`` all of them.
            DiskFullError: the disk filled up.
            NotWritableError: the folder of toolchains cannot be written.
            CancelledError: ``cancel`` was set. Without a marker, what is there counts for nothing.
        """
        cancel = cancel or CancelToken()
        start = datetime.now(UTC)
        try:
            with self._locked(cancel):
                if self.status() == "ready":
                    return
                self._build(progress, cancel)
        except PermissionError as exc:
            raise NotWritableError(f"the toolchain cannot be written to {self.path}: {exc}") from exc
        except (ToolchainError, OSError) as exc:
            self._tell_full_disk(exc)
            raise
        progress(StageFinished(STAGE, f"{self.name} is ready", (datetime.now(UTC) - start).total_seconds()))

    def integrity(self, cancel: CancelToken | None = None) -> dict[str, str]:
        """Start its interpreter, import what conversions need, and compare the versions with the marker's.

        Raises:
            ToolchainMissingError: it is not installed.
            ToolchainError: it is damaged.
        """
        self.check_ready()
        found = self._ask_versions(cancel or CancelToken())
        wrong = sorted(name for name, version in self.versions().items() if found.get(name) != version)
        if wrong:
            described = ", ".join(f"{name} {found.get(name)} instead of {self.versions()[name]}" for name in wrong)
            raise ToolchainError(f"the toolchain {self.name} was changed: {described}", hint=self._again())
        return found

    def remove(self) -> ToolchainRemoval:
        """What removing it would delete: a plan with ``execute()``."""
        return ToolchainRemoval(self.name, self.path, self.size() if self.path.is_dir() else 0)

    def _build(self, progress: ProgressCallback, cancel: CancelToken) -> None:
        progress(StageStarted(STAGE, "Making the environment"))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        if self.path.is_dir():
            _delete(self.path)
        python = make_environment(self.path, self.log, cancel)
        install: list[str | Path] = ["install", "--no-user", "--progress-bar", "off"]
        torch = self._torch_requirement()
        if torch is not None:
            # Apart, and first: an index for torch alone often serves nothing else, or other versions of the rest.
            progress(StageStarted(STAGE, f"Installing {torch}"))
            pip(
                python,
                [*install, torch, *self._index_options(), "--constraint", self.requirements],
                log=self.log,
                cancel=cancel,
            )
        progress(StageStarted(STAGE, "Installing the exporter"))
        pip(python, [*install, "--requirement", self.requirements], log=self.log, cancel=cancel)
        progress(StageStarted(STAGE, "Checking"))
        self._write_marker(self._ask_versions(cancel))

    def _ask_versions(self, cancel: CancelToken) -> dict[str, str]:
        answers: list[Mapping[str, Any]] = []
        end = converse(
            (self.python, "-I", LAUNCHER, WORKER),
            {"command": "versions", "exporter": self.name},
            log=self.log,
            on_event=answers.append,
            cancel=cancel,
        )
        last: Mapping[str, Any] = answers[-1] if answers else {"event": "failure", "message": f"its process {end}"}
        if last["event"] != "result":
            message = f"the toolchain {self.name} does not work: {last.get('message')}"
            raise ToolchainError(message, hint=self._again(), log=self.log)
        return dict(last["versions"])

    def _again(self) -> str:
        return f"Install it again: `gpux toolchain remove {self.name}`, then `gpux toolchain install {self.name}`."

    def _extra(self) -> str:
        """The extra of gpux that installs the same packages in the user's own environment."""
        return "convert" if self.name == "optimum" else self.name

    def _write_marker(self, versions: Mapping[str, str]) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        marker = {"schema": 1, "requirements": self._digest(), "versions": versions, "created": created}
        temporary = self.path / f"{MARKER}.new"
        temporary.write_text(json.dumps(marker, indent=1), encoding="utf-8")
        temporary.replace(self.path / MARKER)

    def _marker(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / MARKER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _digest(self) -> str:
        return hashlib.sha256(self.requirements.read_bytes()).hexdigest()

    def _torch_requirement(self) -> str | None:
        lines = self.requirements.read_text(encoding="utf-8").splitlines()
        return next((line.strip() for line in lines if line.startswith("torch==")), None)

    def _index_options(self) -> list[str]:
        return ["--extra-index-url", self._torch_index] if self._torch_index else []

    def _tell_full_disk(self, exc: Exception) -> None:
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self.path).free
            if free < _FULL:
                raise disk_full(self.path, free) from exc

    @contextlib.contextmanager
    def _locked(self, cancel: CancelToken) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_file(self.path))
        while not lock.is_locked:
            cancel.check()
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0.5)
        try:
            yield
        finally:
            lock.release()


def toolchain_names() -> tuple[str, ...]:
    """The toolchains that there are, by their requirement files."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.txt")))


_FOLDER = Path(str(files("gpux.convert"))) / "requirements"


def _requirements(name: str) -> Path:
    return _FOLDER / f"{name}.txt"


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _delete(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (path / MARKER).unlink(missing_ok=True)
        shutil.rmtree(path)
