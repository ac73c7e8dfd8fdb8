"""Errors of a conversion and its toolchain."""

from __future__ import annotations

from pathlib import Path

from gpux.errors.base import GpuxError


class ConversionError(GpuxError):
    """The converter failed; ``log`` is the file that holds its own output."""

    exit_code = 8

    @property
    def log(self) -> Path | None:
        """The exporter's own output, where there is any."""
        return Path(value) if (value := self.details.get("log")) else None


class ToolchainMissingError(ConversionError):
    """The environment that the converter runs in is not installed."""


class ToolchainError(ConversionError):
    """A toolchain could not be installed, or is damaged."""


class WorkerCrashedError(ConversionError):
    """The conversion process ended without a result: killed, out of memory, crashed."""


class OutOfMemoryError(ConversionError):
    """Too little memory to begin (``needed``, ``available``), or the worker was ended for its ``peak`` (``limit``)."""


class ProofError(ConversionError):
    """The ONNX outputs differ from the original's beyond tolerance."""

    exit_code = 9
