"""Count the parameters of the golden configurations by building each on torch's meta device (no memory, no weights).

    PYTHON scripts/confirm_counts.py [NAME ...] [--json] [--check]

PYTHON is an interpreter with torch and transformers (the `optimum` toolchain's). The class in `architectures` is built
from each configuration in tests/inspect/architecture/configs, and its parameters are summed, tied parameters once.
`active` excludes the experts that are not used for a token; `embedding` sums the tables of tokens, positions and token
types and the output matrix. --check compares with golden.json and fails on a difference.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

TESTS = Path(__file__).parents[1] / "tests" / "inspect" / "architecture"
COUNTED = ("class", "parameters", "active", "embedding")
#: Embedding tables of relative positions, which belong to attention.
RELATIVE = ("relative_attention_bias", "rel_embeddings", "relative_position")
#: Learned position embeddings that are plain parameters instead of ``Embedding`` modules.
BARE = ("position_embeddings", "position_embedding", "pos_embed")


def build(config: dict[str, Any]) -> Any:
    """The model of the class that the configuration names, on the meta device."""
    configuration = transformers.AutoConfig.for_model(**config)
    names = config.get("architectures") or []
    model_class = getattr(transformers, names[0]) if names else None
    with torch.device("meta"):
        model = model_class(configuration) if model_class else transformers.AutoModel.from_config(configuration)
    model.tie_weights()
    return model


def embedding_parameters(model: Any) -> int:
    """Parameters of the embedding tables and the output matrix, tied ones once."""
    tables = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and not any(part in name for part in RELATIVE):
            tables[id(module.weight)] = module.weight.numel()
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in BARE:
            tables[id(parameter)] = parameter.numel()
    output = model.get_output_embeddings()
    if output is not None and getattr(output, "weight", None) is not None:
        tables[id(output.weight)] = output.weight.numel()
    return sum(tables.values())


def used_experts(config: Any) -> tuple[int, int]:
    """The number of routed experts, and the number used for one token; (1, 1) for a dense model."""
    config = config.get_text_config()
    feed_forward = getattr(config, "ffn_config", config)
    found = []
    for names in (
        ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
        ("num_experts_per_tok", "moe_top_k", "moe_k"),
    ):
        found.append(next((getattr(feed_forward, n) for n in names if getattr(feed_forward, n, None)), 1))
    return found[0], found[1]


def count(config: dict[str, Any]) -> dict[str, Any]:
    """The parameter counts and the model class of one configuration."""
    model = build(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    routed = sum(p.numel() for name, p in model.named_parameters() if is_routed(name))
    experts, used = used_experts(model.config)
    return {
        "class": type(model).__name__,
        "parameters": total,
        "active": total - routed + routed * used // experts,
        "embedding": embedding_parameters(model),
        "facts": facts(model.config),
    }


def facts(config: Any) -> dict[str, Any]:
    """Values that transformers reads from the text part of the configuration, under gpux's names."""
    text = config.get_text_config(decoder=True) if config.is_encoder_decoder else config.get_text_config()
    names = {
        "hidden_size": "hidden_size",
        "attention_heads": "num_attention_heads",
        "vocab_size": "vocab_size",
        "layers": "num_hidden_layers",
        "kv_heads": "num_key_value_heads",
    }
    found = {ours: getattr(text, theirs, None) for ours, theirs in names.items()}
    return {name: value for name, value in found.items() if isinstance(value, int) and value > 0}


def is_routed(name: str) -> bool:
    """Whether the parameter belongs to a routed expert."""
    inside = (".experts." in name and "shared" not in name) or ".block_sparse_moe.input_linear" in name
    return inside or ".block_sparse_moe.output_linear" in name


def main() -> None:
    """Print one line, or one JSON object, per configuration."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    golden = json.loads((TESTS / "golden.json").read_text(encoding="utf-8")) if arguments.check else {}
    names = arguments.names or sorted(path.stem for path in (TESTS / "configs").glob("*.json"))
    wrong = [name for name in names if not report(name, golden.get(name), arguments)]
    if wrong:
        sys.exit(f"not confirmed: {', '.join(wrong)}")


def report(name: str, golden: dict[str, Any] | None, arguments: argparse.Namespace) -> bool:
    """Print the counts of one configuration; false where they differ from the expected ones."""
    config = json.loads((TESTS / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    try:
        found = count(config)
    except Exception as exc:  # noqa: BLE001 - a configuration that cannot be built does not stop the others
        print(f"{name}: {type(exc).__name__}: {str(exc)[:200]}", file=sys.stderr)
        return False
    print(json.dumps({"name": name, **found}) if arguments.json else f"{name}: {found}", flush=True)
    gc.collect()
    return not arguments.check or (golden is not None and all(golden["counts"][key] == found[key] for key in COUNTED))


if __name__ == "__main__":
    main()
