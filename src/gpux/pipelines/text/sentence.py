"""What a repository of sentence-transformers says about its sentence vectors, read from its own files.

``modules.json`` lists the modules in order, with the class of each: ``sentence_transformers.models.Pooling`` up to
version 4, ``sentence_transformers.sentence_transformer.modules.pooling.Pooling`` from 5 on. A module that is not
known here is refused: skipping one would give other vectors without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpux.errors import CorruptFileError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.text.layers import LAYERS, Layer
from gpux.pipelines.text.pooling import MODES

_PACKAGE = re.compile(r"^sentence_transformers\.(models|base\.modules|sentence_transformer\.modules)(\.\w+)*\.(\w+)$")
_KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_TRANSFORMER_FILES = tuple(f"sentence_{kind}_config.json" for kind in _KINDS)
#: keys of 1_Pooling/config.json up to version 5 -> mode, in the order in which several are concatenated
_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class SentenceConfig:
    """How sentence vectors are made from token vectors."""

    pooling: tuple[str, ...] = ("mean",)  #: modes whose results are concatenated
    include_prompt: bool = True  #: whether the prompt's tokens take part in the pooling
    layers: tuple[Layer, ...] = ()  #: what follows the pooling, in order
    max_seq_length: int | None = None  #: tokens of one text; None leaves it to the tokenizer and the graph
    lower_case: bool = False
    folder: str = ""  #: where the transformer's own files lie
    prompts: Mapping[str, str] | None = None
    default_prompt_name: str | None = None
    truncate_dim: int | None = None  #: leading dimensions to keep

    def prompt(self, prompt: str | None, prompt_name: str | None) -> str:
        """The prompt that opens every text: the one given, the one named, or the repository's default.

        Raises:
            UsageError: the repository has no prompt of that name.
        """
        prompts = self.prompts or {}
        if prompt is not None:
            return prompt
        name = prompt_name if prompt_name is not None else self.default_prompt_name
        if name is None:
            return ""
        if name not in prompts:
            raise UsageError(f"the model has no prompt {name!r}", hint=f"It has: {', '.join(prompts) or 'none'}.")
        return prompts[name] or ""


def read_sentence_config(model: StoredModel) -> SentenceConfig:
    """Read modules.json and what it points at.

    Without modules.json: mean pooling, and the last token for a causal language model, as sentence-transformers does.

    Raises:
        UnsupportedError: a module, pooling mode or option that is not known here.
        CorruptFileError: one of the files cannot be read.
    """
    settings = model.read_json("config_sentence_transformers.json")
    if not (model.path / "modules.json").is_file():
        return SentenceConfig(pooling=(_fallback_pooling(model),))
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise _refused(model, f"it is a {kind} of sentence-transformers, which gives no sentence vectors")
    found: dict[str, Any] = {"layers": ()}
    for index, module in enumerate(_read(model.path / "modules.json")):
        name = _module_name(model, module["type"])
        if (index == 0) != (name == "Transformer"):
            raise _refused(model, f"module {index} is {name}")
        _READERS.get(name, partial(_read_layer, name))(model, module["path"], found)
    if "pooling" not in found:
        raise _refused(model, "no module pools the token vectors")
    return SentenceConfig(
        **found,
        prompts=settings.get("prompts") or {},
        default_prompt_name=settings.get("default_prompt_name"),
        truncate_dim=settings.get("truncate_dim"),
    )


def transformer_folder(model: StoredModel) -> str:
    """Where the files of the transformer lie, its tokenizer among them; the variant's own folder for most."""
    try:
        return str(_read(model.path / "modules.json")[0]["path"])
    except (CorruptFileError, LookupError, TypeError):
        return ""


def _fallback_pooling(model: StoredModel) -> str:
    config = model.read_json("config.json")
    architecture = next(iter(config.get("architectures") or ()), "")
    return "lasttoken" if architecture.endswith("ForCausalLM") and config.get("is_causal", True) else "mean"


def _module_name(model: StoredModel, reference: str) -> str:
    match = _PACKAGE.match(reference)
    name = match[3] if match else ""
    if name not in _READERS and name not in LAYERS:
        raise _refused(model, f"modules.json names {reference}")
    return name


def _read_transformer(model: StoredModel, path: str, found: dict[str, Any]) -> None:
    folder = model.path / path
    present = [name for name in _TRANSFORMER_FILES if (folder / name).is_file()]
    config: dict[str, Any] = _read(folder / present[0]) if present else {}
    task = config.get("transformer_task", "feature-extraction")
    modalities = config.get("modality_config", {"text": {}})
    if task != "feature-extraction" or "text" not in modalities or "message" in modalities:
        raise _refused(model, f"its transformer runs {task} on {', '.join(modalities)}")
    if config.get("processing_kwargs"):
        raise _refused(model, f"its transformer has processing_kwargs {config['processing_kwargs']}")
    found["folder"] = path
    found["max_seq_length"] = config.get("max_seq_length")
    found["lower_case"] = bool(config.get("do_lower_case"))


def _read_pooling(model: StoredModel, path: str, found: dict[str, Any]) -> None:
    config = _read(model.path / path / "config.json")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _LEGACY_MODES.items() if config.get(key)] or ["mean"]
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or "pooling" in found or found["layers"]:
        raise _refused(model, f"it pools by {', '.join(unknown)}" if unknown else "it pools twice, or late")
    found["pooling"] = modes
    found["include_prompt"] = config.get("include_prompt", True)


def _read_layer(name: str, model: StoredModel, path: str, found: dict[str, Any]) -> None:
    if "pooling" not in found:
        raise _refused(model, f"{name} comes before the pooling")
    found["layers"] += (LAYERS[name](model.path / path),)


_READERS: dict[str, Callable[[StoredModel, str, dict[str, Any]], None]] = {
    "Transformer": _read_transformer,
    "Pooling": _read_pooling,
}


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CorruptFileError(f"{file} cannot be read: {exc}", hint="Run `gpux verify`.", path=file) from exc


def _refused(model: StoredModel, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{model.id} cannot give sentence vectors: {why}",
        hint=f"The token vectors are there: pipeline('feature-extraction', model={model.id!r})(text).",
        model=model.id,
    )
