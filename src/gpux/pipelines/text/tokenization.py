"""Texts to token ids with the ``tokenizers`` library, within the model's own limits.

The tokenizer is the one that transformers builds of the repository's files (:mod:`gpux.pipelines.text.effective`). A
``tokenizer.json`` may be published with truncation and padding switched on (all-MiniLM-L6-v2: 128 and 128); both are
reset. Limits come from ``tokenizer_config.json``, ``config.json`` and the variant's manifest.

Threads and forks: a tokenizer is not changed after it is opened, so it may be used from many threads. The environment
variable ``TOKENIZERS_PARALLELISM`` is left to the user; a single text never starts the library's thread pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

from gpux.errors import InputError, UnsupportedError
from gpux.model.effective import is_effective
from gpux.model.variant import StoredModel
from gpux.pipelines.text.effective import TokenizerFiles, effective_tokenizer

_SANE_LIMIT = 1_000_000  #: transformers writes 1e30 where it has no limit
_MASK_TOKENS = ("[MASK]", "<mask>")
_PAD_TOKENS = ("[PAD]", "<pad>")

TextInput = str | tuple[str, str]  #: one text, or a pair of texts


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenized text: ids and segment ids, special tokens included."""

    ids: list[int]
    type_ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def attention(self) -> int | list[int]:
        """The attention mask of the tokens: 1 for all of them."""
        return 1


class Tokenizer:
    """The tokenizer of a stored model.

    Args:
        model: the stored variant.
        subfolder: subfolder of the tokenizer's files, for a sentence-transformers module; files that it does not have
            are read from the variant's folder.
        lower_case: lower-case every text first (``do_lower_case`` of sentence-transformers).

    Raises:
        UnsupportedError: the variant has no ``tokenizer.json``, or gpux cannot apply its configuration.
        CorruptFileError: its ``tokenizer.json`` cannot be read.
    """

    def __init__(self, model: StoredModel, *, subfolder: str = "", lower_case: bool = False) -> None:
        files = TokenizerFiles.find([model.path / subfolder, model.path] if subfolder else [model.path])
        if files is None:
            raise UnsupportedError(
                f"{model.id} has no tokenizer.json, and gpux supports no other tokenizer file",
                hint=_where_from(model),
                model=model.id,
            )
        self._effective = effective_tokenizer(files, model=model.id, finished=is_effective(files.config))
        self._tokenizer = self._effective.tokenizer
        if lower_case:
            _lower_case_first(self._tokenizer)
        model_config = model.read_json("config.json")
        #: rows of the model's embedding; the tokenizer may have tokens beyond them
        self._vocabulary = model_config.get("vocab_size")
        self.pad_id = self._pad_id(model_config)
        self.pad_type_id = self._effective.pad_type_id
        #: whether transformers gives the segments of tokens to the model; else all are in the first
        self.gives_mask = "attention_mask" in self._effective.input_names  #: else the model reads padding as tokens
        self.gives_types = "token_type_ids" in self._effective.input_names
        self.mask_id = self._special_id("mask_token", _MASK_TOKENS)
        #: the graph's limit of tokens; None if unknown
        self.hard_limit = model.manifest.call_spec.max_length or _positions(model_config)
        self.limit = _smallest(self._effective.limit, self.hard_limit)
        self._right = self._effective.truncation_side == "right"

    @property
    def mask_token(self) -> str | None:
        """The mask token's text, as an input contains it."""
        return None if self.mask_id is None else self._tokenizer.id_to_token(self.mask_id)

    @property
    def cuts_left(self) -> bool:
        """Whether a text that is too long loses its beginning."""
        return not self._right

    @property
    def pads_left(self) -> bool:
        """Whether transformers pads shorter texts of a batch on the left; a graph may be padded on either side."""
        return self._effective.padding_side == "left"

    def special_id(self, name: str) -> int | None:
        """The id of a special token, ``cls_token`` for instance; None where the tokenizer has none of that name."""
        token = self._effective.special_tokens.get(name)
        return None if token is None else self._tokenizer.token_to_id(token)

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The tokenizer of the ``tokenizers`` library; must not be changed."""
        return self._tokenizer

    def ids(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The token ids of one text of any length."""
        check_unicode([text])
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def tokens(self, text: TextInput, *, add_special_tokens: bool = True) -> Tokens:
        """The tokens of one text or pair of any length; none for an empty text, if the tokenizer adds none."""
        check_unicode([text])
        (found,) = self._encode([text], add_special_tokens=add_special_tokens)
        return Tokens(found.ids, found.type_ids)

    def __call__(self, texts: Sequence[TextInput], *, limit: int | None, truncation: bool = True) -> list[Tokens]:
        """Tokenize with special tokens.

        Args:
            texts: texts or pairs.
            limit: limit of tokens per text, special tokens included; None for no limit.
            truncation: cut a longer text (of a pair, the longer text first); False: refuse it.

        Raises:
            InputError: a text is not valid Unicode, has no tokens, or is too long with ``truncation=False``.
        """
        check_unicode(texts)
        encodings = self._encode(texts, add_special_tokens=True)
        tokens = [Tokens(encoding.ids, encoding.type_ids) for encoding in encodings]
        for index, found in enumerate(tokens):
            if not found.ids:
                raise InputError(f"text {index} has no tokens: this tokenizer adds none to an empty text", index=index)
            if limit is not None and len(found) > limit:
                if not truncation:
                    self.check_fits(found, limit, index=index)
                tokens[index] = self._cut(texts[index], limit)
        return tokens

    def check_fits(self, text: Tokens, limit: int | None, *, index: int) -> None:
        """Refuse a text with more tokens than the limit.

        Raises:
            InputError: with the index of the text.
        """
        if limit is not None and len(text) > limit:
            raise InputError(
                f"text {index} has {len(text)} tokens, and the limit is {limit}",
                hint="Shorten it, or cut it with truncation=True.",
                index=index,
                tokens=len(text),
                limit=limit,
            )

    def _encode(self, texts: Sequence[TextInput], *, add_special_tokens: bool) -> list[tokenizers.Encoding]:
        if len(texts) == 1:  # the batch call starts a thread pool, which makes a later fork() unsafe
            first, second = texts[0] if isinstance(texts[0], tuple) else (texts[0], None)
            return [self._tokenizer.encode(first, second, add_special_tokens=add_special_tokens)]
        return self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)

    def _cut(self, text: TextInput, limit: int) -> Tokens:
        """Tokenize without special tokens, cut, and add them, as ``enable_truncation`` does by changing the
        tokenizer, which is shared."""
        pair = isinstance(text, tuple)
        room = max(0, limit - self._tokenizer.num_special_tokens_to_add(pair))
        direction = "right" if self._right else "left"
        parts = [self._encode([part], add_special_tokens=False)[0] for part in (text if pair else [text])]
        sizes = shares([len(part.ids) for part in parts], room)
        for part, size in zip(parts, sizes, strict=True):
            part.truncate(size, direction=direction)
        encoding = self._tokenizer.post_process(parts[0], parts[1] if pair else None, add_special_tokens=True)
        return Tokens(encoding.ids, self._segments(text, encoding) if pair else encoding.type_ids)

    def _segments(self, pair: TextInput, cut: tokenizers.Encoding) -> list[int]:
        """The type ids of a cut pair: ``post_process`` sets those of the second text only if it has a template."""
        whole = self._encode([pair], add_special_tokens=True)[0]
        segments = dict(zip(whole.sequence_ids, whole.type_ids, strict=True))
        return [
            kind if place is None else segments.get(place, kind)
            for place, kind in zip(cut.sequence_ids, cut.type_ids, strict=True)
        ]

    def prompt_length(self, prompt: str, limit: int | None) -> int:
        """Tokens of a prompt at the beginning of a text: a special token at the end is not counted.

        As sentence-transformers' ``Transformer._get_prompt_length``.
        """
        ids = self([prompt], limit=limit)[0].ids
        return len(ids) - (1 if ids[-1] in self.special_ids else 0)

    def first_id(self, text: str) -> int | None:
        """Id of a vocabulary entry, else of the text's first token; None for a text without tokens."""
        found = self._tokenizer.token_to_id(text)
        if found is not None:
            return found
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids[0] if ids else None

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Token ids to text, as transformers' ``PreTrainedTokenizerFast.decode``."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return clean_up(text) if self._effective.clean_up else text

    @property
    def special_ids(self) -> frozenset[int]:
        """The special tokens' ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(index for index, token in added.items() if token.special)

    @property
    def named_special_ids(self) -> list[int]:
        """Ids of the special tokens with a name and of the additional ones, as transformers' ``all_special_ids``."""
        names = [*self._effective.special_tokens.values(), *self._effective.additional]
        found = (self._tokenizer.token_to_id(name) for name in dict.fromkeys(names))
        return [index for index in found if index is not None]

    def named_special(self, name: str) -> int | None:
        """The id of a special token by its name: ``eos_token``, ``unk_token`` …"""
        token = self._effective.special_tokens.get(name)
        return None if token is None else self._tokenizer.token_to_id(token)

    def _special_id(self, name: str, fallbacks: Sequence[str]) -> int | None:
        """The id of a special token; None without one, and for a token that the model has no embedding for."""
        declared = self._effective.special_tokens.get(name)
        names = [declared] if declared else list(fallbacks)
        found = (self._tokenizer.token_to_id(token) for token in names)
        known = self._vocabulary if isinstance(self._vocabulary, int) else None
        return next((index for index in found if index is not None and (known is None or index < known)), None)

    def _pad_id(self, model_config: dict[str, Any]) -> int:
        """First of: the pad token's id, the graph's own ``pad_token_id``, the shipped padding's, 0."""
        candidates = (self._special_id("pad_token", _PAD_TOKENS), model_config.get("pad_token_id"))
        found = next((index for index in candidates if isinstance(index, int)), None)
        return int(self._effective.padding.get("pad_id", 0)) if found is None else found


def check_unicode(texts: Iterable[TextInput], what: str = "text") -> None:
    """Refuse lone surrogates, which Python decodes from bytes that are not UTF-8, and which no tokenizer accepts.

    Raises:
        InputError: with the index of the first such text.
    """
    for index, text in enumerate(texts):
        for part in text if isinstance(text, tuple) else (text,):
            try:
                part.encode()
            except UnicodeEncodeError as exc:
                raise InputError(
                    f"{what} {index} is not valid Unicode text: a lone surrogate, U+{ord(part[exc.start]):04X}, "
                    f"at character {exc.start}",
                    hint="It may come from bytes that are not UTF-8: convert them first, with iconv for instance.",
                    index=index,
                ) from exc


def shares(sizes: Sequence[int], room: int) -> list[int]:
    """The sizes to which one or two lists of tokens are cut to fit ``room`` together, the longer one first.

    The rule is ``TruncationStrategy::LongestFirst`` of the tokenizers library (``utils/truncation.rs``).
    """
    if sum(sizes) <= room:
        return list(sizes)
    if len(sizes) == 1:
        return [room]
    short, long = sorted(sizes)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return [long, short] if sizes[0] > sizes[1] else [short, long]


def _where_from(model: StoredModel) -> str:
    """How a model without a tokenizer.json gets one."""
    if model.manifest.recipe.is_converted:
        return "`gpux pull --force` converts the model again, which writes one if transformers can."
    if model.manifest.scheme != "local":
        return f"`gpux convert {model.id}` converts its weights, which writes one if transformers can."
    path = Path(model.id)
    folder = path.parent if path.suffix.lower() == ".onnx" else path
    return f"Put the tokenizer.json and config.json of the original model into {folder}, and pull that folder."


def _lower_case_first(tokenizer: tokenizers.Tokenizer) -> None:
    present = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *present])


def _positions(config: dict[str, Any]) -> int | None:
    """``max_position_embeddings`` if it is a limit (XLNet writes -1)."""
    return _sane(config.get("max_position_embeddings"))


def _sane(limit: Any) -> int | None:
    return limit if isinstance(limit, int) and 0 < limit < _SANE_LIMIT else None


def _smallest(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def clean_up(text: str) -> str:
    """transformers' ``PreTrainedTokenizerBase.clean_up_tokenization``."""
    marks = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
    for mark in marks:
        text = text.replace(mark, mark.strip() if mark == " ' " else mark[1:])
    return text
