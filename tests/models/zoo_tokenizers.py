"""Tiny tokenizers of the word-piece and byte-level kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

BuiltTokenizer = tuple[
    Any, dict[str, Any]
]  #: a tokenizer of the library tokenizers, and the fields of tokenizer_config.json

CORPUS = [
    "the quick brown fox jumps over the lazy dog while the small cat sleeps near the warm stove",
    "a model reads tokens and writes logits; a reader reads pages and writes notes",
    "numbers such as 0 1 2 3 4 5 6 7 8 9 10 11 12 42 100 2024 appear now and then, don't they?",
    "Paris is the capital of France. Berlin is the capital of Germany. Rome is the capital of Italy.",
    "how are you today? I am fine, thank you! (and you?) well, not too bad.",
    "translate English to German: the house is wonderful. Das Haus ist wunderbar.",
    "le chat est assis sur la table et le chien dort dans la maison; déjà vu, naïve café, señor, über",
    "def add(a, b):\n    return a + b\nfor i in range(10):\n    print(i, add(i, 1))\n",
    "to be, or not to be, that is the question: whether it is nobler in the mind to suffer",
    "the movie was great and I loved every minute of it; the food was terrible and the service slow",
    "a photo of a cat. a photo of a dog. a photo of a bird. a photo of a car. a photo of two people.",
    "it was the best of times, it was the worst of times, it was the age of wisdom",
]


def bpe_trainer(size: int, specials: Sequence[str] = (), alphabet: Sequence[str] = ()) -> Any:
    """A trainer without progress output."""
    from tokenizers import trainers

    return trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), initial_alphabet=list(alphabet), show_progress=False
    )


def pair_template(tok: Any, bos: str | None, eos: str | None, pair_sep: str | None = None) -> None:
    """[bos] A [eos] / [bos] A [eos] B [eos] (roberta-like pairs take pair_sep twice)."""
    from tokenizers import processors

    ids = [(t, tok.token_to_id(t)) for t in dict.fromkeys(t for t in (bos, eos, pair_sep) if t)]
    head = f"{bos} $A" if bos else "$A"
    single = f"{head} {eos}" if eos else head
    tail = f"$B:1 {eos}:1" if eos else "$B:1"
    pair = f"{single} {pair_sep}:1 {tail}" if pair_sep else f"{single} {tail}"
    tok.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _word_counts(normalise: Callable[[str], str] = str) -> list[str]:
    """Words of the corpus, most frequent first. (Trained WordPiece and suffix-BPE vocabularies have
    hash-map order, different in every run, so those two are built from this list instead.)"""
    import re
    from collections import Counter

    count = Counter(w for line in CORPUS for w in re.findall(r"\w+|[^\w\s]", normalise(line)))
    return sorted(count, key=lambda w: (-count[w], w))


def wordpiece() -> BuiltTokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    norm = normalizers.BertNormalizer(lowercase=True)
    words = _word_counts(norm.normalize_str)
    letters = sorted({c for w in words for c in w})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters), *words]
    vocab = {t: i for i, t in enumerate(list(dict.fromkeys(pieces))[:480])}
    tok = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tok.normalizer = norm
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    pair_template(tok, "[CLS]", "[SEP]")
    return tok, {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }


def _byte_bpe(
    special: Sequence[str], bos: str | None = None, eos: str | None = None, pair_sep: str | None = None
) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(CORPUS, bpe_trainer(500, special, sorted(pre_tokenizers.ByteLevel.alphabet())))
    if bos or eos:
        pair_template(tok, bos, eos, pair_sep)
    return tok


def roberta() -> BuiltTokenizer:
    tok = _byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s>", "</s>", "</s>")
    return tok, {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "model_input_names": ["input_ids", "attention_mask"],
    }


def gpt2() -> BuiltTokenizer:
    tok = _byte_bpe(["<|endoftext|>"])
    return tok, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}


def chatml() -> BuiltTokenizer:
    tok = _byte_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tok, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": template}


def bart() -> BuiltTokenizer:
    tok = _byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s>", "</s>", "</s>")
    return tok, {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }


CLIP_EOS = 477


def clip() -> BuiltTokenizer:
    """Lower-cased BPE with an end-of-word mark; the end token has the highest id (old CLIP pools on argmax)."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = ["".join(t for t, _ in byte_level.pre_tokenize_str(w)) for w in _word_counts(str.lower)]
    letters = sorted({c for w in words for c in w})
    vocab = {t: i for i, t in enumerate([*letters, *(c + "</w>" for c in letters)])}
    merges: list[tuple[str, str]] = []
    for word in words:  # grow each word from the left, frequent words first: t+h, th+e</w>
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
            if len(vocab) < 500:
                vocab.setdefault(parts[0], len(vocab))
    merges = [m for m in merges if m[0] in vocab and m[1] in vocab and m[0] + m[1] in vocab]
    tok = Tokenizer(models.BPE(vocab, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tok.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), byte_level])
    tok.decoder = decoders.BPEDecoder(suffix="</w>")
    tok.add_special_tokens([AddedToken(t, special=True) for t in ("<|startoftext|>", "<|endoftext|>")])
    assert tok.token_to_id("<|endoftext|>") == CLIP_EOS
    pair_template(tok, "<|startoftext|>", "<|endoftext|>")
    return tok, {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": 32,
    }
