"""Limits of pictures and sounds for the whole process, which hold before anything is decoded.

A server's processes set them, since what they read comes from clients; a program that opens its own files has none but
those of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MediaLimits:
    """The largest picture, the longest animation and the longest sound that are decoded; None: no limit."""

    pixels: int | None = None  #: width times height
    frames: int | None = None  #: of an animated picture
    seconds: float | None = None  #: of a sound


_limits = MediaLimits()


def set_media_limits(limits: MediaLimits) -> None:
    """Let these limits hold in this process from now on."""
    global _limits
    _limits = limits


def media_limits() -> MediaLimits:
    """The limits of this process."""
    return _limits
