"""Files of slow tokenizers, built from the zoo's corpus, without tokenizer.json."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tests.models.zoo_tokenizers import CORPUS, clip, gpt2, roberta, wordpiece

_SIZE = 400  #: pieces of a trained SentencePiece model, below every embedding table


def write_wordpiece(folder: Path) -> None:
    """vocab.txt, as in BERT's first repositories."""
    _write_lines(folder / "vocab.txt", wordpiece()[0])
    _tokenizer_config(folder, "BertTokenizer", do_lower_case=True)


def write_gpt2_like(folder: Path, tokenizer_class: str = "GPT2Tokenizer") -> None:
    """vocab.json and merges.txt."""
    built = (gpt2 if tokenizer_class == "GPT2Tokenizer" else roberta)()[0]
    _write_vocabulary(folder, built)
    _tokenizer_config(folder, tokenizer_class)


def write_clip_like(folder: Path) -> None:
    """vocab.json and merges.txt with end-of-word marks."""
    _write_vocabulary(folder, clip()[0])
    _tokenizer_config(folder, "CLIPTokenizer", model_max_length=32)


def write_sentencepiece(folder: Path, name: str, tokenizer_class: str) -> None:
    """A trained SentencePiece model, under the file name that the tokenizer class reads."""
    kind = "bpe" if tokenizer_class == "LlamaTokenizer" else "unigram"
    (folder / name).write_bytes(_trained(kind))
    _tokenizer_config(folder, tokenizer_class)


def write_marian(folder: Path) -> None:
    """One model for the source, one for the target, and the vocabulary that both share."""
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(_trained("unigram"))
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=_trained("unigram"))
    names = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    ordered = ["</s>", "<unk>", *(name for name in names if name not in ("<s>", "</s>", "<unk>", "<pad>")), "<pad>"]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(ordered))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    _tokenizer_config(folder, "MarianTokenizer", source_lang="en", target_lang="de")


def _trained(kind: str) -> bytes:
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=made,
        model_type=kind,
        vocab_size=_SIZE,
        hard_vocab_limit=False,
        byte_fallback=kind == "bpe",
        num_threads=1,
        minloglevel=2,
    )
    return made.getvalue()


def _write_vocabulary(folder: Path, tokenizer: Any) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    added = {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items()}
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps({**model["vocab"], **added}), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")


def _write_lines(path: Path, tokenizer: Any) -> None:
    vocabulary = tokenizer.get_vocab()
    path.write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n", encoding="utf-8")


def _tokenizer_config(folder: Path, tokenizer_class: str, **values: Any) -> None:
    content = {"tokenizer_class": tokenizer_class, "model_max_length": 128, **values}
    (folder / "tokenizer_config.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
