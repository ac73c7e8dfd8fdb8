"""``/info``."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpux import __version__
from gpux.errors import UsageError
from gpux.model.tasks import canonical
from gpux.server.api.choice import CLASSIFIER, EMBEDDING, chosen
from gpux.server.api.endpoint import Call
from gpux.server.http import json_response


async def info(call: Call) -> Response:
    """What answers: the model of ``?model=``, else that of ``/embed``, else that of ``/predict`` and ``/rerank``."""
    model = call.core.models.find(_name(call))
    loaded = next((one for one in call.core.models.loaded() if one.model.path == model.path), None)
    outputs: dict[str, Any] = {} if loaded is None else dict(loaded.worker.info.outputs)
    labels = outputs.get("labels") or []
    kind: dict[str, Any] = {"embedding": {"pooling": "mean"}}
    if canonical(model.task) in CLASSIFIER:
        ids = {str(number): label for number, label in enumerate(labels)}
        names = {label: number for number, label in enumerate(labels)}
        kind = {"reranker" if len(labels) == 1 else "classifier": {"id2label": ids, "label2id": names}}
    settings = call.core.settings
    return json_response(
        {
            "model_id": model.id,
            "model_sha": model.commit,
            "model_dtype": model.manifest.precision,
            "model_type": kind,
            "max_concurrent_requests": settings.max_queue,
            "max_input_length": outputs.get("max_length") or model.manifest.call_spec.max_length,
            "max_client_batch_size": settings.max_inputs,
            "auto_truncate": True,
            "version": __version__,
        }
    )


def _name(call: Call) -> str:
    try:
        return chosen(call, None, EMBEDDING)
    except UsageError as error:
        try:
            return chosen(call, None, CLASSIFIER)
        except UsageError:
            raise error from None
