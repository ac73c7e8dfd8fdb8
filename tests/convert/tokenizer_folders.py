"""Folders as the Hub has them that hold a slow tokenizer's files and no tokenizer.json; run in a toolchain.

Small vocabularies, trained on the spot: ``python tokenizer_folders.py FOLDER``.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import bytes_to_unicode

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Ein großer Hund läuft über die Straße, und der Kater schläft.",
    "Déjà vu, café, naïve façade, cœur, São Paulo, Łódź, Việt Nam.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "天地玄黃 宇宙洪荒 日月盈昃 辰宿列張 我爱北京天安门",
    "こんにちは世界。カタカナとひらがな。 안녕하세요 세계",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם नमस्ते दुनिया",
    "def f(x: int) -> int:\n    return x ** 2 + 1",
    "1234567890 3.14 2,718 1e-9 hello world hello there the the and",
    " don't can't I'm he's they've for i in range(10): print(i)",
] * 6
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
LLAMA: dict[str, Any] = {
    "model_type": "bpe",
    "byte_fallback": True,
    "vocab_size": 800,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
}
T5: dict[str, Any] = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}


class Folders:
    """Writes them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self, name: str, model_type: str, tokenizer_class: str | None = None, **config: Any) -> Path:
        """A folder with the two configurations."""
        folder = self.root / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        named = {"tokenizer_class": tokenizer_class} if tokenizer_class else {}
        if named or config:
            (folder / "tokenizer_config.json").write_text(json.dumps({**named, **config}))
        return folder

    def word_pieces(self, name: str, model_type: str, *, lower: bool, file: str = "vocab.txt", **config: Any) -> None:
        folder = self.make(name, model_type, do_lower_case=lower, **config)
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=specials))
        vocabulary = tokenizer.get_vocab()
        (folder / file).write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__)))

    def byte_pairs(self, name: str, model_type: str, specials: tuple[str, ...], **config: Any) -> Path:
        folder = self.make(name, model_type, **config)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=list(specials), initial_alphabet=alphabet)
        tokenizer.train_from_iterator(TEXTS, trainer)
        model = json.loads(tokenizer.to_str())["model"]
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        merges = "".join(f"{' '.join(merge)}\n" for merge in model["merges"])
        (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")
        return folder

    def pieces(self, name: str, kind: str, file: str, tokenizer_class: str | None = None, **training: Any) -> Path:
        config = training.pop("config", {})
        folder = self.make(name, kind, tokenizer_class, **config)
        train(folder / file, **training)
        return folder

    def copy(self, source: str, name: str) -> Path:
        return Path(shutil.copytree(self.root / source, self.root / name))


def train(file: Path, **training: Any) -> list[str]:
    """A model of sentencepiece; its pieces."""
    model = io.BytesIO()
    options = {"vocab_size": 420, "hard_vocab_limit": False, "character_coverage": 0.98, "minloglevel": 2, **training}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_writer=model, **options)
    file.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]


def vocabulary(*parts: list[str]) -> dict[str, int]:
    tokens = dict.fromkeys(token for part in parts for token in part)
    return {token: index for index, token in enumerate(tokens)}


def write(folders: Folders) -> None:
    words(folders)
    sentencepieces(folders)
    translations(folders)
    letters(folders)
    ranks(folders)
    broken(folders)


def words(folders: Folders) -> None:
    folders.word_pieces("bert", "bert", lower=True)
    folders.word_pieces("bert-cased", "bert", lower=False)
    named = {"tokenizer_class": "ProphetNetTokenizer"}
    folders.word_pieces("prophetnet", "prophetnet", lower=True, file="prophetnet.tokenizer", **named)
    folders.byte_pairs("gpt2", "gpt2", ("<|endoftext|>",))
    folders.byte_pairs("qwen2", "qwen2", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    for name in ("roberta", "bart", "blenderbot"):
        folders.byte_pairs(name, name, SPECIALS)
    folders.byte_pairs("whisper", "whisper", ("<|endoftext|>", "<|startoftranscript|>", "<|en|>"))


def sentencepieces(folders: Folders) -> None:
    folders.pieces("t5", "t5", "spiece.model", **T5)
    folders.pieces("mt5", "mt5", "spiece.model", byte_fallback=True, vocab_size=700, **T5)
    folders.pieces("pegasus", "pegasus", "spiece.model", **T5)
    masks: dict[str, Any] = {"control_symbols": ["[CLS]", "[SEP]"], "user_defined_symbols": ["[MASK]"]}
    folders.pieces("albert", "albert", "spiece.model", pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, **masks)
    names = ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    folders.pieces("xlnet", "xlnet", "spiece.model", unk_id=0, bos_id=1, eos_id=2, control_symbols=names)
    for name in ("xlm-roberta", "camembert"):
        folders.pieces(name, name, "sentencepiece.bpe.model")
    folders.pieces("mbart", "mbart", "sentencepiece.bpe.model", "MBartTokenizer")
    folders.pieces("plbart", "plbart", "sentencepiece.bpe.model", "PLBartTokenizer")
    folders.pieces("llama", "llama", "tokenizer.model", "LlamaTokenizer", config={"legacy": False}, **LLAMA)
    folders.pieces("llama-legacy", "llama", "tokenizer.model", "LlamaTokenizer", **LLAMA)
    folders.pieces("siglip", "siglip", "spiece.model", "SiglipTokenizer", **T5)
    chars = {"model_type": "char", "bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}
    folders.pieces("speecht5", "speecht5", "spm_char.model", "SpeechT5Tokenizer", **chars)


def translations(folders: Folders) -> None:
    folder = folders.make("m2m_100", "m2m_100", "M2M100Tokenizer")
    pieces = train(folder / "sentencepiece.bpe.model", model_type="bpe")
    (folder / "vocab.json").write_text(json.dumps(vocabulary(list(SPECIALS[:4]), pieces)))
    folder = folders.make("speech_to_text", "speech_to_text", "Speech2TextTokenizer")
    pieces = train(folder / "sentencepiece.bpe.model")
    (folder / "vocab.json").write_text(json.dumps(vocabulary(list(SPECIALS[:4]), pieces)))
    folder = folders.make("marian", "marian", "MarianTokenizer", source_lang="en", target_lang="de")
    source = train(folder / "source.spm", vocab_size=350)
    target = train(folder / "target.spm", vocab_size=380, model_type="bpe")
    start = ["</s>", "<unk>"]
    source, target = ([piece for piece in pieces if piece != "<s>"] for pieces in (source, target))
    (folder / "vocab.json").write_text(json.dumps(vocabulary(start, source, target, [">>deu<<", "<pad>"])))
    folder = folders.copy("marian", "marian-separate")
    config = {"tokenizer_class": "MarianTokenizer", "separate_vocabs": True, "source_lang": "en", "target_lang": "de"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, found in (("vocab.json", source), ("target_vocab.json", target)):
        filled = [*start, *found, *(f"<filler{index}>" for index in range(500))]
        tokens = list(vocabulary(filled))[:499]
        (folder / name).write_text(json.dumps(vocabulary(tokens, ["<pad>"])))


def letters(folders: Folders) -> None:
    folders.make("byt5", "t5", "ByT5Tokenizer")
    capitals = list("ETAONIHSRDLUMWCFGYPBVK'XJQZ")
    spelled = vocabulary(["<pad>", "<s>", "</s>", "<unk>", "|"], capitals)
    for name, lower in (("wav2vec2", False), ("wav2vec2-lower", True)):
        folder = folders.make(name, "wav2vec2", "Wav2Vec2CTCTokenizer", do_lower_case=lower)
        (folder / "vocab.json").write_text(json.dumps(spelled))
    folder = folders.make("esm", "esm", "EsmTokenizer")
    (folder / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMH", "<mask>"]))
    options = {"phonemize": False, "language": "eng", "add_blank": True, "normalize": True, "pad_token": "k"}
    for name, roman in (("vits", False), ("vits-uroman", True)):
        folder = folders.make(name, "vits", "VitsTokenizer", is_uroman=roman, **options)
        (folder / "vocab.json").write_text(json.dumps(vocabulary([*"k'z-yuhspdiaorelnwqxbmcvjgft _", "<unk>"])))


def ranks(folders: Folders) -> None:
    """tiktoken's format, of GPT-2's vocabulary here; with a gap before the special tokens, and without."""
    bytes_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    tokens = [token for token in json.loads((folders.root / "gpt2" / "vocab.json").read_text()) if "|>" not in token]
    tokens.sort(key=lambda token: len(token) > 1)
    lines = [
        base64.b64encode(bytes(bytes_of[letter] for letter in token)) + b" %d\n" % rank
        for rank, token in enumerate(tokens)
    ]
    for name, gap in (("tiktoken", 0), ("tiktoken-gap", 5)):
        names = ("<|begin_of_text|>", "<|end_of_text|>")
        added = {len(tokens) + gap + i: {"content": text, "special": True} for i, text in enumerate(names)}
        folder = folders.make(name, "llama", "PreTrainedTokenizerFast", added_tokens_decoder=added)
        (folder / "tokenizer.model").write_bytes(b"".join(lines))


def broken(folders: Folders) -> None:
    folder = folders.copy("t5", "damaged")
    data = (folder / "spiece.model").read_bytes()
    (folder / "spiece.model").write_bytes(data[: len(data) // 2])
    (folders.copy("t5", "empty") / "spiece.model").write_bytes(b"")
    (folders.copy("gpt2", "no-json") / "vocab.json").write_text('{"a": 1')
    (folders.copy("gpt2", "has-one") / "tokenizer.json").write_text("{}")
    folders.make("none", "bert")
    folder = folders.copy("m2m_100", "holes")
    kept = [token for token in json.loads((folder / "vocab.json").read_text()) if len(token) not in (2, 3)]
    (folder / "vocab.json").write_text(json.dumps(vocabulary(kept)))
    folders.pieces(
        "gap",
        "llama",
        "tokenizer.model",
        "LlamaTokenizer",
        config={"added_tokens_decoder": {"900": {"content": "<|user|>", "special": True}}},
        **LLAMA,
    )


if __name__ == "__main__":
    write(Folders(Path(sys.argv[1])))
