"""`GET /api/models`: filters, order and keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.hub.messages import HubError, Request, is_true
from tests.hub.model_info import FULL_KEYS, LIST_KEYS, Model, expanded_keys, render

SORT_KEYS: dict[str, Callable[[Model], Any]] = {
    "lastModified": lambda m: m.settings.last_modified or m.repository.date(m.label),
    "createdAt": lambda m: m.settings.created_at,
    "trendingScore": lambda m: m.settings.trending_score,
    "downloads": lambda m: m.settings.downloads,
    "likes": lambda m: m.settings.likes,
}
_SCALES = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def search(models: Iterable[Model], request: Request) -> list[Model]:
    """The models that match the query, in its order, descending; equal ones by id."""
    order = request.value("sort") or "trendingScore"
    if order not in SORT_KEYS:
        raise HubError(400, f'Invalid sort "{order}", expected one of: {", ".join(SORT_KEYS)}')
    found = sorted((model for model in models if matches(model, request)), key=lambda m: m.repository.id)
    return sorted(found, key=SORT_KEYS[order], reverse=True)


def matches(model: Model, request: Request) -> bool:
    """Whether a model satisfies every parameter. `apps` is ignored."""
    repository = model.repository
    return (
        all(term.lower() in repository.id.lower() for term in request.values("search"))
        and request.value("author") in (None, repository.author)
        and request.value("pipeline_tag") in (None, model.pipeline_tag)
        and all(_has_tag(model, wanted) for wanted in request.values("filter"))
        and request.value("gated") in (None, *_spellings(bool(model.settings.gated)))
        and request.value("inference") in (None, model.settings.extra.get("inference"))
        and _has_provider(model, request.values("inference_provider"))
        and _has_size(model, request.value("num_parameters"))
    )


def listed_keys(request: Request) -> tuple[str, ...]:
    """The keys of each model in the response."""
    if expand := request.values("expand"):
        return expanded_keys(expand)
    keys: tuple[str, ...] = FULL_KEYS if request.flag("full") else LIST_KEYS
    keys += ("config",) if request.flag("config") else ()
    return keys + (("cardData",) if request.flag("cardData") else ())


def page_size(request: Request, largest: int) -> int:
    """Entries in a page: `limit`, but never more than the server's own limit."""
    limit = request.value("limit")
    if limit is None:
        return largest
    if not limit.isdecimal() or int(limit) == 0:
        raise HubError(400, f'Invalid limit "{limit}"')
    return min(int(limit), largest)


def list_json(models: Iterable[Model], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The models' JSON; in a listing, `inferenceProviderMapping` is a list and not a mapping."""
    listed = [render(model, keys) for model in models]
    for entry in listed:
        mapping = entry.get("inferenceProviderMapping")
        if isinstance(mapping, dict):
            entry["inferenceProviderMapping"] = [{"provider": k, **value} for k, value in mapping.items()]
    return listed


def _has_tag(model: Model, wanted: str) -> bool:
    return wanted in model.tags or wanted in (model.pipeline_tag, model.library)


def _spellings(value: bool) -> tuple[str, ...]:
    return tuple(text for text in ("True", "true", "1", "False", "false", "0") if is_true(text) == value)


def _has_provider(model: Model, providers: list[str]) -> bool:
    mapping = model.settings.extra.get("inferenceProviderMapping") or {}
    return not providers or any(name in mapping or (name == "all" and mapping) for name in providers)


def _has_size(model: Model, wanted: str | None) -> bool:
    """Whether the number of parameters is within `min:6B,max:128B`; an unknown number is not."""
    if not wanted:
        return True
    safetensors = render(model, ("safetensors",)).get("safetensors")
    if safetensors is None:
        return False
    for bound in wanted.split(","):
        kind, _, text = bound.partition(":")
        limit = _read_count(text)
        if kind not in {"min", "max"} or limit is None:
            raise HubError(400, f'Invalid num_parameters "{wanted}"')
        total = safetensors["total"]
        if (total < limit) if kind == "min" else (total > limit):
            return False
    return True


def _read_count(text: str) -> float | None:
    scale = _SCALES.get(text[-1:].upper(), 1)
    try:
        return float(text.rstrip("KMBTkmbt")) * scale
    except ValueError:
        return None
