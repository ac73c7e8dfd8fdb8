"""Messages to a prompt, by the chat template that a model came with.

Where templates lie, as transformers' tokenizers and processors write them: ``chat_template.jinja`` beside
``additional_chat_templates/NAME.jinja``, else ``chat_template`` in ``tokenizer_config.json`` (a text, or a list of
``{"name", "template"}``), else ``chat_template.json``. The special tokens of ``tokenizer_config.json`` and
``special_tokens_map.json`` are variables of the template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gpux.errors import ChatTemplateError, CorruptFileError, UsageError
from gpux.model.info import read_json
from gpux.pipelines.chat.messages import Message, as_parts, as_text, checked, guarded, plain, shows
from gpux.pipelines.chat.tools import schemas

_FOLDERS = ("chat_templates", "additional_chat_templates")
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MARK = "THEANSWERGOESONHERE"  # where a message that is to be continued ends


@dataclass(frozen=True)
class ChatTemplate:
    """The chat templates of a model. Safe to use from many threads.

    Args:
        templates: name -> jinja2 source; the one that is used unless another is named is ``default``.
        special_tokens: name (``bos_token`` …) -> text: variables of every template.
    """

    templates: Mapping[str, str]
    special_tokens: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The templates of a stored model's folder; none at all where the model was not made for chat.

        Raises:
            CorruptFileError: a file that is no JSON, or no UTF-8.
        """
        config = read_json(folder / "tokenizer_config.json")
        found = _named(read_json(folder / "chat_template.json").get("chat_template"))
        found |= _named(config.get("chat_template"))
        found |= dict(_files(folder))
        return cls(found, _tokens(read_json(folder / "special_tokens_map.json")) | _tokens(config))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the templates; empty where there are none."""
        return tuple(sorted(self.templates))

    def choose(self, template: str | None = None, *, tools: bool = False) -> str:
        """The source of a template: the one that is named or given whole, ``tool_use`` for tools, or ``default``.

        Raises:
            UsageError: no template has this name.
            ChatTemplateError: the model has none, or several and none is the default.
        """
        if template is not None:
            return self._asked(template)
        for name in ("tool_use", "default") if tools else ("default",):
            if name in self.templates:
                return self.templates[name]
        if not self.templates:
            raise ChatTemplateError(
                "this model has no chat template: it was not made for chat",
                hint="Use a plain prompt, or give chat_template=.",
            )
        raise ChatTemplateError(
            f"this model has several chat templates and none is the default: {', '.join(self.names)}",
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

        Gives what transformers' ``apply_chat_template(…, tokenize=False)`` gives, with two exceptions: arguments of
        tool calls may be JSON text, and a content of one text part and a plain text stand for each other where the
        template only knows one of them.

        Args:
            messages: dicts with ``role`` and ``content``.
            tools: JSON schemas, or functions with types and a Google-style docstring.
            documents: dicts, usually with ``title`` and ``text``.
            add_generation_prompt: end with what opens the assistant's answer.
            continue_final_message: end within the last message, for the model to go on with it; no answer is opened.
            template: name of one of the model's templates, or the source of another.
            variables: whatever else the template knows, such as ``enable_thinking``.

        Raises:
            InputError: messages, tools, documents or variables in no form that a template takes.
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

    def _asked(self, template: str) -> str:
        if template in self.templates:
            return self.templates[template]
        if "{" not in template:  # every template has some
            there = f"there are {', '.join(self.names)}" if self.templates else "it has none"
            raise UsageError(
                f"no chat template has the name {template!r}: {there}", hint="Give a name, or a template's whole text."
            )
        return template


def _either(source: str, given: Mapping[str, Any], messages: list[Message]) -> str:
    """Render; where the template wants content in the other form, as text or as parts, give it that."""
    from gpux.pipelines.chat.environment import render  # jinja2 is for those who chat

    try:
        text = render(source, {**given, "messages": guarded(messages)})
    except ChatTemplateError:
        flat = as_text(messages)
        if flat is None or flat == messages:
            raise
        return render(source, {**given, "messages": flat})
    if shows(text, messages[-1]):
        return text
    # a template that walks through parts finds none in a text, and leaves it out without a word; and the other way
    others = as_parts(messages) if isinstance(messages[-1].get("content"), str) else as_text(messages)
    if others is None:
        return text
    try:
        other = render(source, {**given, "messages": others})
    except ChatTemplateError:
        return text
    return other if shows(other, messages[-1]) else text


def _marked(messages: list[Message]) -> list[Message]:
    """The messages with a mark at the end of the last text."""
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
    raise ChatTemplateError(
        "the last message has no text that could be continued", hint="Leave continue_final_message away."
    )


def _continued(text: str, last: Message) -> str:
    """The prompt up to the mark; spaces before it go where the template trims its messages."""
    before, mark, after = text.rpartition(_MARK)
    if not mark:
        raise ChatTemplateError(
            f"the chat template does not show the end of the last message, of the role {last['role']}",
            hint="Leave continue_final_message away.",
        )
    return before if after.startswith(" ") else before.rstrip()


def _named(found: Any) -> dict[str, str]:
    """Templates of a JSON file: a text, a dict, or a list of names and templates."""
    if isinstance(found, str):
        return {"default": found}
    if isinstance(found, list):
        found = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
    if not isinstance(found, dict):
        return {}
    return {name: text for name, text in found.items() if isinstance(name, str) and isinstance(text, str)}


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for name in _FOLDERS:
        for file in sorted((folder / name).glob("*.jinja")):
            yield file.stem, _read(file)
    if (folder / "chat_template.jinja").is_file():
        yield "default", _read(folder / "chat_template.jinja")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise CorruptFileError(f"{file} is no UTF-8 text", hint="Run `gpux verify`.", path=file) from exc


def _tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens as text: the known ones, those that a model adds, and the list of further ones."""
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
