"""What is wrong with a configuration, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpux.errors import ConfigurationError
from gpux.model.values import Value


@dataclass(frozen=True)
class Fault(Value):
    """One invalid value, and where it stands."""

    message: str
    source: str  #: path of the file, or name of the variable
    line: int | None = None  #: of the file, from 1
    key: str | None = None  #: with dots: ``providers.ollama.timeout_ms``
    hint: str | None = None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)


def error_of(faults: Sequence[Fault]) -> ConfigurationError:
    """The error for a configuration with these faults, of which the message has the first one.

    ``details["faults"]`` has them all.
    """
    first, others = faults[0], len(faults) - 1
    message = str(first) + (f" (and {others} more)" if others else "")
    hint = first.hint
    if others:
        hint = f"{hint} `gpux config validate` lists all faults." if hint else "`gpux config validate` lists them all."
    return ConfigurationError(
        message,
        hint=hint,
        source=first.source,
        line=first.line,
        key=first.key,
        faults=[one.to_dict() for one in faults],
    )


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that is closest to one that is not known, as a hint."""
    from difflib import get_close_matches  # takes 5 ms to import, for an error alone

    found = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {found[0]}?" if found else None
