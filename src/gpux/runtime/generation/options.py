"""The options of generation, each declared once: name, default, allowed values, aliases and help.

Names and meanings are those of transformers' ``GenerationConfig``; ``presence_penalty`` and ``frequency_penalty`` are
those of OpenAI's API, and count generated tokens only. The command line, the checks, the defaults that a model
publishes and the lists of options for other programs are derived from the fields of :class:`GenerationOptions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, Protocol, Self

from gpux.errors import UsageError
from gpux.model.values import Value

Tokens = tuple[int, ...]


class Kind(Protocol):
    """The values that an option may have."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of a value; None, which stands for the default, is not part of it."""

    def parse(self, value: Any) -> Any:
        """The value as it is stored, such as a tuple for a list.

        Raises:
            TypeError: a list was expected.
        """

    def fault(self, value: Any) -> tuple[Any, str] | None:
        """The wrong part of a stored value, and which values are allowed; None for an allowed value."""


@dataclass(frozen=True)
class Number:
    """Numbers from ``least`` to ``most``; bools, NaN and infinities are not allowed."""

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    above: bool = False  #: ``least`` itself is too small
    optional: bool = False  #: None is allowed

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema."""
        found: dict[str, Any] = {"type": "integer" if self.whole else "number"}
        if math.isfinite(self.least):
            found["exclusiveMinimum" if self.above else "minimum"] = self.least
        return {**found, "maximum": self.most} if math.isfinite(self.most) else found

    def parse(self, value: Any) -> Any:
        """The value itself."""
        return value

    def fault(self, value: Any) -> tuple[Any, str] | None:
        """See :class:`Kind`."""
        return None if self.allows(value) else (value, str(self))

    def allows(self, value: Any) -> bool:
        """Whether the value is one of these numbers."""
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
        lower = f"greater than {self.least:g}" if self.above else f"of at least {self.least:g}"
        return f"{kind} {lower}" + ("" if math.isinf(self.most) else f" and at most {self.most:g}")


@dataclass(frozen=True)
class Flag:
    """True or False, or one of a few words."""

    words: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema."""
        return {"enum": [True, False, *self.words]} if self.words else {"type": "boolean"}

    def parse(self, value: Any) -> Any:
        """The value itself."""
        return value

    def fault(self, value: Any) -> tuple[Any, str] | None:
        """See :class:`Kind`."""
        if isinstance(value, bool) or (isinstance(value, str) and value in self.words):
            return None
        return value, 'True, False or "' + '", "'.join(self.words) + '"' if self.words else "True or False"


_TOKEN = Number(0, whole=True)


@dataclass(frozen=True)
class TokenIds:
    """A list of token ids; a single id stands for a list of one."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema."""
        return {"type": "array", "items": _TOKEN.schema}

    def parse(self, value: Any) -> Any:
        """A tuple."""
        return (value,) if isinstance(value, int | str) else tuple(value)

    def fault(self, value: Any) -> tuple[Any, str] | None:
        """See :class:`Kind`."""
        wrong = [token for token in value if not _TOKEN.allows(token)]
        return (wrong[0], "made of token ids, whole numbers of at least 0") if wrong else None


@dataclass(frozen=True)
class TokenSequences:
    """A list of lists of token ids, none of them empty."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema."""
        return {"type": "array", "items": {**TokenIds().schema, "minItems": 1}}

    def parse(self, value: Any) -> Any:
        """A tuple of tuples."""
        return tuple(tuple(sequence) for sequence in value)

    def fault(self, value: Any) -> tuple[Any, str] | None:
        """See :class:`Kind`."""
        for sequence in value:
            if not sequence:
                return sequence, "sequences that are not empty"
            if fault := TokenIds().fault(sequence):
                return fault
        return None


@dataclass(frozen=True)
class TokenBiases:
    """Numbers that are added to the scores of tokens: ``{token id: number}``; JSON has the ids as texts."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema."""
        return {"type": "object", "additionalProperties": {"type": "number"}}

    def parse(self, value: Any) -> Any:
        """A tuple of pairs, ordered by their ids."""
        if isinstance(value, tuple):  # as it is stored
            return value
        if not isinstance(value, Mapping):
            raise TypeError
        return tuple((_id(token), bias) for token, bias in value.items())

    def fault(self, value: Any) -> tuple[Any, str] | None:
        """See :class:`Kind`."""
        for pair in value:
            if not (_INT64.allows(pair[0]) and _FLOAT32.allows(pair[1])):
                return dict([pair]), "made of token ids, each with a number"
        return None


_INT64 = Number(0, (1 << 63) - 1, whole=True)
_FLOAT32 = Number(-1e38, 1e38)


def _id(token: Any) -> Any:
    """A token id that JSON has as a text."""
    return int(token) if isinstance(token, str) and token.isdecimal() and len(token) < 20 else token


@dataclass(frozen=True)
class Texts:
    """A list of texts, none of them empty; a single text stands for a list of one."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema."""
        return {"type": "array", "items": {"type": "string", "minLength": 1}}

    def parse(self, value: Any) -> Any:
        """A tuple."""
        return (value,) if isinstance(value, int | str) else tuple(value)

    def fault(self, value: Any) -> tuple[Any, str] | None:
        """See :class:`Kind`."""
        wrong = [text for text in value if not isinstance(text, str) or not text]
        return (wrong[0], "a text, or several, that are not empty") if wrong else None


@dataclass(frozen=True)
class OptionInfo(Value):
    """One option of generation, as :func:`option_infos` lists it."""

    name: str
    help: str  #: one line, without a capital and a full stop
    default: Any  #: where neither the call nor the model sets another value
    kind: Kind = field(repr=False)  #: the allowed values
    aliases: tuple[str, ...] = ()  #: names that other programs use
    published: bool = True  #: read from a model's ``generation_config.json``
    special_token: bool = False  #: read from a model's ``config.json`` too
    sampling: bool = False  #: has no effect without ``do_sample``, and turns it on
    flag: bool = False  #: has an option of its own on the command line

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of a value: its type and its range."""
        return self.kind.schema


def _metadata(kind: Kind, text: str, **more: Any) -> dict[str, Any]:
    """What a field of :class:`GenerationOptions` has besides its name and default; see :class:`OptionInfo`."""
    return {"kind": kind, "help": text, **more}


_COUNT = Number(0, whole=True)
_ONE_OR_MORE = Number(1, whole=True)
_MAYBE_COUNT = Number(0, whole=True, optional=True)
_SHARE = Number(0, 1, above=True)
_FACTOR = Number(0, above=True)
_ANY = Number()


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Value):
    """Options of one generation; checked on creation. Of two published options that contradict, the first field wins.

    Raises:
        UsageError: a value is invalid, or two options contradict each other; the message names them.
    """

    max_new_tokens: int = field(
        default=256,
        metadata=_metadata(
            _ONE_OR_MORE, "generated tokens at most", aliases=("max_tokens",), published=False, flag=True
        ),
    )
    max_length: int | None = field(
        default=None,
        metadata=_metadata(
            Number(1, whole=True, optional=True),
            "tokens of the prompt and the answer together at most, of the decoder; max_new_tokens wins",
        ),
    )
    eos_token_ids: Tokens = field(
        default=(),
        metadata=_metadata(TokenIds(), "tokens that end an answer", aliases=("eos_token_id",), special_token=True),
    )
    pad_token_id: int | None = field(
        default=None,
        metadata=_metadata(
            _MAYBE_COUNT, "accepted as in transformers, and ignored: nothing is padded", special_token=True
        ),
    )
    decoder_start_token_id: int | None = field(
        default=None,
        metadata=_metadata(_MAYBE_COUNT, "the first token of a decoder after an encoder", special_token=True),
    )
    forced_bos_token_id: int | None = field(
        default=None,
        metadata=_metadata(_MAYBE_COUNT, "the first generated token, after a prompt of one token", special_token=True),
    )
    forced_eos_token_id: Tokens = field(
        default=(),
        metadata=_metadata(
            TokenIds(), "the last token of an answer that its length ends; one of several", special_token=True
        ),
    )
    num_beams: int = field(default=1, metadata=_metadata(_ONE_OR_MORE, "beams of a beam search; 1: no beam search"))
    do_sample: bool = field(
        default=False,
        metadata=_metadata(Flag(), "draw tokens from their distribution; else take the most likely token"),
    )
    temperature: float = field(
        default=1.0,
        metadata=_metadata(
            Number(0),
            "sample; below 1, likely tokens become more likely; 0: do not sample",
            sampling=True,
            flag=True,
        ),
    )
    top_k: int = field(
        default=0,
        metadata=_metadata(
            _COUNT, "sample among this number of the most likely tokens; 0: all tokens", sampling=True, flag=True
        ),
    )
    top_p: float = field(
        default=1.0,
        metadata=_metadata(
            _SHARE, "sample among the most likely tokens that have this probability together", sampling=True, flag=True
        ),
    )
    min_p: float = field(
        default=0.0,
        metadata=_metadata(
            Number(0, 1), "sample among tokens with at least this share of the highest probability", sampling=True
        ),
    )
    typical_p: float = field(
        default=1.0,
        metadata=_metadata(
            _SHARE, "sample among the most typical tokens that have this probability together", sampling=True
        ),
    )
    seed: int | None = field(
        default=None,
        metadata=_metadata(
            _MAYBE_COUNT, "sample; the same seed draws the same tokens, in any batch", published=False, flag=True
        ),
    )
    repetition_penalty: float = field(
        default=1.0,
        metadata=_metadata(
            _FACTOR, "above 1, tokens of the prompt and the answer become less likely (Keskar et al., 2019)"
        ),
    )
    presence_penalty: float = field(
        default=0.0,
        metadata=_metadata(_ANY, "subtracted once from the score of each token that the answer has", published=False),
    )
    frequency_penalty: float = field(
        default=0.0,
        metadata=_metadata(_ANY, "subtracted from a token's score each time that the answer has it", published=False),
    )
    no_repeat_ngram_size: int = field(
        default=0, metadata=_metadata(_COUNT, "sequences of this many tokens occur only once; 0: off")
    )
    bad_words: tuple[Tokens, ...] = field(
        default=(),
        metadata=_metadata(
            TokenSequences(), "sequences of token ids that an answer must not contain", aliases=("bad_words_ids",)
        ),
    )
    logit_bias: tuple[tuple[int, float], ...] = field(
        default=(),
        metadata=_metadata(
            TokenBiases(),
            "numbers that are added to the scores of tokens, before all other changes, by token id",
            published=False,
        ),
    )
    suppress_tokens: Tokens = field(
        default=(), metadata=_metadata(TokenIds(), "token ids that an answer must not contain")
    )
    begin_suppress_tokens: Tokens = field(
        default=(), metadata=_metadata(TokenIds(), "token ids that an answer must not begin with")
    )
    encoder_repetition_penalty: float = field(
        default=1.0, metadata=_metadata(_FACTOR, "above 1, tokens of the encoder's input become more likely")
    )
    encoder_no_repeat_ngram_size: int = field(
        default=0,
        metadata=_metadata(_COUNT, "sequences of this many tokens of the encoder's input must not occur; 0: off"),
    )
    stop: tuple[str, ...] = field(
        default=(),
        metadata=_metadata(
            Texts(),
            "a text that ends the answer and is not part of it",
            published=False,
            flag=True,
        ),
    )
    stop_strings: tuple[str, ...] = field(
        default=(),
        metadata=_metadata(Texts(), "a text after which the answer ends, with the token that completes it"),
    )
    keep_special_tokens: tuple[str, ...] = field(
        default=(),
        metadata=_metadata(Texts(), "a special token that stays in the text of an answer", published=False),
    )
    num_return_sequences: int = field(
        default=1, metadata=_metadata(_ONE_OR_MORE, "answers to each input", published=False)
    )
    length_penalty: float = field(
        default=1.0, metadata=_metadata(_ANY, "of beams; above 0, longer answers score higher")
    )
    early_stopping: bool | Literal["never"] = field(
        default=False,
        metadata=_metadata(Flag(("never",)), "whether a beam search ends once num_beams answers are complete"),
    )
    renormalize_logits: bool = field(
        default=False, metadata=_metadata(Flag(), "of beams; normalize the scores after all processors")
    )
    min_length: int = field(
        default=0,
        metadata=_metadata(
            _COUNT, "tokens before which no answer ends, the decoder's prompt included; min_new_tokens wins"
        ),
    )
    min_new_tokens: int = field(default=0, metadata=_metadata(_COUNT, "generated tokens before which no answer ends"))
    prompt_lookup_tokens: int = field(
        default=0,
        metadata=_metadata(
            _COUNT,
            "tokens that are guessed from the prompt and checked in one step; 0: off",
            aliases=("prompt_lookup_num_tokens",),
            published=False,
        ),
    )
    logprobs: int | None = field(
        default=None,
        metadata=_metadata(
            _MAYBE_COUNT, "report each token's log probability, and this number of the likeliest", published=False
        ),
    )

    def __post_init__(self) -> None:
        for info in option_infos().values():
            if fault := info.kind.fault(getattr(self, info.name)):
                raise _invalid(info.name, *fault)
        for contradicts, message, hint in _CONTRADICTIONS:
            if contradicts(self):
                raise UsageError(message, hint=hint)

    def with_options(self, **options: Any) -> Self:
        """A copy with other values, by name or alias; None leaves a value as it is.

        Sampling options and a seed turn on ``do_sample``; one token id or one text stands for a list of one. A value
        given here wins over a default of the model that contradicts it.

        Raises:
            UsageError: an unknown name, an invalid value, or two that contradict each other.
        """
        names = option_names()
        if unknown := sorted(name for name, value in options.items() if value is not None and name not in names):
            known = ", ".join(sorted(option_infos()))
            raise UsageError(f"no generation option {', '.join(unknown)}", hint=f"The options are: {known}.")
        chosen = {names[name]: parse(names[name], value) for name, value in options.items() if value is not None}
        return replace(self, **self._over_defaults(_with_sampling(chosen)))

    def _over_defaults(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """The chosen values, and those of defaults that would contradict them."""
        found = dict(chosen)
        if "max_new_tokens" in chosen:
            found["max_length"] = None
        elif isinstance(chosen.get("max_length"), int):
            found["max_new_tokens"] = chosen["max_length"]  # the prompt is subtracted when its length is known
        longest = found.get("max_new_tokens")
        if isinstance(longest, int) and "min_new_tokens" not in chosen:
            found["min_new_tokens"] = min(self.min_new_tokens, longest)
        one_sequence = chosen.get("prompt_lookup_tokens") or chosen.get("logprobs") is not None
        if (chosen.get("do_sample") is True or one_sequence) and "num_beams" not in chosen:
            found["num_beams"] = 1
        if "num_beams" in chosen and "do_sample" not in chosen:
            found["do_sample"] = self.do_sample and chosen["num_beams"] == 1
        return found


@cache
def option_infos() -> Mapping[str, OptionInfo]:
    """Every option by its name, in the order of the fields."""
    return {
        one.name: OptionInfo(name=one.name, default=one.default, **one.metadata) for one in fields(GenerationOptions)
    }


@cache
def option_names() -> Mapping[str, str]:
    """Every name and alias -> the name of the option."""
    return {alias: info.name for info in option_infos().values() for alias in (info.name, *info.aliases)}


def parse(name: str, value: Any) -> Any:
    """A value of an option as it is stored: lists as tuples, a single token or text as a tuple of one.

    Raises:
        UsageError: the option is a list or a dict, and the value is not.
    """
    kind = option_infos()[name].kind
    try:
        return kind.parse(value)
    except TypeError:
        if isinstance(kind, TokenBiases):
            raise UsageError(
                f"{name} is {value!r}, and must be a dict", hint="Give token ids with numbers: {42: -100}."
            ) from None
        raise UsageError(f"{name} is {value!r}, and must be a list", hint="Give a list, even of one.") from None


def _with_sampling(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The options with ``do_sample`` where others turn it on; servers' users call temperature 0 greedy decoding."""
    neutral = {info.name: info.default for info in option_infos().values() if info.sampling}
    named = any(name in chosen for name in neutral) or ("seed" in chosen and "num_beams" not in chosen)
    effective = [name for name, off in neutral.items() if chosen.get(name, off) != off]
    greedy = chosen.get("temperature") == 0
    if greedy and chosen.get("do_sample") is True:
        raise UsageError("temperature=0 and do_sample=True contradict each other", hint="Remove one of them.")
    if greedy:
        return {**chosen, "temperature": 1.0, "do_sample": False}
    if effective and chosen.get("do_sample") is False:
        raise UsageError(
            f"{' and '.join(effective)} and do_sample=False contradict each other",
            hint="Set do_sample=True, or remove it.",
        )
    return {"do_sample": True, **chosen} if named else dict(chosen)


def _invalid(name: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"{name} is {value!r}, and must be {expected}", hint=f"Give another {name}, or omit it.")


#: Whether two options contradict each other, the message, and the hint.
_CONTRADICTIONS: tuple[tuple[Callable[[GenerationOptions], bool], str, str], ...] = (
    (
        lambda options: options.do_sample and options.temperature == 0,
        "the model's temperature is 0, which takes the most likely token, and do_sample draws tokens",
        "Set temperature to a number above 0, or remove the options that sample.",
    ),
    (
        lambda options: options.num_beams > 1 and options.do_sample,
        "num_beams and do_sample cannot be combined",
        "Remove one of them.",
    ),
    (
        lambda options: options.num_beams == 1 and options.num_return_sequences > 1 and not options.do_sample,
        "num_return_sequences is greater than 1, and without do_sample all sequences would be equal",
        "Set do_sample=True, or num_beams to the same number.",
    ),
    (
        lambda options: 1 < options.num_beams < options.num_return_sequences,
        "num_return_sequences is greater than num_beams",
        "Set num_beams to the same number.",
    ),
    (
        lambda options: options.min_new_tokens > options.max_new_tokens,
        "min_new_tokens is greater than max_new_tokens",
        "Set max_new_tokens to the same number.",
    ),
    (
        lambda options: options.prompt_lookup_tokens > 0 and max(options.num_beams, options.num_return_sequences) > 1,
        "prompt_lookup_tokens works with one sequence, not with num_beams or num_return_sequences",
        "Set prompt_lookup_tokens=0.",
    ),
    (
        lambda options: options.num_beams > 1 and options.logprobs is not None,
        "num_beams and logprobs cannot be combined",
        "Set num_beams=1; a beam has a score of its own.",
    ),
)
