"""Fixed texts and chats, and the reference tokenizer's answers to them."""

from __future__ import annotations

import datetime as dates
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import jinja2

from gpux.convert.answer_case import CHAT, TOKENS, AnswerCase

TEXTS = {
    "english": "The quick brown fox jumps over the lazy dog, doesn't it?",
    "upper-case": "HELLO World, NASA and McDonald's!",
    "accents": "Déjà vu, São Paulo, Łódź, Việt Nam, İstanbul, Straße.",
    "decomposed": "e\u0301 a\u0308 n\u0303",
    "cyrillic": "Съешь же ещё этих мягких французских булок.",
    "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "chinese": "天地玄黃 我爱北京天安门。",
    "japanese": "こんにちは世界、カタカナとひらがな。",
    "korean": "안녕하세요 세계",
    "arabic": "مرحبا بالعالم، كيف حالك؟",
    "hindi": "नमस्ते दुनिया",
    "thai": "สวัสดีชาวโลก",
    "emoji": "😀 👩‍👩‍👧 🇩🇪 ☕",
    "code": "def f(x: int) -> int:\n    return x ** 2 + a[i]\n\treturn {'k': \"v\"}",
    "address": "<b>a & b</b> http://x.org/?q=1&r=2#s user@mail.com",
    "numbers": "1234567 3.14 2,718 1e-9 0x7F 50%",
    "spaces": "two  spaces   and\ttab \n\n lines",
    "leading-space": " leading",
    "trailing-spaces": "trailing  ",
    "only-spaces": "   ",
    "compatibility": "ﬁne Ω Ｆｕｌｌ ½ № ™ …",
    "invisible": "a\u00a0b\u200bc\u00ad",
    "long-word": "Donaudampfschifffahrtsgesellschaftskapitän " + "ab" * 20,
}
PAIRS = {
    "pair": ("hello world", "die Straße."),
    "unequal-pair": ("我爱", "The quick brown fox jumps over the lazy dog."),
}
_WORDS = "the quick brown fox jumps over the lazy dog and runs away "
#: The largest limit up to which a text beyond it is tokenized.
_LONGEST = 1024
#: A limit that each tokenizer is tried with.
_SHORT = 16
#: Numbers of special tokens and of other added tokens that are put into texts.
_SPECIALS, _ADDED = 8, 4
#: Tasks whose pipelines tokenize pairs of texts.
PAIRED = frozenset(
    (
        "feature-extraction",
        "fill-mask",
        "question-answering",
        "sentence-similarity",
        "text-classification",
        "text-ranking",
        "token-classification",
        "zero-shot-classification",
    )
)
_SYSTEM = {"role": "system", "content": "Answer in one sentence."}
_HELLO = {"role": "user", "content": "Hello! Who are you?"}
_ANSWER = {"role": "assistant", "content": "I am a model."}
_NEXT = {"role": "user", "content": "Où est la gare? 你好"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
#: Name -> messages and options.
CHATS: Mapping[str, tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]] = {
    "one-message": ([_HELLO], {"add_generation_prompt": True}),
    "system": ([_SYSTEM, _HELLO], {"add_generation_prompt": True}),
    "several-turns": ([_HELLO, _ANSWER, _NEXT], {"add_generation_prompt": True}),
    "system-and-turns": ([_SYSTEM, _HELLO, _ANSWER, _NEXT], {"add_generation_prompt": True}),
    "no-generation-prompt": ([_HELLO], {"add_generation_prompt": False}),
}
#: A date for templates that write the current one, as most of them name it.
_DATE = {"date_string": "26 Jul 2024"}
#: Two times without a common part: a prompt that is the same at both does not depend on the time.
_CLOCKS = (dates.datetime(2024, 1, 2, 3, 4, 5), dates.datetime(2031, 11, 23, 16, 57, 48))  # noqa: DTZ001 - local time


#: Texts on which converted tokenizers often differ from those that they were converted from.
_UNUSUAL = ("leading-space", "trailing-spaces", "only-spaces", "decomposed", "invisible", "empty")
#: Ends of the names of texts with special tokens in them.
_AROUND = ("between words", "within a word", "twice", "at both ends")


def is_unusual(name: str) -> bool:
    """Whether the text of a case is one on which converted tokenizers often differ."""
    return name.removeprefix(f"{TOKENS}/") in _UNUSUAL or name.endswith(_AROUND)


@dataclass(frozen=True)
class Questions:
    """What is asked of a tokenizer.

    Attributes:
        tokenizer: of transformers.
        task: the Hub's name.
        limit: the pipeline's limit of tokens, if it differs from the tokenizer's ``model_max_length``.
    """

    tokenizer: Any
    task: str
    limit: int | None = None

    def tokens(self) -> tuple[list[AnswerCase], list[Exception]]:
        """Token ids of the texts, and the errors of the tokenizer, which may refuse some.

        Raises:
            Exception: the first error, if each text has one.
        """
        cases: list[AnswerCase] = []
        errors: list[Exception] = []
        for name, text, options in self._texts():
            try:
                cases.append(self._case(name, text, **options))
            except Exception as exc:  # noqa: BLE001 - tokenizer classes raise anything
                errors.append(exc)
        if errors and not cases:
            raise errors[0]
        return [case for case in cases if case.expected["ids"]], errors  # a pipeline does not run on no tokens

    def _texts(self) -> Iterator[tuple[str, str | list[str], dict[str, Any]]]:
        """Names, texts or pairs, and options."""
        for name, text in {"empty": "", **TEXTS, **dict(self._with_tokens())}.items():
            yield name, text, {}
        limit = self.limit or self.tokenizer.model_max_length
        limits = {"cut": _SHORT, **({"beyond-limit": limit} if limit <= _LONGEST else {})}
        for name, most in limits.items():
            long = _WORDS * (most // len(_WORDS.split()) + 2)
            yield name, long, {"truncation": True, "max_length": most}
        if self.task in PAIRED and self._takes_pairs():
            for name, pair in PAIRS.items():
                yield name, list(pair), {}
            if self.tokenizer.is_fast:
                yield "cut-pair", [_WORDS * 3, _WORDS], {"truncation": True, "max_length": _SHORT}

    def chats(self) -> list[AnswerCase]:
        """Prompts of the chat template; what the template refuses is left out."""
        if not self.tokenizer.chat_template:
            return []
        chats = dict(CHATS)
        if "tools" in str(self.tokenizer.chat_template):
            chats["tools"] = ([_HELLO], {"add_generation_prompt": True, "tools": [_TOOL]})
        cases = [self._chat(name, messages, options) for name, (messages, options) in chats.items()]
        return [case for case in cases if case is not None]

    def _case(self, name: str, text: str | list[str], **options: Any) -> AnswerCase:
        parts = [text] if isinstance(text, str) else text
        found = self.tokenizer(*parts, **options, **self._types, verbose=False)
        types = found.get("token_type_ids") if self._types else None
        expected = {"ids": list(found["input_ids"]), "type_ids": None if types is None else list(types)}
        return AnswerCase(f"{TOKENS}/{name}", TOKENS, text, expected, options)

    @property
    def _types(self) -> dict[str, bool]:
        return {"return_token_type_ids": True} if "token_type_ids" in self.tokenizer.model_input_names else {}

    def _takes_pairs(self) -> bool:
        if self.tokenizer.is_fast:
            return not hasattr(self.tokenizer, "fill_token")  # CodeLlama: a second text is one to be filled in
        from gpux.convert.worker.tokenizer.converters import takes_pairs

        return takes_pairs(self.tokenizer)

    def _with_tokens(self) -> Iterator[tuple[str, str]]:
        """Texts with special and other added tokens in odd surroundings."""
        specials = list(dict.fromkeys(map(str, self.tokenizer.all_special_tokens)))
        named = dict.fromkeys([*specials[: _SPECIALS - 1], *specials[-1:]])
        others = [str(token) for token in self.tokenizer.added_tokens_decoder.values() if str(token) not in specials]
        for token in [*named, *others[: _ADDED - 1], *others[_ADDED - 1 :][-1:]]:
            texts = (f"one {token} two", f"one{token}two", f"{token}{token} .", f" {token} one  {token} ")
            yield from ((f"{token} {place}", text) for place, text in zip(_AROUND, texts, strict=True))

    def _chat(self, name: str, messages: Sequence[Any], options: Mapping[str, Any]) -> AnswerCase | None:
        for given in (dict(options), {**options, **_DATE}):
            try:
                texts = {self._rendered(messages, given, now) for now in _CLOCKS}
            except (jinja2.TemplateError, TypeError):  # this template has no system messages, or no tools
                return None
            if len(texts) == 1:
                (text,) = texts
                ids = list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
                return AnswerCase(f"{CHAT}/{name}", CHAT, list(messages), {"text": text, "ids": ids}, given)
        return None  # it writes today's date

    def _rendered(self, messages: Sequence[Any], options: Mapping[str, Any], time: dates.datetime) -> str:
        class Clock(dates.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return time.replace(tzinfo=tz)

        with mock.patch("transformers.utils.chat_template_utils.datetime", Clock):
            found: str = self.tokenizer.apply_chat_template(messages, tokenize=False, **options)
            return found
