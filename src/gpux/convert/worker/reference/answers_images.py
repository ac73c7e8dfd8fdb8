"""The fixed pictures whose answers are compared: generated, of odd sizes, in colour, grey and with an alpha channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpux.convert.worker.reference.answers_inputs import Question

#: Height and width of pictures: wider than high, higher than wide, small.
SIZES = ((67, 101), (131, 90), (33, 32))


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture [height, width, 3] with gradients, sharp edges and noise."""
    noise = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (5 + i) + seed) * np.cos(columns / (7 + 2 * i)) * 80 + 128 for i in range(3)]
    values = np.stack(waves, axis=-1) + noise.normal(0, 12, (height, width, 3))
    values[height // 4 : height // 2, width // 3 : width // 2] = noise.integers(0, 256, 3)
    return np.clip(values, 0, 255).astype(np.uint8)


def pictures() -> list[NDArray[np.uint8]]:
    """One picture of each size."""
    return [picture(*size, seed) for seed, size in enumerate(SIZES)]


def labelled() -> Iterator[Question]:
    """For labels of pictures."""
    every = {"top_k": 1000}
    for (height, width), image in zip(SIZES, pictures(), strict=True):
        yield Question(f"{height}x{width}", image, every)
    yield Question("several", pictures()[:2], every)
    yield Question("grey", pictures()[0][:, :, 0], every)


def seen() -> Iterator[Question]:
    """For vectors of pictures."""
    for (height, width), image in zip(SIZES, pictures(), strict=True):
        yield Question(f"{height}x{width}", image)
    yield Question("several", pictures()[1:])
    yield Question("grey", pictures()[2][:, :, 0])


def compared() -> Iterator[Question]:
    """For pictures with labels that the call names."""
    labels = {"candidate_labels": ["a cat", "two dogs on a street", "noise"]}
    for (height, width), image in zip(SIZES, pictures(), strict=True):
        yield Question(f"{height}x{width}", image, labels)
    yield Question("several", pictures()[:2], labels)
    yield Question("one label", pictures()[2], {"candidate_labels": ["stripes"]})
    yield Question("template", pictures()[2], {**labels, "hypothesis_template": "{}"})


def captioned(*, conditional: bool) -> Iterator[Question]:
    """For texts about pictures; with a prompt where the pipeline takes one."""
    for (height, width), image in zip(SIZES, pictures(), strict=True):
        yield Question(f"{height}x{width}", image)
    yield Question("several", pictures()[1:])
    yield Question("beams", pictures()[2], {"num_beams": 3})
    if conditional:
        yield Question("prompt", pictures()[2], {"prompt": "a picture of"})


def enlarged() -> Iterator[Question]:
    """For pictures made from pictures: small ones, since the answers are kept."""
    for height, width in ((33, 32), (21, 40)):
        yield Question(f"{height}x{width}", picture(height, width, height))
    yield Question("several", [picture(16, 24, 1), picture(24, 16, 2)])
    yield Question("grey", picture(17, 19, 3)[:, :, 0])
