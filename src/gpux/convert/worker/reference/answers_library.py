"""Shared by the reference answers of all tasks: the original with its repository, and an opened reference library."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpux.convert.worker.reference.answers_inputs import Question, Texts
from gpux.convert.worker.reference.inputs import text_config
from gpux.convert.worker.reference.lengths import positions

#: Tokens of the longest text.
LONGEST = 256


class NoReferenceError(Exception):
    """The reference library has no answers; the message is the reason."""


@dataclass
class Original:
    """The original and its repository."""

    model: Any  #: in evaluation mode
    source: Path
    task: str
    trust_remote_code: bool
    deadline: float  #: of the processor time of this process, which other work on the machine does not change
    tokenizer: Any = None  #: of transformers; set by :meth:`open_tokenizer` unless the converter gives one
    most: int | None = None  #: tokens that the graphs read

    def limit(self) -> int:
        """Tokens that a text may have."""
        found = positions(self.model, text_config(self.model.config)).limit
        return min(LONGEST, found or LONGEST, self.most or LONGEST)

    def left(self) -> float:
        """Seconds of processor time before the deadline."""
        return self.deadline - time.process_time()

    def open_tokenizer(self) -> Any:
        """The repository's tokenizer, as ``transformers.pipeline`` loads it.

        Raises:
            NoReferenceError: transformers cannot load it.
        """
        if self.tokenizer is None:
            from transformers import AutoTokenizer

            options = {"local_files_only": True, "trust_remote_code": self.trust_remote_code}
            try:
                self.tokenizer = AutoTokenizer.from_pretrained(self.source, **options)
            except Exception as exc:
                raise NoReferenceError(f"transformers cannot load the tokenizer: {one_line(exc)}") from exc
        return self.tokenizer

    def open_image_processor(self) -> Any:
        """The repository's slow image processor, which resizes with Pillow.

        Raises:
            NoReferenceError: transformers cannot load it.
        """
        from transformers import AutoImageProcessor

        return self._load(AutoImageProcessor, "image processor", use_fast=False)

    def open_feature_extractor(self) -> Any:
        """The repository's feature extractor of sounds.

        Raises:
            NoReferenceError: transformers cannot load it.
        """
        from transformers import AutoFeatureExtractor

        return self._load(AutoFeatureExtractor, "feature extractor")

    def _load(self, loader: Any, what: str, **options: Any) -> Any:
        options |= {"local_files_only": True, "trust_remote_code": self.trust_remote_code}
        try:
            return loader.from_pretrained(self.source, **options)
        except Exception as exc:
            raise NoReferenceError(f"transformers cannot load the {what}: {one_line(exc)}") from exc

    def open_pipeline(self, task: str | None = None, **parts: Any) -> Any:
        """``transformers.pipeline``, on the original in memory.

        Args:
            task: by default the one that the model is converted for.
            parts: ``tokenizer``, ``image_processor`` or ``feature_extractor``; by default the tokenizer.
        """
        from transformers import pipeline

        parts = parts or {"tokenizer": self.open_tokenizer()}
        return pipeline(task or self.task, model=self.model, device="cpu", **parts)

    def texts(self, tokenizer: Any = None, limit: int | None = None) -> Texts:
        """Texts within the limit of tokens."""
        tokenizer = tokenizer or self.open_tokenizer()
        return Texts(tokenizer, min(self.limit(), limit or LONGEST, int(tokenizer.model_max_length)))


@dataclass(frozen=True)
class Opened:
    """An opened reference library."""

    kind: str  #: of its answers, see :mod:`gpux.convert.answer_case`
    questions: Sequence[Question]
    #: the question as it was answered, and the answer; None for a question whose answer would prove nothing
    ask: Callable[[Question], tuple[Question, Any] | None]
    versions: Mapping[str, str] = field(default_factory=dict)


def one_line(exc: BaseException) -> str:
    """An error as a reason: its type and the beginning of its message, or the reason that it states."""
    text = " ".join(str(exc).split())
    short = text if len(text) <= 300 else f"{text[:299]}…"
    return short if isinstance(exc, NoReferenceError) else f"{type(exc).__name__}: {short}"


def jsonable(value: Any) -> Any:
    """An answer of ``transformers.pipeline`` with Python's types; a float32 as its shortest decimal, a picture as uint8
    [height, width] or [height, width, channels]."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner) for inner in value]
    if type(value).__module__.startswith("PIL."):
        return np.asarray(value)  # an array stays one: of a picture, a mask or a map
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return float(str(np.float32(value))) if isinstance(value, float) else value


def floats(value: Any) -> NDArray[np.float32]:
    """A tensor or nested lists as an array."""
    return np.asarray(value, dtype=np.float32)
