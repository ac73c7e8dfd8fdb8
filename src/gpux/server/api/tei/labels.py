"""``/predict``."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.choice import CLASSIFIER, chosen, classifies
from gpux.server.api.endpoint import Call
from gpux.server.api.tei.bodies import PredictBody
from gpux.server.http import json_response, until_disconnected
from gpux.server.workers.messages import Answer, Answered

_FORMS = 'Send a text, a pair ["…", "…"], or a list of lists of one or two texts.'


async def predict(call: Call) -> Response:
    """The labels of each text or pair of texts, the most likely first."""
    body: PredictBody = call.body
    inputs, several = _sequences(body.inputs)
    options: dict[str, Any] = {"top_k": None, "truncation": body.truncation()}
    if body.raw_scores:
        options["function_to_apply"] = "none"
    name = chosen(call, body.model, CLASSIFIER, fits=classifies)

    async def answer() -> Answered:
        async with call.core.models.lease(name, CLASSIFIER) as loaded:
            return await call.core.answer(loaded, Answer(0, inputs, options, task="text-classification"))

    found = (await until_disconnected(call.request, answer())).answers
    labels = [sorted(one, key=lambda label: -label["score"]) for one in found]
    return json_response(labels if several else labels[0])


def _sequences(given: str | list[Any]) -> tuple[list[Any], bool]:
    """The inputs of the pipeline, and whether the body has several."""
    if isinstance(given, str) or all(isinstance(one, str) for one in given):
        return [_sequence(given, "inputs")], False
    return [_sequence(one, f"inputs[{index}]") for index, one in enumerate(given)], True


def _sequence(given: Any, place: str) -> Any:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or len(texts) > 2 or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{place} is neither a text nor a pair of texts", hint=_FORMS, param="inputs")
    if not texts or not all(texts):
        raise UsageError(f"{place} is empty", hint=_FORMS, param="inputs", empty=True)
    return texts[0] if len(texts) == 1 else {"text": texts[0], "text_pair": texts[1]}
