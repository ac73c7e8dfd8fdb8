"""``/generate`` and ``/pipeline``: run a registered model."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from gpux.errors import StorageError, UnsupportedTaskError, UsageError
from gpux.model.tasks import canonical, translation_pair
from gpux.server.api.endpoint import Call
from gpux.server.api.legacy import opened
from gpux.server.api.legacy.shapes import (
    MaxNewTokens,
    ModelInfo,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    model_info,
    registered,
    require,
    stored,
)
from gpux.server.core import TEXT_TASKS
from gpux.server.http import json_response, until_disconnected
from gpux.server.registry import Registered
from gpux.server.workers.messages import Answer, Generate, Generated
from gpux.system.plugins import registered as plugins

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Documented parameters of ``/generate`` and their values where neither the request nor the model has one.
DEFAULTS: dict[str, Any] = {
    "max_new_tokens": 100,
    "temperature": 0.7,
    "do_sample": True,
    "top_p": 0.9,
    "top_k": 50,
    "repetition_penalty": 1.1,
}
#: Those that have no effect where the most likely token is taken.
_SAMPLING = ("temperature", "top_p", "top_k")
#: Further parameters of ``/generate``, without a default.
_FURTHER = ("seed", "stop", "min_new_tokens", "no_repeat_ngram_size", "presence_penalty", "frequency_penalty")
_REQUIRED = ("model_id", "task", "inputs")  #: of ``/pipeline``, in the documented order
_Count = Annotated[int, Meta(ge=0, le=1 << 31)]
_Penalty = Annotated[float, Meta(ge=-1e6, le=1e6)]


class GenerateBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``/generate``; null stands for a parameter that is not given."""

    model_id: str | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    max_new_tokens: MaxNewTokens | None = None
    temperature: Temperature | None = None
    do_sample: bool | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    repetition_penalty: RepetitionPenalty | None = None
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=64)] | None = None
    min_new_tokens: _Count | None = None
    no_repeat_ngram_size: _Count | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None


class GenerateAnswer(msgspec.Struct):
    """The continuation of a prompt."""

    response: str  #: without the prompt
    model_used: str
    prompt: str
    parameters: dict[str, Any]  #: as used; the documented six always
    model_info: ModelInfo
    success: bool = True


class PipelineHead(msgspec.Struct):
    """The required keys of ``/pipeline``; every other key is an option of the pipeline."""

    model_id: str | UnsetType = UNSET
    task: str | UnsetType = UNSET
    inputs: Any = UNSET


class PipelineAnswer(msgspec.Struct):
    """Answers in the shape of ``transformers.pipeline``."""

    results: Any
    model_used: str
    task: str
    inputs: Any
    model_info: ModelInfo
    success: bool = True


async def generate(call: Call) -> Response:
    """Continue a prompt. A parameter is the request's, else the model's, else the documented default."""
    body: GenerateBody = call.body
    require(body, "model_id", "prompt")
    model_id, prompt = str(body.model_id), str(body.prompt)
    model = await registered(call, model_id)
    used = {name: _first(getattr(body, name), model.parameters.get(name), DEFAULTS[name]) for name in DEFAULTS}
    used |= {name: value for name in _FURTHER if (value := getattr(body, name)) is not None}
    if used["temperature"] == 0:
        used["do_sample"] = False
    options = {name: value for name, value in used.items() if used["do_sample"] or name not in _SAMPLING}
    if not used["do_sample"]:
        options.pop("seed", None)  # a seed turns sampling on

    async def answer() -> str:
        async with call.core.models.lease(model_id, TEXT_TASKS) as loaded:
            request = Generate(0, [prompt], options, pieces=False)
            async with aclosing(call.core.generate(loaded, request)) as replies:
                async for reply in replies:
                    last = reply
        assert isinstance(last, Generated)
        return last.sequences[0].text

    text = await _run(call, model, answer)
    return json_response(GenerateAnswer(text, model_id, prompt, used, model_info(model)))


async def pipeline(call: Call) -> Response:
    """Answer inputs by the pipeline of a task."""
    body: dict[str, Any] = call.body
    try:
        head = msgspec.convert({name: body[name] for name in _REQUIRED if name in body}, PipelineHead)
    except msgspec.ValidationError as error:
        raise UsageError(f"invalid request: {error}") from error
    require(head, *_REQUIRED)
    model_id, task = str(head.model_id), str(head.task)
    options = {name: value for name, value in body.items() if name not in _REQUIRED}
    _check_task(task)
    _check_numbers(body)
    model = await registered(call, model_id)

    async def answer() -> Any:
        async with call.core.models.lease(model_id, (canonical(task),)) as loaded:
            inputs = await call.core.read_inputs(loaded, task, head.inputs)
            found = await call.core.answer(loaded, Answer(0, inputs, options, as_call=True, task=task))
            opened.note(loaded.worker, task)
            return found.answers

    results = await _run(call, model, answer)
    return json_response(PipelineAnswer(results, model_id, task, head.inputs, model_info(model)))


async def _run(call: Call, model: Registered, work: Callable[[], Awaitable[T]]) -> T:
    """The result of ``work``, which is then counted as a use of the model.

    Raises:
        UsageError: the model is not stored.
    """
    with stored(call, model):
        result = await until_disconnected(call.request, work())
    try:
        await call.core.registry.used(model.model_id)
    except StorageError:  # the answer is right all the same
        log.exception("a use of %s was not counted", model.model_id)
    return result


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _check_task(task: str) -> None:
    known = plugins("gpux.pipelines", "task")
    plain = "translation" if translation_pair(task) else task.strip().lower().replace("_", "-")
    if plain not in known and canonical(task) not in known:
        raise UnsupportedTaskError(
            f"unknown task: {task[:100]!r}",
            hint=f"The tasks are {', '.join(sorted(known))}, and their aliases.",
            param="task",
        )


def _check_numbers(body: Any) -> None:
    """Refuse whole numbers of more than 64 bits, which no option takes and no worker can be sent."""
    try:
        msgspec.msgpack.encode(body)
    except OverflowError:
        raise UsageError("a number in the request is too large") from None
