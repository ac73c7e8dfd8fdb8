"""Exports a model in memory: its parts, the inputs that each is traced with, and the names of its graphs."""

from __future__ import annotations

import inspect
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from optimum.exporters.onnx.base import OnnxConfig
from optimum.exporters.onnx.utils import _get_submodels_and_onnx_configs
from optimum.onnx import merge_decoders
from optimum.utils import DEFAULT_DUMMY_SHAPES
from transformers import PreTrainedModel

from gpux.convert.worker.common.graphs import Exported
from gpux.convert.worker.common.logits import add_logits_start
from gpux.convert.worker.common.structure import read_structure
from gpux.convert.worker.optimum.patches import patched
from gpux.convert.worker.optimum.streaming import Weights, attach, release, tied_sizes, without_weights
from gpux.convert.worker.optimum.weight_files import external_file, gather_external, rename, share_across, share_weights
from gpux.model.graph_io import ATTENTIONS

#: Optimum's name of a part -> gpux's; other parts have the same name.
NAMES = {
    "encoder_model": "encoder",
    "decoder_model": "decoder",
    "decoder_with_past_model": "decoder_with_past",
    "encodec_decode": "audio_decoder",
}
FIRST, NEXT = "decoder", "decoder_with_past"

Parts = dict[str, tuple[PreTrainedModel, OnnxConfig]]


def export_graphs(
    model: PreTrainedModel,
    task: str,
    output: Path,
    *,
    preprocessors: list[Any] | None = None,
    model_kwargs: dict[str, Any] | None = None,
    keep_model: bool = True,
    seed: int = 0,
) -> Exported:
    """Write the model's graphs into ``output``, with weights in float32, and nothing else.

    Args:
        model: patched while it is traced, then restored; its weights are released unless ``keep_model``.
        task: Optimum's name, with ``-with-past`` for a KV cache.
        output: an empty folder.
        preprocessors: the tokenizer and the processor, for types whose inputs depend on them.
        model_kwargs: further arguments of the traced call; ``vocoder`` is a folder.
        keep_model: whether the model is used afterwards.
        seed: of the inputs that are traced.
    """
    kwargs = dict(model_kwargs or {})
    config, parts = describe(model, task, preprocessors, kwargs)
    tied = {name: tied_sizes(module) for name, (module, _) in parts.items()}
    files: dict[str, Path] = {}
    for name, (module, part) in parts.items():
        torch.manual_seed(seed)
        files[name] = trace(module, part, output / f"{name}.onnx", kwargs)
    model_class = type(model)
    if not keep_model:
        release(*(module for module, _ in parts.values()))
    for name, file in files.items():
        share_weights(file, tied[name])
    merge(files)
    if len(files) > 1:
        share_across(files.values())
    descriptions = {name: part for name, (_, part) in parts.items() if name in files}
    if FIRST in files and NEXT in parts and NEXT not in files:
        descriptions[FIRST] = parts[NEXT][1]
    return Exported(task, files, model_class, config, descriptions, kwargs)


def describe(
    model: PreTrainedModel,
    task: str,
    preprocessors: list[Any] | None = None,
    model_kwargs: dict[str, Any] | None = None,
) -> tuple[OnnxConfig, Parts]:
    """Optimum's OnnxConfig of the whole model, and each part with its own, by gpux's names."""
    config, parts = _get_submodels_and_onnx_configs(
        model=model,
        task=task,
        monolith=False,
        custom_onnx_configs={},
        custom_architecture=False,
        _variant="default",
        library_name="transformers",
        preprocessors=preprocessors,
        model_kwargs=model_kwargs,
    )
    return config, {NAMES.get(name, name): part for name, part in parts.items()}


def dummies(config: OnnxConfig) -> dict[str, Any]:
    """Inputs of a traced call, by the names of torch."""
    inputs: dict[str, Any] = config.generate_dummy_inputs(framework="pt", **_shapes(config))
    renamed: dict[str, Any] = config.rename_ambiguous_inputs(inputs)
    return renamed


def _shapes(config: OnnxConfig) -> dict[str, Any]:
    """Sizes of the traced call: Optimum's defaults, and ``TRACED`` of a config of gpux."""
    return {**DEFAULT_DUMMY_SHAPES, **getattr(config, "TRACED", {})}


def call(model: PreTrainedModel, config: OnnxConfig, model_kwargs: dict[str, Any]) -> Any:
    """The outputs of the traced call."""
    _override(model, config, model_kwargs)
    inputs = dummies(config)
    with torch.no_grad(), patched(model), config.patch_model_for_export(model, model_kwargs=model_kwargs):
        return model(**inputs)


def trace(model: PreTrainedModel, config: OnnxConfig, file: Path, model_kwargs: dict[str, Any]) -> Path:
    """Write one graph; weights of more than 2 GB are written to one file beside it."""
    _override(model, config, model_kwargs)
    inputs = dummies(config)
    with torch.no_grad(), patched(model), config.patch_model_for_export(model, model_kwargs=model_kwargs):
        names = config.ordered_inputs(model)
        with without_weights() as weights:
            torch.onnx.export(
                model,
                (inputs,),
                f=str(file),
                input_names=list(names),
                output_names=list(config.outputs),
                dynamic_axes={**names, **config.outputs},
                do_constant_folding=True,
                opset_version=config.DEFAULT_ONNX_OPSET,
                dynamo=False,
            )
    gather_external(file)
    if _has_unnamed_axes(file, config):
        _fix_unnamed_axes(file, config, weights)
    add_logits_start(file, {name: weight.dim() for name, weight in weights.items()})
    attach(file, weights)
    return file


def _override(model: PreTrainedModel, config: OnnxConfig, model_kwargs: dict[str, Any]) -> None:
    """Set the options that a traced call needs."""
    model.eval()
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        model_kwargs["logits_to_keep"] = 0  # logits of every token, not of the last only
    model.config.return_dict = True
    for name, value in (config.values_override or {}).items():
        setattr(model.config, name, value)


def _has_unnamed_axes(file: Path, config: OnnxConfig) -> bool:
    """Whether torch declared an output axis as dynamic that the OnnxConfig does not name."""
    named = {axis for axes in (*config.inputs.values(), *config.outputs.values()) for axis in axes.values()}
    graph = read_structure(file).graph
    dims = [dim for output in graph.output for dim in output.type.tensor_type.shape.dim]
    return any(not dim.HasField("dim_value") and dim.dim_param not in named for dim in dims)


def _fix_unnamed_axes(file: Path, config: OnnxConfig, weights: Weights) -> None:
    """Declare such axes with the sizes that the graph returns; a copy with external weights is run for that."""
    trial = file.with_name(f"trial-{file.name}")
    try:
        shutil.copyfile(file, trial)
        attach(trial, weights, beside=True)
        config.fix_dynamic_axes(trial, device="cpu", input_shapes=_shapes(config), dtype="fp32")
        outputs = onnx.load(trial, load_external_data=False).graph.output
    finally:
        for left in (trial, external_file(trial)):
            left.unlink(missing_ok=True)
    model = onnx.load(file, load_external_data=False)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    onnx.save(model, file)


def merge(files: dict[str, Path]) -> None:
    """Merge the two decoders into one graph with two branches; if that fails, both are kept."""
    if FIRST not in files or NEXT not in files:
        return
    first, following = files[FIRST], files[NEXT]
    merged = first.with_name("merged.onnx")
    outside = external_file(first).is_file()
    os.environ["FORCE_ONNX_EXTERNAL_DATA"] = "1" if outside else "0"
    try:
        merge_decoders(decoder=first, decoder_with_past=following, save_path=merged, strict=False)
    except (ValueError, RuntimeError, onnx.checker.ValidationError):
        for file in (merged, external_file(merged)):
            file.unlink(missing_ok=True)
        return
    for file in (first, following):
        file.unlink()
        external_file(file).unlink(missing_ok=True)
    files[FIRST] = rename(merged, first.name)
    del files[NEXT]
    _leave_attentions_to_the_first_call(files[FIRST])


def _leave_attentions_to_the_first_call(file: Path) -> None:
    """Let the branch of the later calls return no weights of cross-attention: ``[1, heads, 0, 1]``.

    A branch computes all of its outputs, whether or not a run requests them, and copying the weights would take a tenth
    of a step of a small decoder. The times of words need one call for all tokens, which is a first call.
    """
    model = onnx.load(file, load_external_data=False)
    branches = [part.g for node in model.graph.node for part in node.attribute if part.name == "then_branch"]
    found = [(branch, value) for branch in branches for value in branch.output if value.name.startswith(ATTENTIONS)]
    for branch, value in found:
        dims = value.type.tensor_type.shape.dim
        shape = (1, dims[1].dim_value, 0, 1)
        value.name = f"{value.name}.none"
        empty = numpy_helper.from_array(np.zeros(shape, np.float32))
        branch.node.append(helper.make_node("Constant", [], [value.name], value=empty))
        del dims[:]
        for size in shape:
            dims.add().dim_value = size
    if found:
        onnx.save(model, file)
