"""What a Python tokenizer puts around texts and adds to its vocabulary, as the tokenizers library writes it.

---
A tokenizer.json for any Python tokenizer of transformers that hands its texts to sentencepiece.

The tokenizers library has the two algorithms (unigram, byte pair encoding) and the normalization table; everything else
is read from the model's own description, ``sentencepiece_model.proto`` of the sentencepiece project. Transformers'
converters know some thirty classes by name; this one asks the object, so that it serves marian, m2m_100,
speech_to_text, plbart, speecht5 and whatever comes, and classes whose converter leaves something out.


---
A tokenizer.json for Python tokenizers that look at bytes, letters or whole words, one at a time."""

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

#: Stand for the ids of the first and the second text; no vocabulary has them.
_FIRST, _SECOND = -101, -102


def takes_pairs(slow: Any) -> bool:
    """False for a tokenizer that drops the second text."""
    return _SECOND in slow.build_inputs_with_special_tokens([_FIRST], [_SECOND])


def template(slow: Any) -> processors.TemplateProcessing | None:
    """Special tokens around a text and around a pair, found by asking; None if there are none."""
    single = slow.build_inputs_with_special_tokens([_FIRST])
    pair = slow.build_inputs_with_special_tokens([_FIRST], [_SECOND])
    if _SECOND not in pair:
        pair = [*single, _SECOND]  # a template must use both; such pairs are never asked for
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
    """Tokens that are found in a text before anything else looks at it; their ids are in the vocabulary already."""
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
#: Put before pieces that no text may match: the target language's, control symbols. No text that is read has it.
_HIDDEN = "\x00"
_FILLER = "\x01"
#: ``TrainerSpec.ModelType`` and ``SentencePiece.Type`` of the proto.
_UNIGRAM, _BPE, _CHAR = 1, 2, 4
_NORMAL, _USER_DEFINED, _BYTE = 1, 4, 6


@dataclass(frozen=True)
class SentencePiece:
    """A model of sentencepiece and the vocabulary that a tokenizer gives ids with."""

    proto: Any
    tokens: tuple[str, ...]  #: in the order of their ids
    unknown: int

    @property
    def without_id(self) -> tuple[str, ...]:
        """Pieces that the model finds in texts and the vocabulary does not have: they are read as unknown."""
        known = set(self.tokens)
        return tuple(p.piece for p in self.proto.pieces if p.type == _NORMAL and p.piece not in known)


def describe(slow: Any, *, target: bool = False) -> SentencePiece | None:
    """The model behind a Python tokenizer, of its target language if asked; None if it has none."""
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
    """The id of what no piece matches, which need not be that of the unknown token."""
    return int(slow._convert_token_to_id(f"{_HIDDEN}{_HIDDEN}"))


def _size(slow: Any) -> int:
    """One more than the highest id: added tokens may leave gaps, and language codes are not always counted."""
    languages = getattr(slow, "lang_token_to_id", None) or {}
    return 1 + max(len(slow) - 1, *map(int, slow.added_tokens_decoder), *map(int, languages.values()))


def _token(slow: Any, index: int) -> str:
    """The token of an id, empty in a gap."""
    try:
        return str(slow.convert_ids_to_tokens(index))
    except IndexError:
        return ""


def from_sentencepiece(slow: Any, found: SentencePiece) -> Tokenizer | None:
    """The tokenizer; None for an algorithm that the tokenizers library does not have."""
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
    """Where a space is thought before a text: ``always``, ``first`` (not after a special token) or ``never``."""
    if getattr(slow, "legacy", True) is False:
        return "first"
    return "always" if spec.add_dummy_prefix or _is_siglip(slow) else "never"


def _decoder(proto: Any, prefix: str) -> Any:
    steps: list[Any] = [decoders.Replace(_HIDDEN, ""), decoders.Replace(_FILLER, "")]
    if proto.trainer_spec.byte_fallback:
        steps.append(decoders.ByteFallback())
    return decoders.Sequence([*steps, decoders.Metaspace(prepend_scheme=prefix)])


def _model(found: SentencePiece, added: set[str]) -> Any:
    """The algorithm with the pieces in the order of their ids, each text once."""
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
    """A text of its own for an id that has none, which is no text when it is decoded."""
    return f"{_HIDDEN}{_FILLER}" + f"{index:b}".replace("0", _HIDDEN).replace("1", _FILLER)


def _normalizers(proto: Any, prefix: str) -> list[Any]:
    """``NormalizerSpec``: the table of characters, then what happens to spaces."""
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
    """SigLIP reads lower case without punctuation: ``canonicalize_text`` of big_vision's ``prompt_engineering.py``."""
    marks = "".join(f"\\{mark}" for mark in string.punctuation)
    lower = [normalizers.Lowercase()] if slow.do_lower_case else []
    steps = [normalizers.Replace(Regex(f"[{marks}]"), ""), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return [*lower, *steps]


#: Classes without a converter of their own whose vocabulary is that of another class.
_LIKE = {
    "LukeTokenizer": "RobertaTokenizer",
    "MLukeTokenizer": "XLMRobertaTokenizer",
}

_ANY = r"[\s\S]"  #: one letter, a line break included


def from_characters(slow: Any) -> Tokenizer | None:
    """The tokenizer; None for a class that is not of this kind."""
    name = type(slow).__name__
    if name in _LIKE:
        tokenizer: Tokenizer = SLOW_TO_FAST_CONVERTERS[_LIKE[name]](slow).converted()
    elif name in _MAKERS:
        tokenizer = _MAKERS[name](slow)
    else:
        return None
    if name != "VitsTokenizer":  # it counts every letter, and must see the text whole
        add_tokens(tokenizer, slow)
    around = template(slow)
    if around is not None:
        tokenizer.post_processor = around
    return tokenizer


def _word_pieces(slow: Any) -> Tokenizer:
    """ProphetNet: BERT's words and pieces."""
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
    """Wav2Vec2 and kin: letters with a sign between words; the way back joins what a CTC head repeats."""
    sign = slow.word_delimiter_token
    steps: list[Any] = [normalizers.Replace(" ", sign)]
    if slow.do_lower_case:  # there is no normalizer for capitals
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
    joined = decoders.CTC(pad_token=slow.pad_token, word_delimiter_token=sign, cleanup=False)
    tokenizer.decoder = decoders.Sequence([joined, decoders.Replace(sign, " "), *lower])
    return tokenizer


def _small(slow: Any) -> list[str]:
    """Letters whose capitals are in the vocabulary, or are several letters, as those of ß."""
    letters = (chr(code) for code in range(sys.maxunicode + 1))
    changed = ((letter, letter.upper()) for letter in letters if letter.upper() != letter)
    return [letter for letter, capital in changed if len(capital) > 1 or capital in slow.encoder]


def _words(slow: Any) -> Tokenizer:
    """ESM: every token of the vocabulary is cut out of the text; what is between them is unknown, word by word."""
    vocabulary = {slow.convert_ids_to_tokens(index): index for index in range(len(slow))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=slow.unk_token))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_tokens([token for token in vocabulary if token not in slow.added_tokens_encoder])
    return tokenizer


def _speech(slow: Any) -> Tokenizer:
    """VITS: letters of the vocabulary, with blanks between where the model was trained so."""
    if slow.phonemize or slow.is_uroman:
        raise ValueError("another program turns its texts into phonemes or Latin letters first")
    letters = _class(slow.encoder)
    steps: list[Any] = [normalizers.Replace("ț", "ţ")] if slow.language == "ron" else []
    if slow.normalize:
        steps = [normalizers.Lowercase(), *steps, normalizers.Replace(Regex(f"[^{letters}]"), ""), normalizers.Strip()]
    if slow.add_blank:
        # A letter that is an added token itself, as the blank often is, gets none of its own.
        own = _class(slow.added_tokens_encoder)
        between = f"(?=[^{own}])|(?<=[^{own}])(?=[{own}]|$)" if own else "(?=.)|(?<=.)$"
        steps.append(normalizers.Replace(Regex(between), slow.convert_ids_to_tokens(0)))
    tokenizer = Tokenizer(models.WordLevel(dict(slow.encoder), unk_token=slow.unk_token))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_ANY), behavior="isolated")
    return tokenizer


def _class(tokens: Iterable[str]) -> str:
    """The tokens of one letter, as they stand between the brackets of a regular expression."""
    return "".join(f"\\x{{{ord(token):X}}}" for token in tokens if len(token) == 1)


_MAKERS: dict[str, Callable[[Any], Tokenizer]] = {
    "ByT5Tokenizer": _bytes,
    "PerceiverTokenizer": _bytes,
    "Wav2Vec2CTCTokenizer": _letters,
    "ProphetNetTokenizer": _word_pieces,
    "EsmTokenizer": _words,
    "VitsTokenizer": _speech,
}
