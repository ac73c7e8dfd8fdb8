"""What a user may ask of a generation, and what a model's own ``generation_config.json`` says where nobody asked.

Names and meanings are those of transformers' ``GenerationConfig``; ``presence_penalty`` and ``frequency_penalty`` are
those of OpenAI's API, and count generated tokens alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from gpux.errors import UsageError
from gpux.values import Value

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class GenerationOptions(Value):
    """Options of one generation; checked when they are made.

    Raises:
        UsageError: a value that cannot be meant, by name.
    """

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    do_sample: bool = False  #: draw from the distribution; else the likeliest token is taken
    temperature: float = 1.0  #: greater than 0
    top_k: int = 0  #: 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0  #: over the prompt too (Keskar et al., 2019)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[Tokens, ...] = ()  #: sequences of token ids that must not come
    suppress_tokens: Tokens = ()
    begin_suppress_tokens: Tokens = ()  #: not as the first token
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None  #: as the last token, where ``max_new_tokens`` is reached
    eos_token_ids: Tokens = ()
    pad_token_id: int | None = None
    decoder_start_token_id: int | None = None  #: encoder-decoders begin with it
    stop: tuple[str, ...] = ()  #: texts that end a generation and are not part of it
    num_return_sequences: int = 1
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    prompt_lookup_tokens: int = 0  #: tokens that are guessed from the prompt and checked at once; 0: off
    seed: int | None = None  #: the same seed draws the same tokens
    logprobs: int | None = None  #: how many of the likeliest tokens are reported for each; None: no figures

    def __post_init__(self) -> None:
        for name, smallest in _AT_LEAST.items():
            if getattr(self, name) < smallest:
                raise _wrong(name, getattr(self, name), f"at least {smallest}")
        for name in ("temperature", "repetition_penalty"):
            if getattr(self, name) <= 0:
                raise _wrong(name, getattr(self, name), "greater than 0")
        for name in ("top_p", "typical_p"):
            if not 0 < getattr(self, name) <= 1:
                raise _wrong(name, getattr(self, name), "in (0, 1]")
        if not 0 <= self.min_p <= 1:
            raise _wrong("min_p", self.min_p, "in [0, 1]")
        if self.num_beams > 1 and self.do_sample:
            raise UsageError("num_beams and do_sample do not go together", hint="Leave one of them away.")
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            raise UsageError(
                f"num_return_sequences is {self.num_return_sequences}, and without sampling they would all be equal",
                hint="Set do_sample=True, or num_beams to as many.",
            )

    def with_options(self, **options: Any) -> Self:
        """The same with other values; sampling options imply ``do_sample``, one eos id may be a number.

        Raises:
            UsageError: an unknown name, or a value that cannot be meant.
        """
        known = {item.name for item in fields(self)}
        chosen = {_OTHER_NAMES.get(name, name): value for name, value in options.items() if value is not None}
        unknown = sorted(set(chosen) - known)
        if unknown:
            raise UsageError(
                f"no generation option {', '.join(unknown)}", hint=f"There are: {', '.join(sorted(known))}."
            )
        if "do_sample" not in chosen and set(chosen) & _SAMPLING:
            chosen["do_sample"] = True
        if chosen.get("temperature") == 0:  # what servers' users mean by it
            chosen |= {"temperature": 1.0, "do_sample": False}
        return replace(self, **{name: _plain(name, value) for name, value in chosen.items()})


def from_config(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> GenerationOptions:
    """The defaults of a model: its ``generation_config.json`` over what ``config.json`` says of special tokens.

    Values that cannot be meant are left out: many published files hold some.
    """
    found = GenerationOptions()
    said = {name: config[name] for name in _FROM_CONFIG if config.get(name) is not None}
    said |= {name: value for name, value in generation_config.items() if value is not None}
    said = {_OTHER_NAMES.get(name, name): value for name, value in said.items()}
    for name in _PUBLISHED & set(said):
        try:
            found = replace(found, **{name: _plain(name, said[name])})
        except (UsageError, TypeError, ValueError):
            continue
    return found


_AT_LEAST = {
    "max_new_tokens": 1,
    "min_new_tokens": 0,
    "top_k": 0,
    "no_repeat_ngram_size": 0,
    "num_return_sequences": 1,
    "num_beams": 1,
    "prompt_lookup_tokens": 0,
}
_SAMPLING = {"temperature", "top_k", "top_p", "min_p", "typical_p"}
_OTHER_NAMES = {
    "eos_token_id": "eos_token_ids",
    "bad_words_ids": "bad_words",
    "stop_strings": "stop",
    "prompt_lookup_num_tokens": "prompt_lookup_tokens",
    "max_tokens": "max_new_tokens",
}
_TUPLES = {"suppress_tokens", "begin_suppress_tokens", "eos_token_ids"}
_FROM_CONFIG = ("eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
#: What a model may say of itself; lengths, counts and seeds are the user's.
_PUBLISHED = {
    *{"do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size"},
    *{"bad_words", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"},
    *{"eos_token_ids", "pad_token_id", "decoder_start_token_id", "num_beams", "length_penalty", "early_stopping"},
    "min_new_tokens",
}


def _plain(name: str, value: Any) -> Any:
    """Lists as tuples, a single token or text as a tuple of one."""
    if name == "bad_words":
        return tuple(tuple(int(token) for token in word) for word in value)
    if name in _TUPLES:
        return (int(value),) if isinstance(value, int) else tuple(int(token) for token in value)
    if name == "stop":
        return (value,) if isinstance(value, str) else tuple(value)
    return value


def _wrong(name: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"{name} is {value}, and must be {expected}")
