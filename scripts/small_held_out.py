"""The held-out text of the small model, cut into the windows of its perplexity. Does not need torch.

Perplexity is ``exp`` of the mean negative log-likelihood of all ids except the first of each window, over all windows
of a kind; windows are evaluated independently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from scripts.small_stories import story
from scripts.small_text import Document, read_text

WINDOW = 512  #: ids
STORIES = 60
STORY_SEED = 1_000_003  #: differs from the seed of the training stories
Encode = Callable[[str], list[int]]


def held_out_windows(encode: Encode, documents: Iterable[Document] | None = None) -> dict[str, list[list[int]]]:
    """Kind of text ("python", "stories") -> windows of 2 to `WINDOW` ids, each text cut from its beginning.

    `encode` must not add special tokens; `documents` default to the committed ones.
    """
    kept = [document.text for document in documents or read_text() if document.held_out]
    random = Random(STORY_SEED)
    texts = {"python": kept, "stories": [story(random) for _ in range(STORIES)]}
    return {kind: [window for text in found for window in _cut(encode(text))] for kind, found in texts.items()}


def _cut(ids: list[int]) -> list[list[int]]:
    windows = (ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW))
    return [window for window in windows if len(window) > 1]
