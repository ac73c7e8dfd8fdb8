"""The last configurations that were in force, beside the file, for a rollback.

The folder ``chat.toml.versions`` has a copy of the file for each of them: ``000001.toml``, ``000002.toml`` …
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gpux.errors import ConfigurationError
from gpux.model.values import Value
from gpux.system.disk import disk_errors
from gpux.system.files import write_atomic
from gpux.system.locks import hold

#: Versions that are kept.
KEPT = 10
_IN_FORCE = "in-force"  #: file with the number of the version that is, or was last, in force
_NAME = re.compile(r"(\d{6,})\.toml")
_HINT = "Make the folder of the configuration file writable."


@dataclass(frozen=True)
class Version(Value):
    """One configuration that was in force."""

    number: int  #: from 1, the latest has the highest
    saved: str  #: when it was first in force, ISO 8601 in UTC
    size: int  #: bytes
    in_file: bool  #: whether the file has this content now


class Versions:
    """The versions of one file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.folder = file.with_name(f"{file.name}.versions")

    def all(self) -> list[Version]:
        """All versions, the latest first."""
        current = self.current()
        found = []
        for number, path in sorted(self._paths().items(), reverse=True):
            status = path.stat()
            saved = datetime.fromtimestamp(int(status.st_mtime), UTC).isoformat().replace("+00:00", "Z")
            found.append(Version(number, saved, status.st_size, number == current))
        return found

    def current(self) -> int | None:
        """The latest version whose content the file has; None: it was changed, or is missing."""
        try:
            content = self._file.read_bytes()
        except OSError:
            return None
        return next((number for number in self._numbers() if self.read(number) == content), None)

    def add(self, content: bytes) -> None:
        """Note the configuration that is in force now, and keep it unless a version with this content is kept.

        Raises:
            StorageError: the folder cannot be written.
        """
        with disk_errors(self.folder, hint=_HINT):
            self.folder.mkdir(parents=True, exist_ok=True)
            with hold(self.folder / ".lock"):
                numbers = self._numbers()
                number = next((one for one in numbers if self.read(one) == content), None)
                if number is None:
                    number = max(numbers, default=0) + 1
                    # The file may have the password of a database in it.
                    write_atomic(self.folder / f"{number:06}.toml", content, flush=True, private=True)
                    for old in self._numbers()[KEPT:]:
                        self._paths()[old].unlink(missing_ok=True)
                if number != self.last():
                    write_atomic(self.folder / _IN_FORCE, f"{number}\n", flush=True)

    def read(self, number: int) -> bytes:
        """The content of a version.

        Raises:
            ConfigurationError: there is no such version.
        """
        try:
            return (self.folder / f"{number:06}.toml").read_bytes()
        except OSError:
            known = ", ".join(map(str, self._numbers())) or "none"
            raise ConfigurationError(
                f"there is no version {number} of {self._file}", hint=f"Kept versions: {known}.", source=str(self._file)
            ) from None

    def last(self) -> int | None:
        """The version that was in force last; None: there are none."""
        numbers = self._numbers()
        try:
            noted = int((self.folder / _IN_FORCE).read_text(encoding="ascii"))
        except (OSError, ValueError):
            noted = -1
        return noted if noted in numbers else next(iter(numbers), None)

    def before(self) -> int:
        """The version that a rollback restores: the one before that in the file, else the last one.

        Raises:
            ConfigurationError: none is kept.
        """
        current, last = self.current(), self.last()
        if current is None and last is not None:
            return last
        for number in self._numbers():
            if current is not None and number < current:
                return number
        raise ConfigurationError(
            f"no earlier version of {self._file} is kept",
            hint="A version is kept when a configuration is in force for the first time.",
            source=str(self._file),
        )

    def _numbers(self) -> list[int]:
        """The latest first."""
        return sorted(self._paths(), reverse=True)

    def _paths(self) -> dict[int, Path]:
        try:
            entries = list(self.folder.iterdir())
        except OSError:
            return {}
        return {int(match[1]): path for path in entries if (match := _NAME.fullmatch(path.name))}
