"""Labels for tokens, words or names in a text, as ``pipeline("token-classification")`` of transformers 4.57 answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, Parts
from gpux.pipelines.labels import read_labels
from gpux.pipelines.options import Option
from gpux.pipelines.text.base import TextOptions, TextPipeline, as_texts, tokenizer_options
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.pipelines.text.windows import Window, encode, windows
from gpux.runtime.numeric import softmax

Strategy = Literal["none", "simple", "first", "average", "max"]

Floats = NDArray[np.float32]


class TokenClassificationOptions(TextOptions, total=False):
    """Options of token-classification."""

    aggregation_strategy: Annotated[
        Strategy,
        Option(
            "none: a label for each token; simple: tokens with the same label together; first, average, max: words, "
            "with the label of their first token, of their average, or of their surest token",
            default="none",
        ),
    ]
    ignore_labels: Annotated[Sequence[str] | None, Option("labels that are left out; by default O")]
    stride: Annotated[int | None, Option("read a long text in windows that share so many tokens; None: cut it")]
    is_split_into_words: Annotated[bool, Option("inputs are lists of words", default=False)]
    delimiter: Annotated[str, Option("between the words of a list, for start and end", default=" ")]


class TokenClassificationArguments(TokenClassificationOptions, OpenOptions, total=False):
    """Keywords of :class:`TokenClassificationPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    strategy: Strategy
    ignored: frozenset[str]
    stride: int | None
    words: bool
    delimiter: str
    tokenizer: dict[str, Any]


@dataclass(frozen=True)
class _Text(Parts):
    """A text with its windows, and the first character of each of its words where it is a list of words."""

    text: str
    begins: tuple[int, ...] | None


@dataclass(frozen=True)
class _Token:
    """A token with its scores float32 [labels]."""

    index: int
    word: str
    start: int
    end: int
    scores: Floats
    continues: bool  #: the word of the token before


class TokenClassificationPipeline(TextPipeline):
    """Labels for tokens, words or names in a text.

    >>> find = TokenClassificationPipeline(model, aggregation_strategy="simple")
    >>> find("My name is Sarah and I live in London")
    [{'entity_group': 'PER', 'score': 0.999, 'word': 'Sarah', 'start': 11, 'end': 16}, ...]
    """

    task: ClassVar[str] = "token-classification"
    call_options: ClassVar[type] = TokenClassificationOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[TokenClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        self.labels = read_labels(model.read_json("config.json"))  #: in the order of the scores
        self.outputs = (self._score_output(3, len(self.labels)),)
        self._check_width(self.outputs[0], self.labels)
        #: whether the length of a token tells that it continues a word; else the space before it does
        self._marks = bool(getattr(self.tokenizer.backend.model, "continuing_subword_prefix", None))
        self._unknown = self.tokenizer.special_id("unk_token")

    def __call__(
        self, inputs: str | Iterable[str] | Iterable[Sequence[str]], **options: Unpack[TokenClassificationOptions]
    ) -> Any:
        """The labelled tokens, words or names of each text, in the order of the text.

        Args:
            inputs: a text, or several; with ``is_split_into_words`` the words of a text, or several lists of words.
            options: see :class:`TokenClassificationOptions`.

        Returns:
            For a text, a list of ``{"entity": str, "score": float, "index": int, "word": str, "start": int, "end":
            int}``, one for each token, and with another ``aggregation_strategy`` of ``{"entity_group": str, "score":
            float, "word": str, "start": int, "end": int}``. ``start`` and ``end`` are characters of the text, or of the
            words joined by ``delimiter``. For several texts a list of such lists.

        Raises:
            InputError: an input is neither a text nor, where those are expected, a list of words.
            UsageError: an unknown option, an invalid strategy, or a ``stride`` without one or too large.
        """
        if isinstance(inputs, str):
            return self.run([inputs], options)[0]
        words = isinstance(inputs, (list, tuple)) and any(isinstance(item, str) for item in inputs)
        if words and self._merged(options).get("is_split_into_words"):
            return self.run([inputs], options)  # the words of one text: a list with its answer, as transformers
        return self.run(inputs, options)

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Check the strategy, and that windows are put together by one."""
        strategy = str(options.get("aggregation_strategy") or "none").lower()
        if strategy not in get_args(Strategy):
            raise UsageError(
                f"aggregation_strategy is {options['aggregation_strategy']!r}",
                hint=f"It may be {', '.join(get_args(Strategy))}.",
            )
        stride = options.get("stride")
        if stride is not None and strategy == "none":
            raise UsageError("stride needs an aggregation_strategy", hint='For example aggregation_strategy="simple".')
        if stride is not None and (not isinstance(stride, int) or stride < 0):
            raise UsageError(f"stride is {stride!r}, not a number of tokens", hint="Choose 0, or some more.")
        limits = tokenizer_options(options, "tokenizer_kwargs")
        limit = self._limit(max_length=limits.get("max_length"))
        if stride is not None and limit is not None and stride >= limit:
            raise UsageError(f"stride is {stride}, and a window has {limit} tokens", hint=f"Choose {limit // 4}.")
        ignored = options.get("ignore_labels")
        if isinstance(ignored, str):
            raise UsageError(f"ignore_labels is {ignored!r}", hint=f"It is a list of labels: [{ignored!r}].")
        return _Resolved(
            strategy,  # type: ignore[arg-type] # checked above
            frozenset(["O"] if ignored is None else ignored),
            stride,
            bool(options.get("is_split_into_words")),
            str(options.get("delimiter", " ")),
            limits,
        )

    def preprocess(self, inputs: Any, options: _Resolved) -> list[_Text]:
        """Each text as windows: one, unless ``stride`` allows several."""
        if isinstance(inputs, (str, bytes, dict)) or not isinstance(inputs, Iterable):
            raise InputError(f"texts are expected, and {type(inputs).__name__} was given")
        items = list(inputs)
        if not options.words:
            return [self._prepared(item, item, None, index, options) for index, item in enumerate(as_texts(items))]
        for index, item in enumerate(items):
            if not isinstance(item, (list, tuple)) or not all(isinstance(word, str) for word in item):
                raise InputError(
                    f"input {index} is not a list of words", hint="Or set is_split_into_words=False.", index=index
                )
        texts = as_texts([options.delimiter.join(words) for words in items])
        return [
            self._prepared(text, list(words), _begins(words, options.delimiter), index, options)
            for index, (text, words) in enumerate(zip(texts, items, strict=True))
        ]

    def _prepared(
        self, text: str, read: str | list[str], begins: tuple[int, ...] | None, index: int, options: _Resolved
    ) -> _Text:
        whole = encode(self.tokenizer, read, index=index)
        parts = self._windows(whole, options, index)
        self._check_length(parts)
        return _Text(parts, text, begins)

    def _windows(self, whole: Window, options: _Resolved, index: int) -> list[Window]:
        limit = self._limit(max_length=options.tokenizer.get("max_length"))
        if options.stride is not None:
            return windows(whole, limit, stride=options.stride, left=self.tokenizer.cuts_left, index=index)
        if not options.tokenizer["truncation"]:
            self.tokenizer.check_fits(whole, limit, index=index)
        return windows(whole, limit, left=self.tokenizer.cuts_left, index=index)[:1]

    def postprocess(self, prepared: _Text, output: Sequence[NDArray[Any]], options: _Resolved) -> list[dict[str, Any]]:
        """The entries of a text, from the logits [tokens, labels] of each window."""
        found: list[dict[str, Any]] = []
        for window, logits in zip(prepared.parts, output, strict=True):
            tokens = self._tokens(prepared, window, softmax(logits.astype(np.float32)))
            entries = self._entries(tokens, options.strategy)
            key = "entity" if options.strategy == "none" else "entity_group"
            found += [entry for entry in entries if entry[key] not in options.ignored]
        return _largest(found) if len(prepared.parts) > 1 else found

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each entry: its label and its words; an empty one where all labels were left out."""
        return [
            AnswerRow(f"{entry.get('entity_group', entry.get('entity'))}: {entry['word']}", entry["score"])
            for entry in answer
        ] or [AnswerRow("")]

    def _tokens(self, prepared: _Text, window: Window, scores: Floats) -> list[_Token]:
        found = []
        for index, (token, (start, end)) in enumerate(zip(window.ids, window.offsets, strict=True)):
            if window.special[index]:
                continue
            word = window.words[index]
            if prepared.begins is not None and word is not None:
                start, end = start + prepared.begins[word], end + prepared.begins[word]
            shown = self.tokenizer.backend.id_to_token(token) or ""
            part = prepared.text[start:end]
            if self._marks:
                continues = len(shown) != len(part)
            else:
                continues = start > 0 and " " not in prepared.text[start - 1 : start + 1]
            if token == self._unknown:
                shown, continues = part, False
            found.append(_Token(index, shown, start, end, scores[index], continues))
        return found

    def _entries(self, tokens: Sequence[_Token], strategy: Strategy) -> list[dict[str, Any]]:
        if strategy in ("none", "simple"):
            entries = [
                {**self._labelled(token.scores), "index": token.index, **_place(token.word, token.start, token.end)}
                for token in tokens
            ]
            return entries if strategy == "none" else self._groups(entries)
        words: list[list[_Token]] = []
        for token in tokens:
            if words and token.continues:
                words[-1].append(token)
            else:
                words.append([token])
        return self._groups([self._word(word, strategy) for word in words])

    def _word(self, tokens: Sequence[_Token], strategy: Strategy) -> dict[str, Any]:
        if strategy == "first":
            scores = tokens[0].scores
        elif strategy == "max":
            scores = max(tokens, key=lambda token: float(token.scores.max())).scores
        else:
            scores = np.nanmean(np.stack([token.scores for token in tokens]), axis=0)
        word = decoded(self.tokenizer, [token.word for token in tokens])
        return {**self._labelled(scores), **_place(word, tokens[0].start, tokens[-1].end)}

    def _groups(self, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Neighbours with the same label together; a label ``B-`` begins a new one."""
        groups: list[list[dict[str, Any]]] = []
        for entry in entries:
            begins, name = _tag(entry["entity"])
            if groups and not begins and _tag(groups[-1][-1]["entity"])[1] == name:
                groups[-1].append(entry)
            else:
                groups.append([entry])
        return [
            {
                "entity_group": group[0]["entity"].split("-", 1)[-1],
                "score": float(np.nanmean(np.array([entry["score"] for entry in group], np.float32))),
                **_place(
                    decoded(self.tokenizer, [entry["word"] for entry in group]), group[0]["start"], group[-1]["end"]
                ),
            }
            for group in groups
        ]

    def _labelled(self, scores: Floats) -> dict[str, Any]:
        best = int(scores.argmax())
        return {"entity": self.labels[best], "score": float(scores[best])}


def decoded(tokenizer: Tokenizer, tokens: list[str]) -> str:
    """Tokens as text: ``PreTrainedTokenizerFast.convert_tokens_to_string`` of transformers."""
    decoder = tokenizer.backend.decoder
    return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))


def _begins(words: Sequence[str], delimiter: str) -> tuple[int, ...]:
    """The first character of each word in the joined text."""
    return tuple(accumulate((len(word) + len(delimiter) for word in words), initial=0))


def _place(word: str, start: int, end: int) -> dict[str, Any]:
    return {"word": word, "start": start, "end": end}


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins a name, and the label without ``B-`` or ``I-``."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _largest(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entries of several windows that share characters, the longest, and of those the surest."""
    kept: list[dict[str, Any]] = []
    for entry in sorted(entries, key=lambda entry: int(entry["start"])):
        if not kept or not kept[-1]["start"] <= entry["start"] < kept[-1]["end"]:
            kept.append(entry)
        elif (entry["end"] - entry["start"], entry["score"]) > (kept[-1]["end"] - kept[-1]["start"], kept[-1]["score"]):
            kept[-1] = entry
    return kept
