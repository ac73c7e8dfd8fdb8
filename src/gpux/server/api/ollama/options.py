"""What requests of Ollama's API have in common: their parameters, and the table of their ``options``.

Each option is supported, accepted without effect, or refused; see :mod:`gpux.server.api.openai.parameters`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gpux.errors import UsageError
from gpux.model.units import parse_duration
from gpux.server.api.ollama.names import Name, required
from gpux.server.api.openai.parameters import Alternatives, Penalty, Share, check, ignored, refused, supported
from gpux.server.models import checked_keep_alive

#: The least ``top_p`` of the model, which leaves the most likely token.
_LEAST_SHARE = 1e-9
_MOST = (1 << 31) - 1
_LARGEST_SEED = 1 << 63
_MEMORY = "memory and threads are the server's settings"
_CONTEXT = "the context is the model's own, and a prompt that does not fit is refused"

Whole = Annotated[int, Meta(ge=-_MOST, le=_MOST)]
Number = Annotated[float, Meta(ge=0)]
KeepAlive = float | str | None
Format = str | dict[str, Any] | None
Think = bool | Literal["low", "medium", "high", "max"]


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``options`` of a request."""

    num_predict: Annotated[
        Whole | None,
        supported("tokens of the answer at most; 0 and negative: what the context leaves; without it, at most 2,048"),
    ] = None
    temperature: Annotated[
        Number | None,
        supported("0: always the most likely token; without it, as the model's `generation_config.json` says"),
    ] = None
    top_k: Annotated[
        Annotated[int, Meta(ge=-1, le=_MOST)] | None, supported("sample among this number of tokens; 0 and -1: all")
    ] = None
    top_p: Annotated[Share | None, supported("0 leaves the most likely token only")] = None
    min_p: Annotated[
        Share | None, supported("sample among tokens with at least this share of the highest probability")
    ] = None
    typical_p: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        supported("sample among the most typical tokens that have this probability together"),
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None,
        supported("the same seed gives the same tokens, whatever runs at the same time; -1: a random one"),
    ] = None
    stop: Annotated[
        str | list[Annotated[str, Meta(min_length=1)]] | None,
        supported("texts that end the answer, and are not part of it"),
    ] = None
    repeat_penalty: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        supported("above 1, tokens of the prompt and the answer become less likely"),
    ] = None
    presence_penalty: Annotated[Penalty | None, supported("counts generated tokens only")] = None
    frequency_penalty: Annotated[Penalty | None, supported("counts generated tokens only")] = None

    repeat_last_n: Annotated[
        Whole | None, ignored("the penalties look at everything; 0, which turns `repeat_penalty` off, does so")
    ] = None
    num_ctx: Annotated[Whole | None, ignored(_CONTEXT)] = None
    num_keep: Annotated[Whole | None, ignored(_CONTEXT)] = None
    num_batch: Annotated[Whole | None, ignored(_MEMORY)] = None
    num_gpu: Annotated[Whole | None, ignored(_MEMORY)] = None
    main_gpu: Annotated[Whole | None, ignored(_MEMORY)] = None
    num_thread: Annotated[Whole | None, ignored(_MEMORY)] = None
    numa: Annotated[bool | None, ignored(_MEMORY)] = None
    low_vram: Annotated[bool | None, ignored(_MEMORY)] = None
    use_mmap: Annotated[bool | None, ignored(_MEMORY)] = None
    use_mlock: Annotated[bool | None, ignored(_MEMORY)] = None
    f16_kv: Annotated[bool | None, ignored(_MEMORY)] = None
    draft_num_predict: Annotated[Whole | None, ignored("answers are the same without drafts")] = None
    logits_all: Annotated[bool | None, ignored("`logprobs` reports probabilities", False)] = None
    vocab_only: Annotated[bool | None, ignored("models are loaded whole", False)] = None
    penalize_newline: Annotated[bool | None, ignored("penalties count every token", True)] = None
    mirostat_tau: Annotated[float | None, ignored("it is of mirostat")] = None
    mirostat_eta: Annotated[float | None, ignored("it is of mirostat")] = None
    mirostat: Annotated[Any, refused("use `min_p` or `typical_p`", 0)] = None
    tfs_z: Annotated[Any, refused("use `min_p` or `typical_p`", 1, 1.0)] = None


class Asked(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What ``/api/chat`` and ``/api/generate`` have in common."""

    model: Annotated[Name, supported("reference of a stored model, such as `org/name:int4`")]
    stream: Annotated[bool | None, supported("true by default")] = None
    format: Annotated[Format, supported("`json` or a JSON schema, enforced token by token")] = None
    options: Annotated[Options | None, supported("see below")] = None
    keep_alive: Annotated[
        KeepAlive, supported("seconds, or `5m`; -1: for ever; 0: unload after the answer; by default `--keep-alive`")
    ] = None
    think: Annotated[
        Think | None,
        supported(
            "whether the model reasons, or how much, where its chat template has a variable for it; else refused"
        ),
    ] = None
    logprobs: Annotated[bool | None, supported("of the model's own distribution")] = None
    top_logprobs: Annotated[Alternatives | None, supported("needs `logprobs: true`")] = None
    truncate: Annotated[Any, refused("a prompt that does not fit into the context is refused", False)] = None
    shift: Annotated[Any, refused("an answer ends at the end of the context", False)] = None


def checked(body: Asked) -> dict[str, Any]:
    """The options of the pipeline's call.

    Raises:
        UsageError: a parameter is not supported, or contradicts another.
    """
    check(body)
    if body.options is not None:
        check(body.options, "options.")
    required(body.model)
    if body.top_logprobs and not body.logprobs:
        raise UsageError("top_logprobs needs logprobs: true", hint="Set it, or omit both.", param="top_logprobs")
    found = call_options(body.options)
    if body.logprobs:
        found["logprobs"] = body.top_logprobs or 0
    if (wanted := response_format(body.format)) is not None:
        found["response_format"] = wanted
    return found


def call_options(given: Options | None) -> dict[str, Any]:
    """The options of the pipeline's call; ``max_new_tokens`` is missing without ``num_predict``, and infinite
    for what the context leaves."""
    if given is None:
        return {}
    penalty = None if given.repeat_last_n == 0 else given.repeat_penalty
    most: float | None = given.num_predict
    stops = [given.stop] if isinstance(given.stop, str) else given.stop or []
    found: dict[str, Any] = {
        "max_new_tokens": math.inf if most is not None and most <= 0 else most,
        "temperature": given.temperature,
        "top_p": None if given.top_p is None else max(given.top_p, _LEAST_SHARE),
        "top_k": None if given.top_k is None else max(given.top_k, 0),
        "min_p": given.min_p,
        "typical_p": given.typical_p,
        "repetition_penalty": penalty,
        "presence_penalty": given.presence_penalty,
        "frequency_penalty": given.frequency_penalty,
        "seed": None if given.seed in (None, -1) else given.seed % _LARGEST_SEED,
        "stop": [one for one in stops if one] or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def response_format(wanted: Format) -> dict[str, Any] | None:
    """``format`` as the pipeline takes it: ``json`` or a JSON schema; None and an empty text: any text.

    Raises:
        UsageError: it is another text.
    """
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return {"type": "json_object"}
    if isinstance(wanted, str):
        raise UsageError(f"format is {wanted[:100]!r}", hint='It may be "json" or a JSON schema.', param="format")
    return {"type": "json_schema", "json_schema": {"schema": wanted}}


def keep_alive_seconds(given: KeepAlive) -> float | None:
    """Seconds: ``5m``, ``1h30m``, a number of seconds; infinity for negative ones; None: the server's setting.

    Raises:
        UsageError: it is not a duration.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        return checked_keep_alive(given)
    try:
        return parse_duration(given)
    except ValueError as error:
        raise UsageError(
            f"keep_alive: {error}"[:300], hint="Send 300, 5m, or -1 for ever.", param="keep_alive"
        ) from None
