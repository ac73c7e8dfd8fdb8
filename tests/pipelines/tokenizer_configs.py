"""One-line configurations of tokenizers: each changes what transformers' ``AutoTokenizer`` builds of a family's
``tokenizer.json``. ``tokenizer_goldens.json`` has its answers (``scripts/update_tokenizer_goldens.py``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pipelines.tokenizer_bases import BASES, Base

TEXTS = (
    "",
    "hello world",
    "The quick brown FOX, don't!",
    "Déjà vu CAFÉ naïve Łódź",
    "Ein großer Hund läuft",
    "Съешь ещё 我爱北京 こんにちは",
    " leading",
    "  two  leading",
    "trailing  ",
    "new\nline\ttwo",
    "😀 3.14 e\u0301",
)
PAIR = ("hello world", "the quick fox")
LONG = "the quick brown fox hello world " * 6
#: The limit to which :data:`LONG` is cut.
CUT = 12
SPECIALS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Config:
    """A family's tokenizer with another line in one of its files; None removes a key."""

    name: str
    base: str
    config: Mapping[str, Any]
    specials: Mapping[str, Any] | None = None  #: special_tokens_map.json
    added: Mapping[str, int] | None = None  #: added_tokens.json
    words: Sequence[str] = ()  #: further tokens that the texts contain
    model_type: str | None = None
    plain: bool = False  #: tokenizer_config.json has nothing but ``config``

    def texts(self) -> list[str]:
        """The texts to tokenize."""
        found = list(TEXTS)
        for word in dict.fromkeys((*BASES[self.base].words, *self.words)):
            found += [f"one {word} two", f"one{word}two", f"{word}{word} hello", f"{word} "]
        return found

    def write(self, folder: Path) -> None:
        """Write the files of a repository, without weights."""
        base: Base = BASES[self.base]
        folder.mkdir(parents=True, exist_ok=True)
        base.build().save(str(folder / "tokenizer.json"))
        usual = {} if self.plain else {"tokenizer_class": base.tokenizer_class, **base.config}
        settings = {key: value for key, value in {**usual, **self.config}.items() if value is not None}
        _write(folder / "config.json", {"model_type": self.model_type or base.model_type})
        _write(folder / "tokenizer_config.json", settings)
        if self.specials is not None:
            _write(folder / "special_tokens_map.json", self.specials)
        if self.added is not None:
            _write(folder / "added_tokens.json", self.added)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def token(content: str, **flags: bool) -> dict[str, Any]:
    """An added token, as tokenizer_config.json has them."""
    default = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {"__type": "AddedToken", "content": content, **default, **flags}


def listed(content: str, index: int, **flags: bool) -> dict[str, Any]:
    """``added_tokens_decoder`` with one token."""
    found = token(content, **flags)
    del found["__type"]
    return {"added_tokens_decoder": {str(index): found}}


MORE = ("<|more|>",)
#: Ids after the end of each family's vocabulary are given by the tokenizer itself; these are those of the files.
CONFIGS = (
    # BERT
    Config("bert", "bert", {}),
    Config("bert-keep-case", "bert", {"do_lower_case": False}),
    Config("bert-keep-accents", "bert", {"strip_accents": False}),
    Config("bert-strip-accents-keep-case", "bert", {"strip_accents": True, "do_lower_case": False}),
    Config("bert-no-chinese", "bert", {"tokenize_chinese_chars": False}),
    Config("bert-cased-default-lower", "bert-cased", {}),
    Config("bert-cased-keep-case", "bert-cased", {"do_lower_case": False}),
    Config("bert-cased-strip", "bert-cased", {"do_lower_case": False, "strip_accents": True}),
    Config("bert-no-class", "bert-cased", {"tokenizer_class": None}),
    Config("bert-no-config", "bert-cased", {}, plain=True),
    Config("bert-generic-class", "bert-cased", {"tokenizer_class": "PreTrainedTokenizerFast"}),
    Config("bert-additional", "bert", {"additional_special_tokens": ["<|more|>", "[Q]"]}, words=("<|more|>", "[Q]")),
    Config("bert-additional-flags", "bert", {"additional_special_tokens": [token("[Q]", lstrip=True)]}, words=("[Q]",)),
    Config("bert-specials-map", "bert", {}, specials={"additional_special_tokens": ["<|more|>"]}, words=MORE),
    Config("bert-added-file", "bert", {}, added={"<|more|>": 300}, words=MORE),
    Config("bert-decoder-single-word", "bert", listed("fox", 400, single_word=True, special=False), words=("fox",)),
    Config("bert-decoder-normalized", "bert", listed("Fox", 400, normalized=True, special=False), words=("Fox", "fox")),
    Config("bert-decoder-rstrip", "bert", listed("<|more|>", 400, rstrip=True), words=MORE),
    Config("bert-mask-lstrip", "bert", {"mask_token": token("[MASK]", lstrip=True)}),
    Config("bert-new-pad", "bert", {"pad_token": "<|pad|>"}, words=("<|pad|>",)),
    Config("bert-new-mask", "bert", {"mask_token": "<mask>"}, words=("<mask>",)),
    Config("bert-new-sep", "bert", {"sep_token": "<|end|>"}, words=("<|end|>",)),
    Config("bert-max-len", "bert", {"model_max_length": None, "max_len": 16}),
    Config("bert-no-limit", "bert", {"model_max_length": 10**30}),
    Config("bert-left", "bert", {"truncation_side": "left", "padding_side": "left"}),
    Config("bert-specials-map-pad", "bert", {}, specials={"pad_token": "<|pad|>"}, words=("<|pad|>",)),
    Config("bert-split-specials", "bert", {"split_special_tokens": True}),
    Config("bert-eos", "bert", {"eos_token": "<|eos|>", "bos_token": "[CLS]"}, words=("<|eos|>",)),
    Config("bert-extra-specials", "bert", {"extra_special_tokens": {"image_token": "<image>"}}, words=("<image>",)),
    Config("distilbert-keep-case", "bert", {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False}),
    Config("electra-default", "bert-cased", {"tokenizer_class": "ElectraTokenizer"}),
    Config("bert-camel-fast", "bert-cased", {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True}),
    # MPNet
    Config("mpnet", "mpnet", {}),
    Config("mpnet-keep-case", "mpnet", {"do_lower_case": False}),
    Config("mpnet-new-unk", "mpnet", {"unk_token": None}),
    # RoBERTa and BART
    Config("roberta", "roberta", {}),
    Config("roberta-prefix", "roberta", {"add_prefix_space": True}),
    Config("roberta-trim", "roberta", {"trim_offsets": False}),
    Config("roberta-plain-mask", "roberta", {"mask_token": token("<mask>", normalized=True)}),
    Config("roberta-additional", "roberta", {"additional_special_tokens": ["<|more|>"]}, words=MORE),
    Config("roberta-decoder-lstrip", "roberta", listed("<|more|>", 500, lstrip=True), words=MORE),
    Config("roberta-new-sep", "roberta", {"sep_token": "<pad>"}),
    Config("roberta-new-cls", "roberta", {"cls_token": "<|cls|>"}, words=("<|cls|>",)),
    Config("roberta-no-config", "roberta", {}, plain=True),
    Config("roberta-errors", "roberta", {"errors": "ignore", "add_prefix_space": True, "use_fast": True}),
    Config("longformer-prefix", "roberta", {"tokenizer_class": "LongformerTokenizer", "add_prefix_space": True}),
    Config("bart-prefix", "roberta", {"tokenizer_class": "BartTokenizer", "add_prefix_space": True}),
    Config("blenderbot", "roberta", {"tokenizer_class": "BlenderbotTokenizer", "add_prefix_space": True}),
    # GPT-2 and related types
    Config("gpt2", "gpt2", {}),
    Config("gpt2-prefix", "gpt2", {"add_prefix_space": True}),
    Config("gpt2-add-bos", "gpt2", {"add_bos_token": True}),
    Config("gpt2-add-eos", "gpt2", {"add_eos_token": True}),
    Config("gpt2-decoder", "gpt2", listed("<|more|>", 450), words=MORE),
    Config("gpt2-decoder-not-special", "gpt2", listed("<|more|>", 450, special=False), words=MORE),
    Config("gpt2-added-file", "gpt2", {}, added={"<|more|>": 450}, words=MORE),
    Config("gpt2-pad", "gpt2", {"pad_token": "[PAD]"}, words=("[PAD]",)),
    Config("gpt2-pad-eos", "gpt2", {"pad_token": "<|endoftext|>", "padding_side": "left"}),
    Config("gpt2-no-config", "gpt2", {}, plain=True),
    Config("gpt-neox-add-eos", "gpt2", {"tokenizer_class": "GPTNeoXTokenizer", "add_eos_token": True}),
    Config("gpt-neox-add-bos", "gpt2", {"tokenizer_class": "GPTNeoXTokenizer", "add_bos_token": True}),
    Config("codegen-prefix", "gpt2", {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": True}),
    Config("generic-add-eos", "gpt2", {"tokenizer_class": "PreTrainedTokenizerFast", "add_eos_token": True}),
    Config("generic-prefix", "gpt2", {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True}),
    # Qwen 2
    Config("qwen2", "qwen2", {}),
    Config("qwen2-prefix", "qwen2", {"add_prefix_space": True}),
    Config("qwen2-add-bos", "qwen2", {"add_bos_token": True, "bos_token": "<|im_start|>"}),
    Config("qwen2-add-eos", "qwen2", {"add_eos_token": True}),
    Config("qwen2-tool", "qwen2", listed("<tool_call>", 600, special=False), words=("<tool_call>",)),
    Config("qwen2-no-config", "qwen2", {}, plain=True),
    Config("qwen2-clean-up", "qwen2", {"clean_up_tokenization_spaces": True}),
    # Bloom
    Config("bloom", "bloom", {}),
    Config("bloom-prefix", "bloom", {"add_prefix_space": True}),
    Config("bloom-left", "bloom", {"padding_side": "left", "truncation_side": "left"}),
    # Llama
    Config("llama", "llama", {}),
    Config("llama-add-eos", "llama", {"add_eos_token": True}),
    Config("llama-no-bos", "llama", {"add_bos_token": False}),
    Config("llama-eos-no-bos", "llama", {"add_eos_token": True, "add_bos_token": False}),
    Config("llama-other-bos", "llama", {"bos_token": "<unk>"}),
    Config("llama-new-bos", "llama", {"bos_token": "<|begin|>", "add_eos_token": True}, words=("<|begin|>",)),
    Config("llama-no-legacy", "llama", {"legacy": False}),
    Config("llama-prefix-false", "llama", {"add_prefix_space": False}),
    Config("llama-additional", "llama", {"additional_special_tokens": ["<|more|>"]}, words=MORE),
    Config("llama-decoder-rstrip", "llama", listed("<|more|>", 700, rstrip=True, lstrip=True), words=MORE),
    Config("llama-decoder-normalized", "llama", listed("<|more|>", 700, normalized=True), words=MORE),
    Config("llama-pad", "llama", {"pad_token": "[PAD]", "padding_side": "left"}, words=("[PAD]",)),
    Config("llama-specials-map", "llama", {"eos_token": None}, specials={"eos_token": "<unk>"}),
    Config("llama-generic", "llama", {"tokenizer_class": "PreTrainedTokenizerFast", "add_eos_token": True}),
    Config("llama-no-config", "llama", {}, plain=True),
    Config("llama-code", "llama", {"tokenizer_class": "CodeLlamaTokenizer", "add_eos_token": True}),
    Config("llama-metaspace-add-eos", "llama-metaspace", {"add_eos_token": True}),
    Config("llama-no-types", "llama", {"model_input_names": ["input_ids", "attention_mask"]}),
    # Gemma
    Config("gemma", "gemma", {}),
    Config("gemma-add-eos", "gemma", {"add_eos_token": True}),
    Config("gemma-no-bos", "gemma", {"add_bos_token": False}),
    Config("gemma-turns", "gemma", {"additional_special_tokens": ["<start_of_turn>", "<|more|>"]}, words=MORE),
    # T5
    Config("t5", "t5", {}),
    Config("t5-additional", "t5", {"additional_special_tokens": ["<extra_id_0>", "<|more|>"]}, words=MORE),
    Config("t5-extra-ids", "t5", {"extra_ids": 5}, words=("<extra_id_4>",)),
    Config("t5-no-extra-ids", "t5", {"extra_ids": 0}),
    Config("t5-prefix", "t5", {"add_prefix_space": False}),
    Config("t5-new-pad", "t5", {"pad_token": "<|pad|>"}, words=("<|pad|>",)),
    # XLM-R, mBART, NLLB
    Config("xlm-roberta", "xlm-roberta", {}),
    Config("xlm-roberta-added", "xlm-roberta", {}, added={"<|more|>": 250}, words=MORE),
    Config("xlm-roberta-mask", "xlm-roberta", {"mask_token": token("<mask>", lstrip=False)}),
    Config("xlm-roberta-no-config", "xlm-roberta", {}, plain=True),
    Config("mbart-german", "mbart", {"src_lang": "de_DE", "tgt_lang": "en_XX"}),
    Config("nllb-german", "nllb", {"src_lang": "deu_Latn"}),
    Config("nllb-legacy", "nllb", {"src_lang": "deu_Latn", "legacy_behaviour": True}),
    # ALBERT, DeBERTa, XLNet
    Config("albert", "albert", {}),
    Config("albert-keep-case", "albert", {"do_lower_case": False, "keep_accents": True}),
    Config("deberta-v2", "deberta-v2", {}),
    Config("deberta-v2-lower", "deberta-v2", {"do_lower_case": True}),
    Config("deberta-v2-added", "deberta-v2", {}, added={"[MORE]": 260}, words=("[MORE]",)),
    Config("deberta-prefix", "deberta", {"add_prefix_space": True}),
    Config("deberta-mask", "deberta", {"mask_token": token("[MASK]")}),
    Config("xlnet", "xlnet", {}),
    Config("xlnet-keep-case", "xlnet", {"do_lower_case": True, "keep_accents": True}),
    # CLIP, Whisper
    Config("clip", "clip", {}),
    Config("clip-lower", "clip", {"do_lower_case": False}),
    Config("clip-pad", "clip", {"pad_token": "!"}),
    Config("whisper-task", "whisper", {"language": "german", "task": "translate"}),
    Config("whisper-timestamps", "whisper", {"predict_timestamps": True}),
    # Classes that the families' usual files do not name
    Config("cohere", "qwen2", {"tokenizer_class": "CohereTokenizer", "add_prefix_space": True}),
    Config(
        "cohere-eos", "gpt2", {"tokenizer_class": "CohereTokenizerFast", "add_eos_token": True, "add_bos_token": False}
    ),
    Config("camembert", "xlm-roberta", {"tokenizer_class": "CamembertTokenizer"}, words=("<s>NOTUSED",)),
    Config(
        "barthez", "xlm-roberta", {"tokenizer_class": "BarthezTokenizer", "mask_token": "<hole>"}, words=("<hole>",)
    ),
    Config("mbart50", "mbart", {"tokenizer_class": "MBart50Tokenizer", "src_lang": "de_DE"}),
    Config("mbart50-unknown", "mbart", {"tokenizer_class": "MBart50Tokenizer", "src_lang": "xx_XX"}),
    Config("pegasus", "t5", {"tokenizer_class": "PegasusTokenizer", "offset": 6}, words=("<mask_1>", "<unk_3>")),
    Config("pegasus-pad", "t5", {"tokenizer_class": "PegasusTokenizer", "pad_token": "<|pad|>"}),
    Config("xglm", "xlm-roberta", {"tokenizer_class": "XGLMTokenizer"}, words=("<madeupword3>",)),
    Config("splinter", "bert-cased", {"tokenizer_class": "SplinterTokenizer", "question_token": "[Q]"}, words=("[Q]",)),
    Config("big-bird", "albert", {"tokenizer_class": "BigBirdTokenizer"}),
    Config("fnet", "albert", {"tokenizer_class": "FNetTokenizer", "cls_token": "[FIRST]"}, words=("[FIRST]",)),
    Config("rembert", "albert", {"tokenizer_class": "RemBertTokenizer", "mask_token": "[HOLE]"}, words=("[HOLE]",)),
    Config("funnel", "bert-cased", {"tokenizer_class": "FunnelTokenizer", "cls_token": None}, words=("<cls>",)),
    Config("layoutlm", "bert-cased", {"tokenizer_class": "LayoutLMTokenizer", "strip_accents": True}),
    Config("led", "roberta", {"tokenizer_class": "LEDTokenizer", "mask_token": "<hole>"}, words=("<hole>",)),
    Config("mvp", "roberta", {"tokenizer_class": "MvpTokenizer", "cls_token": "<first>"}, words=("<first>",)),
    Config("herbert", "roberta", {"tokenizer_class": "HerbertTokenizer"}),
    Config("blenderbot-small", "gpt2", {"tokenizer_class": "BlenderbotSmallTokenizer", "add_prefix_space": True}),
    Config("nougat", "gpt2", {"tokenizer_class": "NougatTokenizerFast"}, words=("<pad>",)),
    Config("reformer", "t5", {"tokenizer_class": "ReformerTokenizer"}),
    Config("dpr", "bert-cased", {"tokenizer_class": "DPRQuestionEncoderTokenizer"}),
    Config("mt5", "t5", {"tokenizer_class": "MT5Tokenizer", "additional_special_tokens": ["<|more|>"]}, words=MORE),
    Config("clip-bytes", "gpt2", {"tokenizer_class": "CLIPTokenizer"}),
    Config("codegen-add-bos", "gpt2", {"tokenizer_class": "CodeGenTokenizer", "add_bos_token": True}),
    Config("roformer", "bert", {"tokenizer_class": "RoFormerTokenizer"}),
    Config("model-type-electra", "bert-cased", {"tokenizer_class": None}, model_type="electra"),
    Config("model-type-opt", "gpt2", {"tokenizer_class": None, "add_prefix_space": True}, model_type="opt"),
    Config("model-type-qwen3", "qwen2", {"tokenizer_class": None, "pad_token": None}, model_type="qwen3"),
    # Tokens
    Config("null-mask", "roberta", {"mask_token": "<mask>", "pad_token": "<none>"}, words=("<none>",)),
    Config("llama-no-bos-token", "llama-metaspace", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None}),
    Config("llama-empty-additional", "llama", {"additional_special_tokens": []}),
    Config("llama-known-flags", "llama", listed("</s>", 2, lstrip=True, rstrip=True, normalized=True)),
    Config("gemma-mask", "gemma", {"tokenizer_class": "NllbTokenizer", "mask_token": None}, words=("<mask>",)),
    Config("t5-flags", "t5", listed("<extra_id_0>", 80, lstrip=True), words=("<extra_id_0>",)),
    Config(
        "decoder-and-files",
        "roberta",
        listed("<|a|>", 600),
        specials={"eos_token": "<|b|>"},
        added={"<|c|>": 700},
        words=("<|a|>", "<|b|>", "<|c|>"),
    ),
    Config(
        "map-and-file",
        "gpt2",
        {"additional_special_tokens": ["<|a|>"]},
        added={"<|b|>": 700, "<|c|>": 600},
        specials={"additional_special_tokens": ["<|b|>", {"content": "<|d|>", "lstrip": True}], "pad_token": "<|p|>"},
        words=("<|a|>", "<|b|>", "<|c|>", "<|d|>", "<|p|>"),
    ),
    Config(
        "map-flags",
        "bert",
        {},
        specials={"mask_token": {"content": "<hole>", "lstrip": True, "normalized": True}},
        words=("<hole>",),
    ),
)
