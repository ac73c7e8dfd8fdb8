"""Checks of the ONNX that a repository ships: its outputs, its answers to a small input, and how it is called."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.planner import own_task
from gpux.errors import InputError, ProofError, SessionError, UnsupportedError, UnsupportedTaskError
from gpux.model.graph_io import is_cache_input
from gpux.model.info import ModelInfo
from gpux.model.variant import CallSpec, GraphSpec, TensorSpec
from gpux.pull.absent_weights import source_files
from gpux.runtime.graphs import Graphs
from gpux.runtime.session import Session
from gpux.runtime.token_inputs import Padded, TokenInputs, position_limit
from gpux.runtime.token_outputs import sentence_output

#: task -> names of its characteristic output, and that output's rank. Other tasks are not checked. A graph for
#: feature-extraction may give the vectors of whole texts instead.
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
    "video-classification": (("logits",), 2),
    "audio-classification": (("logits",), 2),
    "object-detection": (("pred_boxes",), 3),
    "zero-shot-image-classification": (("logits_per_image",), 2),
}
#: onnxruntime's fused attention requires padding on the right, and one row where a chunk follows a cache.
_FUSED = "GroupQueryAttention"


def graph_name(part: str) -> str:
    """The name of a graph in a manifest: ``decoder`` for the part ``decoder_model_merged``."""
    return part.removesuffix("_merged").removesuffix("_model") or part


def check_task(graphs: Iterable[GraphSpec], task: str, info: ModelInfo, config: Mapping[str, Any]) -> None:
    """Return if the graphs have the outputs of the task.

    Raises:
        UnsupportedTaskError: they have other outputs.
    """
    if task not in _OUTPUTS:
        return
    names, rank = _OUTPUTS[task]
    others = {name for found, _ in _OUTPUTS.values() for name in found} - set(names)
    outputs = [output for graph in graphs for output in graph.outputs]
    if any(len(output.shape) == rank and output.name not in others for output in outputs):
        return
    if task == "feature-extraction" and sentence_output(outputs, config) is not None:
        return
    listed = ", ".join(f"{output.name} of rank {len(output.shape)}" for output in outputs)
    raise UnsupportedTaskError(
        f"the ONNX that {info.id} ships has the outputs {listed}; {task} needs {' or '.join(names)} of rank {rank}",
        hint=_other_task(outputs, info, task),
    )


def _other_task(outputs: Sequence[TensorSpec], info: ModelInfo, task: str) -> str:
    """What helps: a task that the outputs are for, else the original weights, if there are any.

    A pull converts a model that a converter supports before this hint is shown.
    """
    has = {(output.name, len(output.shape)) for output in outputs}
    fitting = [other for other, (names, rank) in _OUTPUTS.items() if has & {(name, rank) for name in names}]
    plain = [other for other in fitting if "logits" not in _OUTPUTS[other][0]]  # logits of one rank are of many tasks
    own = own_task(info)
    other = own if own in fitting else next(iter(plain), None)
    if other is not None and other != task:
        return f"Run `gpux pull {shlex.quote(info.id)} --task {other}`, which these outputs are for."
    if source_files(file.path for file in info.files):
        return f"Convert the original weights with `gpux convert {shlex.quote(info.id)} --task {task}`."
    return "The repository has no weights to convert for this task: look for another model with `gpux search`."


def check_finite(graphs: Graphs, info: ModelInfo, config: Mapping[str, Any]) -> bool:
    """Run each graph on a small input and check its outputs; False if a graph did not accept the generated input.

    Raises:
        ProofError: an output is not finite.
        SessionError: a graph whose inputs are tokens fails.
    """
    checked = [_is_finite(graphs.session(name), info, config) for name in graphs.names]
    return all(checked)


def _is_finite(session: Session, info: ModelInfo, config: Mapping[str, Any]) -> bool:
    tokens = TokenInputs(session.inputs, config)
    try:
        answers = session.run({spec.name: _sample(spec) for spec in session.inputs} | _tokens(tokens))
    except (SessionError, InputError):
        if not tokens.unknown:
            raise
        return False
    bad = [name for name, array in answers.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if bad:
        raise ProofError(f"the ONNX that {info.id} ships outputs NaN or infinity in {', '.join(bad)}")
    return True


def _tokens(inputs: TokenInputs) -> dict[str, NDArray[Any]]:
    """The inputs that follow from tokens, for two rows of eight tokens; none for a cache that cannot be empty."""
    ones = np.ones((inputs.largest_batch or 2, inputs.length or 8), np.int64)
    try:
        return inputs.feed(Padded(ones, ones, np.zeros_like(ones)))
    except UnsupportedError:
        return {}


def _sample(spec: TensorSpec) -> NDArray[Any]:
    """An input of ones: fixed axes keep their size, the batch is 2, a cache is empty, other axes are 8."""
    shape = [size if isinstance(size, int) else _size(size, axis) for axis, size in enumerate(spec.shape)]
    return np.ones(shape, dtype=spec.dtype)


def _size(name: str | None, axis: int) -> int:
    name = name or ""
    if "past" in name and "+" not in name:
        return 0
    return 3 if "channel" in name else 2 if axis == 0 else 8


def call_spec_of(graphs: Mapping[str, Path], specs: Iterable[GraphSpec], config: Mapping[str, Any]) -> CallSpec:
    """How the graphs of a shipped model are called, from their inputs and ``config.json``."""
    names = {spec.name for graph in specs for spec in graph.inputs}
    limit, positions = position_limit(config), "position_ids" in names
    if not any(map(is_cache_input, names)):
        return CallSpec(max_length=limit, position_inputs=positions)
    if any(_is_fused(path) for path in graphs.values()):
        return CallSpec("right", limit, chunks_after_cache=True, chunk_rows=1, position_inputs=positions)
    return CallSpec("left", limit, chunks_after_cache=True, position_inputs=positions)


def _is_fused(path: Path) -> bool:
    import onnx  # deferred: slow to import, and only decoders need it

    graph = onnx.load(path, load_external_data=False).graph
    return any(node.op_type == _FUSED for node in graph.node)
