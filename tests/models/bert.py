"""Tiny, deterministic BERT repositories: the files that the Hub would have, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from tests.models.bert_onnx import TASK_OF, bert_graph, save_onnx
from tests.models.sentence import SentenceOptions, write_sentence_files
from tests.models.weights import bert_weights
from tests.models.wordpiece import PAD_ID, write_tokenizer

ARCHITECTURE_OF = {task: architecture for architecture, task in TASK_OF.items()}
LABELS = ("negative", "neutral", "positive")


def bert_repository(
    dest: Path,
    task: str,
    *,
    onnx: bool = False,
    onnx_path: str = "onnx/model.onnx",
    external_data: bool = False,
    safetensors: bool = True,
    sentence_transformers: SentenceOptions | None = None,
    labels: Sequence[str] = LABELS,
    problem_type: str | None = None,
    max_positions: int = 64,
    tokenizer_limits: bool = False,
    cased: bool = False,
    left: bool = False,
    seed: int = 0,
) -> Path:
    """Write a model repository into `dest` (created) and return `dest`.

    `task` is feature-extraction, text-classification, token-classification, question-answering or fill-mask. `labels`
    are those of the two classifiers. `problem_type` is the problem type of the
    text-classification head: None or "single_label_classification" (softmax, or sigmoid over a single
    label), "multi_label_classification" (sigmoid), "regression". `tokenizer_limits` ships tokenizer.json with
    truncation and padding to 16 tokens, `left` cuts and pads on the left. `onnx` adds the exported graph at
    `onnx_path`, `safetensors=False` omits the original weights. Equal arguments give equal bytes.
    """
    if task not in ARCHITECTURE_OF:
        raise ValueError(f"unknown task {task!r}; known: {sorted(ARCHITECTURE_OF)}")
    dest.mkdir(parents=True, exist_ok=True)
    size = write_tokenizer(dest, max_length=max_positions, cased=cased, limits=tokenizer_limits, left=left)
    config = bert_config(task, vocab_size=size, max_positions=max_positions)
    if task in ("text-classification", "token-classification"):
        config.update(_head(labels, problem_type))
    _write_json(dest / "config.json", config)
    weights = bert_weights(config, task, seed)
    if safetensors:
        (dest / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    if onnx:
        save_onnx(bert_graph(config, weights), dest / onnx_path, external_data=external_data)
    if sentence_transformers is not None:
        write_sentence_files(dest, sentence_transformers, hidden=config["hidden_size"], seed=seed)
    (dest / "README.md").write_bytes(_card(task, sentence=sentence_transformers is not None).encode())
    return dest


def bert_config(task: str, *, vocab_size: int, max_positions: int) -> dict[str, Any]:
    """config.json of the tiny model without the fields of a classification head."""
    return {
        "architectures": [ARCHITECTURE_OF[task]],
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": max_positions,
        "model_type": "bert",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": PAD_ID,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "transformers_version": "4.57.6",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": vocab_size,
    }


def _head(labels: Sequence[str], problem_type: str | None) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    return head if problem_type is None else {**head, "problem_type": problem_type}


def _card(task: str, *, sentence: bool) -> str:
    library = "sentence-transformers" if sentence else "transformers"
    tag = "sentence-similarity" if sentence else task
    head = f"---\nlicense: apache-2.0\nlibrary_name: {library}\npipeline_tag: {tag}\n---\n"
    return head + f"\n# A tiny BERT for {tag}\n\nRandom weights: good for tests, useless for anything else.\n"


def _write_json(path: Path, content: object) -> None:
    path.write_bytes((json.dumps(content, indent=2) + "\n").encode())
