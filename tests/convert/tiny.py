"""Writes tiny, random models with transformers; run by the toolchain's interpreter.

python tiny.py FOLDER NAME …
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
DISTILBERT = {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 40}
MODELS = {
    "bert": ("BertForSequenceClassification", SIZES),
    "bert-bare": ("BertModel", SIZES),
    "roberta": ("RobertaForMaskedLM", {**SIZES, "type_vocab_size": 1}),
    "distilbert": ("DistilBertForSequenceClassification", DISTILBERT),
    "mamba": ("MambaForCausalLM", {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
}


def write(name: str, folder: Path) -> None:
    """One model, its weights drawn so that masks, positions and biases change its outputs."""
    torch.manual_seed(0)
    class_name, sizes = MODELS[name]
    model_class = getattr(transformers, class_name)
    model = model_class(model_class.config_class(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(folder)


def write_pickled(name: str, folder: Path) -> None:
    """The same with PyTorch's own file of weights."""
    write(name, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def write_misfit(name: str, folder: Path) -> None:
    """The same with a tensor of another shape than the config says."""
    write(name, folder)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = torch.zeros(7)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    target = Path(sys.argv[1])
    for model in MODELS:
        write(model, target / model)
    write_pickled("bert", target / "bert-pickled")
    write_misfit("bert", target / "bert-misfit")
