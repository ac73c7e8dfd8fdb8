"""The cases of ``search_goldens.json``: tiny repositories, and calls of the classes of sentence-transformers on them.

``scripts/update_search_goldens.py`` writes the answers; it runs in a toolchain, so this module imports no gpux.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.models.bert import bert_repository
from tests.models.cases import OTHER, SHORT, words

QUERY = "who wrote about the weather"
DOCUMENTS = [OTHER, "", SHORT, words(30), "one page about the weather in June", words(90), "call me!"]
PAIRS = [[QUERY, text] for text in DOCUMENTS]
TORCH = "torch.nn.modules"
CROSS_ENCODER = {"model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None}
TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
SPLADE = {
    "idx": 1,
    "name": "1",
    "path": "1_SpladePooling",
    "type": "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling",
}


@dataclass(frozen=True)
class Case:
    """One repository, and calls ``method(*arguments, **options)`` on its model."""

    library: str  #: class of sentence-transformers
    task: str
    calls: Sequence[tuple[str, list[Any], dict[str, Any]]]
    repository: Mapping[str, Any] = field(default_factory=dict)  #: arguments of bert_repository
    config: Mapping[str, Any] = field(default_factory=dict)  #: further keys of config.json
    files: Mapping[str, Any] = field(default_factory=dict)  #: further JSON files

    def build(self, folder: Path, *, onnx: bool = False) -> Path:
        """Write the repository."""
        bert_repository(folder, self.task, onnx=onnx, **self.repository)
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, **self.config}))
        for name, value in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps(value))
        return folder


def _cross_encoder(*labels: str, **fields: Any) -> Case:
    calls = [("predict", [PAIRS], {}), ("predict", [PAIRS[0]], {}), ("predict", [PAIRS], {"apply_softmax": True})]
    if len(labels) == 1:
        calls += [
            ("rank", [QUERY, DOCUMENTS], {}),
            ("rank", [QUERY, DOCUMENTS], {"top_k": 2, "return_documents": True}),
        ]
    return Case("CrossEncoder", "text-classification", calls, {"labels": labels}, **fields)


def _vectors(**fields: Any) -> Case:
    few, many = DOCUMENTS[:2], DOCUMENTS[1:]
    calls: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("similarity", [few, many], {}),
        ("similarity_pairwise", [few, many[:2]], {}),
        ("encode_query", [few], {}),
        ("encode_document", [few], {}),
        ("encode_query", [few], {"truncate_dim": 8, "normalize_embeddings": True}),
        *(("encode", [DOCUMENTS], {"precision": name}) for name in ("int8", "uint8", "binary", "ubinary")),
        ("encode", [QUERY], {"precision": "int8"}),
        ("encode", [QUERY], {"precision": "ubinary", "truncate_dim": 12}),
    ]
    return Case("SentenceTransformer", "feature-extraction", calls, **fields)


def _settings(name: str | None, **more: Any) -> dict[str, Any]:
    prompts = {"query": "query: ", "passage": "passage: ", "corpus": "never: "}
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": name, **more}
    return {"config_sentence_transformers.json": settings}


def _sparse(**fields: Any) -> Case:
    calls: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("encode", [DOCUMENTS[1:4]], {}),
        ("encode", [QUERY], {"max_active_dims": 5}),
        ("encode_query", [QUERY], {"max_active_dims": 9}),
        ("encode_document", [DOCUMENTS[:2]], {"max_active_dims": 9}),
        ("similarity", [DOCUMENTS[:2], DOCUMENTS[1:4]], {}),
        ("decode", [QUERY], {"top_k": 4}),
    ]
    return Case("SparseEncoder", "fill-mask", calls, **fields)


def _splade(name: str | None, *, old: bool = False, **pooling: Any) -> Mapping[str, Any]:
    settings = _settings(name, model_type="SparseEncoder")
    modules, task = [TRANSFORMER, SPLADE], {"transformer_task": "fill-mask"}
    if old:  # as 5.0 wrote it
        package = "sentence_transformers.sparse_encoder.models"
        modules = [
            {**TRANSFORMER, "type": f"{package}.MLMTransformer.MLMTransformer"},
            {**SPLADE, "type": f"{package}.SpladePooling.SpladePooling"},
        ]
        task = {"max_seq_length": 24, "do_lower_case": False}
    files = {"modules.json": modules, "sentence_bert_config.json": task, "1_SpladePooling/config.json": pooling}
    return {**files, **settings}


CASES: dict[str, Case] = {
    "one label": _cross_encoder("relevant"),
    "one label, identity": _cross_encoder(
        "relevant", config={"sentence_transformers": {"activation_fn": f"{TORCH}.linear.Identity", "version": "4.1.0"}}
    ),
    "one label, before 4.0": _cross_encoder(
        "relevant", config={"sbert_ce_default_activation_function": f"{TORCH}.linear.Identity"}
    ),
    "one label, with modules": _cross_encoder(
        "relevant",
        files={
            "modules.json": [TRANSFORMER],
            "sentence_bert_config.json": {"transformer_task": "sequence-classification", "max_seq_length": 24},
            "config_sentence_transformers.json": {
                **CROSS_ENCODER,
                "activation_fn": f"{TORCH}.activation.Tanh",
                "prompts": {"rank": "query: "},
                "default_prompt_name": "rank",
            },
        },
    ),
    "own activation": _cross_encoder("relevant", config={"sentence_transformers": {"activation_fn": "own.code.Fn"}}),
    "three labels": _cross_encoder("contradiction", "entailment", "neutral"),
    "cosine": _vectors(repository={"sentence_transformers": {"pooling": "mean"}}),
    "dot": _vectors(repository={"sentence_transformers": {"normalize": True}}, files=_settings("dot")),
    "euclidean, truncated": _vectors(
        repository={"sentence_transformers": {"pooling": "cls"}}, files=_settings("euclidean", truncate_dim=16)
    ),
    "manhattan": _vectors(
        repository={"sentence_transformers": {"include_prompt": False}}, files=_settings("manhattan")
    ),
    "splade": _sparse(),
    "splade, max": _sparse(files=_splade("cosine", pooling_strategy="max", activation_function="relu")),
    "splade, sum": _sparse(files=_splade("euclidean", old=True, pooling_strategy="sum", activation_function="relu")),
    "splade, twice": _sparse(files=_splade(None, pooling_strategy="max", activation_function="log1p_relu")),
    "splade, sum twice": _sparse(files=_splade("manhattan", pooling_strategy="sum", activation_function="log1p_relu")),
}
