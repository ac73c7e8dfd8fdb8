"""Errors of a stored model that is run."""

from __future__ import annotations

from gpux.errors.base import GpuxError


class RunError(GpuxError):
    """A model that is stored could not be run."""

    exit_code = 10


class DeviceError(RunError):
    """The device that was asked for is not there, or would not run the whole graph."""


class InputError(RunError):
    """An input of the wrong type, shape, dtype or length."""


class SessionError(RunError):
    """onnxruntime refused the graph, or failed while it ran."""


class ContextLengthError(InputError):
    """A prompt is longer than the model can read: ``tokens``, and the ``limit`` that leaves room for an answer."""


class ChatTemplateError(InputError):
    """The model has no chat template, its template is broken, or it refuses these messages."""


class CacheMemoryError(RunError):
    """The key-value cache of a generation would take more memory than there is (``needed``, ``available``)."""


class NumericError(RunError):
    """The scores of the next token are not numbers: overflow, or damaged weights."""
