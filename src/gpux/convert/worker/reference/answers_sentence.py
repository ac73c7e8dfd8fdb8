"""Reference answers of sentence-transformers for repositories with a modules.json.

The library builds its modules from the repository's files; only the weights of the transformer are those that are in
memory already, unless the library would load others.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gpux.convert.answer_case import ENCODE
from gpux.convert.worker.reference.answers_inputs import Question, embedded
from gpux.convert.worker.reference.answers_library import Opened, Original, floats

log = logging.getLogger(__name__)

#: Libraries that sentence-transformers imports for its evaluators; importing them takes seconds.
EVALUATION = ("sklearn", "scipy")
#: Files of weights.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*")
#: Keys of configurations that do not change what a model computes in float32.
NEUTRAL = frozenset({"_name_or_path", "torch_dtype", "dtype", "architectures", "transformers_version"})


def is_sentence_model(source: Path) -> bool:
    """Whether sentence-transformers has modules to build."""
    return (source / "modules.json").is_file()


def open_sentences(original: Original) -> Opened:
    """``SentenceTransformer(folder).encode``."""
    with contextlib.nullcontext() if original.trust_remote_code else _without_evaluation():
        from sentence_transformers import SentenceTransformer
    with _in_memory(original):
        encoder = SentenceTransformer(
            str(original.source),
            device="cpu",
            local_files_only=True,
            trust_remote_code=original.trust_remote_code,
            model_kwargs={"torch_dtype": torch.float32},
        ).eval()
    original.tokenizer = encoder.tokenizer
    texts = original.texts(encoder.tokenizer, encoder.max_seq_length)

    def ask(question: Question) -> tuple[Question, Any] | None:
        if not all(encoder.tokenize([text])["input_ids"].numel() for text in question.inputs):
            return None  # the vector of no tokens
        answer = encoder.encode(question.inputs, show_progress_bar=False, **question.options)
        return question, floats(answer)

    versions = {"sentence-transformers": version("sentence-transformers")}
    return Opened(ENCODE, list(embedded(texts, encoder.prompts)), ask, versions)


@contextlib.contextmanager
def _in_memory(original: Original) -> Iterator[None]:
    """Give the transformer of sentence-transformers the model in memory, where it would load the same one."""
    from sentence_transformers.base.modules import transformer

    load = transformer.Transformer._load_model

    def load_model(self: Any, path: str, task: str, config: Any, backend: str, is_peft: bool, **options: Any) -> Any:
        folder = Path(path) / options.get("subfolder", "")
        if not is_peft and task == "feature-extraction" and _is_same(original, config, folder, transformer):
            return original.model
        log.warning("sentence-transformers loads the weights of %s itself", folder)
        return load(self, path, task, config, backend, is_peft, **options)

    transformer.Transformer._load_model = load_model
    try:
        yield
    finally:
        transformer.Transformer._load_model = load


def _is_same(original: Original, config: Any, folder: Path, transformer: Any) -> bool:
    """Whether the model that sentence-transformers would load is the one in memory."""
    encoders = getattr(transformer, "_ENCODER_ONLY_MODELS", ())
    wanted = next((name for kind, _, name in encoders if isinstance(config, kind)), None)
    if wanted is not None and type(original.model).__name__ != wanted:
        return False
    if folder.resolve() != Path(original.model.name_or_path).resolve() and any(
        file for pattern in WEIGHTS for file in folder.glob(pattern)
    ):
        return False
    return _settings(config) == _settings(original.model.config)


def _settings(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key not in NEUTRAL}


@contextlib.contextmanager
def _without_evaluation() -> Iterator[None]:
    """Import sentence-transformers without the libraries of its evaluators, in whose place empty modules stand."""
    for name in EVALUATION:
        sys.modules.pop(name, None)
    finder = _Empty()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in EVALUATION]:
            del sys.modules[name]
        for name in EVALUATION:
            sys.modules[name] = None  # type: ignore[assignment]  # as common/program.py has it


class _Empty(MetaPathFinder, Loader):
    """Finds the libraries of :data:`EVALUATION` as modules whose every attribute is None."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in EVALUATION:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


class _EmptyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None
