"""Builds a tokenizer.json from a Python tokenizer of transformers.

Transformers' converters support some thirty classes by name. The functions here use the tokenizer object itself: its
sentencepiece model (marian, m2m_100, speech_to_text, plbart, speecht5 and classes whose converter omits something), or
its vocabulary of bytes, letters or words. The tokenizers library has sentencepiece's two algorithms (unigram, byte pair
encoding) and its normalization table; the rest follows ``sentencepiece_model.proto`` of the sentencepiece project.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import (
    SLOW_TO_FAST_CONVERTERS,
    bytes_to_unicode,
    generate_merges,
    import_protobuf,
)

#: Placeholders for the ids of the first and the second text.
_FIRST, _SECOND = -101, -102


def takes_pairs(slow: Any) -> bool:
    """False for a tokenizer that drops the second text."""
    return _SECOND in slow.build_inputs_with_special_tokens([_FIRST], [_SECOND])


def template(slow: Any) -> processors.TemplateProcessing | None:
    """The special tokens that the tokenizer adds to a text and to a pair; None if it adds none."""
    single = slow.build_inputs_with_special_tokens([_FIRST])
    pair = slow.build_inputs_with_special_tokens([_FIRST], [_SECOND])
    if _SECOND not in pair:
        pair = [*single, _SECOND]  # a template must use both; such tokenizers are not compared on pairs
    if list(single) == [_FIRST] and list(pair) == [_FIRST, _SECOND]:
        return None
    typed = "token_type_ids" in slow.model_input_names
    single_types = slow.create_token_type_ids_from_sequences([_FIRST]) if typed else [0] * len(single)
    pair_types = slow.create_token_type_ids_from_sequences([_FIRST], [_SECOND]) if typed else [0] * len(pair)
    if len(pair_types) != len(pair):
        pair_types = [0] * len(pair)
    used = {index for index in (*single, *pair) if index >= 0}
    return processors.TemplateProcessing(
        single=[_piece(slow, *item) for item in zip(single, single_types, strict=True)],
        pair=[_piece(slow, *item) for item in zip(pair, pair_types, strict=True)],
        special_tokens=[(slow.convert_ids_to_tokens(index), index) for index in sorted(used)],
    )


def _piece(slow: Any, index: int, kind: int) -> str:
    names = {_FIRST: "$A", _SECOND: "$B"}
    return f"{names[index] if index in names else slow.convert_ids_to_tokens(index)}:{kind}"


def add_tokens(tokenizer: Tokenizer, slow: Any) -> None:
    """Add the tokens that are matched before normalization; their ids are in the vocabulary already."""
    for _, token in sorted(slow.added_tokens_decoder.items()):
        added = AddedToken(
            token.content,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            single_word=token.single_word,
            normalized=False,
            special=token.special,
        )
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([added])


_SPACE = "▁"
#: Prefix of pieces that must not match any text, such as control symbols. Texts do not contain this character.
_HIDDEN = "\x00"
_FILLER = "\x01"
#: ``TrainerSpec.ModelType`` and ``SentencePiece.Type`` of the proto.
_UNIGRAM, _BPE, _CHAR = 1, 2, 4
_NORMAL, _USER_DEFINED, _BYTE = 1, 4, 6


@dataclass(frozen=True)
class SentencePiece:
    """A model of sentencepiece and the vocabulary of the tokenizer that uses it."""

    proto: Any
    tokens: tuple[str, ...]  #: in the order of their ids
    unknown: int

    @property
    def without_id(self) -> tuple[str, ...]:
        """Pieces of the model that the vocabulary lacks: they become the unknown token."""
        known = set(self.tokens)
        return tuple(p.piece for p in self.proto.pieces if p.type == _NORMAL and p.piece not in known)


def describe(slow: Any, *, target: bool = False) -> SentencePiece | None:
    """The sentencepiece model of a Python tokenizer, or of its target language; None if it has none."""
    model = getattr(slow, "spm_target" if target else "spm_source", None) or getattr(slow, "sp_model", None)
    if model is None:
        return None
    proto = import_protobuf().ModelProto.FromString(model.serialized_model_proto())
    if getattr(slow, "separate_vocabs", False):
        ids = slow.target_encoder if target else slow.encoder
        by_id = {index: token for token, index in ids.items()}
        tokens = [by_id.get(index, "") for index in range(max(by_id) + 1)]
    else:
        tokens = [_token(slow, index) for index in range(_size(slow))]
    return SentencePiece(proto, tuple(tokens), _unknown(slow))


def _unknown(slow: Any) -> int:
    """The id of text that matches no piece, which may differ from that of the unknown token."""
    return int(slow._convert_token_to_id(f"{_HIDDEN}{_HIDDEN}"))


def _size(slow: Any) -> int:
    """One more than the highest id; ids may have gaps, and ``len`` may not include language codes."""
    languages = getattr(slow, "lang_token_to_id", None) or {}
    return 1 + max(len(slow) - 1, *map(int, slow.added_tokens_decoder), *map(int, languages.values()))


def _token(slow: Any, index: int) -> str:
    """The token of an id; empty for an id without a token."""
    try:
        return str(slow.convert_ids_to_tokens(index))
    except IndexError:
        return ""


def from_sentencepiece(slow: Any, found: SentencePiece) -> Tokenizer | None:
    """The tokenizer; None for an algorithm that the tokenizers library lacks."""
    codes = tuple(getattr(slow, "supported_language_codes", ()))
    model = _model(found, {*codes, *slow.added_tokens_encoder})
    if model is None:
        return None
    tokenizer = Tokenizer(model)
    prefix = _prefix(slow, found.proto.normalizer_spec)
    steps = (_siglip(slow) if _is_siglip(slow) else []) + _normalizers(found.proto, prefix)
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    if found.proto.normalizer_spec.remove_extra_whitespaces or prefix == "first":
        split = not any(_SPACE in piece.piece[1:] for piece in found.proto.pieces)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=split)
    tokenizer.decoder = _decoder(found.proto, prefix)
    add_tokens(tokenizer, slow)
    tokenizer.add_tokens([AddedToken(code, normalized=False) for code in codes])
    around = template(slow)
    if around is not None:
        tokenizer.post_processor = around
    return tokenizer


def _prefix(slow: Any, spec: Any) -> str:
    """When a space is added before a text: ``always``, ``first`` (not after a special token) or ``never``."""
    if getattr(slow, "legacy", True) is False:
        return "first"
    return "always" if spec.add_dummy_prefix or _is_siglip(slow) else "never"


def _decoder(proto: Any, prefix: str) -> Any:
    steps: list[Any] = [decoders.Replace(_HIDDEN, ""), decoders.Replace(_FILLER, "")]
    if proto.trainer_spec.byte_fallback:
        steps.append(decoders.ByteFallback())
    return decoders.Sequence([*steps, decoders.Metaspace(prepend_scheme=prefix)])


def _model(found: SentencePiece, added: set[str]) -> Any:
    """The algorithm with the pieces in the order of their ids, without duplicates."""
    spec = found.proto.trainer_spec
    scores = {p.piece: p.score for p in found.proto.pieces if p.type in (_NORMAL, _USER_DEFINED, _BYTE)}
    seen: set[str] = set()
    pieces: list[tuple[str, float]] = []
    for index, token in enumerate(found.tokens):
        matched = token in scores or token in added or index == found.unknown
        text = token if matched and token not in seen else f"{_HIDDEN}{token}"
        text = _filler(index) if text in seen else text
        seen.add(text)
        pieces.append((text, scores.get(token, 0.0)))
    if spec.model_type == _UNIGRAM:
        return models.Unigram(pieces, unk_id=found.unknown, byte_fallback=spec.byte_fallback)
    if spec.model_type not in (_BPE, _CHAR):
        return None
    vocabulary = {text: index for index, (text, _) in enumerate(pieces)}
    joined = {p.piece: p.score for p in found.proto.pieces if p.type == _NORMAL and p.piece in vocabulary}
    merges = generate_merges(vocabulary, joined) if spec.model_type == _BPE else []
    unknown = pieces[found.unknown][0]
    return models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=spec.byte_fallback)


def _filler(index: int) -> str:
    """A unique piece for an id without a text of its own; it is decoded to an empty text."""
    return f"{_HIDDEN}{_FILLER}" + f"{index:b}".replace("0", _HIDDEN).replace("1", _FILLER)


def _normalizers(proto: Any, prefix: str) -> list[Any]:
    """The steps of ``NormalizerSpec``: the table of characters, then spaces."""
    spec = proto.normalizer_spec
    steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        return [*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if prefix == "first":
        return steps
    if prefix == "always":
        steps.append(normalizers.Prepend(_SPACE))
    return [*steps, normalizers.Replace(" ", _SPACE)]


def _is_siglip(slow: Any) -> bool:
    return type(slow).__name__ == "SiglipTokenizer"


def _siglip(slow: Any) -> list[Any]:
    """SigLIP lowercases and removes punctuation: ``canonicalize_text`` of big_vision's ``prompt_engineering.py``."""
    marks = "".join(f"\\{mark}" for mark in string.punctuation)
    lower = [normalizers.Lowercase()] if slow.do_lower_case else []
    steps = [normalizers.Replace(Regex(f"[{marks}]"), ""), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return [*lower, *steps]


#: Classes without a converter -> a class with the same vocabulary.
_LIKE = {
    "LukeTokenizer": "RobertaTokenizer",
    "MLukeTokenizer": "XLMRobertaTokenizer",
}

_ANY = r"[\s\S]"  #: one character, line breaks included


def from_characters(slow: Any) -> Tokenizer | None:
    """The tokenizer of a class that processes bytes, letters or whole words; None for another class."""
    name = type(slow).__name__
    if name in _LIKE:
        tokenizer: Tokenizer = SLOW_TO_FAST_CONVERTERS[_LIKE[name]](slow).converted()
    elif name in _BUILDERS:
        tokenizer = _BUILDERS[name](slow)
    else:
        return None
    if name != "VitsTokenizer":  # it counts every letter of the whole text
        add_tokens(tokenizer, slow)
    around = template(slow)
    if around is not None:
        tokenizer.post_processor = around
    return tokenizer


def _word_pieces(slow: Any) -> Tokenizer:
    """ProphetNet: WordPiece, as BERT."""
    basic = slow.basic_tokenizer
    tokenizer = Tokenizer(models.WordPiece(dict(slow.vocab), unk_token=str(slow.unk_token)))
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=basic.tokenize_chinese_chars,
        strip_accents=basic.strip_accents,
        lowercase=basic.do_lower_case,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _bytes(slow: Any) -> Tokenizer:
    """ByT5 and Perceiver: the bytes of UTF-8, after the special tokens."""
    offset = slow.convert_tokens_to_ids("\x00")
    vocabulary = {letter: byte + offset for byte, letter in bytes_to_unicode().items()}
    taken = set(vocabulary.values())
    for index in range(len(slow)):
        if index not in taken:
            vocabulary[slow.convert_ids_to_tokens(index)] = index
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _letters(slow: Any) -> Tokenizer:
    """Wav2Vec2 and derived classes: letters with a delimiter between words; decoding merges repeated letters (CTC)."""
    delimiter = slow.word_delimiter_token
    steps: list[Any] = [normalizers.Replace(" ", delimiter)]
    if slow.do_lower_case:  # the tokenizers library has no normalizer for uppercase
        steps = [
            normalizers.Lowercase(),
            *(normalizers.Replace(letter, letter.upper()) for letter in _small(slow)),
            *steps,
        ]
    tokenizer = Tokenizer(models.WordLevel(dict(slow.encoder), unk_token=slow.unk_token))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_ANY), behavior="isolated")
    small = [letter for letter in slow.encoder if letter != letter.lower() and len(letter) == 1]
    lower = [decoders.Replace(letter, letter.lower()) for letter in small] if slow.do_lower_case else []
    joined = decoders.CTC(pad_token=slow.pad_token, word_delimiter_token=delimiter, cleanup=False)
    tokenizer.decoder = decoders.Sequence([joined, decoders.Replace(delimiter, " "), *lower])
    return tokenizer


def _small(slow: Any) -> list[str]:
    """Letters whose uppercase is in the vocabulary, or is several letters, as that of ß."""
    letters = (chr(code) for code in range(sys.maxunicode + 1))
    changed = ((letter, letter.upper()) for letter in letters if letter.upper() != letter)
    return [letter for letter, capital in changed if len(capital) > 1 or capital in slow.encoder]


def _words(slow: Any) -> Tokenizer:
    """ESM: every token of the vocabulary is matched in the text; words between them become the unknown token."""
    vocabulary = {slow.convert_ids_to_tokens(index): index for index in range(len(slow))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=slow.unk_token))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_tokens([token for token in vocabulary if token not in slow.added_tokens_encoder])
    return tokenizer


def _speech(slow: Any) -> Tokenizer:
    """VITS: letters of the vocabulary, with blanks between them if the model was trained with these."""
    if slow.phonemize or slow.is_uroman:
        raise ValueError("its texts must first be converted to phonemes or Latin letters by another program")
    letters = _class(slow.encoder)
    steps: list[Any] = [normalizers.Replace("ț", "ţ")] if slow.language == "ron" else []
    if slow.normalize:
        steps = [normalizers.Lowercase(), *steps, normalizers.Replace(Regex(f"[^{letters}]"), ""), normalizers.Strip()]
    if slow.add_blank:
        # No blank is added to a letter that is an added token itself, as the blank often is.
        own = _class(slow.added_tokens_encoder)
        between = f"(?=[^{own}])|(?<=[^{own}])(?=[{own}]|$)" if own else "(?=.)|(?<=.)$"
        steps.append(normalizers.Replace(Regex(between), slow.convert_ids_to_tokens(0)))
    tokenizer = Tokenizer(models.WordLevel(dict(slow.encoder), unk_token=slow.unk_token))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_ANY), behavior="isolated")
    return tokenizer


def _class(tokens: Iterable[str]) -> str:
    """The single-letter tokens as a character class of a regular expression, without brackets."""
    return "".join(f"\\x{{{ord(token):X}}}" for token in tokens if len(token) == 1)


_BUILDERS: dict[str, Callable[[Any], Tokenizer]] = {
    "ByT5Tokenizer": _bytes,
    "PerceiverTokenizer": _bytes,
    "Wav2Vec2CTCTokenizer": _letters,
    "ProphetNetTokenizer": _word_pieces,
    "EsmTokenizer": _words,
    "VitsTokenizer": _speech,
}
