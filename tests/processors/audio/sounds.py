"""Sounds that tests generate: the same numbers on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tones(seconds: float, rate: int = 16000, seed: int = 0) -> NDArray[np.float32]:
    """Gliding tones over noise: float32 [samples], below full scale."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    glide = np.sin(2 * np.pi * (200 + 90 * time * (1 + seed)) * time) + 0.5 * np.sin(2 * np.pi * 1710 * time)
    fades = 0.5 + 0.5 * np.sin(2 * np.pi * 1.3 * time + seed)
    return (0.3 * glide * fades + 0.01 * noise).astype(np.float32)
