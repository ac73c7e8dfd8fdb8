"""The files that a run needs besides weights: configs, tokenizers, chat templates, processors, modules.

Names are those that ``save_pretrained`` of transformers' tokenizers and processors writes (their
``vocab_files_names``), mistral-common's, and the module folders of sentence-transformers' ``modules.json``.
Code (``.py``) is never included, as gpux runs repository code only with ``trust_remote_code``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from gpux.inspect.formats.names import format_of
from gpux.inspect.formats.units import units
from gpux.inspect.modules import Module

#: kind of file -> names of such files
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(rf"^(?:{pattern})$"))
    for kind, pattern in (
        ("chat template", r"chat_template\.(json|jinja)"),
        (
            "processor",
            r"(pre)?processor_config\.json|preprocessor\.json|(image_processor|video_preprocessor|feature_extractor"
            r"|audio_processor)_config\.json",
        ),
        ("generation config", r"generation_config\.json"),
        (
            "tokenizer",
            r"(tokenizer|tokenizer_target|tokenizer_config|special_tokens_map|added_tokens|normalizer|vocab|tekken|encoder|entity_vocab"
            r"|target_vocab|vocab[-_.][\w-]+)\.json"  # fsmt: vocab-src.json; marian: target_vocab.json
            r"|merges\.txt|vocab\.(txt|bpe)|bpe\.codes|spiece\.vocab|[^/]*\.(model|spm|tiktoken|bpe|tokenizer)"
            r"|tokenizer\.model\.v\d+",
        ),
        (
            "config",
            r"(config|adapter_config|open_clip_config|modules|sentence_[a-z_]*config|config_sentence_transformers)\.(json|jinja|txt)",
        ),
        ("config", r"artifact\.metadata"),  # ColBERT's own settings
    )
)
_TEMPLATES = re.compile(r"^additional_chat_templates/[^/]+\.jinja$")  # transformers: templates besides the default
_DIFFUSERS = re.compile(r"^model_index\.json$|^[^/]+/(scheduler_config|[^/]*config)\.json$")

#: sentence-transformers: ``1_Pooling``, ``2_Dense``; below a Router ``query_0_SparseStaticEmbedding``
_MODULE = re.compile(r"^((?:[a-z]+_)?\d+_([A-Za-z]\w*))/")
_MODULE_FILES = (".json", ".safetensors", ".txt")
#: modules that are a whole transformers model: their weights are converted, not run as they are
_MODELS = frozenset({"Transformer", "MLMTransformer", "CLIPModel", "Asym", "Router"})


def run_files(paths: Iterable[str], modules: Sequence[Module] = ()) -> tuple[str, ...]:
    """The files that a run needs besides the graph: configs, tokenizer, processor, sentence-transformers modules.

    Weights of a module (``2_Dense/model.safetensors``) are included if they are safetensors, as gpux loads no pickles.

    Args:
        paths: the repository's files.
        modules: of its ``modules.json``; without them, folders are known by their names, as ``1_Pooling``.
    """
    return tuple(path for path in sorted(set(paths)) if run_kind(path, modules) is not None)


def run_kind(path: str, modules: Sequence[Module] = ()) -> str | None:
    """The kind of a run file, in a word or two; None if a run does not need the file."""
    inside = [module for module in modules if module.folder and path.startswith(f"{module.folder}/")]
    if inside:
        nearest = max(inside, key=lambda module: len(module.folder))
        rest = path.removeprefix(f"{nearest.folder}/")
        if nearest == modules[0] or nearest.name in _MODELS:
            return kind_by_name(rest) if "/" not in rest else None
        return f"module {nearest.folder}" if rest.endswith(_MODULE_FILES) else None
    module = _MODULE.match(path)
    if module:
        return _module_kind(path, module[1], module[2])
    if _TEMPLATES.match(path):
        return "chat template"
    return None if "/" in path else kind_by_name(path)


def kind_by_name(name: str) -> str | None:
    """The kind of a run file by its name alone, in any folder."""
    return next((kind for kind, pattern in _KINDS if pattern.match(name)), None)


def _module_kind(path: str, folder: str, kind: str) -> str | None:
    if kind in _MODELS:  # its folder is structured like the top of a repository
        return kind_by_name(PurePosixPath(path).name) if path.count("/") == 1 else None
    return f"module {folder}" if path.endswith(_MODULE_FILES) else None


def run_files_beside(paths: Iterable[str], folders: Iterable[str]) -> dict[str, str]:
    """Run files with their kinds: those of :func:`run_files`, and those in the folders of the weights.

    A file at the top replaces one of the same name in ``onnx/``. A diffusers pipeline keeps the configs and tokenizers
    of all its parts. Modules without safetensors include their pickled weights, which a converter can read.
    """
    names, wanted = frozenset(paths), {folder for folder in folders if folder}
    found = {path: kind for path in names if (kind := run_kind(path)) is not None}
    pipeline = "model_index.json" in names
    for path in names - found.keys():
        folder, _, name = path.rpartition("/")
        kind = kind_by_name(name)
        if pipeline and folder.count("/") == 0 and (kind or _DIFFUSERS.match(path)):
            found[path] = kind or "config"
        elif folder in wanted and kind and name not in names:
            found[path] = kind
    whole = {path for unit in units(names) if unit.kind == "package" for path in unit.paths}
    return {path: found[path] for path in sorted(found) if path not in whole} | _pickled_modules(names)


def _pickled_modules(names: frozenset[str]) -> dict[str, str]:
    """Pickled weights of modules without safetensors."""
    folders = {module_folder(path) for path in names if path.endswith(".safetensors")}
    return {
        path: f"module {folder}, which has no safetensors"
        for path in sorted(names)
        if (folder := module_folder(path)) and folder not in folders and format_of(path) == "pytorch"
    }


def module_folder(path: str) -> str | None:
    """``2_Dense`` for ``2_Dense/model.safetensors``: the folder of a module with its own weights."""
    match = _MODULE.match(path)
    return match[1] if match and match[2] not in _MODELS else None
