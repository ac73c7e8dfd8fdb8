"""What a user may ask of a generation.

Names and meanings are those of transformers' ``GenerationConfig``; ``presence_penalty`` and ``frequency_penalty`` are
those of OpenAI's API, and count generated tokens alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, Self

from gpux.errors import UsageError
from gpux.model.values import Value


@dataclass(frozen=True)
class Range:
    """Numbers from ``least`` to ``most``."""

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    above: bool = False  #: ``least`` itself is too small
    optional: bool = False  #: None is meant

    def holds(self, value: Any) -> bool:
        """Is it one of them; True and False are no numbers here, NaN and infinities neither."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number = float(value)
        return math.isfinite(number) and self.least <= number <= self.most and not (self.above and number == self.least)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isinf(self.least):
            return kind
        lower = f"greater than {self.least:g}" if self.above else f"at least {self.least:g}"
        return f"{kind} {lower}" + ("" if math.isinf(self.most) else f" and at most {self.most:g}")


_COUNT = Range(0, whole=True)
_ONE_OR_MORE = Range(1, whole=True)
_TOKEN = Range(0, whole=True, optional=True)
_SHARE = Range(0, 1, above=True)
RANGES = {
    "max_new_tokens": _ONE_OR_MORE,
    "min_new_tokens": _COUNT,
    "min_length": _COUNT,
    "temperature": Range(0, above=True),
    "top_k": _COUNT,
    "top_p": _SHARE,
    "min_p": Range(0, 1),
    "typical_p": _SHARE,
    "repetition_penalty": Range(0, above=True),
    "presence_penalty": Range(),
    "frequency_penalty": Range(),
    "encoder_repetition_penalty": Range(0, above=True),
    "no_repeat_ngram_size": _COUNT,
    "encoder_no_repeat_ngram_size": _COUNT,
    "forced_bos_token_id": _TOKEN,
    "pad_token_id": _TOKEN,
    "decoder_start_token_id": _TOKEN,
    "num_return_sequences": _ONE_OR_MORE,
    "num_beams": _ONE_OR_MORE,
    "length_penalty": Range(),
    "prompt_lookup_tokens": _COUNT,
    "seed": _TOKEN,
    "logprobs": _TOKEN,
}


def check_range(name: str, value: Any) -> None:
    """Raise ``UsageError`` where the value of this option is out of its range."""
    if not RANGES[name].holds(value):
        raise _wrong(name, value, str(RANGES[name]))


def check_flags(name: str, value: Any) -> None:
    """Raise ``UsageError`` for what is neither True nor False, and for ``early_stopping`` nor "never"."""
    if name == "early_stopping" and value == "never":
        return
    if not isinstance(value, bool):
        raise _wrong(name, value, 'True, False or "never"' if name == "early_stopping" else "True or False")


def check_tokens(name: str, tokens: Sequence[Any], least: int = 0) -> None:
    """Raise ``UsageError`` for what is no sequence of token ids, or shorter than ``least``."""
    if len(tokens) < least:
        raise _wrong(name, tokens, "sequences that are not empty")
    for token in tokens:
        if not RANGES["pad_token_id"].holds(token) or token is None:
            raise _wrong(name, token, "made of token ids, whole numbers of at least 0")


def check_stops(stops: Sequence[Any]) -> None:
    """Raise ``UsageError`` for a stop that is no text, or an empty one."""
    for stop in stops:
        if not isinstance(stop, str) or not stop:
            raise _wrong("stop", stop, "a text, or several, that are not empty")


def _wrong(name: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"{name} is {value!r}, and must be {expected}", hint=f"Give another {name}, or leave it away.")


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


#: What a model may say of itself; the length of the answer, counts and seeds are the user's. In this order: of two that
#: contradict each other, the first is taken.
_PUBLISHED = (
    *("eos_token_ids", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
    *("num_beams", "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("repetition_penalty", "no_repeat_ngram_size", "bad_words", "suppress_tokens", "begin_suppress_tokens"),
    *("encoder_repetition_penalty", "encoder_no_repeat_ngram_size"),
    *("length_penalty", "early_stopping", "renormalize_logits", "min_length", "min_new_tokens"),
)
_SPECIAL = ("eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
#: What transformers also reads there and gpux does not, and the values that change nothing.
_OTHERS: dict[str, tuple[Any, ...]] = {
    "sequence_bias": (),
    "exponential_decay_length_penalty": (),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "guidance_scale": (1, 1.0),
    "watermarking_config": (),
    "penalty_alpha": (0, 0.0),
    "num_beam_groups": (0, 1),
    "diversity_penalty": (0.0,),
    "constraints": (),
    "force_words_ids": (),
    "dola_layers": (),
    "forced_decoder_ids": (),
}


def from_config(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> GenerationOptions:
    """The defaults of a model, as transformers reads them.

    They are those of ``generation_config.json``; of ``config.json`` where there is no such file, and the special tokens
    that the file leaves out. A sampling one has ``top_k`` 50 unless it says otherwise, for files leave out what equals
    transformers' default. Values that cannot be meant are left out: many published files hold some.
    """
    found = GenerationOptions(top_k=50)
    said = _said(config, generation_config)
    for name in _PUBLISHED:
        if name in said:
            try:
                found = replace(found, **{name: plain(name, said[name])})
            except UsageError:
                continue
    return found


def not_followed(generation_config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the file asks for and gpux does not do, by name: the answer may be another than transformers'."""
    found = [name for name, off in _OTHERS.items() if generation_config.get(name) not in (None, *off, [], {})]
    if generation_config.get("do_sample") is True and (generation_config.get("num_beams") or 1) > 1:
        found.append("do_sample with num_beams")
    return tuple(sorted(found))


def _said(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> dict[str, Any]:
    parts = [config[part] for part in ("text_config", "decoder") if isinstance(config.get(part), Mapping)]
    inner: Mapping[str, Any] = parts[0] if parts else {}
    names = _SPECIAL if generation_config else tuple({**inner, **config})
    found: dict[str, Any] = {}
    for source, taken in ((inner, names), (config, names), (generation_config, tuple(generation_config))):
        found |= {OTHER_NAMES.get(name, name): source[name] for name in taken if source.get(name) is not None}
    return found
