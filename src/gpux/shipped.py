"""Checks of an ONNX that a repository ships: does it fit the task, does it answer, how long may an input be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import ProofError, UnsupportedTaskError
from gpux.runtime.session import Session
from gpux.types import ModelInfo
from gpux.variants import GraphSpec, TensorSpec

#: task -> rank of the output that its pipeline reads
OUTPUT_RANK = {"feature-extraction": 3, "text-classification": 2, "fill-mask": 3}
#: What exporters name it; an output of another task's name is not taken for its rank alone.
_OUTPUT_NAMES = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "text-classification": ("logits",),
    "fill-mask": ("logits",),
}
#: Families whose positions start after the padding id (transformers: create_position_ids_from_input_ids).
_POSITIONS_AFTER_PADDING = frozenset(
    {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet", "longformer", "esm"}
)


def check_task(graph: GraphSpec, task: str, info: ModelInfo) -> None:
    """Return if the graph's outputs are those of the task.

    Raises:
        UnsupportedTaskError: they are not.
    """
    rank, names = OUTPUT_RANK[task], _OUTPUT_NAMES[task]
    others = {name for found in _OUTPUT_NAMES.values() for name in found} - set(names)
    if any(len(output.shape) == rank and output.name not in others for output in graph.outputs):
        return
    outputs = ", ".join(f"{output.name} of rank {len(output.shape)}" for output in graph.outputs)
    raise UnsupportedTaskError(
        f"the ONNX that {info.id} ships gives {outputs}; {task} needs {' or '.join(names)} of rank {rank}",
        hint=f"Convert the original weights with `gpux convert {info.id} --task {task}`.",
    )


def check_finite(session: Session, info: ModelInfo) -> None:
    """Return if the graph answers a small input with finite numbers.

    Raises:
        ProofError: it does not.
    """
    answers = session.run({spec.name: _sample(spec) for spec in session.inputs})
    bad = [name for name, array in answers.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if bad:
        raise ProofError(f"the ONNX that {info.id} ships answers with NaN or infinity in {', '.join(bad)}")


def _sample(spec: TensorSpec) -> NDArray[Any]:
    """A small input: fixed axes as they are, a batch of 2, 8 of everything else, all ones."""
    shape = [size if isinstance(size, int) else (2 if axis == 0 else 8) for axis, size in enumerate(spec.shape)]
    return np.ones(shape, dtype=spec.dtype)


def position_limit(config: Mapping[str, Any]) -> int | None:
    """Tokens that the model has positions for, by its ``config.json``."""
    limit = config.get("max_position_embeddings")
    if not isinstance(limit, int) or limit <= 0:
        return None
    if config.get("model_type") in _POSITIONS_AFTER_PADDING:
        return limit - int(config.get("pad_token_id") or 1) - 1
    return limit
