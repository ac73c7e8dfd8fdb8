"""The pipelines of one stored model: of the task that was opened, and of others that its graphs serve too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gpux.errors import UnsupportedError, UnsupportedTaskError
from gpux.model.tasks import canonical, translation_pair
from gpux.pipelines.base import Pipeline
from gpux.pipelines.registry import check_reads, pipeline_class
from gpux.pipelines.text.encoding import EncodingPipeline


class Tasks:
    """Pipelines on the same graphs, so that the weights are loaded once.

    Args:
        pipe: of the opened task.
        attach: called with each other one when it is opened, before it is used.
    """

    def __init__(self, pipe: Pipeline, attach: Callable[[Pipeline], None]) -> None:
        self.opened = pipe
        self._attach = attach
        self._others: dict[str, Pipeline] = {}
        self._lock = threading.Lock()

    def of(self, task: str | None) -> Pipeline:
        """The pipeline of a task; None: the opened one.

        Raises:
            UnsupportedTaskError: the model is not stored for it.
            UnsupportedError: the model lacks what the task needs.
        """
        if task is None:
            return self.opened
        kind, pair = pipeline_class(task), translation_pair(task)
        if kind is type(self.opened) and pair is None:
            return self.opened
        name = kind.task if pair is None else f"{kind.task} {pair}"
        with self._lock:
            found = self._others.get(name)
            if found is None:
                model = self.opened.model
                if kind.model_task != canonical(model.task):
                    raise UnsupportedTaskError(
                        f"{model.id} is stored for {model.task}, and not for {task}",
                        hint="Name a model of that task.",
                        task=task,
                    )
                check_reads(kind, model)
                more: dict[str, Any] = {} if pair is None else {"pair": pair}
                found = kind(model, graphs=self.opened.graphs, **more)
                self._attach(found)
                self._others[name] = found
            return found

    def encoder(self) -> EncodingPipeline:
        """The pipeline that gives vectors of whole texts.

        Raises:
            UnsupportedTaskError: the model gives none.
        """
        if isinstance(self.opened, EncodingPipeline):
            return self.opened
        raise UnsupportedTaskError(
            f"{self.opened.model.id} is a model of {self.opened.task} and gives no vectors of texts",
            hint="Name a model of feature-extraction or sentence-similarity.",
        )

    def close(self) -> None:
        """Free the model."""
        for pipe in (*self._others.values(), self.opened):
            pipe.close()


def needs(pipe: Pipeline, what: str, attribute: str) -> Any:
    """An attribute that only some pipelines have.

    Raises:
        UnsupportedError: this one does not.
    """
    found = getattr(pipe, attribute, None)
    if found is None:
        raise UnsupportedError(f"{pipe.model.id} has no {what}", hint="Name a model of another task.")
    return found
