"""The ``convert`` command: export with Optimum, then run the original; never two models in memory."""

from __future__ import annotations

import gc
import inspect
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.tasks import TasksManager
from transformers import PretrainedConfig, PreTrainedModel

from gpux.convert.answer_case import merged, write_answers
from gpux.convert.worker.common.environment import peak_rss, versions
from gpux.convert.worker.common.graphs import Exported
from gpux.convert.worker.optimum.architectures import candidates, hub_tasks
from gpux.convert.worker.optimum.loading import (
    choose_class,
    load_config,
    load_model,
    load_preprocessors,
    load_vocoder,
    refuse_random_weights,
)
from gpux.convert.worker.optimum.parts import describe, export_graphs
from gpux.convert.worker.optimum.registrations import register
from gpux.convert.worker.reference.answers import ReferenceAnswers
from gpux.convert.worker.reference.write import write_reference
from gpux.convert.worker.tokenizer.work import Job, TokenizerWork
from gpux.system.worker_protocol import Events, Refused


def convert(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Write graphs, tokenizer, reference cases and answers; returns the values of the ``result`` event.

    The request has ``source``, ``output``, ``reference``, ``task`` (the Hub's name), ``precision``,
    ``trust_remote_code``, ``seed`` and ``graphs``.
    """
    source, output = Path(request["source"]), Path(request["output"])
    trust = bool(request.get("trust_remote_code"))
    seed = int(request.get("seed", 0))
    if request.get("precision", "fp32") != "fp32":
        raise Refused("conversion", f"optimum writes fp32 only, not {request['precision']}")
    config = load_config(source, trust_remote_code=trust)
    task, model_class = choose(config, request["task"])
    preprocessors = load_preprocessors(source, config.model_type)

    def load() -> PreTrainedModel:
        return load_model(source, model_class, trust_remote_code=trust)[0]

    def export(model: PreTrainedModel, folder: Path) -> Exported:
        return export_graphs(model, task, folder, preprocessors=preprocessors, model_kwargs=kwargs, seed=seed)

    tokenizer = TokenizerWork(Job(str(source), str(output), request["task"], trust), events)
    kwargs = load_vocoder(source, config.model_type)
    events.stage("load", "Loading the weights")
    torch.manual_seed(seed)
    model, missing = load_model(source, model_class, trust_remote_code=trust)
    refuse_incomplete(model, task, missing, preprocessors, kwargs)
    if request.get("graphs"):
        graphs = {name: output / file for name, file in request["graphs"].items()}
        described, parts = describe(model, task, preprocessors, kwargs)
        exported = Exported(task, graphs, type(model), described, parts, kwargs)
    else:
        events.stage("export", "Writing ONNX")
        exported = export_graphs(
            model, task, output, preprocessors=preprocessors, model_kwargs=kwargs, keep_model=False, seed=seed
        )
    del model
    gc.collect()
    tokens = tokenizer.finish()
    events.stage("reference", "Running the original")
    folder = Path(request["reference"])
    answers = ReferenceAnswers(source, request["task"], trust_remote_code=trust, tokenizer=tokenizer.for_answers())
    wanted = bool(request.get("answers", True))
    found = write_reference(load, exported, folder, seed, export, answers.ask if wanted else None)
    if wanted:
        write_answers(merged([tokens, answers.found]), folder)
    written = {name: str(file.relative_to(output)) for name, file in exported.graphs.items()}
    return {"graphs": written, **found, "versions": versions(), "peak_rss": peak_rss()}


def refuse_incomplete(
    model: PreTrainedModel, task: str, missing: list[str], preprocessors: list[Any], kwargs: dict[str, Any]
) -> None:
    """Refuse a model that lacks weights which its graphs need, or a classifier without a padding token.

    Raises:
        Refused: it does.
    """
    if (
        task == "text-classification"
        and pools_last_token(model)
        and model.config.get_text_config().pad_token_id is None
    ):
        hint = "Set `pad_token_id` in config.json to the token that the tokenizer pads with."
        message = "the config has no pad_token_id, so the model cannot tell a row's last token in a padded batch"
        raise Refused("conversion", message, hint)
    if missing:
        refuse_random_weights(model, describe(model, task, preprocessors, kwargs)[1], missing, kwargs)


def pools_last_token(model: PreTrainedModel) -> bool:
    """Whether a classifier finds the last token of a row by the padding token of its config."""
    return "pad_token_id" in inspect.getsource(type(model).forward)


def choose(config: PretrainedConfig, hub_task: str) -> tuple[str, type[PreTrainedModel]]:
    """Optimum's name of the task, and transformers' class for it.

    Raises:
        Refused: Optimum does not support the architecture, or not for this task.
    """
    register()
    known = TasksManager._SUPPORTED_MODEL_TYPE.get(config.model_type, {}).get("onnx")
    if known is None:
        raise Refused("unsupported_architecture", f"optimum does not support the model type {config.model_type!r}")
    task = next((name for name in candidates(hub_task) if name in known), None)
    if task is None:
        able = ", ".join(hub_tasks(config.model_type, known))
        raise Refused("unsupported_task", f"optimum converts {config.model_type} for {able}, not for {hub_task}")
    return task, choose_class(config.model_type, task, config.architectures or ())
