"""The fixed sounds whose answers are compared: generated, of odd lengths, at the model's own rate.

Resampling is not compared, since gpux and transformers use different libraries for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.worker.reference.answers_inputs import Question

#: Seconds of the sounds; their samples are odd in number at every common rate.
LENGTHS = (1.0307, 0.6113, 1.4709)
#: Of speech; short, since a sound with one unclear frame has no answer that could be compared.
SPOKEN = (0.3307, 0.2511, 0.4109)
LABELS = ("dog", "siren", "rain on a roof", "a person who speaks")


def sound(seconds: float, rate: int, seed: int = 0) -> dict[str, Any]:
    """Gliding tones over noise, with a pause, as ``{"array": float32 [samples], "sampling_rate": int}``."""
    count = round(seconds * rate) | 1
    time = np.arange(count) / rate
    noise = np.random.default_rng(seed).standard_normal(count)
    glide = np.sin(2 * np.pi * (170 + 60 * seed + 110 * time) * time) + 0.4 * np.sin(
        2 * np.pi * (900 + 40 * seed) * time
    )
    fades = np.clip(np.sin(2 * np.pi * 1.7 * time + seed), 0, None)
    array: NDArray[np.float32] = (0.25 * glide * fades + 0.01 * noise).astype(np.float32)
    return {"array": array, "sampling_rate": rate}


def sounds(rate: int) -> list[dict[str, Any]]:
    """One sound of each length."""
    return [sound(seconds, rate, seed) for seed, seconds in enumerate(LENGTHS)]


def labelled(rate: int) -> Iterator[Question]:
    """For labels of sounds."""
    every = {"top_k": 1000}
    yield Question("first", sounds(rate)[0], every)
    yield Question("several", sounds(rate)[1:], every)
    yield Question("sigmoid", sounds(rate)[1], {**every, "function_to_apply": "sigmoid"})


def compared(rate: int) -> Iterator[Question]:
    """For labels of the caller."""
    first, second, third = sounds(rate)
    yield Question("labels", first, {"candidate_labels": list(LABELS)})
    yield Question("template", second, {"candidate_labels": list(LABELS[:2]), "hypothesis_template": "I hear {}!"})
    yield Question("one-label", third, {"candidate_labels": [LABELS[2]]})


def heard(rate: int) -> Iterator[Question]:
    """For vectors, and scores of frames."""
    for index, found in enumerate(sounds(rate)):
        yield Question(f"sound-{index}", found)


def spoken(rate: int) -> Iterator[Question]:
    """For text of a CTC output; there are several of a kind, since a sound with an unclear frame is left out."""
    options: tuple[tuple[str, dict[str, Any]], ...] = (
        ("text", {}),
        ("chars", {"return_timestamps": "char"}),
        ("words", {"return_timestamps": "word"}),
        ("chunks", {"chunk_length_s": 0.2, "stride_length_s": 0.04}),
    )
    for seed in range(2):
        for index, (name, chosen) in enumerate(options):
            seconds = SPOKEN[index % len(SPOKEN)]
            yield Question(f"{name}-{seed}", sound(seconds, rate, 2 * index + seed), chosen)
