"""From a model in memory to its graphs on disk: which parts it has, what each is traced with, what they are named."""

from __future__ import annotations

import inspect
import os
import shutil
from pathlib import Path
from typing import Any

import onnx
import torch
from optimum.exporters.onnx.base import OnnxConfig
from optimum.exporters.onnx.utils import _get_submodels_and_onnx_configs
from optimum.onnx import merge_decoders
from optimum.utils import DEFAULT_DUMMY_SHAPES
from transformers import PreTrainedModel

from gpux.convert.worker.common.graphs import Exported
from gpux.convert.worker.common.logits import let_start_logits
from gpux.convert.worker.common.structure import read_structure
from gpux.convert.worker.optimum.patches import patched
from gpux.convert.worker.optimum.streaming import Weights, attach, release, tied_sizes, weights_apart
from gpux.convert.worker.optimum.weight_files import external_file, gather_external, rename, share_across, share_weights

#: Optimum's name of a part -> ours; a part that is not here has the same name.
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
    """Write the model's graphs into ``output``, weights in float32, and nothing else.

    Args:
        model: patched while it is traced and put back; without its weights afterwards unless ``keep_model``.
        task: Optimum's name, with ``-with-past`` for a cache.
        output: an empty folder.
        preprocessors: the tokenizer and the processor, for the few types whose inputs depend on them.
        model_kwargs: what the traced call gets besides its inputs; ``vocoder`` is a folder.
        keep_model: the model is needed afterwards.
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
    """Optimum's description of the whole model, and of each of its parts by our names."""
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
    """Inputs of a traced call, as torch takes them."""
    made: dict[str, Any] = config.generate_dummy_inputs(framework="pt", **_shapes(config))
    renamed: dict[str, Any] = config.rename_ambiguous_inputs(made)
    return renamed


def _shapes(config: OnnxConfig) -> dict[str, Any]:
    """Sizes of the traced call: Optimum's, unless a description of ours has its own."""
    return {**DEFAULT_DUMMY_SHAPES, **getattr(config, "TRACED", {})}


def call(model: PreTrainedModel, config: OnnxConfig, model_kwargs: dict[str, Any]) -> Any:
    """What the traced call answers."""
    _override(model, config, model_kwargs)
    inputs = dummies(config)
    with torch.no_grad(), patched(model), config.patch_model_for_export(model, model_kwargs=model_kwargs):
        return model(**inputs)


def trace(model: PreTrainedModel, config: OnnxConfig, file: Path, model_kwargs: dict[str, Any]) -> Path:
    """Write one graph; its weights lie in one file beside it when there are more than 2 GB."""
    _override(model, config, model_kwargs)
    inputs = dummies(config)
    with torch.no_grad(), patched(model), config.patch_model_for_export(model, model_kwargs=model_kwargs):
        names = config.ordered_inputs(model)
        with weights_apart() as weights:
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
    if _invented_axes(file, config):
        _close_axes(file, config, weights)
    let_start_logits(file, {name: weight.dim() for name, weight in weights.items()})
    attach(file, weights)
    return file


def _override(model: PreTrainedModel, config: OnnxConfig, model_kwargs: dict[str, Any]) -> None:
    """Settings that a traced call needs."""
    model.eval()
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        model_kwargs["logits_to_keep"] = 0  # of every token, not of the last alone
    model.config.return_dict = True
    for name, value in (config.values_override or {}).items():
        setattr(model.config, name, value)


def _invented_axes(file: Path, config: OnnxConfig) -> bool:
    """Whether torch left a size of an output open that nothing of the description says is open."""
    named = {axis for axes in (*config.inputs.values(), *config.outputs.values()) for axis in axes.values()}
    graph = read_structure(file).graph
    dims = [dim for output in graph.output for dim in output.type.tensor_type.shape.dim]
    return any(not dim.HasField("dim_value") and dim.dim_param not in named for dim in dims)


def _close_axes(file: Path, config: OnnxConfig, weights: Weights) -> None:
    """Declare such sizes of outputs as what the graph answers; a copy is run, with its weights in a file beside it."""
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
    """Join the two decoders into one graph with both ways inside, and drop them; where that fails, both stay."""
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
