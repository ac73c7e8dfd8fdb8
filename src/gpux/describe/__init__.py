"""What is known of a model before it is pulled: what it is, how large, whether it fits and may be used, how good."""

from __future__ import annotations

from gpux.describe.description import ModelDescription, describe_model

__all__ = ["ModelDescription", "describe_model"]
