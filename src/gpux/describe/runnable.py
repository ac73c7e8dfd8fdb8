"""Whether gpux can run or convert a model, from its listing alone: sends no request and installs nothing."""

from __future__ import annotations

from collections.abc import Callable

from gpux.convert.planner import assess, own_task
from gpux.convert.registry import converters
from gpux.inspect import formats
from gpux.model.info import ModelInfo
from gpux.system.settings import Settings


def runnable(settings: Settings) -> Callable[[ModelInfo], str | None]:
    """Return a function that returns ``onnx``, the name of a converter, or None if gpux cannot run the model.

    ``onnx`` means that the repository has graphs that gpux runs without conversion.
    """
    known = converters(settings)

    def how(info: ModelInfo) -> str | None:
        paths = [file.path for file in info.files]
        if formats.runnable_graphs(paths, None)[1]:
            return "onnx"
        task = own_task(info)
        if task is None or not info.model_type or not formats.source_weights(paths):
            return None
        config = {"model_type": info.model_type, "architectures": list(info.architectures)}
        answers = assess(config, task, "fp32", known)
        return next((name for name, refusal in answers.items() if refusal is None), None)

    return how
