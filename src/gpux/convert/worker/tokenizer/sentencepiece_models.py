"""A tokenizer.json for any Python tokenizer of transformers that hands its texts to sentencepiece.

The tokenizers library has the two algorithms (unigram, byte pair encoding) and the normalization table; everything else
is read from the model's own description, ``sentencepiece_model.proto`` of the sentencepiece project. Transformers'
converters know some thirty classes by name; this one asks the object, so that it serves marian, m2m_100,
speech_to_text, plbart, speecht5 and whatever comes, and classes whose converter leaves something out.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

from gpux.convert.worker.tokenizer.template import add_tokens, template

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
    return 1 + max([len(slow) - 1, *slow.added_tokens_decoder, *languages.values()])


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
