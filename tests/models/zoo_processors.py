"""preprocessor_config.json for images and audio, as JSON, so that neither pillow nor librosa is needed."""

from __future__ import annotations

from typing import Any


def image_processor(processor: str, size: dict[str, int], **kw: Any) -> dict[str, Any]:
    """Configuration of an image processor that normalizes to -1 .. 1."""
    return dict(
        image_processor_type=processor,
        do_resize=True,
        size=size,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        **kw,
    )


def square(n: int) -> dict[str, int]:
    """A size of n by n pixels."""
    return {"height": n, "width": n}


def wave_extractor(**kw: Any) -> dict[str, Any]:
    base = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 16000,
        "padding_value": 0.0,
        "do_normalize": True,
        "return_attention_mask": False,
        "padding_side": "right",
    }
    return {**base, **kw}
