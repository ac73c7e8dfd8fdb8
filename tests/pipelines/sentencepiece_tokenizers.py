"""Write tokenizers with a sentencepiece model into FOLDER, and print AutoTokenizer's ids; run by a toolchain."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import sentencepiece
import transformers

TEXTS = (
    "",
    "hello world",
    "The quick FOX, don't!",
    " leading",
    "  two  leading",
    "trailing  ",
    "a </s> b<s> c",
    "é\n我",
)
WORDS = "the quick brown fox jumps over a lazy dog while hello world is said and nobody minds, don't they?"
LLAMA = {"model_type": "bpe", "byte_fallback": True, "unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
T5 = {"model_type": "unigram", "unk_id": 2, "bos_id": -1, "eos_id": 1, "pad_id": 0}
KINDS = (("LlamaTokenizer", "tokenizer.model", 320, LLAMA), ("T5Tokenizer", "spiece.model", 36, T5))


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "words.txt").write_text(f"{WORDS}\n" * 9)
    found = {}
    for name, file, size, options in KINDS:
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "words.txt"), model_prefix=str(folder / name), vocab_size=size, minloglevel=2, **options
        )
        base = folder / f"{name}-base"
        base.mkdir()
        shutil.copy(folder / f"{name}.model", base / file)
        getattr(transformers, f"{name}Fast")(str(base / file)).save_pretrained(base)
        saved = json.loads((base / "tokenizer_config.json").read_text())
        for legacy, prefix in itertools.product((True, False), (True, False)):
            place = shutil.copytree(base, folder / f"{name}-{legacy}-{prefix}")
            settings = {**saved, "legacy": legacy, "add_prefix_space": prefix}
            (place / "tokenizer_config.json").write_text(json.dumps(settings))
            tokenizer = transformers.AutoTokenizer.from_pretrained(place)
            found[place.name] = {text: tokenizer(text)["input_ids"] for text in TEXTS}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
