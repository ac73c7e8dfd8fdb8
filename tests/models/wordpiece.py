"""A small WordPiece tokenizer, written as the files of a BERT repository.

tokenizer.json is written by hand, not by the ``tokenizers`` library: its bytes, and so the hashes on a Hub, are
then the same under every version of that library. (The vocabulary is not trained for the same reason: a trained
WordPiece vocabulary has hash-map order.)
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD_ID, UNK_ID, CLS_ID, SEP_ID, MASK_ID = range(5)
SUFFIXES = ("##s", "##ed", "##er", "##ing", "##ly")
SHIPPED_LIMIT = 16  # length of truncation and padding in a tokenizer.json with limits

CORPUS = (
    "the quick brown fox jumps over the lazy dog while the small cat sleeps near the warm stove",
    "numbers such as 0 1 2 3 4 5 6 7 8 9 10 42 100 2024 appear now and then, don't they?",
    "Paris is the capital of France. Berlin is the capital of Germany. Rome is the capital of Italy.",
    "how are you today? I am fine, thank you! (and you?) well, not too bad; really: fine.",
    "le chat est assis sur la table et le chien dort dans la maison; déjà vu, naïve café, señor, über",
    "to be, or not to be, that is the question: whether it is nobler in the mind to suffer",
    "the movie was great and I loved every minute of it; the food was terrible and the service slow",
    "query: a passage to search for; document: one page that somebody wrote about the weather in June",
    "a model reads tokens and writes logits, a reader reads pages and writes notes, nobody reads both",
    "it was the best of times, it was the worst of times, it was the age of wisdom, of foolishness",
    "a photo of two people on a red bicycle near an old stone bridge under heavy grey clouds",
    "call me tomorrow before noon - my phone number has changed - or send an email instead!",
    "large rivers begin as thin springs high in cold mountains; they end in warm blue seas",
    "she sold her first painting for less than its frame had cost, yet never thought of stopping",
)


def vocabulary(*, cased: bool = False) -> list[str]:
    """Specials, single characters, their continuations, suffixes, then whole words by frequency."""
    text = "\n".join(CORPUS)
    if not cased:  # as BertNormalizer(lowercase=True), which strips accents too
        decomposed = unicodedata.normalize("NFD", text.lower())
        text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    count = Counter(re.findall(r"\w+|[^\w\s]", text))
    words = sorted(count, key=lambda word: (-count[word], word))
    letters = sorted({c for word in words for c in word})
    pieces = [*SPECIAL, *letters, *("##" + c for c in letters), *SUFFIXES, *words]
    return list(dict.fromkeys(pieces))


def write_tokenizer(
    dest: Path, *, max_length: int, cased: bool = False, limits: bool = False, left: bool = False
) -> int:
    """Write tokenizer.json and the files beside it; return the size of the vocabulary.

    `limits` ships tokenizer.json with truncation and padding to 16 tokens, as MiniLM's has with 128. `left`: texts are
    cut and padded on the left.
    """
    vocab = vocabulary(cased=cased)
    _write_json(dest / "tokenizer.json", _tokenizer(vocab, cased=cased, limits=limits))
    sides = {"padding_side": "left", "truncation_side": "left"} if left else {}
    _write_json(dest / "tokenizer_config.json", {**_tokenizer_config(max_length, cased=cased), **sides})
    _write_json(dest / "special_tokens_map.json", _named_specials())
    (dest / "vocab.txt").write_bytes("".join(piece + "\n" for piece in vocab).encode())
    return len(vocab)


def _write_json(path: Path, content: object) -> None:
    path.write_bytes((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _named_specials() -> dict[str, str]:
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return dict(zip(names, SPECIAL, strict=True))


def _added_tokens() -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": index, "content": token, **flags} for index, token in enumerate(SPECIAL)]


def _tokenizer_config(max_length: int, *, cased: bool) -> dict[str, Any]:
    decoder = {str(token.pop("id")): token for token in _added_tokens()}
    return {
        "added_tokens_decoder": decoder,
        "clean_up_tokenization_spaces": True,
        "do_lower_case": not cased,
        "model_max_length": max_length,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
        **_named_specials(),
    }


def _tokenizer(vocab: list[str], *, cased: bool, limits: bool) -> dict[str, Any]:
    truncation = {"direction": "Right", "max_length": SHIPPED_LIMIT, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": SHIPPED_LIMIT},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": PAD_ID,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    return {
        "version": "1.0",
        "truncation": truncation if limits else None,
        "padding": padding if limits else None,
        "added_tokens": _added_tokens(),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": not cased,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _template(),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {piece: index for index, piece in enumerate(vocab)},
        },
    }


def _template() -> dict[str, Any]:
    """[CLS] A [SEP] with type 0, then B [SEP] with type 1."""

    def special(token: str, type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    def sequence(name: str, type_id: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": type_id}}

    single = [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)]
    ids = {"[CLS]": CLS_ID, "[SEP]": SEP_ID}
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, sequence("B", 1), special("[SEP]", 1)],
        "special_tokens": {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in ids.items()},
    }
