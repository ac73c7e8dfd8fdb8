"""The converter that drives Optimum's exporter in a worker process, in the interpreter that has its libraries."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from gpux.convert.base import Refusal
from gpux.convert.host.conversation import has_modules
from gpux.convert.host.hosted import HostedConverter
from gpux.convert.host.toolchain import WORKER
from gpux.convert.refusals import reason

__all__ = ["WORKER", "OptimumConverter", "installed_here"]


class OptimumConverter(HostedConverter):
    """Converts what Optimum's registry knows, and what a relative's description in it serves."""

    name = "optimum"
    proves_others = True

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        """Why not, from what the pinned Optimum knows and from what is known of its graphs; None if it can."""
        model_type = str(config.get("model_type") or "")
        known = _table()["architectures"]
        if why := reason(config, task):
            return Refusal(why, model_type in known)
        if task in known.get(model_type, ()):
            return None
        if model_type in known:
            return Refusal(f"converts {model_type} for {', '.join(known[model_type])}, not for {task}", True)
        if "auto_map" in config:
            return Refusal(f"does not know the model type {model_type!r}, which code in the repository defines", False)
        near = difflib.get_close_matches(model_type, sorted(known), n=3)
        nearest = f"; the nearest that it knows: {', '.join(near)}" if near else ""
        return Refusal(f"does not know the model type {model_type!r}{nearest}", False)

    def _is_here(self) -> bool:
        return installed_here()


@cache
def _table() -> dict[str, Any]:
    text = (files("gpux.convert") / "optimum_architectures.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def installed_here() -> bool:
    """Whether this interpreter has what the worker imports, without importing any of it."""
    return has_modules(("torch", "transformers", "optimum.exporters.onnx"))
