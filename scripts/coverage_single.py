"""An independent check of variants with one graph without a cache, and of SAM's two graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.coverage_graphs import Arrays, Graph, Original, RefusedRun
from scripts.coverage_inputs import Inputs, Sizes
from scripts.coverage_verdict import Verdict

#: Model type -> graph input -> argument name of the original.
_RENAMED = {"perceiver": {"input_ids": "inputs", "pixel_values": "inputs"}}


def judge_single(graph: Graph, original: Original, verdict: Verdict, seed: int) -> None:
    """Compare at sizes that exporters do not trace, as far as the graph's inputs allow."""
    inputs = Inputs(graph, original, seed)
    for sizes in _trials(graph, original):
        feed, mask = inputs.make(sizes)
        try:
            expected = original.run(_renamed(feed, original))
        except RefusedRun as exc:
            verdict.notes.append(f"{sizes}: {exc}")
            continue
        try:
            actual = graph.run(feed)
        except RefusedRun as exc:
            verdict.raised.append(f"{sizes}: {exc}")
            continue
        _compare(verdict, str(sizes), actual, expected, mask)


def judge_sam(graphs: dict[str, Graph], original: Original, verdict: Verdict, seed: int) -> None:
    """Compare masks and scores of points on images, through both graphs."""
    rng = np.random.default_rng(seed)
    encoder, decoder = graphs["vision_encoder"], graphs["prompt_encoder_mask_decoder"]
    side = int(original.config.vision_config.image_size)
    for images, points in ((1, 1), (2, 3)):
        pixels = rng.standard_normal((images, 3, side, side)).astype(np.float32)
        prompts: dict[str, NDArray[Any]] = {
            "input_points": rng.uniform(0, side, (images, 2, points, 2)).astype(np.float32),
            "input_labels": rng.integers(0, 2, (images, 2, points)),
        }
        expected = dict(original.run({"pixel_values": pixels, **prompts}))
        try:
            seen = encoder.run({"pixel_values": pixels})
            feed = {name: {**prompts, **seen}[name] for name in decoder.inputs}
            actual = decoder.run(feed)
        except RefusedRun as exc:
            verdict.raised.append(f"{images} images, {points} points: {exc}")
            continue
        for name in decoder.outputs:
            verdict.compare(f"{name}, {images} images", actual[name], expected[name])


def _trials(graph: Graph, original: Original) -> Iterator[Sizes]:
    names = set(graph.inputs)
    if "input_ids" in names or "inputs" in names:
        yield from _text_trials(graph, original)
    elif "pixel_values" in names:
        height, width = image_size(original)
        for sizes in ((height, width), (height + 32, width + 64), (height + 8, width)):
            yield Sizes(rows=3, images=3, height=sizes[0], width=sizes[1])
        yield Sizes(rows=1, images=1, height=height, width=width)
    else:
        yield Sizes(rows=3, samples=5003, frames=frames(original, 100), patches=17)
        yield Sizes(rows=1, samples=3200, frames=frames(original, 76), patches=9)
        yield Sizes(rows=2, samples=9001, frames=frames(original, 211), patches=30)


def _text_trials(graph: Graph, original: Original) -> Iterator[Sizes]:
    """Short, padded, as long as the model's positions, and longer unless a limit forbids it."""
    height, width = image_size(original)
    end = min(
        graph.largest("input_ids", "attention_mask"), int(original.setting("max_position_embeddings", default=150))
    )
    image: dict[str, Any] = {"images": 2, "height": height, "width": width}
    yield Sizes(rows=3, tokens=min(19, end), **image)
    yield Sizes(rows=1, tokens=min(7, end), **image)
    yield Sizes(rows=3, tokens=min(45, end), padded=True, **image)
    for length in (end // 2 + 3, end - 3, end + 40):
        yield Sizes(rows=2, tokens=length, padded=length == end - 3, **image)


def image_size(original: Original) -> tuple[int, int]:
    """Height and width of the images that the model was configured for."""
    config = original.config
    places = [getattr(config, part, None) for part in ("vision_config", "encoder", "backbone_config")]
    for place in [config, *places]:
        size = getattr(place, "image_size", None) or getattr(place, "input_size", None)
        if size:
            return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size), int(size))
    return 64, 64


def frames(original: Original, free: int) -> int:
    """The frames of a spectrogram: the model's fixed number if it has one, else ``free``."""
    if original.config.model_type == "whisper":
        return 2 * int(original.config.max_source_positions)
    return int(original.config.max_length) if "spectrogram" in original.config.model_type else free


def _renamed(feed: Arrays, original: Original) -> Arrays:
    names = _RENAMED.get(original.config.model_type, {})
    return {names.get(name, name): value for name, value in feed.items()}


def _compare(
    verdict: Verdict, what: str, actual: Arrays, expected: Sequence[tuple[str, NDArray[Any]]], mask: NDArray[np.bool_]
) -> None:
    """Match outputs by name, then by the last part of the path, then by shape if only one fits."""
    left = [(path, value) for path, value in expected if "past_key_values" not in path]
    for name, value in actual.items():
        found = _match(name, value, left)
        if found is None:
            verdict.notes.append(f"no counterpart of the output {name} {value.shape}")
            continue
        verdict.compare(f"{name} at {what}", value, found[1], mask)


def _match(
    name: str, value: NDArray[Any], candidates: Sequence[tuple[str, NDArray[Any]]]
) -> tuple[str, NDArray[Any]] | None:
    wanted = {"token_embeddings": "last_hidden_state"}.get(name, name)
    for test in (
        lambda path, _: path == wanted,
        lambda path, _: path.rpartition(".")[2] == wanted,
        lambda _, array: array.shape == value.shape and array.dtype.kind == value.dtype.kind,
    ):
        fitting = [pair for pair in candidates if test(*pair)]
        if fitting and (len(fitting) == 1 or fitting[0][0] == wanted):
            return fitting[0]
    return None
