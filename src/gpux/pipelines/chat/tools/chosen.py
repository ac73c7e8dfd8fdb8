"""How a model writes tool calls and reasoning, by its chat template."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpux.inspect.chat_styles import (
    HARMONY,
    ReasoningStyle,
    ToolStyle,
    is_harmony,
    opened,
    reasoning_style,
    tool_style,
)
from gpux.pipelines.chat.tools.harmony import HarmonyParser
from gpux.pipelines.chat.tools.parser import AnswerParser, Parser

#: Marks within calls.
_WITHIN = {"mistral": ("[ARGS]", "[CALL_ID]"), "deepseek": ("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>")}


@dataclass(frozen=True)
class Parts:
    """How the answers of a chat template are taken apart.

    >>> parts = Parts.of(pipe.chat_template.choose(tools=True), pipe.special_tokens)
    >>> parser = parts.parser(prompt, tools=names)
    >>> for piece in pipe.stream(messages, tools=tools, keep_special_tokens=parts.marks):
    ...     for event in parser.feed(piece):
    ...         print(event)
    >>> parser.finish()
    """

    tools: ToolStyle | None
    reasoning: ReasoningStyle | None
    harmony: bool = False

    @classmethod
    def of(cls, template: str, special_tokens: Collection[str] = ()) -> Parts:
        """Those of a template, jinja2 source, of a model whose tokenizer has these special tokens."""
        if is_harmony(template):
            return cls(tool_style(template, special_tokens), None, True)
        return cls(tool_style(template, special_tokens), reasoning_style(template, special_tokens))

    @property
    def reasons(self) -> bool:
        """Whether answers may have reasoning."""
        return self.harmony or self.reasoning is not None

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that must stay in an answer for its parser, although they may be special tokens."""
        found: list[str] = []
        if self.harmony:
            found += [*HARMONY.opens, *HARMONY.closes, "<|message|>", "<|constrain|>"]
        elif self.tools is not None:
            found += [*self.tools.opens, *self.tools.closes, *_WITHIN.get(self.tools.family, ())]
        if self.reasoning is not None:
            found += [self.reasoning.opens, self.reasoning.closes]
        return tuple(found)

    def parser(self, prompt: str = "", tools: Collection[str] | None = ()) -> Parser | None:
        """The parser of an answer to a prompt; None if no part of it can be anything but content.

        Args:
            prompt: as the template rendered it; its end says whether the answer begins within reasoning.
            tools: names of the tools that may be called, or :func:`schemas_of` them, by which values that are written
                as texts are read; none: no text is a call. None: any name is one.
        """
        calls = tools is None or len(tools) > 0
        if self.harmony:
            return HarmonyParser(tools, calls=calls)
        style = self.tools if calls else None
        if style is None and self.reasoning is None:
            return None
        return AnswerParser(style, self.reasoning, tools, in_reasoning=opened(prompt, self.reasoning))


def schemas_of(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The names of tools, each with the JSON schema of its arguments."""
    described = [tool.get("function", tool) for tool in tools]
    return {str(one["name"]): one.get("parameters") for one in described}
