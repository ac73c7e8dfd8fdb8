"""Token ids of a CTC output to text: ``Wav2Vec2CTCTokenizer`` and ``Wav2Vec2PhonemeCTCTokenizer`` of transformers 4.57.

The second one, whose tokens are phonemes, writes them with spaces between, and has no words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.text.tokenization import clean_up

_CLASS = "Wav2Vec2CTCTokenizer"
_PHONEMES = "Wav2Vec2PhonemeCTCTokenizer"
#: ``Wav2Vec2Tokenizer`` is the first version of the class, which decodes alike.
_CLASSES = frozenset((_CLASS, _PHONEMES, "Wav2Vec2Tokenizer"))
#: Settings of the class, with its defaults.
_DEFAULTS: Mapping[str, Any] = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "word_delimiter_token": "|",
    "replace_word_delimiter_char": " ",
    "do_lower_case": False,
    "clean_up_tokenization_spaces": False,
    "target_lang": None,
}


@dataclass(frozen=True)
class Piece:
    """A char or a word, and the frames that it takes: the first, and the one after the last."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Decoded:
    """The text of a sequence of frames."""

    text: str
    chars: tuple[Piece, ...]
    delimiter: str

    @property
    def words(self) -> list[Piece]:
        """Chars joined to words, as ``_get_word_offsets`` of transformers joins them; of phonemes, one word."""
        found: list[Piece] = []
        for is_space, group in groupby(self.chars, lambda piece: piece.text == self.delimiter):
            pieces = list(group)
            if not is_space:
                text = "".join(piece.text for piece in pieces)
                found.append(Piece(text, pieces[0].start, pieces[-1].end))
        return found


class CtcTokenizer:
    """The vocabulary of a CTC output.

    Args:
        tokens: id -> token.
        settings: of ``tokenizer_config.json`` over the defaults of the class.
        has_language_model: the repository has a language model for beam search, which is not used.
        phonemes: the tokens are phonemes; words are not separated.
    """

    def __init__(
        self,
        tokens: Mapping[int, str],
        settings: Mapping[str, Any],
        *,
        has_language_model: bool = False,
        phonemes: bool = False,
    ) -> None:
        self._tokens, self._settings = tokens, settings
        self.has_language_model = has_language_model
        self.has_words = not phonemes

    def decode(self, ids: Sequence[int]) -> Decoded:
        """Repeated tokens are one, and the pad token, which is CTC's blank, is left out.

        Args:
            ids: of the best token of each frame.
        """
        settings = self._settings
        delimiter = str(settings["replace_word_delimiter_char"])
        chars = tuple(self._pieces(ids, delimiter))
        text = ("" if self.has_words else " ").join(piece.text for piece in chars).strip()
        text = text.lower() if settings["do_lower_case"] else text
        return Decoded(clean_up(text) if settings["clean_up_tokenization_spaces"] else text, chars, delimiter)

    def _pieces(self, ids: Sequence[int], delimiter: str) -> Iterator[Piece]:
        unknown, separator = str(self._settings["unk_token"]), self._settings["word_delimiter_token"]
        left_out = {self._settings["pad_token"], *(() if self.has_words else (separator,))}
        start = 0
        for token, group in groupby(self._tokens.get(index, unknown) for index in ids):
            end = start + sum(1 for _ in group)
            if token not in left_out:
                yield Piece(delimiter if token == separator else token, start, end)
            start = end


def open_ctc_tokenizer(model: StoredModel) -> CtcTokenizer:
    """The CTC tokenizer of a stored model: ``vocab.json``, ``tokenizer_config.json`` and the files of added tokens.

    Raises:
        UnsupportedError: the model has no such tokenizer, or one of another class.
    """
    config = model.read_json("tokenizer_config.json")
    name = config.get("tokenizer_class") or model.read_json("config.json").get("tokenizer_class") or _CLASS
    vocabulary = model.read_json("vocab.json")
    if name not in _CLASSES or not vocabulary:
        reason = "has no vocab.json" if name in _CLASSES else f"has a tokenizer of the class {name}"
        raise UnsupportedError(
            f"{model.id} {reason}; of models with a CTC output, gpux reads {_CLASS} and {_PHONEMES}",
            hint="Run the graph with gpux.Graphs, and decode its logits yourself.",
            model=model.id,
        )
    stated = {**model.read_json("special_tokens_map.json"), **config}
    phonemes = name == _PHONEMES
    defaults = {**_DEFAULTS, **({"word_delimiter_token": None} if phonemes else {})}
    settings = {name: _text(stated.get(name, default)) for name, default in defaults.items()}
    language = settings["target_lang"]
    if language is not None and isinstance(vocabulary.get(language), dict):
        vocabulary = vocabulary[language]
    tokens = {index: token for token, index in vocabulary.items() if isinstance(index, int)}
    tokens |= _added(model, config)
    for special in ("bos_token", "eos_token", "unk_token", "pad_token"):  # the order in which transformers adds them
        if settings[special] is not None and settings[special] not in tokens.values():
            tokens[len(tokens)] = settings[special]
    return CtcTokenizer(tokens, settings, has_language_model=_has_language_model(model), phonemes=phonemes)


def _text(value: Any) -> Any:
    """A special token: a string, or a dict of its flags with its ``content``."""
    return value.get("content") if isinstance(value, dict) else value


def _added(model: StoredModel, config: Mapping[str, Any]) -> dict[int, str]:
    """Tokens beyond the vocabulary: id -> token."""
    listed = config.get("added_tokens_decoder")
    if isinstance(listed, dict):
        return {int(index): str(_text(token)) for index, token in listed.items()}
    return {int(index): token for token, index in model.read_json("added_tokens.json").items()}


def _has_language_model(model: StoredModel) -> bool:
    names = ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
    classes = (str(model.read_json(name).get("processor_class") or "") for name in names)
    return model.has_file("alphabet.json") or any(name.endswith("WithLM") for name in classes)
