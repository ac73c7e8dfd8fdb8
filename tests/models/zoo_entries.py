"""The entries of the zoo: a recipe for each model type and variant, and the tasks that it is built for.

The modules ``zoo_*`` register their recipes here when they are imported; torch is imported only when a model is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

VOCAB = 512  #: size of every embedding table unless a model fixes its own
H, LAYERS, HEADS, FFN, POS = 64, 2, 4, 96, 128

Config = dict[str, Any]
Group = Literal["zoo", "extra", "more"]

HF = "feature-extraction"
GEN = "text-generation-with-past"
S2S = "text2text-generation-with-past"
IC = "image-classification"
ASR, ASR_PAST, AC = "automatic-speech-recognition", "automatic-speech-recognition-with-past", "audio-classification"
ZSIC, ZSOD, I2T = "zero-shot-image-classification", "zero-shot-object-detection", "image-to-text-with-past"
ENCODER_TASKS = [HF, "fill-mask", "text-classification", "token-classification", "question-answering"]
LABELS = {"num_labels": 5}


@dataclass(frozen=True)
class Recipe:
    """How one model type, or a variant of it, is built."""

    config: Config | Callable[[], Any]  #: arguments of its configuration class, or a function that builds one
    tokenizer: str | None  #: a name in ``zoo_tokenizer_files.TOKENIZERS``, ``ctc`` or ``esm``
    processor: Mapping[str, Any] | None  #: content of preprocessor_config.json
    also: Callable[[Path, int], None] | None  #: writes further files into the folder, from a seed


SPECS: dict[str, Recipe] = {}
#: Types that optimum-onnx 0.1.0 registers.
ZOO: list[tuple[str, str]] = []
#: Types that transformers 4.57 supports and optimum-onnx does not.
EXTRA: list[tuple[str, str]] = []
#: Further types and variants of both kinds.
MORE: list[tuple[str, str]] = []
_GROUPS = {"zoo": ZOO, "extra": EXTRA, "more": MORE}


def add(
    name: str,
    tasks: str | Sequence[str],
    cfg: Config | Callable[[], Any],
    tok: str | None = None,
    proc: Mapping[str, Any] | None = None,
    *,
    group: Group = "zoo",
    also: Callable[[Path, int], None] | None = None,
) -> None:
    """Register a recipe; a name may have a ``+variant``, for another branch of the same architecture's code."""
    SPECS[name] = Recipe(cfg, tok, proc, also)
    _GROUPS[group] += [(name, task) for task in ([tasks] if isinstance(tasks, str) else tasks)]
