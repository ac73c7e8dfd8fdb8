"""Formats sizes, counts, differences and ages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpux.model.units import format_bytes
from gpux.system.words import counted

if TYPE_CHECKING:
    from gpux.model.transfer import TransferReport
    from gpux.model.variant import Manifest


def size(count: int | None) -> str:
    """Bytes with a decimal unit, as on the Hub: ``90.9 MB``; ``?`` for None."""
    return "?" if count is None else format_bytes(count)


def count(number: int | None) -> str:
    """A count with a decimal suffix: ``22.7M``; empty for None."""
    if number is None:
        return ""
    value = float(number)
    for unit in ("", "k", "M"):
        if round(value, 1) < 1000:
            return f"{value:.0f}" if not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}B"


def proof(manifest: Manifest) -> str:
    """The proof of a variant with its largest difference: ``answers proven 2.1e-06``; ``shipped`` has none.

    A quantized precision has its loss in place of the difference: ``fp32 proven; int8 loss cosine_mean 0.992``.
    """
    found = manifest.proof
    limit = f", up to {found.limit.length} tokens ({found.limit.name})" if found.limit else ""
    loss = ", ".join(f"{name} {value:.4g}" for name, value in found.loss.items())
    if loss:
        return f"{manifest.evidence}; {manifest.precision} loss {loss}{limit}"
    differences = (found.max_abs_diff, found.answers.max_abs_diff if found.answers else None)
    largest = max((value for value in differences if value is not None), default=None)
    return f"{manifest.evidence} {difference(largest)}".strip() + limit


def transfer(report: TransferReport) -> str:
    """A transfer in one line: bytes, seconds, speed, requests, retries, cached files, checked hashes."""
    speed = size(round(report.bytes_per_second))
    return (
        f"{size(report.received)} in {report.seconds:.1f} s ({speed}/s), {counted(report.requests, 'request')}, "
        f"{counted(report.retries, 'retry', 'retries')}, {counted(report.cache_hits, 'file')} from the cache, "
        f"{counted(report.verified, 'hash', 'hashes')} checked"
    )


def difference(value: float | None) -> str:
    """The largest difference of a proof: ``2.1e-06``; empty for None."""
    return "" if value is None else f"{value:.1e}"


def ago(seconds: float) -> str:
    """An age in its largest unit: ``3 hours ago``."""
    if seconds < 0:
        return "in the future by this machine's clock"
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        number = int(seconds // length)
        if number:
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "less than a minute ago"
