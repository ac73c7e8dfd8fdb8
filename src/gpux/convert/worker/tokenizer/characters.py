"""A tokenizer.json for Python tokenizers that look at bytes, letters or whole words, one at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import SLOW_TO_FAST_CONVERTERS, bytes_to_unicode

from gpux.convert.worker.tokenizer.template import add_tokens, template

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
