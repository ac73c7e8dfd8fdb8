"""What clients ask about a model: ``/models/{id}`` with ``/info`` and ``/health``, and ``/status/{id}``."""

from __future__ import annotations

from starlette.responses import Response

from gpux import __version__
from gpux.model.variant import StoredModel
from gpux.server.api.endpoint import Call
from gpux.server.http import json_response
from gpux.server.models import Loaded

#: Phase of a model -> the state of Hugging Face's API.
_STATES = {"loaded": "Loaded", "failed": "TooBig", "down": "TooBig"}


async def info(call: Call) -> Response:
    """What the model is, as text-generation-inference and the Hub say it; nothing is loaded for it."""
    model = call.core.models.find(call.path["id"])
    loaded = _loaded(call, model)
    context = None if loaded is None else loaded.worker.info.context_length
    return json_response(
        {
            "id": model.id,
            "model_id": model.id,
            "model_sha": model.commit,
            "sha": model.commit,
            "model_dtype": model.manifest.precision,
            "model_device_type": None if loaded is None else loaded.worker.info.device,
            "pipeline_tag": model.pipeline_task,
            "model_pipeline_tag": model.pipeline_task,
            "max_total_tokens": context,
            "max_client_batch_size": call.core.settings.max_inputs,
            "version": __version__,
            "router": "gpux",
        }
    )


async def health(call: Call) -> Response:
    """Whether the model is stored, so that a request for it is answered; nothing is loaded for it."""
    call.core.models.find(call.path["id"])
    return json_response({"status": "ok"})


async def status(call: Call) -> Response:
    """Whether the model is loaded."""
    model = call.core.models.find(call.path["id"])
    state = call.core.models.state(call.path["id"])
    return json_response(
        {
            "loaded": state.phase == "loaded",
            "state": _STATES.get(state.phase, "Loadable"),
            "compute_type": "cpu" if state.phase != "loaded" else _device(call, model),
            "framework": "gpux",
        }
    )


def _device(call: Call, model: StoredModel) -> str:
    loaded = _loaded(call, model)
    return "cpu" if loaded is None or loaded.worker.info.device == "cpu" else "gpu"


def _loaded(call: Call, model: StoredModel) -> Loaded | None:
    return next((one for one in call.core.models.loaded() if one.model.path == model.path), None)
