"""Train the small speech recognizer that the notebook about speech shows: digits, as espeak-ng speaks them.

    TOOLCHAIN_PYTHON -m scripts.train_digits --folder FOLDER [--steps N]

Needs torch, transformers, tokenizers, and the program espeak-ng. The model is a Whisper of 5-second windows that also
writes the times of what it heard.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizerFast,
)

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE, SECONDS = 16_000, 5
FRAME = 0.02  #: seconds of a position of the encoder
BATCH, SEED = 16, 7
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")


def main() -> None:
    """Train and save the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    given = parser.parse_args()
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer(given.folder)
    extractor = WhisperFeatureExtractor(feature_size=40, chunk_length=SECONDS)
    model = build_model(tokenizer)
    train(model, tokenizer, extractor, given.steps, given.folder)


def build_tokenizer(folder: Path) -> Any:
    """Bytes, the words as whole tokens, Whisper's special tokens, and a token for every 0.02 s."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([" " + " ".join(WORDS)] * 50, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(bpe.to_str())["model"]
    content["vocab"] |= {name: len(content["vocab"]) + index for index, name in enumerate(SPECIAL)}
    (folder / "vocab.json").write_text(json.dumps(content["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in content["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    tokenizer = WhisperTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="<|endoftext|>")
    times = [f"<|{index * FRAME:.2f}|>" for index in range(int(SECONDS / FRAME) + 1)]
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL[1:]]})
    tokenizer.add_tokens(times)
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_model(tokenizer: Any) -> Any:
    """A Whisper with two layers on each side."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=40, d_model=96, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=192, decoder_ffn_dim=192,
        max_source_positions=int(SECONDS / FRAME), max_target_positions=64, dropout=0.0,
        pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"], suppress_tokens=[],
        begin_suppress_tokens=[ids["<|endoftext|>"]],
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"], pad_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"], no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"], is_multilingual=False, return_timestamps=False,
        begin_suppress_tokens=[ids["<|endoftext|>"]], max_initial_timestamp_index=int(1 / FRAME), max_length=60,
        alignment_heads=[[1, 0], [1, 1], [1, 2], [1, 3]],
    )  # fmt: skip
    return model


def voices() -> dict[str, list[NDArray[np.float32]]]:
    """Each word as several voices of espeak-ng speak it."""
    found: dict[str, list[NDArray[np.float32]]] = {word: [] for word in WORDS}
    for voice in ("en-us", "en-gb", "en-us+f3", "en-us+m3", "en-gb+f2"):
        for speed in (130, 155, 180):
            for pitch in (35, 50, 65):
                for word in WORDS:
                    found[word].append(speak(word, voice, speed, pitch))
    return found


def speak(text: str, voice: str = "en-us", speed: int = 155, pitch: int = 50) -> NDArray[np.float32]:
    """What espeak-ng says, at 16 kHz, without silence at the ends."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(content)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    times = np.arange(0, len(samples) / rate, 1 / RATE)
    resampled = np.interp(times, np.arange(len(samples)) / rate, samples).astype(np.float32)
    loud = np.flatnonzero(np.abs(resampled) > 0.01)
    return resampled[loud[0] : loud[-1] + 1]


def utterance(
    spoken: dict[str, list[NDArray[np.float32]]], generator: np.random.Generator
) -> tuple[NDArray[np.float32], list[tuple[str, float, float]]]:
    """One to five words in five seconds with noise, and when each was said."""
    samples = generator.normal(0, generator.uniform(0.0003, 0.004), RATE * SECONDS).astype(np.float32)
    words, place = [], int(generator.uniform(0.1, 0.8) * RATE)
    for _ in range(int(generator.integers(1, 6))):
        word = str(generator.choice(WORDS))
        clip = spoken[word][int(generator.integers(len(spoken[word])))] * generator.uniform(0.5, 1.2)
        if place + len(clip) > RATE * SECONDS - 800:
            break
        samples[place : place + len(clip)] += clip
        words.append((word, place / RATE, (place + len(clip)) / RATE))
        place += len(clip) + int(generator.uniform(0.05, 0.5) * RATE)
    return samples, words


def target(tokenizer: Any, words: list[tuple[str, float, float]], timed: bool) -> list[int]:
    """The tokens after the start: a segment with times, or the text alone."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    text = tokenizer(" " + " ".join(word for word, _, _ in words), add_special_tokens=False)["input_ids"]
    if not timed:
        return [ids["<|notimestamps|>"], *text, ids["<|endoftext|>"]]
    first = tokenizer.convert_tokens_to_ids("<|0.00|>")
    begin, end = (first + round(seconds / FRAME) for seconds in (words[0][1], words[-1][2]))
    return [begin, *text, end, ids["<|endoftext|>"]]


def train(model: Any, tokenizer: Any, extractor: Any, steps: int, folder: Path) -> None:
    """AdamW with a warm-up and a decay."""
    generator, spoken = np.random.default_rng(SEED), voices()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.08)
    began, total = time.time(), 0.0
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    for step in range(1, steps + 1):
        sounds: list[NDArray[np.float32]] = []
        labels: list[list[int]] = []
        while len(sounds) < BATCH:
            samples, words = utterance(spoken, generator)
            if words:
                sounds.append(samples)
                labels.append(target(tokenizer, words, bool(generator.integers(2))))
        features = extractor(sounds, sampling_rate=RATE, return_tensors="pt").input_features
        longest = max(map(len, labels))
        padded = torch.tensor([row + [-100] * (longest - len(row)) for row in labels])
        loss = model(input_features=features, labels=padded).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
        if step % 100 == 0 or step == steps:
            print(f"step {step}: loss {total / 100:.4f}, {time.time() - began:.0f} s", flush=True)
            total = 0.0
            model.save_pretrained(folder)
            extractor.save_pretrained(folder)


if __name__ == "__main__":
    main()
