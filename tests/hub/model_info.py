"""The JSON of one model: a table from each key to the function that computes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from tests.hub.card import read_card
from tests.hub.contents import Blob, Commit
from tests.hub.messages import HubError
from tests.hub.repository import Repository
from tests.hub.safetensors import count_parameters

CONFIG_KEYS = ("architectures", "model_type", "auto_map", "quantization_config")
TOKENIZER_KEYS = (
    *("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token"),
    *("chat_template", "use_default_system_prompt"),
)
PHANTOM_OID = "0" * 40


class Model:
    """The values of a model's JSON, from a repository at one commit; costly ones are computed at first use."""

    def __init__(self, repository: Repository, label: str, commit: Commit) -> None:
        self.repository = repository
        self.settings = repository.settings
        self.label = label
        self.commit = commit

    def json_file(self, path: str) -> dict[str, Any]:
        """A JSON object from a file; empty if the file is missing or contains something else."""
        try:
            value = json.loads(self.commit.files[path].file.read_bytes())
        except (KeyError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    @cached_property
    def card(self) -> dict[str, Any] | None:
        """`cardData` of the settings, else the front matter of README.md, else None."""
        if self.settings.card_data is not None:
            return dict(self.settings.card_data)
        readme = self.commit.files.get("README.md")
        card = read_card(readme.file.read_text(encoding="utf-8", errors="replace")) if readme else {}
        return card or None

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The keys of config.json and tokenizer_config.json that the Hub's responses contain."""
        config, tokenizer = self.json_file("config.json"), self.json_file("tokenizer_config.json")
        found = {key: config[key] for key in CONFIG_KEYS if key in config}
        if kept := {key: tokenizer[key] for key in TOKENIZER_KEYS if key in tokenizer}:
            found["tokenizer_config"] = kept
        return found or None

    @cached_property
    def library(self) -> str | None:
        """`library_name` of the settings or the card, else the library that the files belong to."""
        stated = self.settings.library_name or (self.card or {}).get("library_name")
        if stated:
            return str(stated)
        if {"modules.json", "config_sentence_transformers.json"} & self.commit.files.keys():
            return "sentence-transformers"
        return "transformers" if "model_type" in (self.config or {}) else None

    @cached_property
    def pipeline_tag(self) -> str | None:
        """The task of the settings, else of the card."""
        return self.settings.pipeline_tag or (self.card or {}).get("pipeline_tag")

    @cached_property
    def relation(self) -> str:
        """The relation of the model to its base model: from the card, else derived from the files as the Hub does."""
        card = self.card or {}
        if stated := card.get("base_model_relation"):
            return str(stated)
        if len(as_list(card.get("base_model"))) > 1:
            return "merge"
        if "adapter_config.json" in self.commit.files:
            return "adapter"
        quantized = any(path.endswith(".gguf") for path in self.commit.files)
        return "quantized" if quantized or "quantization_config" in (self.config or {}) else "finetune"

    @cached_property
    def tags(self) -> list[str]:
        """The tags that the Hub's search filters on: library, formats, model type, the card's tags, license, region."""
        card = self.card or {}
        found = [self.library, *_formats(self.commit.files), (self.config or {}).get("model_type")]
        found += [self.pipeline_tag, *as_list(card.get("tags")), *as_list(card.get("language"))]
        for key, prefix in (("datasets", "dataset"), ("base_model", "base_model"), ("license", "license")):
            found += [f"{prefix}:{value}" for value in as_list(card.get(key))]
        found += [f"base_model:{self.relation}:{value}" for value in as_list(card.get("base_model"))]
        found += [*self.settings.tags, "region:us"]
        return list(dict.fromkeys(str(tag) for tag in found if tag))

    def siblings(self, blobs: bool = False) -> list[dict[str, Any]]:
        """The list of files, with sizes and ids if `blobs` is set."""
        listed = [_sibling(blob, blobs) for blob in self.commit.files.values()]
        for name in self.settings.phantom_files:
            listed.append({"rfilename": name, **({"blobId": PHANTOM_OID, "size": 0} if blobs else {})})
        return listed


FIELDS: dict[str, Callable[[Model], Any]] = {
    "_id": lambda m: hashlib.sha1(m.repository.id.encode()).hexdigest()[:24],
    "id": lambda m: m.repository.id,
    "modelId": lambda m: m.repository.id,
    "author": lambda m: m.repository.author,
    "sha": lambda m: m.commit.sha,
    "lastModified": lambda m: m.settings.last_modified or m.repository.date(m.label),
    "createdAt": lambda m: m.settings.created_at,
    "private": lambda m: m.settings.private,
    "gated": lambda m: m.settings.gated,
    "disabled": lambda m: m.settings.disabled,
    "downloads": lambda m: m.settings.downloads,
    "downloadsAllTime": lambda m: m.settings.downloads,
    "likes": lambda m: m.settings.likes,
    "trendingScore": lambda m: m.settings.trending_score,
    "usedStorage": lambda m: m.commit.size,
    "library_name": lambda m: m.library,
    "pipeline_tag": lambda m: m.pipeline_tag,
    "mask_token": lambda m: _token_text(m.json_file("tokenizer_config.json").get("mask_token")),
    "tags": lambda m: m.tags,
    "cardData": lambda m: m.card,
    "config": lambda m: m.config,
    "safetensors": lambda m: count_parameters(m.commit),
    "siblings": lambda m: m.siblings(),
    "spaces": lambda m: [],
    "baseModels": lambda m: None,
    "childrenModelCount": lambda m: None,
    "evalResults": lambda m: None,
    "gguf": lambda m: None,
    "inference": lambda m: None,
    "inferenceProviderMapping": lambda m: None,
    "model-index": lambda m: (m.card or {}).get("model-index"),
    "resourceGroup": lambda m: None,
    "transformersInfo": lambda m: None,
    "widgetData": lambda m: None,
}

EXPANDABLE = tuple(sorted(FIELDS.keys() - {"_id", "id", "modelId"}))
_NOT_BY_DEFAULT = {"trendingScore", "downloadsAllTime", "baseModels", "childrenModelCount", "evalResults"}
INFO_KEYS = tuple(key for key in FIELDS if key not in _NOT_BY_DEFAULT)
LIST_KEYS = (
    *("_id", "id", "modelId", "likes", "trendingScore", "private", "downloads", "tags", "pipeline_tag"),
    *("library_name", "createdAt"),
)
FULL_KEYS = (*LIST_KEYS, "author", "sha", "lastModified", "gated", "siblings")


def render(model: Model, keys: Iterable[str]) -> dict[str, Any]:
    """The JSON of a model with the given keys, except those without a value. `extra` replaces computed values."""
    extra = model.settings.extra
    values = {key: extra[key] if key in extra else FIELDS[key](model) for key in keys}
    return {key: value for key, value in values.items() if value is not None}


def expanded_keys(expand: Iterable[str]) -> tuple[str, ...]:
    """The requested keys of `expand`, and the two ids. Raises HubError (400) for an unknown key."""
    wanted = tuple(expand)
    for key in wanted:
        if key not in EXPANDABLE:
            raise HubError(400, f'Invalid expand value "{key}", expected one of: {", ".join(EXPANDABLE)}')
    return ("_id", "id", *wanted)


def model_json(model: Model, *, expand: list[str], blobs: bool, security: bool) -> dict[str, Any]:
    """The response for one model."""
    if expand:
        return render(model, expanded_keys(expand))
    unlisted = {key: value for key, value in model.settings.extra.items() if key not in FIELDS}
    found = {**render(model, INFO_KEYS), **unlisted}
    if blobs:
        found["siblings"] = model.siblings(blobs=True)
    if security:
        levels = {path: scan.get("level", "safe") for path, scan in model.settings.scans.items()}
        issues = [{"path": path, "level": level} for path, level in levels.items() if level != "safe"]
        found["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": issues}
    return found


def _sibling(blob: Blob, blobs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": blob.path}
    if blobs:
        entry |= {"blobId": blob.oid, "size": blob.size}
        if blob.sha256:
            entry["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return entry


def _formats(paths: Iterable[str]) -> list[str]:
    """The tags for formats of weights, by file name."""
    endings = {
        "onnx": (".onnx",),
        "safetensors": (".safetensors",),
        "gguf": (".gguf",),
        "pytorch": ("pytorch_model.bin", ".pt", ".pth"),
        "tf": ("tf_model.h5",),
    }
    names = list(paths)
    return [tag for tag, ends in endings.items() if any(name.endswith(ends) for name in names)]


def _token_text(token: object) -> str | None:
    """A special token as text; tokenizer_config.json may contain it as an object with `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def as_list(value: object) -> list[Any]:
    """A list, a scalar as a list of one, None as an empty list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
