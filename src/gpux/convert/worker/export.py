"""The ``convert`` command: export with Optimum, then the original's answers, never both models in memory."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import torch
from loading import load_config, load_model, refuse_invented
from optimum.exporters.onnx.base import OnnxConfig
from optimum.exporters.onnx.convert import export as export_onnx
from optimum.exporters.tasks import TasksManager
from positions import position_limit
from protocol import Events, Refused
from reference import write_reference
from tasks import KNOWN_INPUTS, OPTIMUM_TASK
from tokenizer import write_fast_tokenizer
from transformers import PretrainedConfig, PreTrainedModel
from versions import versions

GRAPH = "model.onnx"


def convert(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Write the graph, a missing tokenizer.json and the reference cases; the answer is the ``result`` event.

    The request has ``source``, ``output``, ``reference``, ``task`` (Hub's name), ``precision``,
    ``trust_remote_code`` and ``seed``.
    """
    source, output = Path(request["source"]), Path(request["output"])
    trust = bool(request.get("trust_remote_code"))
    seed = int(request.get("seed", 0))
    if request.get("precision", "fp32") != "fp32":
        raise Refused("conversion", f"optimum writes fp32 only, not {request['precision']}")
    config = load_config(source, trust_remote_code=trust)
    task, model_class = choose(config, request["task"])
    write_graph(source, output, model_class, task, events, trust_remote_code=trust, seed=seed)
    gc.collect()
    events.stage("reference", "Asking the original")
    model, _ = load_model(source, model_class, trust_remote_code=trust)
    write_reference(model, output / GRAPH, Path(request["reference"]), seed)
    write_fast_tokenizer(source, output, events, trust_remote_code=trust)
    return {
        "graphs": {"model": GRAPH},
        "driving": {"padding_side": "right", "max_length": position_limit(model), "position_inputs": False},
        "versions": versions(),
        "peak_rss": peak_rss(),
    }


def choose(config: PretrainedConfig, hub_task: str) -> tuple[str, type[PreTrainedModel]]:
    """Optimum's name of the task, and transformers' class for it.

    Raises:
        Refused: Optimum does not know the architecture, or not for this task.
    """
    task = OPTIMUM_TASK.get(hub_task)
    if task is None:
        raise Refused("unsupported_task", f"optimum converts {', '.join(sorted(OPTIMUM_TASK))} here, not {hub_task}")
    known = TasksManager._SUPPORTED_MODEL_TYPE.get(config.model_type, {}).get("onnx")
    if known is None:
        raise Refused("unsupported_architecture", f"optimum does not know the model type {config.model_type!r}")
    if task not in known:
        names = ", ".join(sorted(name for name in known if not name.endswith("-with-past")))
        raise Refused("unsupported_task", f"optimum knows {config.model_type} for {names}, not for {task}")
    return task, TasksManager.get_model_class_for_task(task, framework="pt", model_type=config.model_type)


def write_graph(
    source: Path,
    output: Path,
    model_class: type[PreTrainedModel],
    task: str,
    events: Events,
    *,
    trust_remote_code: bool,
    seed: int,
) -> None:
    """Load the model, export it, and let go of it. Optimum patches the model, so it is of no use afterwards."""
    events.stage("load", "Loading the weights")
    torch.manual_seed(seed)
    model, missing = load_model(source, model_class, trust_remote_code=trust_remote_code)
    onnx_config = exporter(model, task)
    dummy = onnx_config.generate_dummy_inputs(framework="pt")
    if missing:
        refuse_invented(model, missing, dummy, list(onnx_config.outputs))
    events.stage("export", "Writing ONNX")
    torch.manual_seed(seed)
    export_onnx(model=model, config=onnx_config, output=output / GRAPH, opset=onnx_config.DEFAULT_ONNX_OPSET)
    # Joins weights that the model shares, such as an embedding and the head that reads it backwards.
    onnx_config.post_process_exported_models(output, {"model": (model, onnx_config)}, [GRAPH])


def exporter(model: PreTrainedModel, task: str) -> OnnxConfig:
    """Optimum's description of the graph.

    Raises:
        Refused: it has inputs that gpux does not know how to make.
    """
    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model=model, task=task, library_name="transformers"
    )
    onnx_config: OnnxConfig = constructor(model.config, int_dtype="int64", float_dtype="fp32")
    unknown = sorted(set(onnx_config.inputs) - KNOWN_INPUTS)
    if unknown:
        raise Refused("unsupported_task", f"the graph of {model.config.model_type} for {task} wants {unknown}")
    return onnx_config


def peak_rss() -> int | None:
    """The most memory that this process held, in bytes; None on Windows, which does not tell this way."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
