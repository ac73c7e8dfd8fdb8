"""Rows of token ids for the small model: Python's prose, conversations and stories, mixed and packed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from transformers import PreTrainedTokenizerFast

from scripts.small_chats import answers, conversation
from scripts.small_stories import story
from scripts.small_text import Document

#: Kind of text -> its share of all ids.
SHARES = {"python": 0.45, "chats": 0.35, "stories": 0.2}
Ids = list[int]


class Rows:
    """An endless generator of training rows; equal arguments give equal rows.

    A row starts with a text, so that the model is trained on prompts without a beginning-of-text token. Further texts
    follow after an end token until the row is full; the rest of the last text is dropped.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, documents: list[Document], seed: int) -> None:
        self._random = Random(seed)
        self._tokenizer = tokenizer
        self._end: int = tokenizer.pad_token_id
        self._named = answers(documents)
        self._texts = [document.text for document in documents]
        self._given = dict.fromkeys(SHARES, (0, 0))
        self._left: list[Ids] = []
        self._sources: dict[str, Callable[[int], Ids]] = {
            "python": self._prose,
            "chats": lambda _: self._chat(),
            "stories": lambda _: self._encode(story(self._random)),
        }

    def batch(self, rows: int, length: int) -> list[Ids]:
        """`rows` rows of `length` ids."""
        return [self._row(length) for _ in range(rows)]

    def _row(self, length: int) -> Ids:
        ids: Ids = []
        while len(ids) < length:
            kind = self._kind()
            text = [*self._sources[kind](length), self._end]
            texts, given = self._given[kind]
            self._given[kind] = (texts + 1, given + len(text))
            ids += text
        return ids[:length]

    def _kind(self) -> str:
        """The kind of the next text, drawn so that the ids of each kind have its share."""
        means = {kind: (given + 100) / (texts + 1) for kind, (texts, given) in self._given.items()}
        return self._random.choices(list(SHARES), [share / means[kind] for kind, share in SHARES.items()])[0]

    def _prose(self, length: int) -> Ids:
        """The next piece of Python's prose; a piece is repeated only after all others were used."""
        if not self._left:
            self._left = [piece for text in self._texts for piece in self._pieces(text, length)]
            self._random.shuffle(self._left)
        return self._left.pop()

    def _pieces(self, text: str, length: int) -> list[Ids]:
        """The text, cut between paragraphs so that a piece and an end token fit into a row."""
        pieces: list[Ids] = []
        for paragraph in text.split("\n\n"):
            ids, more = self._encode(paragraph), self._encode("\n\n" + paragraph)
            if pieces and len(pieces[-1]) + len(more) < length:
                pieces[-1] += more
            else:
                pieces.append(ids)
        return pieces

    def _chat(self) -> Ids:
        messages = conversation(self._random, self._named)
        return self._encode(self._tokenizer.apply_chat_template(messages, tokenize=False))

    def _encode(self, text: str) -> Ids:
        return list(self._tokenizer.encode(text, add_special_tokens=False))
