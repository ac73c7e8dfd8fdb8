"""What an export wrote: the one value that passes from the side that exports to the side that asks the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Exported:
    """Graphs on disk and what they are graphs of."""

    task: str  #: the exporter's name of the task, with ``-with-past`` where the graphs keep a cache
    graphs: dict[str, Path]  #: ``model``; or the parts: ``encoder``, ``decoder``, ``vision_encoder`` …
    model_class: type  #: of transformers; the original is loaded with it
    #: Optimum's description of the whole model; None where another exporter wrote the graphs
    config: Any = None
    #: Optimum's description of each part, by the names of ``graphs``; a merged decoder has that of its cached branch
    parts: dict[str, Any] = field(default_factory=dict)
    #: what the traced call got besides its inputs, such as ``dataset_index`` or ``vocoder_model``
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    #: sizes that the graph was traced with, where it is known to work at these alone: graph -> input -> axis -> size
    fixed: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)
