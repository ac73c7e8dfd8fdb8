"""The base of pipelines that generate text: options, batches that fit into memory, streams."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Unpack

from gpux.errors import ContextLengthError, UsageError
from gpux.model.json_file import read_optional_json
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, Pipeline
from gpux.pipelines.generation.concurrent import ConcurrentGenerator, Prepared, check_sizes
from gpux.pipelines.generation.options import GenerationCallOptions
from gpux.pipelines.generation.streaming import AsyncTextStreamer, TextStreamer
from gpux.pipelines.generation.writing import Piece, write
from gpux.pipelines.options import OptionSpec
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.runtime.generation.choose.row import Constraint
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions, option_infos, option_names
from gpux.runtime.generation.published import BEAMS, read_published
from gpux.runtime.generation.results import Generation
from gpux.system.cancel import CancelToken
from gpux.system.machine import available_memory

log = logging.getLogger(__name__)

#: Inputs that are answered together, unless ``batch_size`` is given.
BATCH = 8
#: Share of the free memory that the caches of one batch may use.
_SHARE = 0.5

#: ``writer(pipeline, inputs, options, cancel)``: the sequences of each input, as :meth:`GenerationPipeline.generate`.
Writer = Callable[
    ["GenerationPipeline", Sequence[Any], Mapping[str, Any], "CancelToken | None"], list[tuple[Generation, ...]]
]


@dataclass(frozen=True)
class Prompt:
    """The token ids of one input."""

    ids: tuple[int, ...]  #: input of the encoder, or of a decoder without an encoder
    begun: tuple[int, ...]  #: tokens that the decoder continues
    before: tuple[int, ...] = ()  #: tokens whose text the answer continues, which decides whether a space comes first


@dataclass(frozen=True)
class Call:
    """The resolved options of one call."""

    options: GenerationOptions
    chosen: Mapping[str, Any]  #: options of the pipeline, besides those of generation
    cancel: CancelToken
    deadline: float | None
    dropped: CancelToken  #: set when the reader is gone, so that nothing is kept


class GenerationPipeline(Pipeline):
    """A pipeline that generates text. A subclass tokenizes inputs and opens the state that generates the answers."""

    spins: ClassVar[bool] = True
    huge_pages: bool = True
    call_options: ClassVar[type] = GenerationCallOptions
    window: ClassVar[int | None] = 64
    encoder_decoder: ClassVar[bool] = False  #: the model has an encoder
    #: what generates the answers of calls in place of this pipeline: a server's, where calls share a batch
    writer: Writer | None = None
    beams: ClassVar[int | None] = BEAMS  #: of an encoder-decoder, unless the task sets a number; None: the files' own

    def __init__(self, model: StoredModel, **arguments: Any) -> None:  # a subclass names their types
        super().__init__(model, **arguments)
        self.tokenizer = Tokenizer(model)
        self._config = model.read_json("config.json")
        #: options that apply unless a call sets them: the model's ``generation_config.json``, and its parameters for
        #: the task
        self._published = read_published(
            self._config,
            read_optional_json(model.path / "generation_config.json"),
            task=self.params_task,
            encoder_decoder=self.encoder_decoder,
            beams=self.beams,
        )
        self.defaults = self._published.options
        if left := self._published.unsupported:
            log.warning("%s sets generation options that gpux does not support: %s", model.id, ", ".join(left))
        if wrong := self._published.invalid:
            log.warning("%s sets generation options to invalid values, ignored: %s", model.id, ", ".join(wrong))
        self._generation_options(self._options)  # raises now for invalid options

    def generate(
        self, inputs: Sequence[Any], *, cancel: CancelToken | None = None, **options: Unpack[GenerationCallOptions]
    ) -> list[tuple[Generation, ...]]:
        """Generate the answers to several inputs: ``num_return_sequences`` each, with tokens and timings.

        Args:
            inputs: each as a call of the pipeline accepts it.
            cancel: ends every answer after the token that is being computed.
            options: see the pipeline's call.

        Raises:
            ContextLengthError: an input is too long.
            CacheMemoryError: there is too little memory for its cache.
            NumericError: the model's scores are not finite.
            UsageError: an option is invalid.
        """
        return self._generate(inputs, options, cancel)

    def stream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[GenerationCallOptions]
    ) -> TextStreamer:
        """Generate the answer to one input, in pieces.

        >>> with pipe.stream("Once upon a time", max_new_tokens=40) as stream:
        ...     for piece in stream:
        ...         print(piece, end="", flush=True)
        >>> stream.result.finish_reason

        A piece is valid Unicode without any part of a stop text, and ends between graphemes as far as the text shows.

        Raises:
            UsageError: ``num_return_sequences`` is greater than 1, or an option is invalid.
        """
        return self._stream(item, options, cancel)

    def astream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[GenerationCallOptions]
    ) -> AsyncTextStreamer:
        """As :meth:`stream`, for ``async for``."""
        return AsyncTextStreamer(self._stream(item, options, cancel))

    def concurrent(
        self, *, max_rows: int = 8, cache_bytes: int | None = None, prefix_bytes: int | None = None
    ) -> ConcurrentGenerator:
        """Generate the answers to many requests at the same time; close it before the pipeline.

        Requests take turns, unless the task and the graph support a shared batch (``batches``), for which the
        arguments are.

        Args:
            max_rows: sequences that are decoded at once.
            cache_bytes: bytes of their key-value cache at most; a request that does not fit waits. By default half of
                the memory that is free now, but at least one row of the model's context, or 64 MB if that is unknown.
            prefix_bytes: bytes of what is kept of ended answers at most, besides; by default a quarter of
                ``cache_bytes``.

        Raises:
            UsageError: an argument is negative, or ``max_rows`` is below 1.
        """
        check_sizes(max_rows, cache_bytes, prefix_bytes)
        return ConcurrentGenerator(self)

    def prepare(self, item: Any, options: Mapping[str, Any], cancel: CancelToken, *, place: int = 0) -> Prepared:
        """Check the options of a request and tokenize its prompt, for a :class:`ConcurrentGenerator`.

        Args:
            item: an input.
            options: of the call.
            cancel: ends the request.
            place: of the input among those of one call; see :meth:`ConcurrentGenerator.submit`.

        Raises:
            GpuxError: see :meth:`generate`.
        """
        call = self._call(options, cancel)
        prompt = self._prompt(item, call)
        self._check_length(prompt)
        count = call.options.num_return_sequences
        request = self._request([prompt], range(place * count, (place + 1) * count), call)
        reuse = bool(call.chosen.get("reuse_prefix", True))
        return Prepared(request, reuse, lambda: self._written([prompt], [place], call))

    @classmethod
    def options(cls) -> list[OptionSpec]:
        """The options of a call; the defaults of generation options apply if the model's own files set none."""
        return [generation_help(spec) for spec in super().options()]

    def resolve(self, options: Mapping[str, Any]) -> Call:
        """The options of a call, those of generation over the model's own."""
        return self._call(options, None)

    def preprocess(self, inputs: Sequence[Any], options: Call) -> list[Prompt]:
        """The token ids of each input."""
        return [self._prompt(item, options) for item in inputs]

    def postprocess(self, prepared: Prompt, output: tuple[Generation, ...], options: Call) -> list[dict[str, Any]]:
        """One dict for each sequence: its text, tokens, finish reason and timings."""
        return [one.to_dict() for one in output]

    def run(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
        """The answers to each input, see :meth:`postprocess`; batched by the memory of their caches."""
        call = self.resolve(options)
        prompts = self.preprocess(inputs, call)
        written = self._write_all(prompts, call) if self.writer is None else self.writer(self, inputs, options, None)
        return [self.postprocess(*pair, call) for pair in zip(prompts, written, strict=True)]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each sequence, with the score of a beam."""
        return [AnswerRow(one["text"], one["score"]) for one in answer]

    def _call_each(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
        """In the form of a call, which is not that of :meth:`run`."""
        answers: Sequence[Any] = self(list(inputs), **options)
        return answers

    @property
    def params_task(self) -> str:
        """The key of ``task_specific_params`` in the model's ``config.json`` that this pipeline follows."""
        return self.task

    @property
    def shares_batches(self) -> bool:
        """False: each call has caches of its own."""
        return False

    @property
    def streams(self) -> bool:
        """Whether ``num_return_sequences`` is 1, so that the answer can be streamed."""
        return self._generation_options(self._options).num_return_sequences == 1

    def opening(self, text: str) -> str:
        """The text that is shown before the streamed answer."""
        return ""

    def _generate(
        self, inputs: Sequence[Any], options: Mapping[str, Any], cancel: CancelToken | None
    ) -> list[tuple[Generation, ...]]:
        if self.writer is not None:
            return self.writer(self, inputs, options, cancel)
        call = self._call(options, cancel)
        return self._write_all(self.preprocess(inputs, call), call)

    def _write_all(self, prompts: Sequence[Prompt], call: Call) -> list[tuple[Generation, ...]]:
        """The answers to each prompt, in order, one batch after the other."""
        found: list[tuple[Generation, ...]] = [()] * len(prompts)
        for batch in self._batches(prompts, call):
            written = _drained(self._written([prompts[index] for index in batch], batch, call))
            count = len(written) // len(batch)
            for place, index in enumerate(batch):
                found[index] = written[place * count : (place + 1) * count]
        return found

    def _stream(self, item: Any, options: Mapping[str, Any], cancel: CancelToken | None) -> TextStreamer:
        call = self._call(options, cancel)
        if call.options.num_return_sequences > 1:
            raise UsageError(
                "a stream is one text, and num_return_sequences is greater than 1", hint="Call the pipeline."
            )
        prompt = self._prompt(item, call)
        self._batches([prompt], call)  # raises now, and not at the first piece, if the prompt is too long

        def pieces() -> Generator[str, None, Generation]:
            writing = self._written([prompt], [0], call)
            try:
                while True:
                    try:
                        yield next(writing).text
                    except StopIteration as end:
                        written: tuple[Generation, ...] = end.value
                        return written[0]
            finally:
                writing.close()

        return TextStreamer(pieces(), call.cancel, call.dropped)

    @abstractmethod
    def _prompt(self, item: Any, call: Call) -> Prompt:
        """The token ids of one input."""

    @abstractmethod
    def _state(self, prompts: Sequence[Prompt], call: Call) -> AbstractContextManager[State]:
        """The state that generates these answers; closed, or kept for the next turn, when the context ends."""

    @abstractmethod
    def _row_bytes(self, prompt: Prompt, room: int) -> int:
        """Bytes of the cache of one answer."""

    @abstractmethod
    def _check_length(self, prompt: Prompt) -> None:
        """Raise ``ContextLengthError`` if a prompt leaves no room for an answer."""

    @property
    def _most_rows(self) -> int | None:
        """Rows that the graph supports at once; None: any."""
        return None

    def _call(self, options: Mapping[str, Any], cancel: CancelToken | None) -> Call:
        merged = self._merged(options)
        chosen = {name: value for name, value in merged.items() if name not in option_names()}
        timeout = chosen.get("timeout", self._published.max_time)
        deadline = None if timeout is None else time.monotonic() + timeout
        return Call(
            self._generation_options(merged), chosen, (cancel or CancelToken()).child(), deadline, CancelToken()
        )

    def _generation_options(self, options: Mapping[str, Any]) -> GenerationOptions:
        return self.defaults.with_options(**{k: v for k, v in options.items() if k in option_names()})

    def _written(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], call: Call
    ) -> Generator[Piece, None, tuple[Generation, ...]]:
        """Generate one batch; ``numbers`` are the places of its inputs in the call."""
        count = call.options.num_return_sequences
        if self._most_rows is not None and count > self._most_rows and call.options.num_beams == 1:
            return (yield from self._one_by_one(prompts, numbers, call))
        request = self._request(prompts, [number * count + copy for number in numbers for copy in range(count)], call)
        with self._state(prompts, call) as state:
            return (yield from write(state, request, self.tokenizer.backend))

    def _one_by_one(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], call: Call
    ) -> Generator[Piece, None, tuple[Generation, ...]]:
        """Generate several sequences of each prompt one after the other, for a graph that supports few rows."""
        single = replace(call, options=replace(call.options, num_return_sequences=1))
        count = call.options.num_return_sequences
        written: list[Generation] = []
        for prompt, number in zip(prompts, numbers, strict=True):
            for copy in range(count):
                request = self._request([prompt], [number * count + copy], single)
                with self._state([prompt], single) as state:
                    writing = write(state, request, self.tokenizer.backend)
                    written += yield from _renumbered(writing, len(written))
        return tuple(written)

    def _request(self, prompts: Sequence[Prompt], numbers: Sequence[int], call: Call) -> DecodeRequest:
        return DecodeRequest(
            [prompt.begun for prompt in prompts],
            call.options,
            text_context=[prompt.before for prompt in prompts],
            encoder_input_ids=[prompt.ids for prompt in prompts],
            random_streams=numbers,
            constraint=self._constraint(call),
            cancel=call.cancel,
            deadline=call.deadline,
        )

    def _constraint(self, call: Call) -> Callable[[], Constraint] | None:
        """Builds the constraint of one answer; None: any text."""
        return None

    def _batches(self, prompts: Sequence[Prompt], call: Call) -> list[list[int]]:
        """The inputs of each batch: of similar lengths, as many as fit into memory."""
        for prompt in prompts:
            self._check_length(prompt)
        size = call.chosen.get("batch_size", BATCH)
        if not isinstance(size, int) or size < 1:
            raise UsageError(f"batch_size is {size!r}, and must be at least 1")
        most = min(size, self._most_rows or size)
        free = available_memory()
        rows = call.options.num_return_sequences * max(1, call.options.num_beams)
        found: list[list[int]] = []
        budget = 0.0
        for index in sorted(range(len(prompts)), key=lambda index: -len(prompts[index].ids)):
            needed = rows * self._row_bytes(prompts[index], call.options.max_new_tokens)
            budget -= needed
            if not found or len(found[-1]) >= most or budget < 0:
                found.append([])
                budget = (float("inf") if free is None else free * _SHARE) - needed
            found[-1].append(index)
        return found


def generation_help(spec: OptionSpec) -> OptionSpec:
    """A generation option with its default, help and range from :class:`GenerationOptions`; others unchanged."""
    known = option_names().get(spec.name)
    if known is None:
        return spec
    info = option_infos()[known]
    text = info.help if known == spec.name else f"another name of {known}"
    return replace(spec, default=info.default, help=text, range=info.schema)


def too_long(tokens: int, limit: int) -> ContextLengthError:
    """The error for a prompt that leaves no room for an answer."""
    return ContextLengthError(
        f"the prompt has {tokens} tokens, and the limit is {limit}",
        hint="Shorten the prompt, or truncate it with truncation=True.",
        tokens=tokens,
        limit=limit,
    )


def truncated(ids: Sequence[int], limit: int | None, truncation: Any) -> tuple[int, ...]:
    """The ids, truncated to ``limit``: ``left`` (or True) keeps the end, ``right`` the beginning.

    Raises:
        UsageError: ``truncation`` is neither a side nor a bool.
    """
    if truncation not in (None, False, True, "left", "right"):
        raise UsageError(f"truncation is {truncation!r}", hint="Give True, False, 'left' or 'right'.")
    if not truncation or limit is None or len(ids) <= limit:
        return tuple(ids)
    return tuple(ids[:limit] if truncation == "right" else ids[len(ids) - limit :])


def _renumbered(
    writing: Generator[Piece, None, tuple[Generation, ...]], number: int
) -> Generator[Piece, None, tuple[Generation, ...]]:
    """The pieces of a single sequence, under its number in the call."""
    while True:
        try:
            piece = next(writing)
        except StopIteration as end:
            found: tuple[Generation, ...] = end.value
            return found
        try:
            yield piece._replace(number=number)
        except GeneratorExit:
            writing.close()
            raise


def _drained(writing: Iterator[Piece]) -> tuple[Generation, ...]:
    """The generations of a batch, without its pieces."""
    while True:
        try:
            next(writing)
        except StopIteration as end:
            found: tuple[Generation, ...] = end.value
            return found
