"""Log probabilities of tokens, in the two forms of OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

#: What the API gives for tokens that are impossible, since JSON has no infinity.
_LEAST = -9999.0
_UNFINISHED = "\ufffd"  #: of a token that is a part of a character


def of_chat(scores: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """``{"content": [{"token", "logprob", "bytes", "top_logprobs"}]}``; arguments as in :class:`Piece`."""
    content = [
        {**_entry(name, logprob), "top_logprobs": [_entry(*one) for one in top]}
        for name, logprob, top in _named(scores, names)
    ]
    return {"content": content, "refusal": None}


def of_completion(scores: Sequence[Any], names: Sequence[str], offset: int, alternatives: bool) -> dict[str, Any]:
    """``{"tokens", "token_logprobs", "top_logprobs", "text_offset"}``; the text begins at ``offset``."""
    found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for name, logprob, top in _named(scores, names):
        found["tokens"].append(name)
        found["token_logprobs"].append(max(logprob, _LEAST))
        found["top_logprobs"].append({other: max(value, _LEAST) for other, value in top})
        found["text_offset"].append(offset)
        offset += len(name)
    if not alternatives:
        found["top_logprobs"] = None
    return found


def _named(scores: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[str, float, list[tuple[str, float]]]]:
    text = iter(names)
    for _, logprob, top in scores:
        yield next(text), logprob, [(next(text), value) for _, value in top]


def _entry(name: str, logprob: float) -> dict[str, Any]:
    bytes_ = None if _UNFINISHED in name else list(name.encode())
    return {"token": name, "logprob": max(logprob, _LEAST), "bytes": bytes_}
