"""``/statistics``, ``/model-types`` and ``/dependencies``."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import msgspec
from starlette.responses import Response

from gpux.server.api.endpoint import Call
from gpux.server.http import json_response


class MostUsed(msgspec.Struct):
    """The model with the most uses."""

    model_id: str
    name: str
    usage_count: int


class Statistics(msgspec.Struct):
    """Numbers of the registry."""

    total_models: int
    total_usage: int
    model_types: dict[str, int]
    last_updated: str
    most_used: MostUsed | None  #: null while nothing is registered


class StatisticsAnswer(msgspec.Struct):
    """See :class:`Statistics`."""

    statistics: Statistics
    success: bool = True


class TypesAnswer(msgspec.Struct):
    """The types of the registered models, sorted."""

    model_types: list[str]
    success: bool = True


class Dependencies(msgspec.Struct):
    """What is installed beside the server. gpux runs models with onnxruntime alone."""

    transformers: bool
    torch: bool
    cuda_available: bool  #: onnxruntime's CUDA provider is installed, and there is a GPU of NVIDIA
    onnxruntime: bool
    ready: bool  #: models can be run


class DependenciesAnswer(msgspec.Struct):
    """See :class:`Dependencies`."""

    dependencies: Dependencies
    message: str
    success: bool = True


async def statistics(call: Call) -> Response:
    """Counts of models and uses."""
    contents = await call.core.registry.contents()
    models = contents.models
    most = max(models, key=lambda model: model.usage_count, default=None)
    return json_response(
        StatisticsAnswer(
            Statistics(
                len(models),
                sum(model.usage_count for model in models),
                dict(Counter(model.model_type for model in models)),
                contents.changed,
                None if most is None else MostUsed(most.model_id, most.name, most.usage_count),
            )
        )
    )


async def model_types(call: Call) -> Response:
    """The types of the registered models."""
    models = (await call.core.registry.contents()).models
    return json_response(TypesAnswer(sorted({model.model_type for model in models})))


async def dependencies(call: Call) -> Response:
    """Which libraries are installed; nothing is imported for it."""
    return json_response(
        DependenciesAnswer(
            await asyncio.to_thread(_dependencies),
            "gpux runs models with onnxruntime, and needs neither transformers nor torch.",
        )
    )


@cache
def _dependencies() -> Dependencies:
    from gpux.describe.fitting import gpus  # deferred, for the time of the start

    runs = find_spec("onnxruntime")
    places = [] if runs is None else list(runs.submodule_search_locations or ())
    cuda = any(list(Path(place, "capi").glob("*onnxruntime_providers_cuda.*")) for place in places)
    return Dependencies(
        transformers=find_spec("transformers") is not None,
        torch=find_spec("torch") is not None,
        cuda_available=cuda and bool(gpus()),
        onnxruntime=runs is not None,
        ready=runs is not None,
    )
