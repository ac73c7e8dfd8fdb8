"""Runs pip, with its own configuration: indexes, proxies, certificates, find-links."""

from __future__ import annotations

import ast
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gpux.errors import DiskFullError, NotWritableError, ToolchainError
from gpux.model.json_file import load_json
from gpux.model.values import Value
from gpux.system.cancel import CancelToken
from gpux.system.process import run_logged, tail

_QUIET = ("--disable-pip-version-check", "--no-input")
#: Seconds to wait for the size of a file.
_HEAD_TIMEOUT = 10.0


@dataclass(frozen=True)
class PackageSize(Value):
    """One file that pip would download."""

    name: str
    version: str
    url: str  #: without credentials
    bytes: int | None  #: None if the server does not report it


@dataclass(frozen=True)
class SizeReport(Value):
    """The files that pip would download, by its own dry run."""

    packages: tuple[PackageSize, ...]

    @property
    def download(self) -> int:
        """Bytes of all packages whose size is known."""
        return sum(package.bytes or 0 for package in self.packages)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the packages whose size is not known."""
        return tuple(package.name for package in self.packages if package.bytes is None)

    @property
    def largest(self) -> tuple[PackageSize, ...]:
        """The packages by size, largest first."""
        return tuple(sorted(self.packages, key=lambda package: package.bytes or 0, reverse=True))

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the sums."""
        return {**super().to_dict(), "download": self.download, "unknown": list(self.unknown)}


def create_environment(folder: Path, log: Path, cancel: CancelToken) -> Path:
    """Create a virtual environment with pip in ``folder`` and return its interpreter.

    Raises:
        ToolchainError: Python's venv module failed.
    """
    end = run_logged([sys.executable, "-I", "-m", "venv", folder], log=log, cancel=cancel)
    if end.code != 0:
        raise ToolchainError(
            f"python could not create a virtual environment in {folder}:\n{tail(log)}",
            hint="On Debian and Ubuntu the venv module is a package of its own: `apt install python3-venv`.",
            log=log,
        )
    return interpreter(folder)


def interpreter(folder: Path) -> Path:
    """The path of a virtual environment's interpreter."""
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def pip(python: Path, arguments: Sequence[str | Path], *, log: Path, cancel: CancelToken) -> None:
    """Run pip with its output in the log.

    Raises:
        ToolchainError: pip failed; the message has its last lines.
    """
    end = run_logged([python, "-I", "-m", "pip", *arguments, *_QUIET], log=log, cancel=cancel)
    if end.code != 0:
        raise ToolchainError(f"pip {end}:\n{tail(log)}", hint=f"The whole output: {log}", log=log)


def size_report(requirements: Path, options: Iterable[str], cancel: CancelToken) -> SizeReport:
    """The download of a requirement file into an empty environment. Nothing is installed.

    The dry run needs a temporary environment, which takes some seconds.

    Raises:
        ToolchainError: pip cannot resolve the requirements; the message has its last lines.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="gpux-sizes-") as name:
            folder = Path(name)
            log, report = folder / "pip.log", folder / "report.json"
            python = create_environment(folder / "env", log, cancel)
            dry: list[str | Path] = ["install", "--dry-run", "--quiet", "--no-user", "--report", report]
            dry += ["--requirement", requirements, *options]
            pip(python, dry, log=log, cancel=cancel)
            found = load_json(report)
            return SizeReport(_sizes(found["install"], _opener(python, folder, cancel)))
    except PermissionError as exc:
        raise NotWritableError(f"no temporary environment can be created: {exc}") from exc


def _sizes(install: Sequence[dict[str, Any]], opener: urllib.request.OpenerDirector) -> tuple[PackageSize, ...]:
    def measure(item: dict[str, Any]) -> PackageSize:
        url = item["download_info"]["url"]
        return PackageSize(item["metadata"]["name"], item["metadata"]["version"], url, _size(url, opener))

    with ThreadPoolExecutor(8) as pool:
        return tuple(pool.map(measure, install))


def _size(url: str, opener: urllib.request.OpenerDirector) -> int | None:
    if urlsplit(url).scheme == "file":
        try:
            return Path(urllib.request.url2pathname(urlsplit(url).path)).stat().st_size
        except OSError:
            return None
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - a URL that pip itself would open
    try:
        with opener.open(request, timeout=_HEAD_TIMEOUT) as answer:
            length = answer.headers.get("Content-Length")
    except (OSError, urllib.error.URLError, ValueError):  # the size is not known
        return None
    return int(length) if length and length.isdigit() else None


def _opener(python: Path, folder: Path, cancel: CancelToken) -> urllib.request.OpenerDirector:
    """An opener with the certificates and the proxy of pip's configuration."""
    settings = _settings(python, folder, cancel)
    context = ssl.create_default_context(cafile=settings.get("cert"))
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if "proxy" in settings:
        handlers.append(urllib.request.ProxyHandler({"http": settings["proxy"], "https": settings["proxy"]}))
    return urllib.request.build_opener(*handlers)


def _settings(python: Path, folder: Path, cancel: CancelToken) -> dict[str, str]:
    """``cert`` and ``proxy`` of pip's configuration; environment variables override its files."""
    lines: list[str] = []
    run_logged(
        [python, "-I", "-m", "pip", "config", "list", *_QUIET],
        log=folder / "config.log",
        cancel=cancel,
        on_line=lines.append,
    )
    found: dict[str, str] = {}
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        key, equals, value = line.partition("=")
        name = key.rpartition(".")[2]
        if equals and name in {"cert", "proxy"}:
            found[name] = str(ast.literal_eval(value))  # pip prints the repr of the text
    return found


def disk_full(folder: Path, free: int) -> DiskFullError:
    """The error for a disk with almost no free space."""
    return DiskFullError(f"{folder}: the disk is full, {free:,} bytes are free", free=free)
