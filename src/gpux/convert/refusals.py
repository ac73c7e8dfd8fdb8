"""What Optimum's graphs get wrong, or cannot be proven, told from a model's config.json before its weights travel.

Every rule was found by comparing graphs with their originals; a rule goes when a graph comes out right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Config = Mapping[str, Any]

#: Model type -> task (``*``: any) -> why not.
WRONG: dict[str, dict[str, str]] = {
    "decision_transformer": {"*": "writes a graph of decision_transformer that cannot be run"},
    "funnel": {"*": "writes a graph of funnel that is wrong at every length but the traced one"},
    "perceiver": {"image-classification": "describes perceiver's images with the axes of a text"},
    "speecht5": {
        "*": "cannot be proven for speecht5, whose decoder drops values at random while it answers, so that no two "
        "answers are alike"
    },
    "vit_mae": {"*": "cannot be proven for vit_mae, which hides patches of the image at random"},
}
#: Types that keep a state of their own between tokens, which is not a cache of keys and values.
RECURRENT = frozenset(
    ("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2", "mamba", "mamba2", "qwen3_next",
     "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2")
)  # fmt: skip
#: Decoders, among those that can be the second half of an encoder-decoder, that Optimum keeps no cache for.
UNCACHED = frozenset(
    ("albert", "bert", "bert-generation", "big_bird", "camembert", "electra", "ernie", "megatron-bert", "rembert",
     "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl")
)  # fmt: skip


def reason(config: Config, task: str) -> str | None:
    """Why Optimum's graph would be of no use, in words that go on from its name; None where nothing is known.

    Args:
        config: the whole config.json.
        task: the Hub's name.
    """
    tasks = WRONG.get(str(config.get("model_type")), {})
    if found := tasks.get(task) or tasks.get("*"):
        return found
    return next((found for rule in _RULES if (found := rule(config))), None)


def _gguf(config: Config) -> str | None:
    """The header of a GGUF file stands in for a configuration."""
    return "reads no GGUF files" if "gguf" in config else None


def _recurrent(config: Config) -> str | None:
    model_type = str(config.get("model_type"))
    return f"has no graph for the state that {model_type} keeps between tokens" if model_type in RECURRENT else None


def _quantized(config: Config) -> str | None:
    """Weights that are stored in another form than the layers that Optimum traces."""
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return None
    method = found.get("quant_method") or "an unnamed method"
    return f"reads plain weights, and these are quantized by {method}: name the repository that they were made from"


def _random(config: Config) -> str | None:
    """vits draws noise, unless both of its scales are set to nothing."""
    if config.get("model_type") != "vits":
        return None
    if not any(config.get(name, 1.0) for name in ("noise_scale", "noise_scale_duration")):
        return None
    return "cannot be proven for vits, which adds noise to what it says: set noise_scale and noise_scale_duration to 0"


def _uncached(config: Config) -> str | None:
    """An encoder-decoder made of two models, the second without a cache."""
    decoder = config.get("decoder")
    if config.get("model_type") not in ("encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder"):
        return None
    kind = decoder.get("model_type") if isinstance(decoder, Mapping) else None
    return f"writes no cache for a decoder of the type {kind}" if kind in UNCACHED else None


_RULES: tuple[Callable[[Config], str | None], ...] = (_gguf, _recurrent, _quantized, _random, _uncached)
