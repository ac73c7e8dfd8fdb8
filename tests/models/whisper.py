"""A tiny Whisper model with random weights, and all tokens and settings of a real one; runs with torch, transformers.

python -m tests.models.whisper FOLDER
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh", "de", "fr", "yue")
TASKS = ("translate", "transcribe")
TEXT = 500  #: text tokens
TIMES = 1501  #: timestamps, 0.00 to 30.00 seconds
#: A filter of seven frames is OpenAI's; windows of 30 seconds are fixed in the feature extractor's settings.
SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_mel_bins": 16,
    "max_source_positions": 1500,
    "max_target_positions": 96,
    "median_filter_width": 7,
}


def tiny_whisper(folder: Path, *, multilingual: bool = True, seed: str = "whisper", **sizes: Any) -> Path:
    """Write the repository; the same arguments give the same bytes.

    Args:
        folder: created if it is missing.
        multilingual: with languages and tasks; else an English-only model.
        seed: of the weights.
        sizes: of its configuration, in place of :data:`SIZES`.
    """
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from tests.models.zoo_weights import liven

    folder.mkdir(parents=True, exist_ok=True)
    ids = save_tokenizer(folder, multilingual)
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    specials = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    bytes_alone = sorted(place for token, place in vocabulary.items() if len(token) == 1 and not token.isascii())
    suppressed = {"suppress_tokens": [*bytes_alone, ids["<|startoflm|>"], ids["<|startofprev|>"], ids["<|nospeech|>"]]}
    suppressed["begin_suppress_tokens"] = [3, end]
    config = WhisperConfig(**{"vocab_size": TEXT + len(ids) + TIMES, **SIZES, **sizes, **specials})
    number = zlib.crc32(seed.encode())
    torch.manual_seed(number)
    model = WhisperForConditionalGeneration(config)
    liven(model, number)
    _sharpen(model)
    model.eval().save_pretrained(folder, safe_serialization=True)
    generation: dict[str, Any] = {
        **specials,
        **suppressed,
        "max_length": config.max_target_positions,
        "max_initial_timestamp_index": 50,
        "is_multilingual": multilingual,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "return_timestamps": False,
        "alignment_heads": [[0, 1], [1, 0], [1, 3]],
        "transformers_version": "4.57.6",
    }
    if multilingual:
        generation["lang_to_id"] = {f"<|{name}|>": ids[f"<|{name}|>"] for name in LANGUAGES}
        generation["task_to_id"] = {name: ids[f"<|{name}|>"] for name in TASKS}
        generation["forced_decoder_ids"] = [[1, None], [2, ids["<|transcribe|>"]]]
    _write(folder / "generation_config.json", generation)
    _write(
        folder / "preprocessor_config.json",
        {
            "chunk_length": 30,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": config.num_mel_bins,
            "hop_length": 160,
            "n_fft": 400,
            "n_samples": 480000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "WhisperProcessor",
            "return_attention_mask": False,
            "sampling_rate": 16000,
        },
    )
    return folder


def _sharpen(model: Any) -> None:
    """Let the text depend on the sound, and on more than the token before."""
    import torch

    more = ("encoder_attn.q_proj.weight", "encoder_attn.out_proj.weight", "conv2.weight", "decoder.layers.1.fc2.weight")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(more):
                parameter.mul_(4.0)


def save_tokenizer(folder: Path, multilingual: bool) -> dict[str, int]:
    """Write the tokenizer's files; returns the ids of the special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    from tests.models.zoo_tokenizers import CORPUS, bpe_trainer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, bpe_trainer(TEXT, (), sorted(pre_tokenizers.ByteLevel.alphabet())))
    named = (*TASKS, "startoflm", "startofprev", "nospeech", "notimestamps")
    names = ["endoftext", "startoftranscript", *(LANGUAGES if multilingual else ()), *named]
    specials = [f"<|{name}|>" for name in names]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    times = [AddedToken(f"<|{place * 0.02:.2f}|>", special=False, normalized=False) for place in range(TIMES)]
    tokenizer.add_tokens(times)
    ids = {name: tokenizer.get_vocab()[name] for name in specials}
    begin = [("<|startoftranscript|>", ids["<|startoftranscript|>"]), ("<|notimestamps|>", ids["<|notimestamps|>"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftranscript|> <|notimestamps|> $A <|endoftext|>",
        pair="<|startoftranscript|> <|notimestamps|> $A $B <|endoftext|>",
        special_tokens=[*begin, ("<|endoftext|>", ids["<|endoftext|>"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    end = "<|endoftext|>"
    decoder = {
        str(index): {
            "content": token.content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for index, token in tokenizer.get_added_tokens_decoder().items()
    }
    _write(
        folder / "tokenizer_config.json",
        {
            "added_tokens_decoder": decoder,
            "additional_special_tokens": specials,
            "bos_token": end,
            "eos_token": end,
            "pad_token": end,
            "unk_token": end,
            "clean_up_tokenization_spaces": True,
            "model_max_length": 1024,
            "processor_class": "WhisperProcessor",
            "tokenizer_class": "WhisperTokenizer",
        },
    )
    return ids


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1), encoding="utf-8")


if __name__ == "__main__":
    tiny_whisper(Path(sys.argv[1]))
