"""Writes ``tests/pipelines/speech_goldens.json``: what transformers and faster-whisper make of generated tokens.

    TOOLCHAIN/bin/python -m scripts.update_speech_goldens [FASTER_WHISPER]

``transcripts``: lists of tokens, some of them of overlapping windows, and what ``_decode_asr`` of Whisper's tokenizer
answers. ``speech``: probabilities of speech, and the segments of faster-whisper's ``get_speech_timestamps``; written
anew only if the folder of that package is given.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any

GOLDENS = Path(__file__).parents[1] / "tests" / "pipelines" / "speech_goldens.json"
TRANSCRIPTS = 80
VAD: tuple[dict[str, Any], ...] = (
    {},
    {"threshold": 0.3, "min_silence_duration_ms": 100},
    {"min_silence_duration_ms": 160, "speech_pad_ms": 30, "min_speech_duration_ms": 250},
    {"max_speech_duration_s": 2, "min_silence_duration_ms": 300},
    {"threshold": 0.9, "neg_threshold": 0.8, "speech_pad_ms": 0, "max_speech_duration_s": 4},
)


def main(arguments: list[str]) -> None:
    """Write the file."""
    before = json.loads(GOLDENS.read_text(encoding="utf-8")) if GOLDENS.is_file() else {}
    speech = speech_cases(Path(arguments[0])) if arguments else before["speech"]
    found = {"transcripts": transcript_cases(), "speech": speech}
    lines = [
        f' "{name}": [\n  ' + ",\n  ".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n ]"
        for name, cases in found.items()
    ]
    GOLDENS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def transcript_cases() -> list[dict[str, Any]]:
    """Random tokens, and transformers' answers; those that it fails on are left out."""
    import torch
    from tests.models.whisper import save_tokenizer
    from transformers import AutoTokenizer
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(Path(folder), multilingual=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    chance = random.Random(0)
    found: list[dict[str, Any]] = []
    while len(found) < TRANSCRIPTS:
        case = _windows(chance, tokenizer.convert_tokens_to_ids)
        given = [
            {"tokens": torch.tensor([window["tokens"]]), "token_timestamps": torch.tensor([window["times"]]).double()}
            | ({"stride": tuple(window["stride"])} if "stride" in window else {})
            for window in case["windows"]
        ]
        options = {"return_timestamps": case["timestamps"], "return_language": case["language"]}
        try:
            text, more = tokenizer._decode_asr(given, **options, time_precision=0.02)
        except (IndexError, ValueError):
            continue
        found.append({**case, "text": text, "chunks": more.get("chunks")})
    return found


def _windows(chance: random.Random, identify: Any) -> dict[str, Any]:
    """Random windows; later ones often repeat the end of the one before."""
    texts = [chance.randrange(500) for _ in range(chance.choice([5, 30, 200]))]
    texts += [identify("<|transcribe|>"), identify("<|endoftext|>")]
    if chance.random() < 0.1:
        texts += [identify("<|en|>"), identify("<|de|>")]
    strided = chance.random() < 0.6
    count, stamped = chance.randint(1, 4) if strided else 1, chance.random() < 0.8
    windows: list[dict[str, Any]] = []
    for number in range(count):
        tokens = _tokens(chance, texts, identify("<|0.00|>") if stamped else None)
        if windows and windows[-1]["tokens"] and chance.random() < 0.6:
            tokens = windows[-1]["tokens"][-chance.randint(1, 10) :] + tokens
        window: dict[str, Any] = {"tokens": tokens, "times": sorted(round(chance.random() * 30, 2) for _ in tokens)}
        if strided:
            window["stride"] = [30.0, 5.0 if number else 0.0, 5.0 if number < count - 1 else 0.0]
        windows.append(window)
    return {
        "windows": windows,
        "timestamps": chance.choice([None, True, "word"]),
        "language": chance.random() < 0.3,
    }


def _tokens(chance: random.Random, texts: list[int], first: int | None) -> list[int]:
    found: list[int] = []
    time, size = 0, chance.randint(0, 30)
    while len(found) < size:
        if first is not None and chance.random() < 0.25:
            time = min(1500, max(0, time + chance.choice([0, 5, 20, 60, -100 if chance.random() < 0.1 else 3])))
            found += [first + time] * chance.choice([1, 2, 2])
        else:
            found.append(chance.choice(texts))
    return found


def speech_cases(package: Path) -> list[dict[str, Any]]:
    """Random probabilities that stay high or low for a while, and faster-whisper's segments."""
    import numpy as np

    for name, members in (("faster_whisper", {"__path__": [str(package)]}), ("faster_whisper.utils", {})):
        module = types.ModuleType(name)
        vars(module).update({"get_assets_path": lambda: "", **members})
        sys.modules[name] = module
    voice = importlib.import_module("faster_whisper.vad")
    chance = np.random.default_rng(0)
    found = []
    for options in VAD * 3:
        runs = chance.integers(1, 40, 24)
        high = np.repeat(np.arange(len(runs)) % 2, runs)
        values = np.clip(high * 0.7 + chance.normal(0.15, 0.15, len(high)), 0, 1).round(2)
        samples = len(values) * 512 - int(chance.integers(1, 512))
        vars(voice)["get_vad_model"] = lambda values=values: lambda audio: values
        spans = voice.get_speech_timestamps(np.zeros(samples, np.float32), voice.VadOptions(**options))
        segments = [[span["start"], span["end"]] for span in spans]
        found.append({"options": options, "probabilities": values.tolist(), "samples": samples, "segments": segments})
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
