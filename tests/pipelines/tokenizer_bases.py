"""Tiny ``tokenizer.json`` files of each family, constructed without training, so that they are always the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

WORDS = (
    "the", "quick", "brown", "fox", "hello", "world", "one", "two", "cafe", "deja", "vu", "hund", "lauft", "user",
    "leading", "trailing", "don", "new", "line", "in", "er", "ing", "th", "ed",
)  # fmt: skip
LETTERS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789éàïöäßÉŁóźСъешьщё我爱北京こんにちは.,'!?<>[]|_/-"
)
#: The pattern of Qwen 2, without its letters of other scripts' cases.
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


@dataclass(frozen=True)
class Base:
    """A family: how its ``tokenizer.json`` is constructed, and what its usual configuration says."""

    build: Callable[[], Tokenizer]
    model_type: str
    tokenizer_class: str
    config: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[str] = ()  #: special tokens that the texts contain


def word_pieces(
    *, lower: bool = True, specials: Sequence[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
) -> Tokenizer:
    """Specials: pad, unknown, first, last, mask."""
    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces = [*specials, *letters, *WORDS, "##s", "##ing", *(word.capitalize() for word in WORDS)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=specials[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(specials))
    around(tokenizer, specials[2], specials[3])
    return tokenizer


def around(tokenizer: Tokenizer, first: str | None, last: str | None) -> None:
    """Put special tokens around each text."""
    used = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(filter(None, (first, last)))]
    single = " ".join(filter(None, (first, "$A", last)))
    second = " ".join(filter(None, ("$B:1", last and f"{last}:1")))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} {second}", special_tokens=used
    )


def merges_of(words: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Merges that make one token of each word, in the order of the words."""
    found: list[tuple[str, str]] = []
    for word in words:
        parts = list(word)
        for pair in found:
            parts = _merged(parts, pair)
        while len(parts) > 1:
            found.append((parts[0], parts[1]))
            parts = _merged(parts, found[-1])
    return found


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result


def byte_pairs(specials: Sequence[str]) -> Tokenizer:
    """Pairs of bytes, as GPT-2."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelled = [word for text in WORDS for word in ([*text], ["Ġ", *text])]
    merges = merges_of(spelled)
    tokens = dict.fromkeys([*specials, *alphabet, *(first + second for first, second in merges)])
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(list(specials))
    return tokenizer


def roberta() -> Tokenizer:
    tokenizer = byte_pairs(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def split_bytes(specials: Sequence[str], pattern: str) -> Tokenizer:
    """Pairs of bytes with another pattern, as Qwen 2 and Bloom."""
    tokenizer = byte_pairs(specials)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def qwen2() -> Tokenizer:
    tokenizer = split_bytes(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], QWEN)
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def sentence_pairs(specials: Sequence[str], *, prefix: bool = True, metaspace: bool = False) -> Tokenizer:
    """Pairs of letters with bytes for unknown ones, as Llama 2 and Gemma.

    Args:
        specials: the first is the unknown token.
        prefix: put a space before a text.
        metaspace: as transformers writes for ``legacy=False``: only before the text's first word.
    """
    merges = merges_of([word for text in WORDS for word in (["▁", *text], [*text])])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    tokens = [*specials, *bytes_, "▁", *LETTERS, *(first + second for first, second in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=specials[0], fuse_unk=True, byte_fallback=True))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    else:
        replace = normalizers.Replace(" ", "▁")
        steps = [normalizers.Prepend("▁"), replace] if prefix else [replace]
        tokenizer.normalizer = normalizers.Sequence(steps) if prefix else replace
    steps_back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps_back, decoders.Strip(" ", 1, 0)] if prefix else steps_back)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in specials])
    return tokenizer


def llama(*, metaspace: bool = False) -> Tokenizer:
    tokenizer = sentence_pairs(["<unk>", "<s>", "</s>"], metaspace=metaspace)
    around(tokenizer, "<s>", None)
    return tokenizer


def gemma() -> Tokenizer:
    specials = ["<unk>", "<pad>", "<eos>", "<bos>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = sentence_pairs(specials, prefix=False)
    around(tokenizer, "<bos>", None)
    return tokenizer


def unigram(specials: Sequence[str], unknown: str, last: Sequence[str] = ()) -> Tokenizer:
    """Pieces with scores, as sentencepiece's; ``last`` come after the pieces."""
    pieces = [f"▁{word}" for word in WORDS] + list(WORDS)
    scored = [(piece, -2.0 - index / 16) for index, piece in enumerate(pieces)]
    letters = [(letter, -9.0 - index / 16) for index, letter in enumerate(("▁", *LETTERS))]
    vocabulary = [*((token, 0.0) for token in specials), *scored, *letters, *((token, 0.0) for token in last)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, [*specials].index(unknown), byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (*specials, *last)])
    return tokenizer


def t5() -> Tokenizer:
    tokenizer = unigram(["<pad>", "</s>", "<unk>"], "<unk>", ["<extra_id_2>", "<extra_id_1>", "<extra_id_0>"])
    around(tokenizer, None, "</s>")
    return tokenizer


def fairseq(*last: str) -> Tokenizer:
    """As XLM-R, mBART and NLLB."""
    tokenizer = unigram(["<s>", "<pad>", "</s>", "<unk>"], "<unk>", last)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    around(tokenizer, "<s>", "</s>")
    return tokenizer


def albert() -> Tokenizer:
    tokenizer = unigram(["<pad>", "<unk>", "[CLS]", "[SEP]"], "<unk>")
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, normalized=False)])
    steps = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    around(tokenizer, "[CLS]", "[SEP]")
    return tokenizer


def deberta_v2() -> Tokenizer:
    tokenizer = unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[UNK]", ["[MASK]"])
    around(tokenizer, "[CLS]", "[SEP]")
    return tokenizer


def xlnet() -> Tokenizer:
    tokenizer = unigram(["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"], "<unk>")
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<sep>", "<cls>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2", pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2", special_tokens=ids
    )
    return tokenizer


def deberta() -> Tokenizer:
    tokenizer = byte_pairs(["[CLS]", "[PAD]", "[SEP]", "[UNK]"])
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, normalized=False)])
    around(tokenizer, "[CLS]", "[SEP]")
    return tokenizer


def clip() -> Tokenizer:
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = [f"{letter}</w>" for letter in bytes_]
    merges = merges_of([[*word[:-1], f"{word[-1]}</w>"] for word in WORDS])
    ids = ["<|startoftext|>", "<|endoftext|>"]
    tokens = dict.fromkeys([*bytes_, *ends, *(first + second for first, second in merges), *ids])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary, merges, unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>"
        )
    )
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ids])
    places = [(token, tokenizer.get_vocab()[token]) for token in ids]
    tokenizer.post_processor = processors.RobertaProcessing(places[1], places[0], False, False)
    return tokenizer


def whisper() -> Tokenizer:
    names = ["<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer = byte_pairs(["<|endoftext|>"])
    tokenizer.add_special_tokens(names)
    ids = [(name, tokenizer.token_to_id(name)) for name in (names[0], names[-1], "<|endoftext|>")]
    start = f"{names[0]} {names[-1]}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A <|endoftext|>", pair=f"{start} $A $B <|endoftext|>", special_tokens=ids
    )
    return tokenizer


BERT: dict[str, Any] = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    "model_max_length": 24,
}  # fmt: skip
ROBERTA: dict[str, Any] = {
    "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>",
    "pad_token": "<pad>", "mask_token": "<mask>", "model_max_length": 24,
}  # fmt: skip
GPT2 = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "extra_ids": 3, "model_max_length": 24}
GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
QWEN2 = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "model_max_length": 131072}
ALBERT = {**BERT, "pad_token": "<pad>", "unk_token": "<unk>"}
_S = ("<s>", "</s>")
_B = ("[SEP]", "[MASK]")

BASES = {
    "bert": Base(word_pieces, "bert", "BertTokenizer", BERT, _B),
    "bert-cased": Base(lambda: word_pieces(lower=False), "bert", "BertTokenizer", BERT, _B),
    "mpnet": Base(
        lambda: word_pieces(specials=("<pad>", "[UNK]", "<s>", "</s>", "<mask>")),
        "mpnet",
        "MPNetTokenizer",
        {**ROBERTA, "unk_token": "[UNK]"},
        (*_S, "<mask>"),
    ),
    "roberta": Base(roberta, "roberta", "RobertaTokenizer", ROBERTA, (*_S, "<mask>")),
    "gpt2": Base(lambda: byte_pairs(["<|endoftext|>"]), "gpt2", "GPT2Tokenizer", GPT2, ("<|endoftext|>",)),
    "qwen2": Base(qwen2, "qwen2", "Qwen2Tokenizer", QWEN2, ("<|im_start|>", "<|endoftext|>")),
    "bloom": Base(
        lambda: split_bytes(["<unk>", "<s>", "</s>", "<pad>"], BLOOM),
        "bloom",
        "BloomTokenizerFast",
        {**LLAMA, "pad_token": "<pad>"},
        _S,
    ),
    "llama": Base(llama, "llama", "LlamaTokenizer", LLAMA, _S),
    "llama-metaspace": Base(lambda: llama(metaspace=True), "llama", "LlamaTokenizerFast", LLAMA, _S),
    "gemma": Base(gemma, "gemma", "GemmaTokenizer", GEMMA, ("<bos>", "<end_of_turn>")),
    "t5": Base(t5, "t5", "T5Tokenizer", T5, ("</s>", "<extra_id_0>")),
    "xlm-roberta": Base(fairseq, "xlm-roberta", "XLMRobertaTokenizer", ROBERTA, (*_S, "<mask>")),
    "mbart": Base(lambda: fairseq("en_XX", "de_DE"), "mbart", "MBartTokenizer", ROBERTA, ("</s>", "de_DE")),
    "nllb": Base(lambda: fairseq("eng_Latn", "deu_Latn"), "nllb", "NllbTokenizer", ROBERTA, ("</s>", "deu_Latn")),
    "albert": Base(albert, "albert", "AlbertTokenizer", ALBERT, _B),
    "deberta-v2": Base(deberta_v2, "deberta-v2", "DebertaV2Tokenizer", BERT, _B),
    "deberta": Base(deberta, "deberta", "DebertaTokenizer", BERT, _B),
    "xlnet": Base(xlnet, "xlnet", "XLNetTokenizer", {}, ("<sep>", "<mask>")),
    "clip": Base(clip, "clip", "CLIPTokenizer", {"model_max_length": 24}, ("<|endoftext|>",)),
    "whisper": Base(whisper, "whisper", "WhisperTokenizer", GPT2, ("<|en|>", "<|endoftext|>")),
}
