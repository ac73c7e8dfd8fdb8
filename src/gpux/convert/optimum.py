"""The converter ``optimum``: optimum-onnx traces the model in a worker with transformers 4.

Models that its exporter gets wrong, or whose graphs cannot be proven, are refused from ``config.json``. Every rule was
found by comparing graphs with their originals; a rule is removed when the graph is right.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpux.convert.base import Refusal
from gpux.convert.memory import MemoryEstimate
from gpux.convert.spec import Architectures, ConverterSpec, refuse_unlisted

Config = Mapping[str, Any]

#: Model type -> task (``*``: any) -> why it is refused.
WRONG: dict[str, dict[str, str]] = {
    "decision_transformer": {"*": "writes a graph of decision_transformer that cannot be run"},
    "funnel": {"*": "writes a graph of funnel that is wrong at every length but the traced one"},
    "perceiver": {"image-classification": "describes perceiver's images with the axes of a text"},
    "speecht5": {
        "*": "cannot be proven for speecht5, whose decoder applies dropout at inference, so that no two answers are "
        "alike"
    },
    "vit_mae": {"*": "cannot be proven for vit_mae, which masks patches of the image at random"},
}
#: Types that keep a recurrent state between tokens instead of a cache of keys and values.
RECURRENT = frozenset(
    ("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2", "mamba", "mamba2", "qwen3_next",
     "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2")
)  # fmt: skip
#: Types that can be the decoder of an encoder-decoder, and that Optimum exports without a cache then.
UNCACHED = frozenset(
    ("albert", "bert", "bert-generation", "big_bird", "camembert", "electra", "ernie", "megatron-bert", "rembert",
     "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl")
)  # fmt: skip


@cache
def architectures() -> Architectures:
    """Model type -> tasks, as ``scripts/update_architectures.py`` read them from the pinned Optimum."""
    text = (files("gpux.convert") / "optimum_architectures.json").read_text(encoding="utf-8")
    found: Architectures = json.loads(text)["architectures"]
    return found


def refuse(config: Config, task: str) -> Refusal | None:
    """Why Optimum does not convert a model; None if it does.

    Args:
        config: the whole config.json.
        task: the Hub's name.
    """
    model_type, known = str(config.get("model_type") or ""), architectures()
    if fault := known_fault(config, task):
        return Refusal(fault, model_type in known)
    if model_type in known:
        return refuse_unlisted(known, model_type, task)
    if "auto_map" in config:
        return Refusal(
            f"does not support the model type {model_type!r}, which is defined by code in the repository", False
        )
    near = difflib.get_close_matches(model_type, sorted(known), n=3)
    nearest = f"; similar types that it supports: {', '.join(near)}" if near else ""
    return Refusal(f"does not support the model type {model_type!r}{nearest}", False)


def known_fault(config: Config, task: str) -> str | None:
    """What would be wrong with Optimum's graph; None if nothing is known. The text continues after its name."""
    tasks = WRONG.get(str(config.get("model_type")), {})
    if found := tasks.get(task) or tasks.get("*"):
        return found
    return next((found for rule in _RULES if (found := rule(config))), None)


def _gguf(config: Config) -> str | None:
    """The header of a GGUF file stands in for a configuration."""
    return "does not read GGUF files" if "gguf" in config else None


def _recurrent(config: Config) -> str | None:
    model_type = str(config.get("model_type"))
    return f"does not export the state that {model_type} keeps between tokens" if model_type in RECURRENT else None


def _quantized(config: Config) -> str | None:
    """Weights that are stored in another form than the layers that Optimum traces."""
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return None
    method = found.get("quant_method") or "an unnamed method"
    return f"needs unquantized weights, and these are quantized by {method}: name the repository of the original"


def _random(config: Config) -> str | None:
    """vits adds noise unless both of its scales are 0."""
    if config.get("model_type") != "vits":
        return None
    if not any(config.get(name, 1.0) for name in ("noise_scale", "noise_scale_duration")):
        return None
    return "cannot be proven for vits, which adds random noise: set noise_scale and noise_scale_duration to 0"


def _uncached(config: Config) -> str | None:
    """An encoder-decoder composed of two models, whose decoder is exported without a cache."""
    decoder = config.get("decoder")
    if config.get("model_type") not in ("encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder"):
        return None
    kind = decoder.get("model_type") if isinstance(decoder, Mapping) else None
    return f"writes no cache for a decoder of the type {kind}" if kind in UNCACHED else None


_RULES: tuple[Callable[[Config], str | None], ...] = (_gguf, _recurrent, _quantized, _random, _uncached)

SPEC = ConverterSpec(
    name="optimum",
    worker="gpux.convert.worker.optimum",
    architectures=architectures,
    requirements=Path(str(files("gpux.convert") / "requirements" / "optimum.txt")),
    modules=("torch", "onnx", "onnxruntime", "safetensors", "tokenizers", "transformers", "optimum.exporters.onnx"),
    refuse=refuse,
    proves_others=True,
    memory=MemoryEstimate(
        400_000_000,
        4.2,  # two decoders are merged in memory
        2.0,
        one_graph=MemoryEstimate(460_000_000, 1.2, 1.2),
    ),
    priority=0,
    packages=("optimum-onnx", "transformers", "torch"),
    extra="convert",
)
