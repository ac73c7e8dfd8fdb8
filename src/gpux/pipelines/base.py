"""What every pipeline is: a stored variant, its session, and what comes before and after a run."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from gpux.errors import CorruptFileError, UsageError
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.proof.replay import replay_once
from gpux.runtime.graphs import Graphs
from gpux.store.state import touch
from gpux.system.events import ModelOpened, publish
from gpux.system.plugins import service
from gpux.system.settings import Settings


class Pipeline(ABC):
    """A stored model, ready to answer. Safe to use from many threads.

    A new task subclasses this, names its ``task`` and the ``call_options`` that may also be given when the pipeline
    is made, implements :meth:`__call__`, and registers under the entry point group ``gpux.pipelines``.

    Pickles as its model and options; the copy opens its own session, and pulls the model again at the same commit
    where this machine's folder is not there.

    Args:
        model: the stored variant.
        device: ``auto``, a short name (``cuda``, ``cuda:1`` …), an execution provider's full name, or a number as
            transformers takes it (0 is ``cuda:0``, -1 is ``cpu``).
        threads: threads of one run; by default what this process may use.
        allow_cpu_nodes: accept that a device asked for by name leaves computation to the CPU.
        spinning: let threads that wait burn their core: faster where one caller at a time makes many short runs;
            by default what fits the task.
        settings: used when an unpickled copy has to pull the model.
        options: defaults for the options of a call.

    Raises:
        DeviceError: the device is not there, or does not take the whole graph.
        CorruptFileError: a file of the variant is gone.
        ProofError: this onnxruntime or device answers otherwise than the original model did.
        UnsupportedError: the variant lacks something that the task needs.
        UsageError: an unknown option.
    """

    task: ClassVar[str]  #: the Hub's name
    #: the task that the model is stored for, where that is another: of ``summarization``, ``text2text-generation``
    model_task: ClassVar[str]
    call_options: ClassVar[frozenset[str]] = frozenset()  #: options of a call that may be set for all calls
    spins: ClassVar[bool] = False  #: default of ``spinning``

    def __init_subclass__(cls) -> None:
        """A task's own name is that of its models, unless the class says otherwise."""
        if "task" in vars(cls) and "model_task" not in vars(cls):
            cls.model_task = cls.task

    def __init__(
        self,
        model: StoredModel,
        *,
        device: str | int = "auto",
        threads: int | None = None,
        allow_cpu_nodes: bool = False,
        spinning: bool | None = None,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        self._check_options(options)
        _check_files(model)
        self.model = model
        opening = {"device": device, "threads": threads, "allow_cpu_nodes": allow_cpu_nodes}
        self._arguments = {**opening, "spinning": spinning, **options}
        self._settings = settings
        self._options = options
        self.graphs = Graphs.of(model, **opening, spinning=self.spins if spinning is None else spinning)
        self.session = self.graphs.session(model.manifest.graphs[0].name)  #: of the first graph, often the only one
        replay_once(model, self.graphs)
        touch(model)
        publish(ModelOpened(model.manifest.scheme, model.id, model.commit), settings)

    @abstractmethod
    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Answer as ``transformers.pipeline`` does for the task."""

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """One JSON-able answer for each input, in order, also where a call of the pipeline would unwrap a single one.

        What the command line prints and a server sends.
        """
        return list(self(list(inputs)))

    @property
    def streams(self) -> bool:
        """Whether an answer can be given in pieces, by ``stream``, as the options of this pipeline have it."""
        return False

    @property
    def device(self) -> str:
        """The short name of the device that runs the model: ``cpu``, ``cuda`` …"""
        return self.session.device

    @property
    def memory_bytes(self) -> int:
        """Bytes that the loaded model holds, about: the size of its weights."""
        return self.graphs.memory_bytes

    def close(self) -> None:
        """Let go of the model's memory. May be called twice; a later call of the pipeline is a ``SessionError``."""
        self.graphs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self.model, self._settings, self._arguments))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model.id}@{self.model.commit[:7]} on {self.device}>"

    def _merged(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a call over those of the pipeline."""
        self._check_options(options)
        return {**self._options, **options}

    def _check_options(self, options: dict[str, Any]) -> None:
        for name in sorted(set(options) - self.call_options):
            near = difflib.get_close_matches(name, self.call_options, 1)
            known = near or sorted(self.call_options) or ["none"]
            raise UsageError(
                f"{self.task} has no option {name}",
                hint=f"Did you mean {near[0]}?" if near else f"It has: {', '.join(known)}.",
            )


def _check_files(model: StoredModel) -> None:
    """A file that is gone would be taken for one that the model never had. What only a replay needs is left to it."""
    names = [file.path for file in model.manifest.files if not file.path.startswith("proof/")]
    gone = [name for name in names if not (model.path / name).is_file()]
    if gone:
        raise CorruptFileError(
            f"{model.id} has lost {', '.join(gone)} of {model.path}",
            hint="Run `gpux verify --repair`.",
            path=model.path / gone[0],
        )


def _reopen(kind: type[Pipeline], model: StoredModel, settings: Settings | None, arguments: dict[str, Any]) -> Pipeline:
    if model.path.is_dir():
        return kind(model, settings=settings, **arguments)
    reference = ModelRef(model.manifest.scheme, model.id, model.commit or None)
    again: StoredModel = service("open_model")(reference, task=kind.model_task, settings=settings)
    return kind(again, settings=settings, **arguments)
