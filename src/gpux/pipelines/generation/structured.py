"""Structured output: JSON by a schema, any JSON object, or a regular expression, enforced token by token.

llguidance (extra ``structured``) decides which tokens are allowed; this is its only importer. The formats are those of
``response_format`` in OpenAI's API, ``{"type": "regex", "pattern": …}``, and ``{"type": "lark", "grammar": …}``, a
grammar in llguidance's variant of Lark.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import RunError, UnsupportedError, UsageError
from gpux.runtime.generation.choose.row import Constraint

if TYPE_CHECKING:
    import tokenizers
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

Scores = NDArray[np.float32]
_FORMS = (
    'Give a JSON schema, {"type": "json_schema", "json_schema": {"schema": …}}, {"type": "json_object"}, '
    '{"type": "regex", "pattern": …} or {"type": "lark", "grammar": …}.'
)
#: A schema's own ``x-guidance`` may not change these. Whitespace in JSON is limited to a space, or a new line with
#: its indent, since an uncertain model could generate whitespace forever. Parts of a schema that the library cannot
#: enforce are an error, and are not ignored.
_OPTIONS: JsonCompileOptions = {
    "whitespace_pattern": r"( |\n {0,16})?",
    "whitespace_flexible": True,
    "lenient": False,
}
_NEVER = np.float32(-np.inf)
#: An attribute of the tokenizer, to live as long; tokenizers < 0.23 does not support weak references.
_KEPT = "_gpux_vocabularies"
_keeping = Lock()


class GrammarConstraint:
    """The format of one answer, as a :class:`Constraint`. For one generation in one thread.

    Args:
        matcher: at the beginning of the answer.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    @property
    def finished(self) -> bool:
        """Whether only an end token is allowed."""
        return bool(self._matcher.is_stopped())

    def mask(self, scores: Scores) -> Scores:
        """Set the scores of tokens that are not allowed to -inf, in place; float32 ``[vocabulary]``.

        End tokens are allowed where the answer may end. Entries beyond the tokenizer's vocabulary are padding, and are
        never allowed.

        Raises:
            RunError: no token is allowed, or the format became too complex.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        forbidden = np.unpackbits(~bits, bitorder="little")[: scores.size].view(np.bool_)
        if forbidden.all():
            raise _stuck("no token fits")
        scores[: forbidden.size][forbidden] = _NEVER
        scores[forbidden.size :] = _NEVER
        return scores

    def accept(self, token: int) -> None:
        """Advance by a token.

        Raises:
            RunError: the token is not allowed here.
        """
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _stuck(_words(self._matcher.get_error()))


def answer_format(
    tokenizer: tokenizers.Tokenizer, response_format: Any, end_tokens: Sequence[int] = ()
) -> Callable[[], Constraint] | None:
    """A function that builds the constraint of each answer, for a ``response_format``; None if any text is allowed.

    Args:
        tokenizer: the model's own; its vocabulary in llguidance's form is kept as long as it lives.
        response_format: ``{"type": "text" | "json_object" | "json_schema" | "regex" | "lark", …}``, a JSON schema, or
            a class with ``model_json_schema()``, such as a pydantic model.
        end_tokens: ids of the tokens that end an answer.

    Raises:
        UsageError: the format is unknown, or its schema or pattern is invalid or cannot be enforced.
        UnsupportedError: llguidance is not installed, or does not support this tokenizer.
    """
    named = _grammar(response_format)
    if named is None:
        return None
    what, grammar = named
    from llguidance import LLMatcher, LLParserLimits

    brief = LLParserLimits(verbose_errors=False)
    first = LLMatcher(_vocabulary(tokenizer, tuple(end_tokens)), grammar, log_level=0, limits=brief)
    if first.is_error():
        raise UsageError(f"{what} cannot be used: {_words(first.get_error())}", hint=_FORMS)
    return lambda: GrammarConstraint(first.deep_copy())


def special_tokens(tokenizer: tokenizers.Tokenizer, end_tokens: Sequence[int] = ()) -> dict[str, int]:
    """Name -> id of the tokens that a grammar names by ``<[id]>``, as it does not read them as text.

    These are special tokens, and further added ones whose names look like special tokens: ``<tool_call>`` of Qwen.

    Args:
        tokenizer: of the model.
        end_tokens: ids of the tokens that end an answer.

    Raises:
        UnsupportedError: llguidance is not installed, or does not support this tokenizer.
    """
    _matcher_class()
    vocabulary = _vocabulary(tokenizer, tuple(end_tokens))
    added = tokenizer.get_added_tokens_decoder()
    return {token.content: id for id, token in added.items() if vocabulary.is_special_token(id)}


def json_constraint(tokenizer: tokenizers.Tokenizer, schema: Any, end_tokens: Sequence[int] = ()) -> Constraint:
    """The constraint of one answer; see :func:`answer_format`.

    Raises:
        UsageError: as there, and for ``{"type": "text"}``, which constrains nothing.
    """
    build = answer_format(tokenizer, schema, end_tokens)
    if build is None:
        raise UsageError("response_format of the type text does not constrain an answer", hint=_FORMS)
    return build()


def _grammar(response_format: Any) -> tuple[str, str] | None:
    """The name of the format for messages, and its grammar in llguidance's form."""
    if hasattr(response_format, "model_json_schema"):
        return _of_schema(response_format.model_json_schema())
    if not isinstance(response_format, Mapping):
        raise UsageError(f"response_format is {type(response_format).__name__}, and must be a dict", hint=_FORMS)
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return _of_schema({"type": "object"})
    if kind == "json_schema":
        named = response_format.get("json_schema")
        schema = named.get("schema") if isinstance(named, Mapping) else None
        if not isinstance(schema, Mapping):
            raise UsageError('response_format has no schema at ["json_schema"]["schema"]', hint=_FORMS)
        return _of_schema(schema)
    if kind == "lark":
        return _of_grammar(response_format.get("grammar"))
    return _of_pattern(response_format.get("pattern")) if kind == "regex" else _of_schema(response_format)


def _of_schema(schema: Mapping[str, Any]) -> tuple[str, str]:
    matcher = _matcher_class()
    try:
        return "the JSON schema", matcher.grammar_from_json_schema(json.dumps(schema), overrides=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"the JSON schema cannot be used: {_words(str(exc))}", hint=_FORMS) from exc


def _of_pattern(pattern: Any) -> tuple[str, str]:
    if not isinstance(pattern, str) or not pattern:
        raise UsageError("response_format of the type regex has no pattern", hint=_FORMS)
    return "the pattern", _matcher_class().grammar_from_regex(pattern)


def _of_grammar(grammar: Any) -> tuple[str, str]:
    if not isinstance(grammar, str) or not grammar:
        raise UsageError("response_format of the type lark has no grammar", hint=_FORMS)
    return "the grammar", _matcher_class().grammar_from_lark(grammar)


def _matcher_class() -> Any:
    """The class ``LLMatcher``, if llguidance is installed."""
    try:
        from llguidance import LLMatcher
    except ImportError as exc:
        raise UnsupportedError(
            "structured output requires llguidance, which is not installed",
            hint="Install it: pip install 'gpux[structured]'.",
        ) from exc
    return LLMatcher


def _vocabulary(tokenizer: tokenizers.Tokenizer, end_tokens: tuple[int, ...]) -> LLTokenizer:
    """The tokenizer in llguidance's form; kept, since a large vocabulary takes up to a second."""
    from llguidance import LLTokenizer

    # Some configurations name end tokens that do not exist.
    existing = [token for token in end_tokens if tokenizer.id_to_token(token) is not None]
    with _keeping:
        vocabularies: dict[tuple[int, ...], LLTokenizer] | None = getattr(tokenizer, _KEPT, None)
        if vocabularies is None:
            vocabularies = {}
            setattr(tokenizer, _KEPT, vocabularies)
        if end_tokens not in vocabularies:
            try:
                vocabularies[end_tokens] = LLTokenizer(tokenizer.to_str(), eos_token=existing or None)
            except ValueError as exc:
                raise UnsupportedError(
                    f"structured output is not possible with this model's tokenizer: {_words(str(exc))}",
                    hint="Describe the format in the prompt, and check the answer.",
                ) from exc
        return vocabularies[end_tokens]


def _stuck(why: str) -> RunError:
    return RunError(
        f"the answer cannot continue in the requested format: {why}",
        hint="Request a simpler format, or one whose characters this model's tokenizer has.",
    )


def _words(error: str) -> str:
    """An error message of several lines in one line."""
    return " ".join(error.removesuffix("<non-verbose/>").split())[:300]
