"""Writes the files of sentence-transformers into a BERT repository: modules, pooling, limits, prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from safetensors.numpy import save

from tests.models.weights import draw

POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
ACTIVATIONS = {
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}


class SentenceOptions(TypedDict, total=False):
    """Settings of a sentence-transformers repository; all are optional."""

    pooling: str | list[str]  # keys of POOLING_FLAGS; several are concatenated; default "mean"
    include_prompt: bool  # whether pooling includes the prompt's tokens; default True
    normalize: bool  # a Normalize module at the end
    dense: int  # output size of a Dense module after the pooling; absent: none
    dense_activation: str  # a key of ACTIVATIONS; default "tanh"
    dense_bias: bool  # default True
    max_seq_length: int | None  # default 32; None leaves the limit to the model and the tokenizer
    do_lower_case: bool  # lower-case the text before a cased tokenizer sees it
    prompts: dict[str, str]
    default_prompt_name: str | None


def write_sentence_files(dest: Path, options: SentenceOptions, *, hidden: int, seed: int) -> None:
    """Write modules.json and the files that it refers to into the repository `dest`."""
    modes = options.get("pooling", "mean")
    modes = [modes] if isinstance(modes, str) else modes
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    _write_pooling(dest / "1_Pooling", modes, hidden, options.get("include_prompt", True))
    if "dense" in options:
        modules.append((f"{len(modules)}_Dense", "Dense"))
        _write_dense(dest / modules[-1][0], options, hidden * len(modes), seed)
    if options.get("normalize", False):
        modules.append((f"{len(modules)}_Normalize", "Normalize"))  # it has no files, so git has no such folder
    _write_json(dest / "modules.json", [_module(index, *module) for index, module in enumerate(modules)])
    _write_settings(dest, options)


def move_modules(folder: Path, layout: Mapping[str, str]) -> None:
    """Move the files of modules into other folders; ``layout``: class -> the path that modules.json has for it."""
    listed = json.loads((folder / "modules.json").read_text())
    for module in reversed(listed):  # the files of the transformer are at the top, so they come last
        before = folder / module["path"]
        module["path"] = layout.get(module["type"].rpartition(".")[2], module["path"])
        after = folder / module["path"]
        if before == folder and after != folder:
            after.mkdir(parents=True, exist_ok=True)
            for file in [file for file in folder.iterdir() if file.suffix in (".json", ".txt", ".safetensors")]:
                if file.name not in ("modules.json", "config_sentence_transformers.json"):
                    file.rename(after / file.name)
        elif before.is_dir() and before != after:
            after.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(before, after)
    _write_json(folder / "modules.json", listed)


def _module(index: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}


def _write_pooling(dest: Path, modes: list[str], hidden: int, include_prompt: bool) -> None:
    unknown = sorted(set(modes) - POOLING_FLAGS.keys())
    if unknown:
        raise ValueError(f"unknown pooling {unknown}; known: {sorted(POOLING_FLAGS)}")
    flags = {flag: mode in modes for mode, flag in POOLING_FLAGS.items()}
    _write_json(dest / "config.json", {"word_embedding_dimension": hidden, **flags, "include_prompt": include_prompt})


def _write_dense(dest: Path, options: SentenceOptions, inputs: int, seed: int) -> None:
    outputs, bias = options["dense"], options.get("dense_bias", True)
    activation = ACTIVATIONS[options.get("dense_activation", "tanh")]
    config = {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": activation}
    _write_json(dest / "config.json", config)
    weights = {"linear.weight": draw("dense.weight", (outputs, inputs), seed)}
    if bias:
        weights["linear.bias"] = draw("dense.bias", (outputs,), seed)
    (dest / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))


def _write_settings(dest: Path, options: SentenceOptions) -> None:
    limit = options.get("max_seq_length", 32)
    lower = options.get("do_lower_case", False)
    if limit is not None or lower:
        settings = {} if limit is None else {"max_seq_length": limit}
        _write_json(dest / "sentence_bert_config.json", {**settings, "do_lower_case": lower})
    versions = {"sentence_transformers": "3.0.0", "transformers": "4.41.0", "pytorch": "2.3.0"}
    config = {
        "__version__": versions,
        "prompts": options.get("prompts", {}),
        "default_prompt_name": options.get("default_prompt_name"),
        "similarity_fn_name": "cosine",
    }
    _write_json(dest / "config_sentence_transformers.json", config)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((json.dumps(content, indent=2) + "\n").encode())
