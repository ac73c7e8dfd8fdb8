"""Messages to a prompt, by the model's chat template.

:mod:`gpux.inspect.chat_template` has the places of templates. The tokenizer's special tokens, with the defaults of its
class, are variables of the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gpux.errors import ChatTemplateError, UsageError
from gpux.inspect.chat_template import chat_templates, chosen
from gpux.model.effective import is_effective
from gpux.model.json_file import read_json, read_optional_json
from gpux.pipelines.chat.environment import render
from gpux.pipelines.chat.messages import (
    Message,
    as_parts,
    as_text,
    checked,
    guarded,
    plain,
    schemas,
    shows,
    with_text_arguments,
)
from gpux.pipelines.text.effective import TokenizerFiles, special_tokens

_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MARK = "THEANSWERGOESONHERE"  #: put at the end of a message that is continued


@dataclass(frozen=True)
class ChatTemplate:
    """The chat templates of a model. Safe to use from many threads.

    Args:
        templates: name -> jinja2 source; ``default`` is used unless another is named.
        special_tokens: name (``bos_token`` …) -> text; variables of every template.
    """

    templates: Mapping[str, str]
    special_tokens: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The templates of a stored model's folder; none if the model was not trained for chat.

        Raises:
            CorruptFileError: a file is not JSON, or not UTF-8.
        """
        config = read_json(folder / "tokenizer_config.json")
        found = chat_templates(folder)
        files = TokenizerFiles.find([folder])
        if files is not None:
            return cls(found, special_tokens(files, finished=is_effective(files.config)))
        return cls(found, _tokens(read_optional_json(folder / "special_tokens_map.json")) | _tokens(config))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the templates."""
        return tuple(sorted(self.templates))

    def choose(self, template: str | None = None, *, tools: bool = False) -> str:
        """The source of a template: the one named or given as text, ``tool_use`` if tools are given, or ``default``.

        Raises:
            UsageError: no template has this name.
            ChatTemplateError: the model has no template, or several without a default.
        """
        if template is not None:
            return self._named(template)
        if (found := chosen(self.templates, tools=tools)) is not None:
            return found
        if not self.templates:
            raise ChatTemplateError(
                "this model has no chat template: it was not trained for chat",
                hint="Use a plain prompt, or give chat_template=.",
            )
        raise ChatTemplateError(
            f"this model has several chat templates and no default: {', '.join(self.names)}",
            hint="Name one with chat_template=.",
        )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template: str | None = None,
        **variables: Any,
    ) -> str:
        """The prompt, special tokens included: a tokenizer must not add them again.

        Equal to transformers' ``apply_chat_template(…, tokenize=False)``, with two exceptions: arguments of tool calls
        may be JSON text, which templates get as an object, or as text where they support only that; and a content of
        one text part and a plain text replace each other where the template supports only one of them.

        Args:
            messages: dicts with ``role`` and ``content``.
            tools: JSON schemas, or functions with types and a Google-style docstring.
            documents: dicts, usually with ``title`` and ``text``.
            add_generation_prompt: end with the beginning of the assistant's answer.
            continue_final_message: end within the last message, which the model continues; no answer begins.
            template: name of one of the model's templates, or the source of another one.
            variables: further variables of the template, such as ``enable_thinking``.

        Raises:
            InputError: messages, tools, documents or variables have a wrong form.
            UsageError: no template has this name.
            ChatTemplateError: no template, a broken one, or one that refuses these messages.
        """
        found, described = checked(messages), schemas(tools)
        source = self.choose(template, tools=described is not None)
        given = {
            **self.special_tokens,
            **plain(variables, "a variable"),
            "tools": described,
            "documents": None if documents is None else plain(list(documents), "a document"),
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
        }
        if not continue_final_message:
            return _either(source, given, found)
        return _continued(_either(source, given, _marked(found)), found[-1])

    def _named(self, template: str) -> str:
        if template in self.templates:
            return self.templates[template]
        if "{" not in template:  # every template has one
            known = f"the model has {', '.join(self.names)}" if self.templates else "the model has none"
            hint = "Give one of these names, or the text of a template." if self.templates else "Give its text."
            raise UsageError(f"no chat template has the name {template!r}: {known}", hint=hint)
        return template


def _either(source: str, given: Mapping[str, Any], messages: list[Message]) -> str:
    """Render; if the template reads arguments of calls or content in the other form, render with that form."""
    try:
        return _with_content(source, given, messages)
    except ChatTemplateError:
        texts = with_text_arguments(messages)
        if texts == messages:
            raise
        return _with_content(source, given, texts)


def _with_content(source: str, given: Mapping[str, Any], messages: list[Message]) -> str:
    """Render; if the template reads content in the other form, as text or as parts, render with that form."""
    try:
        text = render(source, {**given, "messages": guarded(messages)})
    except ChatTemplateError:
        flat = as_text(messages)
        if flat is None or flat == messages:
            raise
        return render(source, {**given, "messages": flat})
    if shows(text, messages[-1]):
        return text
    # a template that loops over parts silently finds none in a text, and the reverse
    others = as_parts(messages) if isinstance(messages[-1].get("content"), str) else as_text(messages)
    if others is None:
        return text
    try:
        other = render(source, {**given, "messages": others})
    except ChatTemplateError:
        return text
    return other if shows(other, messages[-1]) else text


def _marked(messages: list[Message]) -> list[Message]:
    """The messages with :data:`_MARK` at the end of the last text."""
    last = dict(messages[-1])
    content = last.get("content")
    if isinstance(content, str):
        last["content"] = f"{content}{_MARK} "
        return [*messages[:-1], last]
    parts = list(content or ())
    for index in reversed(range(len(parts))):
        if "text" in parts[index]:
            parts[index] = {**parts[index], "text": f"{parts[index]['text']}{_MARK} "}
            return [*messages[:-1], {**last, "content": parts}]
    raise ChatTemplateError("the last message has no text that could be continued", hint="Omit continue_final_message.")


def _continued(text: str, last: Message) -> str:
    """The prompt up to the mark; without spaces before it if the template trims its messages."""
    before, mark, after = text.rpartition(_MARK)
    if not mark:
        raise ChatTemplateError(
            f"the chat template does not render the end of the last message, of the role {last['role']}",
            hint="Omit continue_final_message.",
        )
    return before if after.startswith(" ") else before.rstrip()


def _tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens as text: the standard ones, the model's own (``extra_special_tokens``) and additional ones."""
    extra = config.get("extra_special_tokens")
    named = {name: config.get(name) for name in _TOKENS} | (extra if isinstance(extra, dict) else {})
    found: dict[str, Any] = {name: text for name, token in named.items() if (text := _content(token))}
    more = config.get("additional_special_tokens")
    if isinstance(more, list) and more:
        found["additional_special_tokens"] = [text for token in more if (text := _content(token))]
    return found


def _content(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
