"""Tiny tokenizers of the kinds of SentencePiece, built by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.models.zoo_tokenizers import CORPUS, BuiltTokenizer, bpe_trainer, pair_template


def _unigram(
    special: list[str], unk: str, bos: str | None = None, eos: str | None = None, last: Sequence[str] = ()
) -> Any:
    """Unigram built by hand (whole words, then characters): not trained by EM, so equal in all versions."""
    from collections import Counter
    from math import log

    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    words: Counter[str] = Counter()
    chars: Counter[str] = Counter()
    for line in CORPUS:
        for w in line.split():
            words["\u2581" + w] += 1
            chars.update("\u2581" + w)
    pieces = [(s, 0.0) for s in special]
    total = sum(words.values())
    for w, n in sorted(words.items(), key=lambda kv: (-kv[1], kv[0]))[:300]:
        pieces.append((w, log(n / total)))
    for c, n in sorted(chars.items(), key=lambda kv: (-kv[1], kv[0])):
        if c not in words:
            pieces.append((c, log(n / total) - 8.0))
    tok = Tokenizer(models.Unigram(pieces, unk_id=special.index(unk)))
    tok.normalizer = normalizers.NFKC()
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.decoder = decoders.Metaspace()
    tok.add_special_tokens([AddedToken(t, special=True) for t in (*special, *last)])
    if bos or eos:
        pair_template(tok, bos, eos)
    return tok


def xlmr() -> BuiltTokenizer:
    tok = _unigram(["<s>", "<pad>", "</s>", "<unk>"], "<unk>", "<s>", "</s>", last=["<mask>"])
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


def t5() -> BuiltTokenizer:
    tok = _unigram(["<pad>", "</s>", "<unk>"], "<unk>", None, "</s>", last=[f"<extra_id_{i}>" for i in range(8)])
    return tok, {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def albert() -> BuiltTokenizer:
    tok = _unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>", "[CLS]", "[SEP]")
    return tok, {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }


def llama() -> BuiltTokenizer:
    """SentencePiece-style BPE with byte fallback, as Llama/Mistral/Gemma ship it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    seed = Tokenizer(models.BPE())
    norm = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    seed.normalizer = norm
    seed.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    seed.train_from_iterator(CORPUS, bpe_trainer(220))
    trained = json.loads(seed.to_str())["model"]
    vocab: dict[str, int] = {}
    for t in ("<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))):
        vocab[t] = len(vocab)
    for t in sorted(trained["vocab"], key=trained["vocab"].__getitem__):
        vocab.setdefault(t, len(vocab))
    merges: list[Any] = [tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in trained["merges"]]
    tok = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = norm
    tok.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tok.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    pair_template(tok, "<s>", None)
    return tok, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
