"""Checks of an ONNX that a repository ships: does it fit the task, does it answer, how must it be driven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, ProofError, SessionError, UnsupportedTaskError
from gpux.model.graph_io import is_cache_input
from gpux.model.info import ModelInfo
from gpux.model.variant import CallSpec, GraphSpec, TensorSpec
from gpux.runtime.graphs import Graphs
from gpux.runtime.session import Session

#: task -> names of the output that tells it, and that output's rank. A task that is not here is taken at its word.
_OUTPUTS: dict[str, tuple[tuple[str, ...], int]] = {
    "feature-extraction": (("last_hidden_state", "token_embeddings"), 3),
    "text-classification": (("logits",), 2),
    "fill-mask": (("logits",), 3),
    "token-classification": (("logits",), 3),
    "question-answering": (("start_logits",), 2),
    "multiple-choice": (("logits",), 2),
    "text-generation": (("logits",), 3),
    "text2text-generation": (("logits",), 3),
    "image-classification": (("logits",), 2),
    "audio-classification": (("logits",), 2),
    "object-detection": (("pred_boxes",), 3),
    "zero-shot-image-classification": (("logits_per_image",), 2),
}
_TEXT = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
#: Families whose positions start after the padding id (transformers: create_position_ids_from_input_ids).
_POSITIONS_AFTER_PADDING = frozenset(
    {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet", "longformer", "esm"}
)
#: onnxruntime's fused attention wants padding on the right, and one row where a chunk follows a cache.
_FUSED = "GroupQueryAttention"


def graph_name(part: str) -> str:
    """What gpux calls a part: ``decoder_model_merged`` is the ``decoder``."""
    return part.removesuffix("_merged").removesuffix("_model") or part


def check_task(graphs: Iterable[GraphSpec], task: str, info: ModelInfo) -> None:
    """Return if the graphs' outputs are those of the task.

    Raises:
        UnsupportedTaskError: they are not.
    """
    if task not in _OUTPUTS:
        return
    names, rank = _OUTPUTS[task]
    others = {name for found, _ in _OUTPUTS.values() for name in found} - set(names)
    outputs = [output for graph in graphs for output in graph.outputs]
    if any(len(output.shape) == rank and output.name not in others for output in outputs):
        return
    listed = ", ".join(f"{output.name} of rank {len(output.shape)}" for output in outputs)
    raise UnsupportedTaskError(
        f"the ONNX that {info.id} ships gives {listed}; {task} needs {' or '.join(names)} of rank {rank}",
        hint=f"Convert the original weights with `gpux convert {info.id} --task {task}`.",
    )


def check_finite(graphs: Graphs, info: ModelInfo) -> bool:
    """Give each graph a small input, and look at the answers; False where no such input could be made.

    Raises:
        ProofError: an answer is not finite.
        SessionError: a graph that takes text fails.
    """
    tried = [_is_finite(graphs.session(name), info) for name in graphs.names]
    return all(tried)


def _is_finite(session: Session, info: ModelInfo) -> bool:
    takes_text = all(spec.name in _TEXT or is_cache_input(spec.name) for spec in session.inputs)
    try:
        answers = session.run({spec.name: _sample(spec) for spec in session.inputs})
    except (SessionError, InputError):
        if takes_text:
            raise
        return False
    bad = [name for name, array in answers.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if bad:
        raise ProofError(f"the ONNX that {info.id} ships answers with NaN or infinity in {', '.join(bad)}")
    return True


def _sample(spec: TensorSpec) -> NDArray[Any]:
    """A small input of ones: fixed axes as they are, a batch of 2, an empty cache, 8 of everything else."""
    shape = [size if isinstance(size, int) else _size(size, axis) for axis, size in enumerate(spec.shape)]
    return np.ones(shape, dtype=spec.dtype)


def _size(name: str | None, axis: int) -> int:
    said = name or ""
    if "past" in said and "+" not in said:
        return 0
    return 3 if "channel" in said else 2 if axis == 0 else 8


def call_spec_of(graphs: Mapping[str, Path], specs: Iterable[GraphSpec], config: Mapping[str, Any]) -> CallSpec:
    """How the graphs of a shipped model are called, from their inputs and ``config.json``."""
    names = {spec.name for graph in specs for spec in graph.inputs}
    limit, positions = _position_limit(config), "position_ids" in names
    if not any(map(is_cache_input, names)):
        return CallSpec(max_length=limit, position_inputs=positions)
    if any(_is_fused(path) for path in graphs.values()):
        return CallSpec("right", limit, chunks_after_cache=True, chunk_rows=1, position_inputs=positions)
    return CallSpec("left", limit, chunks_after_cache=True, position_inputs=positions)


def _is_fused(path: Path) -> bool:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return any(node.op_type == _FUSED for node in graph.node)


def _position_limit(config: Mapping[str, Any]) -> int | None:
    """Tokens that the model has positions for, by its ``config.json``."""
    limit = config.get("max_position_embeddings")
    if not isinstance(limit, int) or limit <= 0:
        return None
    if config.get("model_type") in _POSITIONS_AFTER_PADDING:
        return limit - int(config.get("pad_token_id") or 1) - 1
    return limit
