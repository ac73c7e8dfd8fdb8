"""Search filters: the parameters of the request, and the check of results from Hubs that ignore some of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from gpux.errors import UsageError
from gpux.inspect.formats import FORMATS
from gpux.model.info import ModelInfo
from gpux.model.values import Value

Sort = Literal["downloads", "likes", "trending", "updated", "created"]
#: Order -> the Hub's value of ``sort``.
SORTS: dict[str, str] = {
    "downloads": "downloads",
    "likes": "likes",
    "trending": "trendingScore",
    "updated": "lastModified",
    "created": "createdAt",
}
#: Format -> its tag on the Hub, where the two differ.
_TAGS = {"tensorflow": "tf", "flax": "jax"}
#: Fields of a result that gpux reads: ``siblings`` for formats, ``config`` for the model type.
EXPANDED = (
    *("author", "config", "createdAt", "disabled", "downloads", "gated", "gguf", "lastModified", "library_name"),
    *("likes", "pipeline_tag", "private", "safetensors", "sha", "siblings", "tags", "trendingScore"),
)
#: The scheme of a reference, which is not a part of the model's name.
_SCHEME = re.compile(r"(?<!\S)hf:")
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", re.IGNORECASE)
_BARE = re.compile(r"\d+(?:\.\d+)?")
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


@dataclass(frozen=True)
class SearchQuery(Value):
    """The filters and the order of a search; None filters nothing.

    Raises:
        UsageError: a value is invalid.
    """

    text: str = ""  #: part of the model's name
    task: str | None = None  #: the Hub's name of a task
    author: str | None = None  #: user or organization
    library: str | None = None  #: ``transformers``, ``sentence-transformers`` …
    format: str | None = None  #: of the weights, one of :data:`gpux.inspect.formats.FORMATS`
    license: str | None = None  #: the Hub's id of a license: ``mit``, ``apache-2.0`` …
    gated: bool | None = None
    min_parameters: int | None = None
    max_parameters: int | None = None
    sort: Sort = "downloads"

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise UsageError(f"unknown order {self.sort!r}", hint=f"Known: {', '.join(SORTS)}.")
        if self.format is not None and self.format not in FORMATS:
            raise UsageError(f"unknown format {self.format!r}", hint=f"Known: {', '.join(FORMATS)}.")
        low, high = self.min_parameters, self.max_parameters
        if low is not None and high is not None and low > high:
            raise UsageError(f"min_parameters ({low}) is greater than max_parameters ({high})")

    def parameters(self, page: int) -> dict[str, Any]:
        """The query parameters of ``GET /api/models``, for pages of ``page`` results."""
        filters = [self.library, _TAGS.get(self.format or "", self.format), _tag("license", self.license)]
        sizes = [_bound("min", self.min_parameters), _bound("max", self.max_parameters)]
        values = {
            "search": _SCHEME.sub("", self.text).strip() or None,
            "author": self.author,
            "pipeline_tag": self.task,
            "filter": [name for name in filters if name] or None,
            "gated": None if self.gated is None else str(self.gated).lower(),
            "num_parameters": ",".join(filter(None, sizes)) or None,
            "sort": SORTS[self.sort],
            "limit": page,
            "expand": list(EXPANDED),
        }
        return {name: value for name, value in values.items() if value is not None}

    def accepts(self, info: ModelInfo) -> bool:
        """Whether a result matches; mirrors and older Hubs ignore filters that they do not support."""
        return self._right_size(info.parameters) and self.gated in (None, info.gated is not None)

    def _right_size(self, parameters: int | None) -> bool:
        if self.min_parameters is None and self.max_parameters is None:
            return True
        if parameters is None:
            return False
        return (self.min_parameters or 0) <= parameters and (
            self.max_parameters is None or parameters <= self.max_parameters
        )


def read_count(text: str) -> int:
    """Parse a number of parameters: ``7B``, ``350M``, ``1.5b``, ``70_000_000``.

    Raises:
        UsageError: the text is not a number.
    """
    match = _COUNT.fullmatch(text.strip().replace("_", "").replace(",", ""))
    if match is None:
        raise UsageError(f"{text!r} is not a number of parameters", hint="Write it as 7B, 350M or 1500000.")
    return round(float(match[1]) * _SCALE[match[2].lower()])


def read_parameters(text: str) -> int:
    """Parse a number of parameters as :func:`read_count` does; a plain number below 1,000 is in billions: ``70``.

    Raises:
        UsageError: the text is not a number.
    """
    return in_billions(float(text)) if _BARE.fullmatch(text.strip()) else read_count(text)


def in_billions(number: float) -> int:
    """A number of parameters: 1,000 and more as it is, less is a number of billions."""
    return round(number * 10**9) if 0 < number < 1000 else round(number)


def _tag(kind: str, value: str | None) -> str | None:
    return f"{kind}:{value}" if value else None


def _bound(kind: str, count: int | None) -> str | None:
    """``min:1500M``: a whole number with a unit, rounded so that no match is lost; :meth:`accepts` is exact."""
    if count is None or (kind == "min" and count <= 0):
        return None
    for unit in ("T", "B", "M", "K"):
        if count and count % _SCALE[unit.lower()] == 0:
            return f"{kind}:{count // _SCALE[unit.lower()]}{unit}"
    thousands = count // 1000 if kind == "min" else -(-count // 1000)
    return f"{kind}:{thousands}K"
