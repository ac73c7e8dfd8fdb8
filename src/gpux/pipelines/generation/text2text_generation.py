"""Encoder-decoders that generate text from text, as transformers' ``text2text-generation``, ``summarization`` and
``translation`` of 4.57."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Unpack, cast

import numpy as np

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.generation.base import Call, GenerationPipeline, Prompt, too_long, truncated
from gpux.pipelines.generation.options import (
    Text2TextGenerationArguments,
    Text2TextGenerationOptions,
    TranslationArguments,
    TranslationOptions,
)
from gpux.pipelines.generation.streaming import AsyncTextStreamer, TextStreamer
from gpux.runtime.generation.engine.encoder_decoder import EncoderDecoder
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import Generation
from gpux.system.cancel import CancelToken

#: Tokenizer classes of transformers that read ``src_lang`` and ``tgt_lang``.
_MULTILINGUAL = frozenset({"M2M100", "MBart", "MBart50", "Nllb", "PLBart", "Seamless", "SeamlessM4T"})
_ENCODER, _DECODER, _WITH_PAST = "encoder", "decoder", "decoder_with_past"


class Text2TextGenerationPipeline(GenerationPipeline):
    """An encoder-decoder that generates text from text.

    >>> pipe("translate English to German: How old are you?")
    [{'generated_text': 'Wie alt sind Sie?'}]
    """

    task: ClassVar[str] = "text2text-generation"
    key: ClassVar[str] = "generated_text"  #: of the answer
    call_options: ClassVar[type] = Text2TextGenerationOptions
    encoder_decoder: ClassVar[bool] = True

    def __init__(self, model: StoredModel, **arguments: Unpack[Text2TextGenerationArguments]) -> None:
        super().__init__(model, **arguments)
        names = self.graphs.names
        if _ENCODER not in names or _DECODER not in names:
            raise UnsupportedError(
                f"{model.id} has the graphs {', '.join(names)}, and its task needs an encoder and a decoder",
                hint="Convert it again with `gpux pull --force`.",
            )
        with_past = self.graphs.session(_WITH_PAST) if _WITH_PAST in names else None
        self._model = EncoderDecoder(self.graphs.session(_ENCODER), self.graphs.session(_DECODER), with_past)
        self._limit = self.tokenizer.hard_limit if self._text_is_limited() else None
        #: tokens of an input at least: longt5's graph reads blocks, of which a shorter text has none
        self._least = int(self._config.get("global_block_size") or 1) if _has_blocks(self._config) else 1
        #: text before every input, such as T5's "summarize: "
        self.prefix = self._published.prefix

    def __call__(
        self,
        inputs: str | Sequence[str],
        *,
        stream: bool = False,
        cancel: CancelToken | None = None,
        **options: Unpack[Text2TextGenerationOptions],
    ) -> Any:
        """Generate a text for each text.

        Args:
            inputs: a text or several.
            stream: return the answer to one input as a stream, see :meth:`stream`.
            cancel: ends the answers after the token that is being computed.
            options: see :class:`~gpux.pipelines.generation.options.Text2TextGenerationOptions`.

        Returns:
            ``[{"generated_text": …}]``, one for each of ``num_return_sequences``. For several texts a list of dicts, or
            of such lists where each has several.

        Raises:
            ContextLengthError: a text is too long, and ``truncation`` is off.
            CacheMemoryError, NumericError, UsageError: see :meth:`generate`.
        """
        return self._answer(inputs, options, cancel, stream=stream)

    def generate(
        self, inputs: Sequence[Any], *, cancel: CancelToken | None = None, **options: Unpack[Text2TextGenerationOptions]
    ) -> list[tuple[Generation, ...]]:
        """See :meth:`GenerationPipeline.generate`; with the options of this task."""
        return self._generate(inputs, options, cancel)

    def stream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[Text2TextGenerationOptions]
    ) -> TextStreamer:
        """See :meth:`GenerationPipeline.stream`; with the options of this task."""
        return self._stream(item, options, cancel)

    def astream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[Text2TextGenerationOptions]
    ) -> AsyncTextStreamer:
        """As :meth:`stream`, for ``async for``."""
        return AsyncTextStreamer(self._stream(item, options, cancel))

    def _answer(self, inputs: Any, options: Mapping[str, Any], cancel: CancelToken | None, *, stream: bool) -> Any:
        if stream:
            return self._stream(inputs, options, cancel)
        items = [inputs] if isinstance(inputs, str) else list(inputs)
        answers = [[{self.key: one.text} for one in written] for written in self._generate(items, options, cancel)]
        if isinstance(inputs, str):
            return answers[0]
        return [answer[0] for answer in answers] if all(len(answer) == 1 for answer in answers) else answers

    def _prompt(self, item: Any, call: Call) -> Prompt:
        if not isinstance(item, str):
            raise InputError(f"an input is {type(item).__name__}, and must be a text", hint="Give a text, or several.")
        ids = self._read(call.chosen.get("prefix", self.prefix) + item, call)
        truncation = call.chosen.get("truncation")
        read = truncated(ids, self._limit, "right" if truncation is True else truncation)
        if not read:
            raise InputError("the text has no tokens", hint="Give a text; the tokenizer adds no token to an empty one.")
        return Prompt(read, (self._start(call.options),))

    def _read(self, text: str, call: Call) -> list[int]:
        """The encoder's token ids."""
        return self.tokenizer.ids(text)

    def _start(self, options: GenerationOptions) -> int:
        """The first token of the decoder."""
        found = options.decoder_start_token_id
        found = self._published.bos_token_id if found is None else found
        if found is None:
            raise UnsupportedError(
                f"the configuration of {self.model.id} has no decoder_start_token_id",
                hint="Give decoder_start_token_id=.",
            )
        return found

    @contextmanager
    def _state(self, prompts: Sequence[Prompt], call: Call) -> Iterator[State]:
        width = max(self._least, *(len(prompt.ids) for prompt in prompts))
        ids = np.full((len(prompts), width), self.tokenizer.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt.ids)] = prompt.ids
            mask[row, : len(prompt.ids)] = 1
        state = self._model.open({"input_ids": ids, "attention_mask": mask}, call.options.max_new_tokens)
        try:
            yield state
        finally:
            state.close()

    def _row_bytes(self, prompt: Prompt, room: int) -> int:
        kept = sum(tensor.nbytes(1, len(prompt.ids)) for tensor in self._model.kept)
        return kept + self._model.bytes_per_token() * room

    def _check_length(self, prompt: Prompt) -> None:
        if self._limit is not None and len(prompt.ids) > self._limit:
            raise too_long(len(prompt.ids), self._limit)

    @property
    def _most_rows(self) -> int | None:
        return self._model.most_rows

    def _text_is_limited(self) -> bool:
        """Whether the encoder's positions are limited; T5's are relative, although its tokenizer has a limit."""
        return self.model.manifest.call_spec.max_length is not None or not self.model.manifest.recipe.is_converted


def _has_blocks(config: Mapping[str, Any]) -> bool:
    """Whether the encoder attends to a summary of each block of tokens."""
    return config.get("encoder_attention_type") == "transient-global"


class SummarizationPipeline(Text2TextGenerationPipeline):
    """Summaries of texts; the answer's key is ``summary_text``."""

    task: ClassVar[str] = "summarization"
    model_task: ClassVar[str] = "text2text-generation"
    key: ClassVar[str] = "summary_text"


class TranslationPipeline(Text2TextGenerationPipeline):
    """Translations of texts; the answer's key is ``translation_text``.

    Multilingual models need ``src_lang`` and ``tgt_lang``, as their tokenizer writes them (``en_XX``, ``eng_Latn``,
    ``en``).
    """

    task: ClassVar[str] = "translation"
    model_task: ClassVar[str] = "text2text-generation"
    key: ClassVar[str] = "translation_text"
    call_options: ClassVar[type] = TranslationOptions

    def __init__(
        self, model: StoredModel, *, pair: tuple[str, str] | None = None, **arguments: Unpack[TranslationArguments]
    ) -> None:
        """Open the model.

        Args:
            model: the stored variant.
            pair: the languages of ``translation_en_to_de``, which select the model's settings in
                ``task_specific_params``; multilingual models translate between them. By default those of the first pair
                that the model has settings for.
            arguments: see :class:`~gpux.pipelines.base.Pipeline`.

        Raises:
            UsageError: a multilingual model does not have one of the languages under that name.
        """
        self._pair = pair
        super().__init__(model, **cast("dict[str, Any]", arguments))  # src_lang and tgt_lang are options of this class
        self._arguments |= {"pair": pair}

    @property
    def params_task(self) -> str:
        """``translation_en_to_de`` where the languages are given."""
        return self.task if self._pair is None else f"translation_{self._pair[0]}_to_{self._pair[1]}"

    def __call__(
        self,
        inputs: str | Sequence[str],
        *,
        stream: bool = False,
        cancel: CancelToken | None = None,
        **options: Unpack[TranslationOptions],
    ) -> Any:
        """Translate each text; see :meth:`Text2TextGenerationPipeline.__call__`."""
        return self._answer(inputs, options, cancel, stream=stream)

    def generate(
        self, inputs: Sequence[Any], *, cancel: CancelToken | None = None, **options: Unpack[TranslationOptions]
    ) -> list[tuple[Generation, ...]]:
        """See :meth:`GenerationPipeline.generate`; with the options of this task."""
        return self._generate(inputs, options, cancel)

    def stream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[TranslationOptions]
    ) -> TextStreamer:
        """See :meth:`GenerationPipeline.stream`; with the options of this task."""
        return self._stream(item, options, cancel)

    def astream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[TranslationOptions]
    ) -> AsyncTextStreamer:
        """As :meth:`stream`, for ``async for``."""
        return AsyncTextStreamer(self._stream(item, options, cancel))

    def _generation_options(self, options: Mapping[str, Any]) -> GenerationOptions:
        """The target language becomes ``forced_bos_token_id``."""
        target = options.get("tgt_lang") or self._of_pair(options, 1)
        if target is not None:
            options = {**options, "forced_bos_token_id": self._language(target)}
        return super()._generation_options(options)

    def _of_pair(self, options: Mapping[str, Any], place: int) -> str | None:
        """A language of the task's name, for a multilingual model and a call that names no language."""
        named = options.get("src_lang") is not None or options.get("tgt_lang") is not None
        if self._pair is None or named or not self._is_multilingual():
            return None
        name = self._pair[place]
        if not self._is_language(self._language(name)):
            raise UsageError(
                f"the tokenizer of {self.model.id} has no language {name!r}",
                hint="Give src_lang= and tgt_lang= as the tokenizer writes them: en_XX, eng_Latn, en …",
            )
        return name

    def _is_multilingual(self) -> bool:
        """Whether the tokenizer marks the languages of the input and the answer."""
        name = str(self.model.read_json("tokenizer_config.json").get("tokenizer_class") or "")
        return name.removesuffix("Fast").removesuffix("Tokenizer") in _MULTILINGUAL

    def _read(self, text: str, call: Call) -> list[int]:
        ids, source = self.tokenizer.ids(text), call.chosen.get("src_lang") or self._of_pair(call.chosen, 0)
        if source is None:
            return ids
        language, plain = self._language(source), self.tokenizer.ids(text, add_special_tokens=False)
        place = next((place for place, token in enumerate(ids) if self._is_language(token)), None)
        if place is None:
            return [language, *plain, *ids[len(plain) :]]
        return [*ids[:place], language, *ids[place + 1 :]]

    def _language(self, name: str) -> int:
        known = self.tokenizer.backend.token_to_id
        found = next(
            (index for form in (name, f"__{name}__", f"<2{name}>") if (index := known(form)) is not None), None
        )
        if found is None:
            raise UsageError(
                f"the tokenizer of {self.model.id} has no language {name!r}",
                hint="Write the language as the tokenizer does: en_XX, eng_Latn, en …",
            )
        return found

    def _is_language(self, token: int) -> bool:
        """Whether a token is one of the added special tokens that name a language."""
        text = self.tokenizer.backend.id_to_token(token) or ""
        name = text.strip("_") if text.startswith("__") else text
        return token in self.tokenizer.special_ids and (len(name) in (2, 3) or "_" in name) and name[:2].isalpha()
