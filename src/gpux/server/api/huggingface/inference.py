"""``/models/{id}`` and ``/models/{id}/pipeline/{task}``: run any stored model by its pipeline."""

from __future__ import annotations

from base64 import b64encode

import msgspec
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.model.tasks import canonical
from gpux.server.api.endpoint import Call
from gpux.server.api.huggingface.answers import response_of
from gpux.server.api.huggingface.generation import generate
from gpux.server.api.huggingface.requests import Inference, read_inference
from gpux.server.api.huggingface.tasks import meant_task, options_of, pipeline_task
from gpux.server.api.vectors import rows
from gpux.server.http import json_response, until_disconnected
from gpux.server.models import Loaded
from gpux.server.workers.messages import Answer, Embed

#: Parameters of feature-extraction that vectors of whole texts have, and vectors of tokens do not.
_OF_WHOLE_TEXTS = ("normalize", "prompt_name", "dimensions", "encoding_format")


async def infer(call: Call) -> Response:
    """Answer inputs: JSON with inputs and parameters, or the content of a picture, sound or video, also in a form."""
    request = await read_inference(call)
    _check_numbers(request)
    name = call.path["id"]
    task = pipeline_task(call.path["task"]) if "task" in call.path else None
    model = await until_disconnected(call.request, _stored_task(call, name, task))
    if model == "text-generation":
        return await generate(call, name, model, request)
    if request.stream:
        raise UsageError("only text-generation streams", hint="Send stream: false.", param="stream")
    return await until_disconnected(call.request, _answer(call, name, task, request))


async def _stored_task(call: Call, name: str, task: str | None) -> str:
    """The task that the model is stored for; a model that is not stored is pulled where the server does that."""
    tasks = () if task is None else (canonical(task),)
    return canonical((await call.core.models.found(name, tasks)).task)


async def _answer(call: Call, name: str, named: str | None, request: Inference) -> Response:
    async with call.core.models.lease(name, () if named is None else (canonical(named),)) as loaded:
        task = named or meant_task(loaded.model.pipeline_task, request)
        if task == "feature-extraction" and _wants_whole_texts(loaded, request):
            return await _vectors(call, loaded, request)
        parameters = dict(request.parameters)
        if task == "feature-extraction" and "truncate" in parameters:
            parameters["truncation"] = parameters.pop("truncate")
        inputs = await call.core.read_inputs(loaded, task, request.inputs)
        message = Answer(0, inputs, options_of(task, parameters), as_call=True, task=task)
        found = await call.core.answer(loaded, message)
    # A list of turns or of objects is one input of no task but text generation.
    several = isinstance(request.inputs, list)
    agent = call.request.headers.get("user-agent", "")
    return response_of(task, found.answers, several=several, named=named is not None, agent=agent)


def _wants_whole_texts(loaded: Loaded, request: Inference) -> bool:
    if "dimensions" not in loaded.worker.info.outputs:
        return False
    return bool(loaded.worker.info.outputs.get("whole_texts")) or any(
        name in request.parameters for name in _OF_WHOLE_TEXTS
    )


async def _vectors(call: Call, loaded: Loaded, request: Inference) -> Response:
    """Vectors of whole texts, as text-embeddings-inference answers feature-extraction: a list also for one text."""
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise UsageError("inputs is neither a text nor a list of texts", hint="Send a text.", param="inputs")
    given = dict(request.parameters)
    side, encoding = given.pop("truncation_direction", "right"), given.pop("encoding_format", "float")
    if str(side).lower() != "right":
        raise UsageError("texts are cut on the right", hint="Omit truncation_direction.", param="truncation_direction")
    if encoding not in ("float", "base64"):
        raise UsageError("encoding_format is float or base64", hint="Omit it.", param="encoding_format")
    options = {"normalize": given.pop("normalize", None), "prompt_name": given.pop("prompt_name", None)}
    options |= {"truncate_dim": given.pop("dimensions", None), "truncation": given.pop("truncate", True)}
    if given:
        name = next(iter(given))
        raise UsageError(f"vectors of texts have no parameter {name!r}", hint="Omit it.", param=name)
    found = await call.core.embed(loaded, Embed(0, texts, options))
    if encoding == "base64":
        size = found.vectors.shape[1] * 4
        data = found.vectors.data
        return json_response([b64encode(data[row * size : (row + 1) * size]).decode() for row in range(len(texts))])
    return json_response(rows(found.vectors))


def _check_numbers(request: Inference) -> None:
    """Refuse whole numbers of more than 64 bits, which no option takes and no worker can be sent."""
    inputs = None if isinstance(request.inputs, (str, bytes)) else request.inputs  # of a file, megabytes
    try:
        msgspec.msgpack.encode((inputs, request.parameters))
    except OverflowError:
        raise UsageError("a number in the request is too large") from None
