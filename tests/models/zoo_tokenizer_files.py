"""Writes the tokenizer files of a repository, as in real repositories of its type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.models.zoo_entries import POS
from tests.models.zoo_sentencepiece import albert, llama, t5, xlmr
from tests.models.zoo_tokenizers import BuiltTokenizer, bart, chatml, clip, gpt2, roberta, wordpiece

# recipe -> (builder, ids of the special tokens, which configs must contain)
TOKENIZERS: dict[str, tuple[Callable[[], BuiltTokenizer], dict[str, int]]] = {
    "wordpiece": (wordpiece, {"pad_token_id": 0}),
    "roberta": (roberta, {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}),
    "bart": (bart, {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}),
    "xlmr": (xlmr, {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}),
    "albert": (albert, {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}),
    "gpt2": (gpt2, {"bos_token_id": 0, "eos_token_id": 0}),
    "chatml": (chatml, {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}),
    "llama": (llama, {"bos_token_id": 1, "eos_token_id": 2}),
    "t5": (t5, {"pad_token_id": 0, "eos_token_id": 1}),
    "clip": (clip, {}),
}

# model type -> tokenizer_class in tokenizer_config.json of real repositories (AutoTokenizer reads it);
# other types are saved as PreTrainedTokenizerFast
TOKENIZER_CLASS = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "mpnet": "MPNetTokenizer",
    "squeezebert": "SqueezeBertTokenizer",
    "convbert": "ConvBertTokenizer",
    "roformer": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "longformer": "LongformerTokenizer",
    "layoutlm": "LayoutLMTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "PreTrainedTokenizerFast",
    "albert": "AlbertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neo": "GPT2Tokenizer",
    "gptj": "GPT2Tokenizer",
    "opt": "GPT2Tokenizer",
    "bart": "BartTokenizer",
    "t5": "T5Tokenizer",
    "mt5": "T5Tokenizer",
    "llama": "LlamaTokenizer",
    "mistral": "LlamaTokenizer",
    "clip": "CLIPTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "whisper": "WhisperTokenizer",
    "owlvit": "CLIPTokenizer",
    "owlv2": "CLIPTokenizer",
}

CTC_VOCAB = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]


_CTC = {
    "tokenizer_class": "Wav2Vec2CTCTokenizer",
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "word_delimiter_token": "|",
    "do_lower_case": False,
}
_ESM = {
    "tokenizer_class": "EsmTokenizer",
    "pad_token": "<pad>",
    "cls_token": "<cls>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_AMINO_ACIDS = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]


#: Model type -> what its tokenizer class gives to the model, where that differs from the tokenizer that stands for it.
INPUT_NAMES = {
    **dict.fromkeys(("blip", "distilbert", "modernbert", "mpnet"), ("input_ids", "attention_mask")),
    **dict.fromkeys(("flaubert", "xlm"), ("input_ids", "token_type_ids", "attention_mask")),
    "fnet": ("input_ids", "token_type_ids"),
    **dict.fromkeys(("siglip", "siglip2"), ("input_ids",)),
}


def save_tokenizer(recipe: str | None, base: str, folder: Path) -> None:
    """Write the files of the tokenizer ``recipe`` as in repositories of the model type ``base``."""
    if recipe is None:
        return
    if recipe == "ctc":  # wav2vec2-like repositories ship vocab.json, not tokenizer.json
        vocabulary = {token: number for number, token in enumerate(CTC_VOCAB)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        _write_json(folder / "tokenizer_config.json", _CTC)
        return
    if recipe == "esm":  # one token per amino acid
        (folder / "vocab.txt").write_text("\n".join(_AMINO_ACIDS), encoding="utf-8")
        _write_json(folder / "tokenizer_config.json", _ESM)
        return
    from transformers import PreTrainedTokenizerFast

    tokenizer, values = TOKENIZERS[recipe][0]()
    values.setdefault("model_max_length", POS)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **values).save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found["tokenizer_class"] = TOKENIZER_CLASS.get(base, "PreTrainedTokenizerFast")
    found.update({"model_input_names": INPUT_NAMES[base]} if base in INPUT_NAMES else {})
    path.write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
