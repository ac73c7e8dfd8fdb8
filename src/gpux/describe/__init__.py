"""Describes a model before it is pulled: architecture, size, license, results, and whether it fits this machine."""

from __future__ import annotations

from gpux.describe.description import ModelDescription, describe_model

__all__ = ["ModelDescription", "describe_model"]
