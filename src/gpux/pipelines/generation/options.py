"""Options of calls that generate text: those of :class:`~gpux.runtime.generation.options.GenerationOptions`, for type
checkers and for programs that list them, and those of the pipelines themselves.

Every default is the model's own (``generation_config.json``) where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from gpux.pipelines.base import OpenOptions
from gpux.pipelines.options import Option

Tokens = Sequence[int]


class GenerationKeywords(TypedDict, total=False):
    """Names, aliases and types of the generation options; None stands for the model's default.

    Type checkers need them written out; defaults, ranges and help are those of
    :func:`gpux.runtime.generation.options.option_infos`.
    """

    max_new_tokens: int | None
    max_tokens: int | None
    max_length: int | None
    min_new_tokens: int | None
    min_length: int | None
    do_sample: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    encoder_repetition_penalty: float | None
    no_repeat_ngram_size: int | None
    encoder_no_repeat_ngram_size: int | None
    bad_words: Sequence[Tokens] | None
    bad_words_ids: Sequence[Tokens] | None
    logit_bias: Mapping[int, float] | None
    suppress_tokens: Tokens | int | None
    begin_suppress_tokens: Tokens | int | None
    forced_bos_token_id: int | None
    forced_eos_token_id: Tokens | int | None
    eos_token_ids: Tokens | int | None
    eos_token_id: Tokens | int | None
    pad_token_id: int | None
    decoder_start_token_id: int | None
    stop: str | Sequence[str] | None
    stop_strings: str | Sequence[str] | None
    keep_special_tokens: str | Sequence[str] | None
    num_return_sequences: int | None
    num_beams: int | None
    length_penalty: float | None
    early_stopping: bool | Literal["never"] | None
    renormalize_logits: bool | None
    prompt_lookup_tokens: int | None
    prompt_lookup_num_tokens: int | None
    seed: int | None
    logprobs: int | None


class GenerationCallOptions(GenerationKeywords, total=False):
    """Options of every pipeline that generates text."""

    batch_size: Annotated[int | None, Option("inputs that are answered together at most", default=8)]
    truncation: Annotated[
        bool | Literal["left", "right"] | None,
        Option("cut an input beyond the limit: its beginning (left), its end (right), or the task's default (True)"),
    ]
    timeout: Annotated[float | None, Option("seconds after which an answer ends")]


class TextGenerationOptions(GenerationCallOptions, total=False):
    """Options of text-generation."""

    return_full_text: Annotated[bool, Option("whether an answer begins with its prompt", default=True)]
    add_special_tokens: Annotated[bool, Option("whether the tokenizer adds its special tokens", default=True)]
    reuse_prefix: Annotated[bool, Option("keep the cache of an answer, for a prompt that begins alike", default=True)]
    response_format: Annotated[Any, Option("form of the answer: a JSON schema, or as in OpenAI's API")]
    tools: Annotated[Sequence[Any] | None, Option("of a chat: JSON schemas, or functions with types and docstring")]
    documents: Annotated[Sequence[Mapping[str, Any]] | None, Option("of a chat: dicts with title and text")]
    chat_template: Annotated[str | None, Option("name of one of the model's chat templates, or a whole template")]
    chat_template_kwargs: Annotated[Mapping[str, Any] | None, Option("further variables of the chat template")]
    continue_final_message: Annotated[
        bool | None, Option("whether the answer continues the last message; by default one of the assistant")
    ]


class Text2TextGenerationOptions(GenerationCallOptions, total=False):
    """Options of text2text-generation and summarization."""

    prefix: Annotated[str, Option("text before every input; by default that of the model's configuration")]


class TranslationOptions(Text2TextGenerationOptions, total=False):
    """Options of translation."""

    src_lang: Annotated[str | None, Option("language of the input, as the tokenizer writes it: en_XX, eng_Latn, en")]
    tgt_lang: Annotated[str | None, Option("language of the answer, as the tokenizer writes it")]


class TextGenerationArguments(TextGenerationOptions, OpenOptions, total=False):
    """Keywords of the text-generation pipeline."""


class Text2TextGenerationArguments(Text2TextGenerationOptions, OpenOptions, total=False):
    """Keywords of the text2text-generation and summarization pipelines."""


class TranslationArguments(TranslationOptions, OpenOptions, total=False):
    """Keywords of the translation pipeline."""
