"""The parameters of requests: which are supported, accepted without effect, or refused.

The fields of the request classes are the table: each is annotated with its status, and both the checks of a request
and the tables of the documentation are derived from them. A field that no class has is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, cast, get_args, get_type_hints

import msgspec
from msgspec import Meta

from gpux.errors import UsageError

#: ``extension``: not of OpenAI's API; its Python client sends it with ``extra_body``.
Status = Literal["supported", "extension", "without effect", "refused"]


def supported(text: str) -> Meta:
    """A parameter that does what OpenAI's does; ``text`` says what is specific to gpux."""
    return Meta(description=text, extra={"status": "supported"})


def extension(text: str) -> Meta:
    """A parameter of local servers that OpenAI's API does not have."""
    return Meta(description=text, extra={"status": "extension"})


def ignored(text: str, *values: Any) -> Meta:
    """A parameter that changes nothing, and whose values other than these are refused; without values, any."""
    return Meta(description=text, extra={"status": "without effect", "values": values})


def refused(text: str, *values: Any) -> Meta:
    """A parameter that is not supported; ``values`` are those that ask for nothing."""
    return Meta(description=text, extra={"status": "refused", "values": values})


@dataclass(frozen=True)
class Parameter:
    """One parameter of a request."""

    name: str
    status: Status
    text: str
    kind: Any  #: type of its values
    values: tuple[Any, ...]  #: that are accepted, of one without effect or refused; null always is


@cache
def parameters(body: type[msgspec.Struct]) -> tuple[Parameter, ...]:
    """The parameters of a request, in the order of its fields."""
    found = []
    hints = get_type_hints(body, include_extras=True)
    for field in msgspec.structs.fields(body):
        kind, *limits, meta = get_args(hints[field.encode_name])
        for limit in limits:  # nested annotations arrive as one
            kind = Annotated[kind, limit]
        extra = cast(Mapping[str, Any], meta.extra)
        found.append(Parameter(field.encode_name, extra["status"], meta.description, kind, extra.get("values", ())))
    return tuple(found)


def check(body: msgspec.Struct, place: str = "") -> None:
    """Refuse what a request, or the object at a place of it, must not contain.

    Raises:
        UsageError: a parameter is refused, or has a value that is; ``param`` names it.
    """
    for parameter in _limited(type(body)):
        value = getattr(body, parameter.name)
        if value is None or _is_one_of(value, parameter.values):
            continue
        name = place + parameter.name
        if parameter.status == "refused":
            hint = f"{parameter.text[0].upper()}{parameter.text[1:]}."
            raise UsageError(f"{name} is not supported", hint=hint, param=name)
        if parameter.values:
            accepted = " or ".join(msgspec.json.encode(one).decode() for one in parameter.values)
            raise UsageError(f"{name} has no effect, and may only be {accepted}", hint="Omit it.", param=name)


@cache
def _limited(body: type[msgspec.Struct]) -> tuple[Parameter, ...]:
    return tuple(one for one in parameters(body) if one.status in ("refused", "without effect"))


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    """Equal to one of the values, and of its type: True is not 1."""
    return any(type(value) is type(one) and value == one for one in values)


# Types that several requests use

_MOST = (1 << 31) - 1
Text = Annotated[str, Meta(min_length=1)]
Stop = Text | list[Text]
Count = Annotated[int, Meta(ge=1, le=_MOST)]
Whole = Annotated[int, Meta(ge=0, le=_MOST)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Copies = Annotated[int, Meta(ge=1, le=128)]
Alternatives = Annotated[int, Meta(ge=0, le=20)]
Bias = dict[str, Annotated[float, Meta(ge=-100, le=100)]]


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """``stream_options``."""

    include_usage: Annotated[bool | None, supported("a last chunk without choices counts the tokens")] = None
    include_obfuscation: Annotated[bool | None, ignored("chunks are never padded", False)] = None


class Sampling(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What requests for generated text have in common."""

    model: Annotated[str, supported("reference of a stored model, such as `org/name` or `org/name:int4`")]
    n: Annotated[
        Copies | None,
        supported("answers to each prompt; above 1, tokens are sampled, and `temperature: 0` is refused"),
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None,
        supported("0: always the most likely token; null: as the model's `generation_config.json` says"),
    ] = None
    top_p: Annotated[Share | None, supported("0 leaves the most likely token only")] = None
    seed: Annotated[
        Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None,
        supported("samples; the same seed gives the same tokens, whatever runs at the same time"),
    ] = None
    stop: Annotated[Stop | None, supported("any number of texts, not only four; they are not part of the answer")] = (
        None
    )
    presence_penalty: Annotated[Penalty | None, supported("counts generated tokens only")] = None
    frequency_penalty: Annotated[Penalty | None, supported("counts generated tokens only")] = None
    stream: Annotated[bool | None, supported("server-sent events that end with `data: [DONE]`")] = None
    stream_options: Annotated[StreamOptions | None, supported("only with `stream: true`")] = None
    user: Annotated[str | None, ignored("not stored")] = None

    # Not of OpenAI's API
    top_k: Annotated[
        Annotated[int, Meta(ge=-1, le=_MOST)] | None, extension("sample among this number of tokens; 0 and -1: all")
    ] = None
    min_p: Annotated[
        Share | None, extension("sample among tokens with at least this share of the highest probability")
    ] = None
    typical_p: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        extension("sample among the most typical tokens that have this probability together"),
    ] = None
    repetition_penalty: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        extension("above 1, tokens of the prompt and the answer become less likely"),
    ] = None
    no_repeat_ngram_size: Annotated[
        Whole | None, extension("sequences of this many tokens occur only once; 0: off")
    ] = None
    min_tokens: Annotated[Whole | None, extension("tokens before which no answer ends")] = None
