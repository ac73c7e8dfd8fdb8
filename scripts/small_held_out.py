"""The text that the small model was not trained on, cut the way its perplexity is measured. Needs no torch.

Perplexity here is ``exp`` of the mean negative log-likelihood of every id but a window's first, over all windows of a
kind; a window sees nothing of the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from scripts.small_stories import story
from scripts.small_text import Document, read_text

WINDOW = 512  #: ids
STORIES = 60
STORY_SEED = 1_000_003  #: training draws its stories from another generator
Encode = Callable[[str], list[int]]


def held_out_windows(encode: Encode, documents: Iterable[Document] | None = None) -> dict[str, list[list[int]]]:
    """Kind of text ("python", "stories") -> windows of 2 to `WINDOW` ids, each from the beginning of its text.

    `encode` adds no special tokens; `documents` are by default the committed ones.
    """
    kept = [document.text for document in documents or read_text() if document.held_out]
    random = Random(STORY_SEED)
    texts = {"python": kept, "stories": [story(random) for _ in range(STORIES)]}
    return {kind: [window for text in found for window in _cut(encode(text))] for kind, found in texts.items()}


def _cut(ids: list[int]) -> list[list[int]]:
    windows = (ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW))
    return [window for window in windows if len(window) > 1]
