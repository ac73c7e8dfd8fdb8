"""What a user may ask of a generation.

Names and meanings are those of transformers' ``GenerationConfig``; ``presence_penalty`` and ``frequency_penalty`` are
those of OpenAI's API, and count generated tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

from gpux.errors import UsageError
from gpux.model.values import Value
from gpux.runtime.generation.ranges import RANGES, check_flags, check_range, check_stops, check_tokens

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class GenerationOptions(Value):
    """Options of one generation; checked when they are made.

    Raises:
        UsageError: a value that cannot be meant, or two that contradict each other, by name.
    """

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    min_length: int = 0  #: tokens before which none may end it, the decoder's prompt counted; not with min_new_tokens
    do_sample: bool = False  #: draw from the distribution; else the likeliest token is taken
    temperature: float = 1.0  #: greater than 0
    top_k: int = 0  #: 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0  #: over the prompt too (Keskar et al., 2019)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    encoder_repetition_penalty: float = 1.0  #: over what was read alone; above 1 invites it
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0  #: sequences that were read must not come
    bad_words: tuple[Tokens, ...] = ()  #: sequences of token ids that must not come
    suppress_tokens: Tokens = ()
    begin_suppress_tokens: Tokens = ()  #: not as the first token
    forced_bos_token_id: int | None = None  #: after a prompt of one token, as encoder-decoders have
    forced_eos_token_id: Tokens = ()  #: as the last token, where the length ends it; one of several
    eos_token_ids: Tokens = ()
    pad_token_id: int | None = None  #: taken as transformers takes it; rows that end leave, so nothing is padded
    decoder_start_token_id: int | None = None  #: encoder-decoders begin with it
    stop: tuple[str, ...] = ()  #: texts that end a generation and are not part of it
    num_return_sequences: int = 1
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    renormalize_logits: bool = False  #: of beams: logarithms of probabilities again, after all that changed them
    prompt_lookup_tokens: int = 0  #: tokens that are guessed from the prompt and checked at once; 0: off
    seed: int | None = None  #: the same seed draws the same tokens
    logprobs: int | None = None  #: how many of the likeliest tokens are reported for each; None: no figures

    def __post_init__(self) -> None:
        for name in RANGES:
            check_range(name, getattr(self, name))
        for name in ("do_sample", "renormalize_logits", "early_stopping"):
            check_flags(name, getattr(self, name))
        for name in _TUPLES:
            check_tokens(name, getattr(self, name))
        for word in self.bad_words:
            check_tokens("bad_words", word, least=1)
        check_stops(self.stop)
        for wrong, message, hint in _CONTRADICTIONS:
            if wrong(self):
                raise UsageError(message, hint=hint)

    def with_options(self, **options: Any) -> Self:
        """The same with other values; None leaves a value as it is.

        Sampling options and a seed imply ``do_sample``; one token id or one stop text may stand for a tuple of one.
        What is asked here wins over a model's default that contradicts it.

        Raises:
            UsageError: an unknown name, a value that cannot be meant, or two that contradict each other.
        """
        chosen = {OTHER_NAMES.get(name, name): value for name, value in options.items() if value is not None}
        known = {item.name for item in fields(self)}
        if unknown := sorted(set(chosen) - known):
            raise UsageError(
                f"no generation option {', '.join(unknown)}", hint=f"There are: {', '.join(sorted(known))}."
            )
        chosen = {name: plain(name, value) for name, value in chosen.items()}
        return replace(self, **self._over_defaults(_sampled(chosen)))

    def _over_defaults(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """What was chosen, and what a default has to become so that it does not contradict."""
        found = dict(chosen)
        if "max_new_tokens" in chosen and "min_new_tokens" not in chosen:
            found["min_new_tokens"] = _smaller(self.min_new_tokens, chosen["max_new_tokens"])
        if chosen.get("do_sample") is True and "num_beams" not in chosen:
            found["num_beams"] = 1
        if "num_beams" in chosen and "do_sample" not in chosen:
            found["do_sample"] = self.do_sample and chosen["num_beams"] == 1
        return found


def _smaller(least: int, most: Any) -> int:
    """``least``, or ``most`` where that is less; a ``most`` that is no number is found when it is checked."""
    return min(least, most) if isinstance(most, int) else least


def _sampled(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """With ``do_sample`` where other choices imply it; a temperature of 0 is what servers' users call greedy."""
    named = any(name in chosen for name in _SAMPLING) or ("seed" in chosen and "num_beams" not in chosen)
    asked = [name for name, off in _SAMPLING.items() if chosen.get(name, off) != off]
    greedy = chosen.get("temperature") == 0
    if greedy and chosen.get("do_sample") is True:
        raise UsageError("temperature=0 and do_sample=True contradict each other", hint="Leave one of them away.")
    if greedy:
        return {**chosen, "temperature": 1.0, "do_sample": False}
    if asked and chosen.get("do_sample") is False:
        raise UsageError(
            f"{' and '.join(asked)} and do_sample=False contradict each other", hint="Set do_sample=True, or leave it."
        )
    return {"do_sample": True, **chosen} if named else dict(chosen)


def plain(name: str, value: Any) -> Any:
    """Lists as tuples, a single token or text as a tuple of one.

    Raises:
        UsageError: not what the option is made of.
    """
    if name not in _TUPLES and name not in ("bad_words", "stop"):
        return value
    try:
        if name == "bad_words":
            return tuple(tuple(word) for word in value)
        return (value,) if isinstance(value, int | str) else tuple(value)
    except TypeError:
        raise UsageError(f"{name} is {value!r}, and must be a list", hint="Give a list, even of one.") from None


#: What others call them.
OTHER_NAMES = {
    "eos_token_id": "eos_token_ids",
    "bad_words_ids": "bad_words",
    "stop_strings": "stop",
    "prompt_lookup_num_tokens": "prompt_lookup_tokens",
    "max_tokens": "max_new_tokens",
}
#: Options that mean nothing without sampling, and the value that changes nothing.
_SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
_TUPLES = ("suppress_tokens", "begin_suppress_tokens", "eos_token_ids", "forced_eos_token_id")
#: When two do not go together, what is said and what can be done.
_CONTRADICTIONS: tuple[tuple[Callable[[GenerationOptions], bool], str, str], ...] = (
    (
        lambda options: options.num_beams > 1 and options.do_sample,
        "num_beams and do_sample do not go together",
        "Leave one of them away.",
    ),
    (
        lambda options: options.num_beams == 1 and options.num_return_sequences > 1 and not options.do_sample,
        "num_return_sequences is more than 1, and without do_sample they would all be equal",
        "Set do_sample=True, or num_beams to as many.",
    ),
    (
        lambda options: 1 < options.num_beams < options.num_return_sequences,
        "num_return_sequences is greater than num_beams",
        "Set num_beams to as many.",
    ),
    (
        lambda options: options.min_new_tokens > options.max_new_tokens,
        "min_new_tokens is greater than max_new_tokens",
        "Set max_new_tokens to as many.",
    ),
    (
        lambda options: options.prompt_lookup_tokens > 0 and max(options.num_beams, options.num_return_sequences) > 1,
        "prompt_lookup_tokens goes with one sequence, not with num_beams or num_return_sequences",
        "Set prompt_lookup_tokens=0.",
    ),
    (
        lambda options: options.num_beams > 1 and options.logprobs is not None,
        "num_beams and logprobs do not go together",
        "Set num_beams=1; a beam has a score of its own.",
    ),
)
