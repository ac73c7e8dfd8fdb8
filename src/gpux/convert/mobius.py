"""The converter that drives mobius in a worker process: graphs written down instead of traced, in little memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

from gpux.convert.base import Refusal
from gpux.convert.host.conversation import has_modules
from gpux.convert.host.hosted import HostedConverter
from gpux.convert.mobius_limits import WRONG_TYPES, known_fault


class MobiusConverter(HostedConverter):
    """Converts decoders for text generation that mobius has a definition of and is not known to get wrong.

    The graphs have onnxruntime's GroupQueryAttention: batches are padded on the right, and several tokens may follow
    a cache in one row only.
    """

    name = "mobius"
    options: ClassVar[Mapping[str, Any]] = {"exporter": "mobius"}

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        """Why not, from the table of what the pinned mobius knows and what is known to come out wrong."""
        model_type, table = str(config.get("model_type") or ""), _table()
        convertible = table["architectures"].get(model_type, [])
        if model_type in WRONG_TYPES:
            return Refusal(WRONG_TYPES[model_type], False)
        if not convertible:
            if other := table["others"].get(model_type):
                return Refusal(f"knows {model_type} for {', '.join(other)}, which gpux does not convert with it", False)
            return Refusal(f"does not know the model type {model_type!r}", False)
        if task not in convertible:
            return Refusal(f"converts {model_type} for {', '.join(convertible)}, not for {task}", True)
        fault = known_fault(config)
        return None if fault is None else Refusal(fault, False)

    def _is_here(self) -> bool:
        return installed_here()


@cache
def _table() -> dict[str, Any]:
    text = (files("gpux.convert") / "mobius_architectures.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def installed_here() -> bool:
    """Whether this interpreter has what the worker imports, without importing any of it."""
    return has_modules(("torch", "transformers", "onnx_ir", "mobius.tasks"))
