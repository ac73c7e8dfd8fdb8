"""The fixed inputs of each task whose answers are compared: several scripts, an empty text, the model's own special
tokens, pairs, batches of unequal lengths.

A later task adds one function here and one in :mod:`gpux.convert.worker.reference.answers`. Inputs come in the order of
their importance, since the time for answers is limited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

FOX = "The quick brown fox jumps over the lazy dog."
SCRIPTS = (
    FOX,
    "Съешь же ещё этих мягких французских булок.",
    "我能吞下玻璃而不伤身体。 東京の天気",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني.",
    "मैं काँच खा सकता हूँ और मुझे उससे कोई चोट नहीं पहुंचती.",
    "Zażółć  gęślą jaźń 🙂 👩‍👩‍👧 ½ ﬁ\n\tdon't U.S.A. 3,141.59",
)
PROSE = (
    "When the first settlers reached the valley, they found a river that ran clear over grey stones and a forest so"
    " thick that the noon sun hardly touched its floor. They built six houses of timber in the summer of 1823, a mill"
    " in the year after it, and a bridge that every flood of the next two decades carried away. "
)
QUESTIONS = ("How many houses were built?", "Where is the nearest station?")


@dataclass(frozen=True)
class Question:
    """The name, the inputs and the options of one case, before the reference library answered it."""

    name: str
    inputs: Any
    options: Mapping[str, Any] = field(default_factory=dict)


class Texts:
    """Texts for one tokenizer.

    Args:
        tokenizer: of transformers.
        limit: tokens that a text may have, special tokens included.
    """

    def __init__(self, tokenizer: Any, limit: int) -> None:
        self._tokenizer, self.limit = tokenizer, limit

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens included."""
        return len(self._tokenizer(text)["input_ids"])

    def fit(self, text: str, limit: int | None = None) -> str:
        """The longest beginning of a text that a rough search finds within the limit."""
        limit = self.limit if limit is None else min(limit, self.limit)
        while text and (count := self.count(text)) > limit:
            text = text[: min(len(text) - 1, int(len(text) * limit / count))]
        return text

    def long(self) -> str:
        """A text of about as many tokens as the limit allows."""
        return self.fit(PROSE * (1 + self.limit // 50)).rstrip()

    def special(self) -> str:
        """A text with up to three of the tokenizer's special tokens in it, none of them the mask."""
        mask = self._tokenizer.mask_token
        found = [token for token in self._tokenizer.all_special_tokens if token != mask][:3]
        return self.fit(
            " ".join(f"{word} {token}" for word, token in zip(("one", "two", "three"), found, strict=False))
        )

    def scripts(self) -> list[str]:
        """A text in each of several scripts."""
        return [self.fit(text) for text in SCRIPTS]

    def unequal(self) -> list[str]:
        """A batch of unequal lengths."""
        return [self.fit("Hi"), self.long()]


def embedded(texts: Texts, prompts: Mapping[str, str]) -> Iterator[Question]:
    """For sentence vectors; ``prompts`` are those of the repository."""
    yield Question("unequal-lengths", texts.unequal())
    yield Question("scripts", texts.scripts())
    yield Question("special-tokens", [texts.special()])
    yield Question("empty", [""])
    for name in [name for name, prompt in prompts.items() if prompt][:2]:
        yield Question(f"prompt-{name}", [texts.fit(FOX)], {"prompt_name": name})
    yield Question("normalized", [texts.fit(FOX)], {"normalize_embeddings": True})


def read(texts: Texts) -> Iterator[Question]:
    """For token vectors: short texts, because each token has a vector in the answer."""
    yield Question("unequal-lengths", [texts.fit("Hi", 32), texts.fit(FOX, 32), texts.fit("A short text.", 32)])
    for number, text in enumerate(texts.scripts()):
        yield Question(f"script-{number}", texts.fit(text, 32))
    yield Question("special-tokens", texts.special())
    yield Question("empty", "")
    yield Question("long", texts.long())


def classified(texts: Texts) -> Iterator[Question]:
    """For labels of texts and pairs."""
    every = {"top_k": None}
    half = texts.limit // 2
    yield Question("unequal-lengths", texts.unequal(), every)
    yield Question("pair", {"text": texts.fit(FOX, half), "text_pair": texts.fit(SCRIPTS[1], half)}, every)
    yield Question("scripts", texts.scripts(), every)
    yield Question("special-tokens", texts.special(), every)
    yield Question("empty", "", every)


def labelled_tokens(texts: Texts) -> Iterator[Question]:
    """For labels of tokens; no label is left out, so that each token is compared."""
    every: dict[str, Any] = {"ignore_labels": []}
    window = min(texts.limit, 32)
    yield Question("unequal-lengths", [texts.fit("Hi"), texts.fit(PROSE, 64)], every)
    yield Question("names", texts.fit(FOX), {"aggregation_strategy": "simple"})
    for number, (text, strategy) in enumerate(
        zip(SCRIPTS[1:], ("first", "max", "average", "simple", "first"), strict=True)
    ):
        yield Question(f"script-{number}", texts.fit(text), {**every, "aggregation_strategy": strategy})
    windows = {"aggregation_strategy": "first", "stride": window // 4, "max_length": window}
    yield Question("windows", PROSE[:180], {**every, **windows})
    yield Question("special-tokens", texts.special(), every)
    yield Question("empty", "", every)


def found(texts: Texts) -> Iterator[Question]:
    """For answers to questions from a text."""
    several = {"top_k": 3}
    first, second = QUESTIONS
    window = min(texts.limit, 64)

    def pair(question: str, context: str) -> dict[str, str]:
        return {"question": question, "context": texts.fit(context, texts.limit - texts.count(question))}

    yield Question("text", pair(first, PROSE), several)
    windows = {"max_seq_len": window, "doc_stride": window // 4, "handle_impossible_answer": True}
    yield Question("windows", {"question": first, "context": PROSE}, {**several, **windows})
    yield Question("scripts", [pair(second, text) for text in SCRIPTS[1:]], several)
    yield Question("tokens", pair(second, SCRIPTS[2]), {"top_k": 5, "align_to_words": False, "max_answer_len": 4})
    yield Question("special-tokens", pair(second, f"{texts.special()} {FOX}"), several)


def filled(texts: Texts, mask: str) -> Iterator[Question]:
    """For words in place of a mask."""
    yield Question("unequal-lengths", [f"Paris is the {mask} of France.", f"{texts.fit(PROSE, 64)} {mask}"])
    yield Question("two-masks", f"The {mask} fox jumps over the {mask} dog.", {"top_k": 3})
    for number, text in enumerate(texts.scripts()[1:], start=1):
        yield Question(f"script-{number}", f"{texts.fit(text, 40)} {mask}")
    yield Question("special-tokens", f"{texts.special()} {mask}")
    yield Question("mask-alone", mask)


def written(texts: Texts, chat_template: str | None) -> Iterator[Question]:
    """For decoders that continue a text or, with a template, a chat."""
    yield Question("text", texts.fit("Once upon a time, there was a little", 64))
    if chat_template is not None:
        question = {"role": "user", "content": "What is the capital of France?"}
        answer = {"role": "assistant", "content": "Paris."}
        yield Question("chat", [question])
        yield Question("chat-turns", [question, answer, {"role": "user", "content": "And of 日本? 🙂"}])
    yield Question("unequal-lengths", [texts.fit("Hello", 64), texts.fit(PROSE, 64)])
    yield Question("script", texts.fit(SCRIPTS[2], 64), {"return_full_text": False})
    yield Question("special-tokens", texts.special())
    yield Question("empty", "")


def rewritten(texts: Texts) -> Iterator[Question]:
    """For encoder-decoders."""
    greedy = {"num_beams": 1}
    yield Question("unequal-lengths", [texts.fit("Hello", 64), texts.fit(PROSE, 64)], greedy)
    yield Question("beams", texts.fit(FOX, 64), {"num_beams": 3})
    yield Question("script", texts.fit(SCRIPTS[1], 64), greedy)
    yield Question("special-tokens", texts.special(), greedy)
    yield Question("empty", "", greedy)
