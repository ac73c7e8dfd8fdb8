"""Toolchains: isolated virtual environments with the packages of one converter, created on request.

A virtual environment cannot be renamed, so it is created in place, under a lock, and is valid only with its marker, the
last file written. An interrupted installation leaves no marker, and the next one starts over.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from gpux.convert.host.pip import SizeReport, create_environment, disk_full, interpreter, pip, size_report
from gpux.convert.spec import ConverterSpec
from gpux.errors import CorruptFileError, NotWritableError, ToolchainError, ToolchainMissingError
from gpux.model.json_file import read_json
from gpux.model.values import Value
from gpux.system.cancel import CancelToken
from gpux.system.files import write_atomic
from gpux.system.hashing import hash_bytes
from gpux.system.launch import launch_command
from gpux.system.process import converse
from gpux.system.progress import ProgressCallback, StageFinished, StageStarted, silent
from gpux.system.settings import Settings

Status = Literal["missing", "incomplete", "outdated", "ready"]
MARKER = "toolchain.json"
STAGE = "toolchain"
#: Subfolder of the packages that write tokenizers, where they differ from the toolchain's.
TOKENIZER_FOLDER = "tokenizer"
#: Free bytes below which a failed installation is reported as a full disk.
_FULL = 32_000_000


@dataclass(frozen=True)
class ToolchainRemoval(Value):
    """What removing a toolchain deletes; nothing happens before :meth:`execute`."""

    name: str
    path: Path
    size: int  #: bytes to free

    def execute(self) -> None:
        """Delete the toolchain, its marker first, so that an interrupted deletion leaves an invalid one."""
        with FileLock(_lock_file(self.path)):
            _delete(self.path)


class Toolchain:
    """The isolated environment of one converter.

    Args:
        spec: the converter.
        settings: where toolchains and logs are.
    """

    def __init__(self, spec: ConverterSpec, settings: Settings) -> None:
        self.spec = spec
        self.name = spec.name
        self.path = settings.toolchains / spec.name
        self.log = settings.logs / f"toolchain-{spec.name}.log"
        self._torch_index = settings.torch_index

    @property
    def python(self) -> Path:
        """Path of its interpreter, which need not exist."""
        return interpreter(self.path)

    def status(self) -> Status:
        """``incomplete``: an installation was interrupted; ``outdated``: installed from other requirements."""
        if not self.path.is_dir():
            return "missing"
        marker = self._marker()
        if marker is None or not self.python.is_file():
            return "incomplete"
        found = {name: marker.get(name) for name in ("requirements", "tokenizer")}
        return "ready" if found == self._digests() else "outdated"

    def check_ready(self) -> None:
        """Return if the status is ``ready``.

        Raises:
            ToolchainMissingError: it is not; the hint is the command that installs it, and ``details`` has
                ``toolchain``, its name, and ``status``.
        """
        status = self.status()
        if status != "ready":
            extra = f", or `pip install 'gpux[{self.spec.extra}]'`" if self.spec.extra else ""
            raise ToolchainMissingError(
                f"the toolchain {self.name}, which converts models, is {status}",
                hint=f"Install it with `gpux toolchain install {self.name}`{extra}.",
                toolchain=self.name,
                status=status,
            )

    def versions(self) -> dict[str, str]:
        """Library -> version, from the marker; empty without one."""
        marker = self._marker() or {}
        return {str(name): str(version) for name, version in marker.get("versions", {}).items()}

    def pins(self) -> dict[str, str]:
        """Package -> version, of the requirements that name one version."""
        return dict(line.split("==", 1) for line in self.spec.requirement_lines() if "==" in line)

    def converts(self) -> dict[str, int]:
        """Hub task -> number of model types that are converted for it, largest first."""
        return dict(Counter(task for tasks in self.spec.architectures().values() for task in tasks).most_common())

    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.lstat().st_size for file in self.path.rglob("*") if not file.is_dir())

    def size_report(self, cancel: CancelToken | None = None) -> SizeReport:
        """The packages that :meth:`install` would download, by pip's dry run, which takes some seconds.

        The index decides which build of torch that is, with or without CUDA: ``GPUX_TORCH_INDEX`` adds an index.

        Raises:
            ToolchainError: pip cannot find the packages.
        """
        cancel = cancel or CancelToken()
        with self._requirement_file() as requirements:
            found = size_report(requirements, self._index_options(), cancel)
        if self.spec.tokenizer_requirements is None:
            return found
        more = size_report(self.spec.tokenizer_requirements, ["--no-deps"], cancel)
        return SizeReport(found.packages + more.packages)

    def install(self, progress: ProgressCallback = silent, cancel: CancelToken | None = None) -> None:
        """Create the environment from scratch, unless it is ready.

        Raises:
            ToolchainError: pip failed; the message has its last lines, ``.log`` all of them.
            DiskFullError: the disk filled up.
            NotWritableError: the folder of toolchains cannot be written.
            CancelledError: ``cancel`` was set; the toolchain is ``incomplete``.
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
            self._raise_full_disk(exc)
            raise
        progress(StageFinished(STAGE, f"{self.name} is ready", (datetime.now(UTC) - start).total_seconds()))

    def integrity(self, cancel: CancelToken | None = None) -> dict[str, str]:
        """Start its interpreter, import the modules that the worker needs, and compare the versions with the marker's.

        Raises:
            ToolchainMissingError: it is not installed.
            ToolchainError: it is damaged.
        """
        self.check_ready()
        found = self._read_versions(cancel or CancelToken())
        wrong = sorted(name for name, version in self.versions().items() if found.get(name) != version)
        if wrong:
            described = ", ".join(f"{name} {found.get(name)} instead of {self.versions()[name]}" for name in wrong)
            raise ToolchainError(f"the toolchain {self.name} was changed: {described}", hint=self._again())
        return found

    def remove(self) -> ToolchainRemoval:
        """The plan of a removal; ``execute()`` deletes."""
        return ToolchainRemoval(self.name, self.path, self.size() if self.path.is_dir() else 0)

    def _build(self, progress: ProgressCallback, cancel: CancelToken) -> None:
        progress(StageStarted(STAGE, "Creating the environment"))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        if self.path.is_dir():
            _delete(self.path)
        python = create_environment(self.path, self.log, cancel)
        with self._requirement_file() as requirements:
            install: list[str | Path] = ["install", "--no-user", "--progress-bar", "off"]
            torch = next((line for line in self.spec.requirement_lines() if line.startswith("torch==")), None)
            if torch is not None:
                # Separately and first: an index of torch builds often has no other packages, or other versions of them.
                progress(StageStarted(STAGE, f"Installing {torch}"))
                install_torch = [*install, torch, *self._index_options(), "--constraint", requirements]
                pip(python, install_torch, log=self.log, cancel=cancel)
            progress(StageStarted(STAGE, "Installing the exporter"))
            pip(python, [*install, "--requirement", requirements], log=self.log, cancel=cancel)
        if self.spec.tokenizer_requirements is not None:
            progress(StageStarted(STAGE, "Installing what writes tokenizers"))
            target: list[str | Path] = ["--no-deps", "--target", self.path / TOKENIZER_FOLDER]
            target += ["--requirement", self.spec.tokenizer_requirements]
            pip(python, [*install, *target], log=self.log, cancel=cancel)
        progress(StageStarted(STAGE, "Checking"))
        self._write_marker(self._read_versions(cancel))

    def _read_versions(self, cancel: CancelToken) -> dict[str, str]:
        answers: list[Mapping[str, Any]] = []
        end = converse(
            launch_command(self.python, self.spec.worker),
            {"command": "versions", "modules": self.spec.modules, **self.spec.options},
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

    def _write_marker(self, versions: Mapping[str, str]) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        marker = {"schema": 1, **self._digests(), "versions": versions, "created": created}
        write_atomic(self.path / MARKER, json.dumps(marker, indent=1), temporary=self.path / f"{MARKER}.new")

    def _marker(self) -> dict[str, Any] | None:
        try:
            return read_json(self.path / MARKER) or None
        except (OSError, CorruptFileError):
            return None

    def _digests(self) -> dict[str, str | None]:
        """The hashes of both requirement files."""
        found, tokenizer = self.spec.requirements, self.spec.tokenizer_requirements
        content = found.read_bytes() if isinstance(found, Path) else "\n".join(found).encode()
        return {
            "requirements": hash_bytes(content, "sha256"),
            "tokenizer": None if tokenizer is None else hash_bytes(tokenizer.read_bytes(), "sha256"),
        }

    @contextlib.contextmanager
    def _requirement_file(self) -> Iterator[Path]:
        """The requirements as a file for pip."""
        if isinstance(self.spec.requirements, Path):
            yield self.spec.requirements
            return
        with tempfile.TemporaryDirectory(prefix="gpux-requirements-") as folder:
            file = Path(folder) / f"{self.name}.txt"
            file.write_text("\n".join(self.spec.requirements), encoding="utf-8")
            yield file

    def _index_options(self) -> list[str]:
        return ["--extra-index-url", self._torch_index] if self._torch_index else []

    def _raise_full_disk(self, exc: Exception) -> None:
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


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _delete(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (path / MARKER).unlink(missing_ok=True)
        shutil.rmtree(path)
