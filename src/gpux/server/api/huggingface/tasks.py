"""Which task a request means, and its parameters as options of the pipeline.

Source of the names: the parameters of each task in ``@huggingface/tasks``, from which
``huggingface_hub.inference._generated.types`` is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import UnsupportedTaskError, UsageError
from gpux.model.tasks import canonical, translation_pair
from gpux.server.api.huggingface.requests import Inference
from gpux.system.plugins import registered

#: Parameters that have other parameters in them.
_NESTED = ("generate_parameters", "generation_parameters", "generate_kwargs")
#: Parameters that decide nothing here: texts are decoded, and caches used, as the model was proven.
_WITHOUT_EFFECT = frozenset({"clean_up_tokenization_spaces", "use_cache"})
#: Values where a request has none, as Hugging Face's own servers have them.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "text-classification": {"top_k": None},
    "token-classification": {"aggregation_strategy": "simple"},
}
_SEQUENCE_TASKS = ("text2text-generation", "summarization", "translation")


def pipeline_task(name: str) -> str:
    """The pipeline's name of a task in a path.

    Raises:
        UnsupportedTaskError: there is no pipeline for it.
    """
    known = registered("gpux.pipelines", "task")
    if translation_pair(name):
        return name
    plain = name.strip().lower().replace("_", "-")
    found = plain if plain in known else canonical(plain)
    if found not in known:
        raise UnsupportedTaskError(
            f"there is no pipeline for the task {name[:100]!r}",
            hint=f"The tasks are {', '.join(sorted(known))}.",
            param="task",
        )
    return found


def meant_task(task: str, request: Inference) -> str:
    """The task that a request without one means, of those that the graphs of a model's own task serve."""
    if task == "text-classification" and "candidate_labels" in request.parameters:
        return "zero-shot-classification"
    if task == "feature-extraction" and isinstance(request.inputs, Mapping):
        return "sentence-similarity"
    if task == "text2text-generation" and "src_lang" in request.parameters:
        return "translation"
    return task


def options_of(task: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a pipeline's call.

    Raises:
        UsageError: a parameter with others in it is no object.
    """
    found = dict(_DEFAULTS.get(task, {}))
    for name, value in parameters.items():
        if name in _NESTED:
            if not isinstance(value, Mapping):
                raise UsageError(f"{name} is not an object", hint="Send the parameters by name.", param=name)
            found |= {key: inner for key, inner in value.items() if inner is not None}
        elif name not in _WITHOUT_EFFECT:
            found[name] = value
    for name in _WITHOUT_EFFECT:
        found.pop(name, None)
    if isinstance(strategy := found.get("truncation"), str):
        found["truncation"] = strategy != "do_not_truncate"
    return found


def is_sequence(task: str) -> bool:
    """Whether the task gives a text for a text, under a key of its own."""
    return task in _SEQUENCE_TASKS or translation_pair(task) is not None
