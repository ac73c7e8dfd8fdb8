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
    """The generation options, by each of their names; None stands for the model's default."""

    max_new_tokens: Annotated[int | None, Option("tokens of an answer at most")]
    max_tokens: Annotated[int | None, Option("another name of max_new_tokens")]
    min_new_tokens: Annotated[int | None, Option("tokens of an answer at least")]
    min_length: Annotated[int | None, Option("as min_new_tokens, the decoder's prompt included")]
    do_sample: Annotated[bool | None, Option("draw tokens from their distribution; else take the most likely one")]
    temperature: Annotated[float | None, Option("below 1, likely tokens become more likely; 0: no sampling")]
    top_k: Annotated[int | None, Option("sample among so many of the most likely tokens; 0: all")]
    top_p: Annotated[float | None, Option("sample among the most likely tokens of this probability together")]
    min_p: Annotated[float | None, Option("sample among tokens with this share of the highest probability")]
    typical_p: Annotated[float | None, Option("sample among the most typical tokens of this probability together")]
    repetition_penalty: Annotated[float | None, Option("above 1, tokens of prompt and answer become less likely")]
    presence_penalty: Annotated[float | None, Option("subtracted once from the score of each token of the answer")]
    frequency_penalty: Annotated[float | None, Option("subtracted for each time that the answer has the token")]
    encoder_repetition_penalty: Annotated[float | None, Option("above 1, tokens of the input become more likely")]
    no_repeat_ngram_size: Annotated[int | None, Option("sequences of so many tokens come once only; 0: off")]
    encoder_no_repeat_ngram_size: Annotated[int | None, Option("the same, for sequences of the encoder's input")]
    bad_words: Annotated[Sequence[Tokens] | None, Option("sequences of token ids that an answer must not have")]
    bad_words_ids: Annotated[Sequence[Tokens] | None, Option("another name of bad_words")]
    suppress_tokens: Annotated[Tokens | int | None, Option("token ids that an answer must not have")]
    begin_suppress_tokens: Annotated[Tokens | int | None, Option("token ids that must not come first")]
    forced_bos_token_id: Annotated[int | None, Option("the first token, after a prompt of one token")]
    forced_eos_token_id: Annotated[Tokens | int | None, Option("the last token, where the length ends an answer")]
    eos_token_ids: Annotated[Tokens | int | None, Option("tokens that end an answer")]
    eos_token_id: Annotated[Tokens | int | None, Option("another name of eos_token_ids")]
    pad_token_id: Annotated[int | None, Option("accepted as in transformers, and ignored: nothing is padded")]
    decoder_start_token_id: Annotated[int | None, Option("the token that a decoder after an encoder begins with")]
    stop: Annotated[str | Sequence[str] | None, Option("texts that end an answer and are not part of it")]
    stop_strings: Annotated[str | Sequence[str] | None, Option("another name of stop")]
    num_return_sequences: Annotated[int | None, Option("answers to each input")]
    num_beams: Annotated[int | None, Option("beams of a beam search; 1: none")]
    length_penalty: Annotated[float | None, Option("of beams; above 0, longer answers score higher")]
    early_stopping: Annotated[bool | Literal["never"] | None, Option("whether beams end with the first answers")]
    renormalize_logits: Annotated[bool | None, Option("of beams: normalize scores after all that changed them")]
    prompt_lookup_tokens: Annotated[int | None, Option("tokens guessed from the prompt, checked in one step; 0: off")]
    prompt_lookup_num_tokens: Annotated[int | None, Option("another name of prompt_lookup_tokens")]
    seed: Annotated[int | None, Option("sample; the same seed draws the same tokens")]
    logprobs: Annotated[int | None, Option("how many of the most likely tokens are reported for each; None: none")]


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

    prefix: Annotated[str, Option("put before every text; by default as the model's configuration says")]


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
