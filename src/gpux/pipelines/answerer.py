"""A pipeline asked for its answers to the cases of its proof (:mod:`gpux.proof.answers`).

What a pipeline answers follows from what it has: a ``tokenizer``, a ``chat_template``, the method ``encode``; each
answers a call.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol, cast

from gpux.convert.answer_case import CALL, CHAT, ENCODE, TOKENS, AnswerCase
from gpux.errors import UnsupportedError
from gpux.pipelines.base import Pipeline

if TYPE_CHECKING:  # the libraries behind these are imported by the pipelines that need them
    from gpux.pipelines.chat.template import ChatTemplate
    from gpux.pipelines.text.tokenization import Tokenizer

#: kind -> the attribute of a pipeline that answers it
_NEEDED = {TOKENS: "tokenizer", CHAT: "chat_template", ENCODE: "encode", CALL: "__call__"}


class _TextPipeline(Protocol):
    tokenizer: Tokenizer
    sentence_tokenizer: Tokenizer
    chat_template: ChatTemplate

    def encode(self, texts: Any, **options: Any) -> Any: ...

    def __call__(self, inputs: Any, **options: Any) -> Any: ...


class PipelineAnswerer:
    """The answers of one pipeline, in the form of the cases' ``expected``; see :class:`gpux.proof.answers.Answerer`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = cast(_TextPipeline, pipeline)
        self.kinds: Collection[str] = frozenset(kind for kind, name in _NEEDED.items() if hasattr(pipeline, name))

    def answer(self, case: AnswerCase) -> Any:
        """The answer to a case of one of :attr:`kinds`.

        Raises:
            GpuxError: what the pipeline raises.
        """
        return {TOKENS: self._tokens, CHAT: self._chat, ENCODE: self._encode, CALL: self._call}[case.kind](case)

    def length(self, case: AnswerCase) -> int:
        """Tokens of the longest input, with those that are generated; an estimate for inputs that are no texts."""
        if TOKENS not in self.kinds:
            return 0
        inputs = case.inputs
        each = inputs if isinstance(inputs, list) and all(isinstance(item, str) for item in inputs) else [inputs]
        return max(map(self._length, each), default=0) + int(case.options.get("max_new_tokens") or 0)

    def _length(self, inputs: Any) -> int:
        if isinstance(inputs, str):
            return len(self._pipeline.tokenizer.ids(inputs))
        inner = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, list) else ()
        return sum(map(self._length, inner))

    @property
    def _tokenizer(self) -> Tokenizer:
        """The tokenizer of sentence vectors, where the pipeline computes them."""
        try:
            return self._pipeline.sentence_tokenizer
        except (AttributeError, UnsupportedError):
            return self._pipeline.tokenizer

    def _tokens(self, case: AnswerCase) -> dict[str, list[int]]:
        text = tuple(case.inputs) if isinstance(case.inputs, list) else case.inputs
        options, tokenizer = dict(case.options), self._tokenizer
        if options.pop("truncation", False):
            (found,) = tokenizer([text], limit=options.get("max_length", tokenizer.limit))
        else:
            found = tokenizer.tokens(text, **options)
        return {"ids": found.ids, "type_ids": found.type_ids}

    def _chat(self, case: AnswerCase) -> dict[str, Any]:
        text = self._pipeline.chat_template.render(case.inputs, **case.options)
        return {"text": text, "ids": self._pipeline.tokenizer.ids(text, add_special_tokens=False)}

    def _encode(self, case: AnswerCase) -> Any:
        return self._pipeline.encode(case.inputs, **case.options)

    def _call(self, case: AnswerCase) -> Any:
        return self._pipeline(case.inputs, **case.options)
