"""The base class of pipelines: a stored model with the processing of its task before and after a run."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, Self, TypedDict

import numpy as np

from gpux.errors import CorruptFileError, GpuxError, InputError, UnsupportedError, UsageError
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.pipelines.batching import (
    OUTPUT_BYTES,
    SECOND_COPY_BYTES,
    BatchBudget,
    arrives,
    kept,
    overlapped,
    placed,
    plan,
    windows,
)
from gpux.pipelines.options import CallOptions, Option, OptionSpec, check_names, option_specs, show_keywords
from gpux.proof.replay import replay_once
from gpux.runtime.graphs import Graphs
from gpux.runtime.session import Session
from gpux.store.state import touch
from gpux.system.events import ModelOpened, publish
from gpux.system.plugins import service
from gpux.system.settings import Settings

log = logging.getLogger(__name__)

#: One output for each input of a batch, by a session of the pipeline.
Forward = Callable[[Sequence[Any], Session], Sequence[Any]]
#: ``runner(pipeline, rows, forward, batch_size)``: the output of each prepared input of one call, parts each by itself.
Runner = Callable[["Pipeline", Sequence[Any], Forward, "int | None"], Sequence[Any]]
#: What an input of a task is.
Kind = Literal["text", "image", "audio", "video"]
#: Inputs that are read before they are answered, where they come from a generator. Pictures and sounds are large.
_WINDOWS: Mapping[Kind, int] = {"text": 2048, "image": 32, "audio": 4, "video": 4}


class OpenOptions(TypedDict, total=False):
    """How a pipeline is opened; see :class:`Pipeline`."""

    device: Annotated[str | int, Option("auto, a short name, an execution provider or a number", default="auto")]
    threads: Annotated[int | None, Option("threads of one run")]
    allow_cpu_nodes: Annotated[bool, Option("accept that some nodes run on the CPU", default=False)]
    spinning: Annotated[bool | None, Option("let waiting threads spin on their core")]
    settings: Annotated[Settings | None, Option("used when an unpickled copy has to pull the model")]


@dataclass(frozen=True)
class Parts:
    """A prepared input that the model reads in several parts: windows of a long text, one pair for each label.

    :meth:`Pipeline.forward` and :meth:`Pipeline.size` take the parts, in batches with those of other inputs, and
    :meth:`Pipeline.postprocess` takes the list of their outputs. A task may derive a class with what else
    ``postprocess`` needs.
    """

    parts: Sequence[Any]


@dataclass(frozen=True)
class AnswerRow:
    """One line of an answer as a person reads it: a label, a filled text, the start of a vector; and its score."""

    text: str
    score: float | None = None


class Pipeline(ABC):
    """A stored model with the pre- and post-processing of its task. Safe to use from many threads.

    A new task is one module: a subclass that names its ``task`` and its ``call_options``, and implements
    :meth:`preprocess` (inputs to prepared inputs), :meth:`forward` (where prepared inputs are not dicts of arrays of
    equal shapes) and :meth:`postprocess` (an output to an answer). Batches, their order, sessions and threads are the
    base class's work. It registers under the entry point group ``gpux.pipelines``.

    Pickles as its model and options; the copy opens its own session, and pulls the model again at the same commit if
    the model's folder does not exist on this machine.

    Args:
        model: the stored variant.
        device: ``auto``, a short name (``cuda``, ``cuda:1`` …), an execution provider's full name, or a number as in
            transformers (0 is ``cuda:0``, -1 is ``cpu``).
        threads: threads of one run; by default, the cores that this process may use.
        allow_cpu_nodes: accept that a device requested by name runs some nodes of the graph on the CPU.
        spinning: let waiting threads spin on their core: faster where one caller makes many short runs; the default
            depends on the task.
        settings: used when an unpickled copy has to pull the model.
        graphs: the variant's graphs, already opened, for a variant that is not stored yet: its proof is not replayed,
            and its use is neither recorded nor published.
        options: defaults for the options of a call, see :meth:`options`.

    Raises:
        DeviceError: the device is not available, or does not support the whole graph.
        CorruptFileError: a file of the variant is missing.
        ProofError: with this onnxruntime or device the answers differ from the original model's.
        UnsupportedError: the variant lacks something that the task needs.
        UsageError: an unknown option.
    """

    task: ClassVar[str]  #: the Hub's name
    #: the task that the model is stored for, where it differs: ``text2text-generation`` for ``summarization``
    model_task: ClassVar[str]
    takes: ClassVar[Kind] = "text"  #: what an input is; a picture or sound is given as a path, bytes or an array
    window: ClassVar[int | None] = None  #: inputs of a generator that are answered together; None: by what it takes
    input_keys: ClassVar[Sequence[str]] = ()  #: of an input that is a dict: ``question`` and ``context``
    call_options: ClassVar[type] = CallOptions  #: a TypedDict, see :mod:`gpux.pipelines.options`
    budget: ClassVar[BatchBudget] = BatchBudget()  #: how many inputs run together
    spins: ClassVar[bool] = False  #: default of ``spinning``
    huge_pages: bool = False  #: the graphs run so often that their weights are moved into huge pages
    outputs: Sequence[str] | None = None  #: the graph outputs that :meth:`forward` reads; None: all
    #: what runs the prepared inputs of a call in place of :meth:`run_rows`: a server's, where calls share batches
    runner: Runner | None = None

    def __init_subclass__(cls) -> None:
        """``model_task`` is the task unless the class sets it; methods show their options as keywords."""
        if "task" in vars(cls) and "model_task" not in vars(cls):
            cls.model_task = cls.task
        for member in vars(cls).values():
            if callable(member) and hasattr(member, "__globals__"):
                show_keywords(member)
        if "__call__" in vars(cls):
            cls.__call__ = _generators_too(vars(cls)["__call__"])  # type: ignore[method-assign] # the same signature

    def __init__(
        self,
        model: StoredModel,
        *,
        device: str | int = "auto",
        threads: int | None = None,
        allow_cpu_nodes: bool = False,
        spinning: bool | None = None,
        settings: Settings | None = None,
        graphs: Graphs | None = None,
        **options: Any,  # a subclass names their types
    ) -> None:
        self._check_options(options)
        _check_files(model)
        self.model = model
        opening = {"device": device, "threads": threads, "allow_cpu_nodes": allow_cpu_nodes, "spinning": spinning}
        self._arguments = {**opening, **options}
        self._settings = settings
        self._options = options
        self.graphs = graphs or Graphs.of(
            model,
            device=device,
            threads=threads,
            allow_cpu_nodes=allow_cpu_nodes,
            spinning=self.spins if spinning is None else spinning,
            huge_pages=self.huge_pages,
        )
        self.session = self.graphs.session(model.manifest.graphs[0].name)  #: of the first graph, often the only one
        self._lock = threading.Lock()
        self._one_thread_session: Session | None = None
        self._one_thread_failed = False
        if graphs is None:
            replay_once(model, self.graphs)
            touch(model)
            publish(ModelOpened(model.manifest.scheme, model.id, model.commit), settings)

    # What a task implements

    def __call__(self, inputs: Any, *_: Any, **options: Any) -> Any:  # a subclass names the types of both
        """The answer to one input, or a list of answers to a list of inputs, as ``transformers.pipeline`` gives it.

        Inputs from a generator, or from another iterable without a length, give a generator of answers in their order:
        of each what a list of inputs gives. It reads and answers a window of inputs at a time, so that memory is
        bounded however many there are.
        """
        several = isinstance(inputs, (list, tuple))
        answers = self.run(inputs if several else [inputs], options)
        return answers if several else answers[0]

    @abstractmethod
    def preprocess(self, inputs: Any, options: Any) -> Sequence[Any]:
        """The prepared form of each input: token ids, or a dict of arrays by graph input; :class:`Parts` of several.

        Args:
            inputs: a sequence of inputs; also what the pipeline's own ``__call__`` passes on.
            options: as :meth:`resolve` returned them.

        Raises:
            InputError: an input is invalid; ``index`` is its place.
        """

    def forward(self, batch: Sequence[Any], session: Session) -> Sequence[Any]:
        """The output of each prepared input of a batch, by one run.

        By default prepared inputs are dicts of arrays of equal shapes, which are stacked on a new first axis, and an
        output is a dict of arrays without that axis. Called from several threads at once.
        """
        feed = {name: np.stack([prepared[name] for prepared in batch]) for name in batch[0]}
        found = session.run(feed, None if self.outputs is None else list(self.outputs))
        return [{name: array[row] for name, array in found.items()} for row in range(len(batch))]

    @abstractmethod
    def postprocess(self, prepared: Any, output: Any, options: Any) -> Any:
        """The answer to one input, from its prepared form and the output of :meth:`forward`; of parts, their list."""

    def resolve(self, options: Mapping[str, Any]) -> Any:
        """The options of a call, checked, in the form that the other methods read; by default unchanged.

        Raises:
            UsageError: an option is invalid.
        """
        return options

    def size(self, prepared: Any) -> int:
        """Units of a prepared input in the :attr:`budget` of a batch: 1, or its length where inputs are padded."""
        return 1

    def shared_by(self, prepared: Any) -> Hashable:
        """What all prepared inputs of a batch have in common, beyond the function that runs them; by default nothing.

        Inputs of one call always have it in common; a :attr:`runner` may put inputs of several calls into a batch.
        """
        return None

    def to_json(self, answer: Any) -> Any:
        """An answer of :meth:`run` as JSON-able values; by default unchanged."""
        return answer

    def render(self, answer: Any) -> list[AnswerRow]:
        """An answer of :meth:`answers` as lines of text; by default its JSON."""
        return [AnswerRow(json.dumps(answer, ensure_ascii=False))]

    def picture(self, inputs: Any, answer: Any) -> Any:
        """A picture of an answer: an image with its boxes or masks drawn, depths as grey levels.

        Args:
            inputs: one input.
            answer: what :meth:`run` answered to it.

        Returns:
            A ``PIL.Image.Image``.

        Raises:
            UnsupportedError: an answer of this task cannot be drawn, which is the default.
        """
        raise UnsupportedError(f"an answer of {self.task} has no picture", hint="Print it, or write it as JSON.")

    # What a caller uses

    @classmethod
    def options(cls) -> list[OptionSpec]:
        """The options of a call: name, type, default and help of each, sorted by name."""
        return list(option_specs(cls.call_options))

    def answers(self, inputs: Sequence[Any], options: Mapping[str, Any] | None = None) -> list[Any]:
        """One JSON-able answer for each input, in order, also where a call would unwrap the answer to a single one.

        The command line prints these, and a server sends them.

        Args:
            inputs: any number of inputs, as :meth:`preprocess` accepts them.
            options: of this call; they replace those of the pipeline.

        Raises:
            InputError: an input is invalid; ``index`` is its place.
        """
        return [self.to_json(answer) for answer in self.run(inputs, options or {})]

    def iter_answers(
        self,
        inputs: Iterable[Any],
        options: Mapping[str, Any] | None = None,
        *,
        on_error: Literal["raise", "keep"] = "raise",
    ) -> Iterator[tuple[int, Any]]:
        """The place of each input and its answer as :meth:`answers` gives it, in order, in bounded memory.

        >>> for index, answer in pipe.iter_answers(open("texts.txt"), on_error="keep"):
        ...     print(index, "failed" if isinstance(answer, GpuxError) else answer)

        Args:
            inputs: any iterable; read a window at a time, see :attr:`window`.
            options: of this call; they replace those of the pipeline.
            on_error: ``keep`` gives the :class:`GpuxError` of an input in place of its answer, and answers the others;
                ``raise`` raises it.

        Raises:
            InputError: an input is invalid, unless errors are kept; ``index`` is its place.
            UsageError: an option is invalid, or ``on_error``.
        """
        if on_error not in ("raise", "keep"):
            raise UsageError(f"on_error is {on_error!r}", hint="It may be raise or keep.")
        answer = functools.partial(self.answers, options=options)
        return self._in_windows(inputs, answer, self.window_size, keep=on_error == "keep")

    def _in_windows(
        self, inputs: Iterable[Any], answer: Callable[[Sequence[Any]], Sequence[Any]], window: int, *, keep: bool
    ) -> Iterator[tuple[int, Any]]:
        for start, part in windows(inputs, window):
            try:
                answers = kept(answer, part) if keep else answer(part)
            except InputError as error:
                if not isinstance(error.details.get("index"), int):
                    raise
                raise placed(error, start + error.details["index"]) from error
            for place, one in enumerate(answers, start):
                if isinstance(one, GpuxError) and self.session.closed:
                    raise one
                yield place, placed(one, place) if isinstance(one, GpuxError) else one

    @property
    def window_size(self) -> int:
        """Inputs that :meth:`iter_answers` answers together at most."""
        return self.window or _WINDOWS[self.takes]

    @property
    def _call_window(self) -> int:
        """Inputs of a generator that one call answers together."""
        return self.window_size

    def _call_each(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
        """What a call answers to a list of inputs: one answer for each, also to a list of one input."""
        return self.run(inputs, options)

    def run(self, inputs: Any, options: Mapping[str, Any]) -> list[Any]:
        """One answer for each input, in order: :meth:`preprocess`, :meth:`forward` in batches, :meth:`postprocess`.

        Pictures and sounds are opened a window at a time, so that a list of paths may be long.

        Args:
            inputs: any number of inputs, as :meth:`preprocess` accepts them.
            options: of this call; they replace those of the pipeline.
        """
        merged = self._merged(options)
        resolved = self.resolve(merged)
        if self.takes == "text" or not isinstance(inputs, (list, tuple)) or len(inputs) <= self.window_size:
            return self._run(inputs, merged, resolved)
        answer = functools.partial(self._run, merged=merged, resolved=resolved)
        return [one for _, one in self._in_windows(inputs, answer, self.window_size, keep=False)]

    def _run(self, inputs: Any, merged: Mapping[str, Any], resolved: Any) -> list[Any]:
        prepared = self.preprocess(inputs, resolved)
        outputs = self.run_batches(prepared, batch_size=merged.get("batch_size"))
        return [self.postprocess(*pair, resolved) for pair in zip(prepared, outputs, strict=True)]

    def run_batches(
        self, prepared: Sequence[Any], *, batch_size: int | None = None, forward: Forward | None = None
    ) -> list[Any]:
        """The output of each prepared input, in order; run sorted by size, in batches, a few of them at once.

        Args:
            prepared: any number of prepared inputs. The output of :class:`Parts` is the list of those of its parts.
            batch_size: inputs of one run at most; each part counts.
            forward: used in place of :meth:`forward`.
        """
        check_positive(batch_size=batch_size)
        rows = [row for item in prepared for row in (item.parts if isinstance(item, Parts) else (item,))]
        run = self.runner or Pipeline.run_rows
        each = iter(run(self, rows, forward or self.forward, batch_size))
        return [list(islice(each, len(item.parts))) if isinstance(item, Parts) else next(each) for item in prepared]

    def run_rows(self, rows: Sequence[Any], forward: Forward, batch_size: int | None) -> Sequence[Any]:
        """The output of each prepared input, in order, without :class:`Parts`; see :meth:`run_batches`."""
        sizes = [self.size(row) for row in rows]
        session, runs, budget = self.concurrency(sum(sizes))

        def run(batch: list[int]) -> tuple[list[int], Sequence[Any]]:
            return batch, forward([rows[index] for index in batch], session)

        found: list[Any] = [None] * len(rows)
        for batch, outputs in overlapped(run, plan(sizes, budget, batch_size), runs):
            for index, output in zip(batch, outputs, strict=True):
                found[index] = output
        return found

    @property
    def shares_batches(self) -> bool:
        """Whether a :attr:`runner` runs everything that a call computes, so that calls at the same time share it."""
        return True

    @property
    def streams(self) -> bool:
        """Whether ``stream`` can give an answer in pieces with the options of this pipeline."""
        return False

    @property
    def device(self) -> str:
        """The short name of the device that runs the model: ``cpu``, ``cuda`` …"""
        return self.session.device

    @property
    def memory_bytes(self) -> int:
        """Approximate bytes of the loaded model: the size of its weights, as often as they are loaded."""
        second = self._one_thread_session
        return self.graphs.memory_bytes + (0 if second is None else self.session.memory_bytes)

    def close(self) -> None:
        """Free the model's memory. May be called twice; a later call of the pipeline raises ``SessionError``."""
        with self._lock:
            self.graphs.close()
            if self._one_thread_session is not None:
                self._one_thread_session.close()
                self._one_thread_session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self.model, self._settings, self._arguments))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model.id}@{self.model.commit[:7]} on {self.device}>"

    def _merged(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call over those of the pipeline."""
        self._check_options(options)
        return {**self._options, **options}

    def _check_options(self, options: Mapping[str, Any]) -> None:
        check_names(self.task, options, [spec.name for spec in option_specs(self.call_options)])

    def concurrency(self, units: int) -> tuple[Session, int, int]:
        """How so many units are run: by which session, how many runs at once, and the units of one run.

        Much input on the CPU is run as one batch per core, each on one thread: threads that share a run wait for each
        other after every operator (an eighth of the time of all-MiniLM-L6-v2 on two cores). This needs a second
        session with its own copy of the weights, so it is for small graphs and is opened when it first pays.
        """
        threads, budget = self.session.threads, self.budget
        pays = budget.one_thread_from is not None and threads > 1 and units >= budget.one_thread_from * threads
        if self.device != "cpu":
            session, runs, fitting = self.session, 1, budget.device
        elif pays and self.session.memory_bytes <= SECOND_COPY_BYTES and (second := self._with_one_thread()):
            session, runs, fitting = second, threads, budget.one_thread
        else:
            session, runs, fitting = self.session, min(2, threads), budget.cpu_per_thread * threads
        return session, runs, min(fitting, OUTPUT_BYTES // self._unit_bytes())

    def _unit_bytes(self) -> int:
        """Bytes of the largest output for one unit, as float32: the product of its fixed axes after the first."""
        read = [spec for spec in self.session.outputs if self.outputs is None or spec.name in self.outputs]
        fixed = [math.prod(axis for axis in spec.shape[1:] if isinstance(axis, int)) for spec in read]
        return 4 * max(1, *fixed, 1)

    def _with_one_thread(self) -> Session | None:
        """The session whose runs use one thread each; closed together with the first one.

        None where it cannot be opened, since the model was removed from the store or memory is short: it only saves
        time, and the open session runs without it.
        """
        with self._lock:
            if self.session.closed:
                return self.session  # its run raises SessionError
            if self._one_thread_session is None and not self._one_thread_failed:
                try:
                    self._one_thread_session = Session(self.session.path, device="cpu", threads=1)
                except GpuxError as error:
                    self._one_thread_failed = True
                    log.warning("%s runs much input without a second session: %s", self.model.id, error)
            return self._one_thread_session


def _generators_too(call: Callable[..., Any]) -> Callable[..., Any]:
    """A pipeline's ``__call__`` that also accepts a generator of inputs, see :meth:`Pipeline.__call__`."""

    @functools.wraps(call)
    def called(self: Pipeline, inputs: Any = None, *more: Any, **options: Any) -> Any:
        if not arrives(inputs) or options.get("stream"):
            return call(self, inputs, *more, **options)
        names = list(inspect.signature(call).parameters)[2:]  # of options that are given by position
        options |= dict(zip(names, more, strict=False))
        # now, and not with the first answer; `stream` and `cancel` are keywords of the call
        self._check_options({name: value for name, value in options.items() if name not in ("stream", "cancel")})
        answer = functools.partial(self._call_each, options=options)
        return (one for _, one in self._in_windows(inputs, answer, self._call_window, keep=False))

    return called


def check_positive(**values: int | None) -> None:
    """Refuse numbers below 1; None stands for a default.

    Raises:
        UsageError: with the name of the first such number.
    """
    for name, value in values.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}, and must be at least 1")


def _check_files(model: StoredModel) -> None:
    """Refuse a variant with a missing file, which would be read as one that the model never had.

    Files that only the replay of the proof reads are not checked here.
    """
    names = [file.path for file in model.manifest.files if not file.path.startswith("proof/")]
    missing = [name for name in names if not (model.path / name).is_file()]
    if missing:
        raise CorruptFileError(
            f"{model.id} has lost {', '.join(missing)} of {model.path}",
            hint="Run `gpux verify --repair`.",
            path=model.path / missing[0],
        )


def _reopen(kind: type[Pipeline], model: StoredModel, settings: Settings | None, arguments: dict[str, Any]) -> Pipeline:
    if model.path.is_dir():
        return kind(model, settings=settings, **arguments)
    manifest = model.manifest
    reference = ModelRef(manifest.scheme, model.id, model.commit or None, precision=manifest.precision)
    again: StoredModel = service("open_model")(reference, task=kind.model_task, settings=settings)
    return kind(again, settings=settings, **arguments)
