"""Continues a prompt or answers a chat, as ``transformers.pipeline("text-generation")`` of 4.57."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Unpack

from gpux.errors import InputError
from gpux.model.variant import StoredModel
from gpux.pipelines.chat.template import ChatTemplate
from gpux.pipelines.generation.base import Call, GenerationPipeline, Prompt, too_long, truncated
from gpux.pipelines.generation.concurrent import ConcurrentGenerator, batching
from gpux.pipelines.generation.options import TextGenerationArguments, TextGenerationOptions
from gpux.pipelines.generation.streaming import AsyncTextStreamer, TextStreamer
from gpux.runtime.generation.choose.row import Constraint
from gpux.runtime.generation.engine.decoder import Decoder, PrefixCache
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.loops.request import interrupted
from gpux.runtime.generation.results import Generation
from gpux.system.cancel import CancelToken


class TextGenerationPipeline(GenerationPipeline):
    """A decoder that continues a text or answers a chat.

    >>> pipe("Once upon a time", max_new_tokens=20)
    [{'generated_text': 'Once upon a time, there was a little girl …'}]
    >>> pipe([{"role": "user", "content": "Hello!"}], return_full_text=False)
    [{'generated_text': 'Hello! How can I help?'}]

    The cache of a chat's last turn is kept, so that the next turn reads only its new tokens.
    """

    task: ClassVar[str] = "text-generation"
    call_options: ClassVar[type] = TextGenerationOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[TextGenerationArguments]) -> None:
        super().__init__(model, **arguments)
        call_spec = replace(model.manifest.call_spec, max_length=self.tokenizer.hard_limit)
        self._decoder = Decoder(self.session, call_spec, most_rows=_trusted_rows(model))
        self._prefix = PrefixCache()
        self.chat_template = ChatTemplate.load(model.path)  #: turns messages into a prompt

    def __call__(
        self,
        inputs: Any,
        *,
        stream: bool = False,
        cancel: CancelToken | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> Any:
        """Continue a text, or answer the messages of a chat.

        Args:
            inputs: a text, a chat (a list of ``{"role", "content"}``), or several of either.
            stream: return the answer to one input as a stream, see :meth:`stream`.
            cancel: ends the answers after the token that is being computed.
            options: see :class:`~gpux.pipelines.generation.options.TextGenerationOptions`.

        Returns:
            ``[{"generated_text": …}]``, one for each of ``num_return_sequences``; for a chat its messages with the
            answer at the end. A list of such lists for several inputs.

        Raises:
            ContextLengthError: the prompt is too long, and ``truncation`` is off.
            ChatTemplateError: the chat template is missing or invalid, or rejects the messages.
            CacheMemoryError, NumericError, UsageError: see :meth:`generate`.
        """
        if stream:
            return self.stream(inputs, cancel=cancel, **options)
        several = isinstance(inputs, Sequence) and not isinstance(inputs, str) and not _is_chat(inputs)
        items = list(inputs) if several else [inputs]
        found = self.generate(items, cancel=cancel, **options)
        full = self._merged(options).get("return_full_text", True)
        answers = [
            [{"generated_text": _full(item, one) if full else one.text} for one in written]
            for item, written in zip(items, found, strict=True)
        ]
        return answers if several else answers[0]

    def generate(
        self, inputs: Sequence[Any], *, cancel: CancelToken | None = None, **options: Unpack[TextGenerationOptions]
    ) -> list[tuple[Generation, ...]]:
        """See :meth:`GenerationPipeline.generate`; with the options of this task."""
        return self._generate(inputs, options, cancel)

    def stream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[TextGenerationOptions]
    ) -> TextStreamer:
        """See :meth:`GenerationPipeline.stream`; with the options of this task."""
        return self._stream(item, options, cancel)

    def astream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[TextGenerationOptions]
    ) -> AsyncTextStreamer:
        """As :meth:`stream`, for ``async for``."""
        return AsyncTextStreamer(self._stream(item, options, cancel))

    def concurrent(
        self, *, max_rows: int = 8, cache_bytes: int | None = None, prefix_bytes: int | None = None
    ) -> ConcurrentGenerator:
        """See :meth:`GenerationPipeline.concurrent`; requests share a batch where past and present share memory."""
        return batching(self, self._decoder, max_rows, cache_bytes, prefix_bytes)

    def opening(self, text: str) -> str:
        """The prompt, which the answer continues, unless ``return_full_text`` is False."""
        return text if self._options.get("return_full_text", True) else ""

    @property
    def memory_bytes(self) -> int:
        """Approximate bytes of the loaded model, and of the cache that is kept for the next answer."""
        return super().memory_bytes + self._prefix.nbytes

    def close(self) -> None:
        """Release the model's memory. May be called twice."""
        self._prefix.clear()
        super().close()

    def prompt_text(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[TextGenerationOptions]) -> str:
        """The prompt that the chat template renders from messages; ``options`` as in a call.

        Raises:
            ChatTemplateError: the chat template is missing or invalid, or rejects the messages.
        """
        chosen = self._merged(options)
        more = dict(chosen.get("chat_template_kwargs") or {})
        return self.chat_template.render(
            messages,
            tools=chosen.get("tools"),
            documents=chosen.get("documents"),
            continue_final_message=_continues(messages, chosen),
            template=chosen.get("chat_template"),
            **more,
        )

    def _prompt(self, item: Any, call: Call) -> Prompt:
        if _is_chat(item):
            ids = self.tokenizer.ids(self.prompt_text(item, **call.chosen), add_special_tokens=False)
        elif isinstance(item, str):
            ids = self.tokenizer.ids(item, add_special_tokens=call.chosen.get("add_special_tokens", True))
        else:
            raise InputError(
                f"an input is {type(item).__name__}, and must be a text or a list of messages",
                hint='Give a text, or [{"role": "user", "content": "…"}].',
            )
        if not ids and (begin := self._published.bos_token_id) is not None:
            ids = [begin]  # as transformers does for an empty text
        limit = self._decoder.limit
        read = truncated(ids, None if limit is None else limit - 1, call.chosen.get("truncation"))
        return Prompt(read, read, read)

    @contextmanager
    def _state(self, prompts: Sequence[Prompt], call: Call) -> Iterator[State]:
        keeps = len(prompts) == 1 and call.chosen.get("reuse_prefix", True) and call.options.num_beams == 1
        state = self._prefix.take(prompts[0].ids) if keeps else None
        state = state or self._decoder.open(call.options.max_new_tokens)
        state.stopped = lambda: interrupted(call.cancel, call.deadline) is not None
        done = False
        try:
            yield state
            done = True
        finally:
            if done and keeps and state.rows == 1 and not (call.dropped.cancelled or self.session.closed):
                self._prefix.give(state)
            else:
                state.close()

    def _row_bytes(self, prompt: Prompt, room: int) -> int:
        tokens = len(prompt.ids) + room
        limit = self._decoder.limit
        return self._decoder.bytes_per_token() * (tokens if limit is None else min(tokens, limit))

    def _check_length(self, prompt: Prompt) -> None:
        limit = self._decoder.limit
        if limit is not None and len(prompt.ids) >= limit:
            raise too_long(len(prompt.ids), limit - 1)

    @property
    def _most_rows(self) -> int | None:
        return self._decoder.most_rows

    def _constraint(self, call: Call) -> Callable[[], Constraint] | None:
        wanted = call.chosen.get("response_format")
        if wanted is None:
            return None
        from gpux.pipelines.generation.structured import answer_format

        return answer_format(self.tokenizer.backend, wanted, call.options.eos_token_ids)


def _trusted_rows(model: StoredModel) -> int | None:
    """Rows of one call: 1 if an unproven graph has no position inputs, and may count padding; None: any."""
    manifest = model.manifest
    shown = manifest.proof.status == "proven" or manifest.call_spec.position_inputs or manifest.call_spec.chunk_rows
    return None if shown else 1


def _is_chat(item: Any) -> bool:
    """Whether an input is a list of messages."""
    return isinstance(item, Sequence) and not isinstance(item, str) and bool(item) and isinstance(item[0], Mapping)


def _continues(messages: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> bool:
    """Whether the answer continues the last message: by default, if it is the assistant's."""
    given = chosen.get("continue_final_message")
    return messages[-1].get("role") == "assistant" if given is None else bool(given)


def _full(item: Any, one: Generation) -> Any:
    """The prompt with the answer, in the form of the prompt: text or messages."""
    if isinstance(item, str):
        return item + one.text
    messages = [dict(message) for message in item]
    if messages[-1].get("role") == "assistant":
        return [*messages[:-1], {**messages[-1], "content": f"{messages[-1].get('content') or ''}{one.text}"}]
    return [*messages, {"role": "assistant", "content": one.text}]
