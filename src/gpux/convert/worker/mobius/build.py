"""Builds a decoder's graph with mobius, which does not trace the model, with the checkpoint's weights in fp32."""

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
from gpux.convert.worker.common.logits import add_logits_start
from gpux.convert.worker.mobius.checkpoint import read_weights
from gpux.system.worker_protocol import Refused

GRAPH = "model.onnx"
DATA = "model.onnx_data"
#: mobius' task name of decoders whose only state is a KV cache.
TASK = "text-generation"
#: The names of a norm's epsilon in configurations.
EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
#: What mobius raises for a checkpoint that it does not expect.
MISFITS = (KeyError, ValueError, RuntimeError, AttributeError, TypeError, IndexError)


def build(source: Path, config: PretrainedConfig, output: Path) -> dict[str, int]:
    """Write ``model.onnx`` and its weights, ``model.onnx_data``, into ``output``.

    Returns the number of rows of each table of rotary positions in the graph, which limits the positions.

    Raises:
        Refused: mobius does not support the decoder, or the checkpoint's tensors do not fit its graph.
    """
    module_class = decoder_class(config)
    described = describe(config, module_class)
    module = corrected(module_class(described), config)
    package = build_from_module(module, described, TASK, execution_provider="cpu")
    fill(package, module, read_weights(source))
    return _save(package, module.parameters(), output)


def build_gguf(file: Path, config: PretrainedConfig, output: Path) -> dict[str, int]:
    """The same from a GGUF file; the weights are converted to fp32, whatever they are stored as.

    Raises:
        Refused: mobius cannot read the file, or does not support the decoder.
    """
    decoder_class(config)
    try:
        package = build_from_gguf(file, task=TASK, dtype="f32", execution_provider="cpu")
    except (*MISFITS, NotImplementedError, ImportError) as exc:
        raise Refused("conversion", f"mobius cannot convert {file.name}: {exc}") from exc
    return _save(package, (), output)


def _save(package: Any, parameters: Iterable[ir.Value], output: Path) -> dict[str, int]:
    if list(package) != ["model"]:
        raise Refused("unsupported_task", f"mobius builds {', '.join(package)} for this model instead of one decoder")
    model = package["model"]
    values = model.graph.initializers.values()
    empty = [value.name for value in values if value.const_value is None]
    if empty:
        raise Refused("conversion", f"the checkpoint lacks {len(empty)} weights, such as {empty[0]}")
    ir.save(model, output / GRAPH, external_data=DATA)
    add_logits_start(output / GRAPH)
    rows = {str(value.name): int(value.shape[0]) for value in values if _is_table(value)}
    # Unmaps the checkpoint: mobius' passes are global objects and keep a reference to the last graph.
    for value in (*parameters, *values):
        value.const_value = None
    gc.collect()
    return rows


def describe(config: PretrainedConfig, module_class: type[Any]) -> Any:
    """The configuration as mobius represents it, for weights in fp32."""
    found = _config_from_hf(config, module_class=module_class)
    changes: dict[str, Any] = {"dtype": ir.DataType.FLOAT}
    if not any(getattr(config, name, None) for name in EPSILONS) and hasattr(found, "rms_norm_eps"):
        changes["rms_norm_eps"] = 1e-5  # the default of torch.nn.LayerNorm; that of mobius is 1e-6
    if config.model_type == "openai-gpt" and config.afn == "gelu":
        changes["hidden_act"] = "gelu_new"  # in this model "gelu" has always been the tanh approximation
    return dataclasses.replace(found, **changes)


def corrected(module: Any, config: PretrainedConfig) -> Any:
    """The module with the original's unrounded constants."""
    for part in module.modules():
        if hasattr(part, "embed_scale") and config.model_type == "gemma":
            part.embed_scale = float(config.hidden_size) ** 0.5  # mobius rounds this to two decimals
    return module


def decoder_class(config: PretrainedConfig) -> type[Any]:
    """mobius' class for a decoder.

    Raises:
        Refused: it does not support the model type, or not as a decoder (draft models, vision models).
    """
    model_type = config.model_type
    if model_type not in registry:
        raise Refused("unsupported_architecture", f"mobius does not support the model type {model_type!r}")
    named = [name for name in config.architectures or () if name in registry]
    if _default_task_for_model(model_type) != TASK or named:
        raise Refused(
            "unsupported_task", f"mobius does not support {', '.join(named) or model_type} for text generation"
        )
    found: type[Any] = registry.get(model_type)
    return found


def fill(package: Any, module: Any, tensors: dict[str, Any]) -> None:
    """Set the graph's weights from the checkpoint's tensors.

    Raises:
        Refused: the graph has no weight for a tensor, or one of another shape.
    """
    try:
        if hasattr(module, "preprocess_weights"):
            tensors = module.preprocess_weights(tensors)
        model = package["model"]
        ignored = unused(tensors, model.graph.initializers)
        if ignored:
            raise Refused("conversion", f"mobius would ignore {len(ignored)} weights, such as {ignored[0]}")
        share(model, tensors)
        package.apply_weights(tensors)
    except MISFITS as exc:
        raise Refused("conversion", f"mobius cannot place the weights of this checkpoint: {exc}") from exc


def unused(tensors: dict[str, Any], places: Mapping[str, ir.Value]) -> list[str]:
    """The names of weights that the graph does not use, under this name or another name of the same tensor."""
    placed = {tensor.data_ptr() for name, tensor in tensors.items() if name in places}
    rest = {name: tensor for name, tensor in tensors.items() if name not in places and not _is_buffer(name)}
    return sorted(name for name, tensor in rest.items() if tensor.numel() and tensor.data_ptr() not in placed)


def share(model: ir.Model, tensors: dict[str, Any]) -> None:
    """Merge weights of the graph that are one tensor in the checkpoint, such as an embedding and a tied head."""
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
    """Whether a checkpoint's tensor is a buffer that old versions of transformers saved, and not a weight."""
    return name.endswith(("rotary_emb.inv_freq", ".attn.bias", ".masked_bias", ".attention.bias"))


def _is_table(value: ir.Value) -> bool:
    return str(value.name).endswith("cos_cache") and value.shape is not None and len(value.shape) == 2


def supported_architectures() -> dict[str, Any]:
    """The ``architectures`` command: the decoders of mobius' registry whose original transformers can load.

    Returns ``architectures``, model type -> Hub tasks that can be converted, and ``others``, model type -> mobius' own
    task. Types that transformers cannot load are omitted, since nothing could be proven.
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
