"""A model's page at its source: its :class:`~gpux.model.info.ModelInfo` and its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpux.model.info import ModelInfo
from gpux.model.values import Value


@dataclass(frozen=True)
class ModelPage(Value):
    """One answer about one model; what the source does not tell is empty."""

    info: ModelInfo
    card: Mapping[str, Any] = field(default_factory=dict)  #: front matter of README.md, as the source parsed it
    results: tuple[Mapping[str, Any], ...] = ()  #: ``model-index``, as the model card specification has it
    dtypes: Mapping[str, int] = field(default_factory=dict)  #: safetensors dtype -> elements, over the main weights
    gguf: Mapping[str, Any] = field(default_factory=dict)  #: what the Hub read of a GGUF header
    scan: Mapping[str, Any] | None = None  #: ``securityRepoStatus``; None where it was not asked for or told
    created: str | None = None  #: ISO 8601
    downloads_all_time: int | None = None
    trending: float | None = None
    from_source: bool = True  #: False: put together from what is on this machine
