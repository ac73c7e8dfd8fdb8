"""A decoder's graph by mobius, which writes it down instead of tracing it, with the checkpoint's weights in fp32.

---
The ``architectures`` command with mobius: the decoders in its registry whose original transformers can load."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
from mobius import build_from_gguf, build_from_module, registry
from mobius._config_resolver import _config_from_hf, _default_task_for_model
from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gpux.convert.worker.common.environment import versions
from gpux.convert.worker.common.logits import let_start_logits
from gpux.convert.worker.mobius.checkpoint import read_weights
from gpux.system.worker_protocol import Refused

GRAPH = "model.onnx"
DATA = "model.onnx_data"
#: mobius' name of decoders whose only state is a cache of keys and values.
TASK = "text-generation"
#: The names that configurations give to what keeps a norm from dividing by zero.
EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
#: What mobius raises where a checkpoint is not what it expects.
MISFITS = (KeyError, ValueError, RuntimeError, AttributeError, TypeError, IndexError)


def build(source: Path, config: PretrainedConfig, output: Path) -> dict[str, int]:
    """Write ``model.onnx`` and its weights, ``model.onnx_data``, into ``output``.

    The answer is the number of rows of each table of rotations in the graph: no position may be beyond it.

    Raises:
        Refused: mobius has no such decoder, or the checkpoint's tensors do not fit its graph.
    """
    module_class = decoder_class(config)
    described = describe(config, module_class)
    module = corrected(module_class(described), config)
    package = build_from_module(module, described, TASK, execution_provider="cpu")
    fill(package, module, read_weights(source))
    return _save(package, module.parameters(), output)


def build_gguf(file: Path, config: PretrainedConfig, output: Path) -> dict[str, int]:
    """The same of a GGUF file, its weights as fp32, whatever they are stored as.

    Raises:
        Refused: mobius cannot read it, or has no such decoder.
    """
    decoder_class(config)
    try:
        package = build_from_gguf(file, task=TASK, dtype="f32", execution_provider="cpu")
    except (*MISFITS, NotImplementedError, ImportError) as exc:
        raise Refused("conversion", f"mobius cannot convert {file.name}: {exc}") from exc
    return _save(package, (), output)


def _save(package: Any, parameters: Iterable[ir.Value], output: Path) -> dict[str, int]:
    if list(package) != ["model"]:
        raise Refused("unsupported_task", f"mobius makes {', '.join(package)} of this model, not one decoder")
    model = package["model"]
    values = model.graph.initializers.values()
    empty = [value.name for value in values if value.const_value is None]
    if empty:
        raise Refused("conversion", f"the checkpoint holds nothing for {len(empty)} weights, such as {empty[0]}")
    ir.save(model, output / GRAPH, external_data=DATA)
    let_start_logits(output / GRAPH)
    rows = {str(value.name): int(value.shape[0]) for value in values if _is_table(value)}
    # Unmaps the checkpoint: mobius' passes are globals and remember the graph that they worked on last.
    for value in (*parameters, *values):
        value.const_value = None
    gc.collect()
    return rows


def describe(config: PretrainedConfig, module_class: type[Any]) -> Any:
    """mobius' own form of a configuration, for weights in fp32."""
    found = _config_from_hf(config, module_class=module_class)
    changes: dict[str, Any] = {"dtype": ir.DataType.FLOAT}
    if not any(getattr(config, name, None) for name in EPSILONS) and hasattr(found, "rms_norm_eps"):
        changes["rms_norm_eps"] = 1e-5  # what torch.nn.LayerNorm has where the model says nothing; mobius takes 1e-6
    if config.model_type == "openai-gpt" and config.afn == "gelu":
        changes["hidden_act"] = "gelu_new"  # its "gelu" always was the tanh approximation
    return dataclasses.replace(found, **changes)


def corrected(module: Any, config: PretrainedConfig) -> Any:
    """A module with the numbers that the original has where mobius rounds them."""
    for part in module.modules():
        if hasattr(part, "embed_scale") and config.model_type == "gemma":
            part.embed_scale = float(config.hidden_size) ** 0.5  # to two decimals otherwise
    return module


def decoder_class(config: PretrainedConfig) -> type[Any]:
    """mobius' class for a decoder.

    Raises:
        Refused: it has none for the model type, or one for something else, such as a draft model or a vision model.
    """
    model_type = config.model_type
    if model_type not in registry:
        raise Refused("unsupported_architecture", f"mobius does not know the model type {model_type!r}")
    named = [name for name in config.architectures or () if name in registry]
    if _default_task_for_model(model_type) != TASK or named:
        raise Refused("unsupported_task", f"mobius knows {named or model_type}, not as a text generator")
    found: type[Any] = registry.get(model_type)
    return found


def fill(package: Any, module: Any, tensors: dict[str, Any]) -> None:
    """Give the graph the checkpoint's tensors.

    Raises:
        Refused: one has no place in the graph, or another shape than its place.
    """
    try:
        if hasattr(module, "preprocess_weights"):
            tensors = module.preprocess_weights(tensors)
        model = package["model"]
        ignored = without_place(tensors, model.graph.initializers)
        if ignored:
            raise Refused("conversion", f"mobius would ignore {len(ignored)} weights, such as {ignored[0]}")
        share(model, tensors)
        package.apply_weights(tensors)
    except MISFITS as exc:
        raise Refused("conversion", f"mobius cannot place the weights of this checkpoint: {exc}") from exc


def without_place(tensors: dict[str, Any], places: Mapping[str, ir.Value]) -> list[str]:
    """The weights that no part of the graph takes, under this name or another one of the same tensor."""
    placed = {tensor.data_ptr() for name, tensor in tensors.items() if name in places}
    rest = {name: tensor for name, tensor in tensors.items() if name not in places and not _is_buffer(name)}
    return sorted(name for name, tensor in rest.items() if tensor.numel() and tensor.data_ptr() not in placed)


def share(model: ir.Model, tensors: dict[str, Any]) -> None:
    """Let parameters that are one tensor in the checkpoint, such as an embedding and its head, be one in the graph."""
    first: dict[tuple[Any, ...], ir.Value] = {}
    for name, tensor in tensors.items():
        value = model.graph.initializers.get(name)
        if value is None or not tensor.numel():
            continue
        same = first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, value.dtype), value)
        if same is not value:
            value.replace_all_uses_with(same)
            del model.graph.initializers[name]


def _is_buffer(name: str) -> bool:
    """Whether a checkpoint's tensor is no weight: what old versions of transformers saved besides."""
    return name.endswith(("rotary_emb.inv_freq", ".attn.bias", ".masked_bias", ".attention.bias"))


def _is_table(value: ir.Value) -> bool:
    return str(value.name).endswith("cos_cache") and value.shape is not None and len(value.shape) == 2


def supported_architectures() -> dict[str, Any]:
    """``architectures``: model type -> Hub tasks that can be converted; ``others``: mobius' own task, not converted.

    Without the original nothing can be proven, so what transformers cannot load is left out.
    """
    converted: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for model_type in registry.architectures():
        task = _default_task_for_model(model_type)
        if model_type not in CONFIG_MAPPING_NAMES:
            continue
        if task == TASK and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            converted[model_type] = [TASK]
        else:
            others[model_type] = [task]
    return {"versions": versions(), "architectures": converted, "others": others}
