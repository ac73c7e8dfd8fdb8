"""Frames whose text ``scripts/update_ctc_goldens.py`` writes: a vocabulary, settings of its tokenizer, token ids."""

from __future__ import annotations

from typing import Any

VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, **{chr(65 + i): 5 + i for i in range(11)}}
#: "HELLO"-like words with repeats, blanks between equal chars, delimiters at both ends and doubled, special tokens.
IDS = [4, 4, 0, 5, 5, 0, 6, 7, 7, 0, 7, 4, 0, 4, 8, 8, 9, 1, 2, 2, 3, 0, 10, 4, 4]
SMALL = {"[PAD]": 0, "[UNK]": 1, " ": 2, "a": 3, "b": 4, "'": 5, "n": 6, "t": 7, ".": 8}
#: name -> vocabulary, tokenizer_config.json, ids of the frames.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[int]]] = {
    "plain": (VOCABULARY, {}, IDS),
    "lower case": (VOCABULARY, {"do_lower_case": True}, IDS),
    "another delimiter": (VOCABULARY, {"replace_word_delimiter_char": "_"}, IDS),
    "a space as the delimiter": (
        SMALL,
        {"pad_token": "[PAD]", "unk_token": "[UNK]", "word_delimiter_token": " "},
        [2, 3, 3, 0, 3, 2, 2, 0, 2, 4, 1, 1, 4, 8, 2],
    ),
    "spaces cleaned up": (
        SMALL,
        {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "word_delimiter_token": " ",
            "clean_up_tokenization_spaces": True,
        },
        [3, 2, 6, 5, 7, 2, 8],
    ),
    "ids beyond the vocabulary": (SMALL, {"pad_token": "[PAD]", "unk_token": "[UNK]"}, [3, 9, 10, 11, 12, 4]),
    "special tokens that the vocabulary lacks": (SMALL, {}, [3, 9, 10, 11, 12, 4, 0]),
    "tokens of a dict": (
        VOCABULARY,
        {"pad_token": {"content": "<pad>", "__type": "AddedToken", "lstrip": False}},
        IDS,
    ),
    "added tokens": (
        SMALL,
        {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "added_tokens_decoder": {
                "9": {"content": "<bye>", "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            },
        },
        [3, 9, 9, 4, 10],
    ),
    "one of several languages": (
        {"eng": SMALL, "fra": {"[PAD]": 0, "é": 3}},
        {"target_lang": "eng", "pad_token": "[PAD]"},
        [3, 3, 4],
    ),
    "phonemes": (
        {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "h": 4, "ə": 5, "l": 6, "oʊ": 7, "|": 8},
        {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer", "do_phonemize": False, "word_delimiter_token": "|"},
        [4, 4, 0, 5, 6, 0, 6, 7, 8, 8, 4, 1, 0, 3, 9],
    ),
    "phonemes without words": (
        {"[PAD]": 0, "[UNK]": 1, "|": 2, "t": 3, "ʃ": 4},
        {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer", "do_phonemize": False, "pad_token": "[PAD]"},
        [3, 2, 4, 0, 4, 1],
    ),
    "nothing but blanks": (VOCABULARY, {}, [0, 0, 0]),
    "nothing but delimiters": (VOCABULARY, {}, [4, 0, 4]),
}
