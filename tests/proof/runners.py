"""Runners that stand for graphs: the original doubles its input, and some variants compute something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gpux.convert.reference_case import MODEL, Arrays

X = np.array([[1.0, -2.0], [3.0, 0.5]], dtype=np.float32)


def double(graph: str, inputs: Arrays) -> Arrays:
    """The original."""
    return {"y": inputs["x"] * 2}


def slightly_off(graph: str, inputs: Arrays) -> Arrays:
    return {"y": inputs["x"] * 2 + 1e-6}


def triple(graph: str, inputs: Arrays) -> Arrays:
    return {"y": inputs["x"] * 3}


def write_one_call(folder: Path, name: str, x: np.ndarray[Any, Any] = X) -> Path:
    """A case without a plan: one call, with the original's output."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.npz"
    np.savez(file, **{"in:x": x, **{f"out:{key}": value for key, value in double(MODEL, {"x": x}).items()}})
    return file


def write_plan(folder: Path, name: str, plan: dict[str, Any], **arrays: np.ndarray[Any, Any]) -> None:
    """A case with a plan; ``0_in_x`` becomes the array ``0:in:x``."""
    folder.mkdir(exist_ok=True)
    encoded = np.frombuffer(json.dumps(plan).encode(), np.uint8)
    np.savez(folder / f"{name}.npz", plan=encoded, **{key.replace("_", ":", 2): value for key, value in arrays.items()})
