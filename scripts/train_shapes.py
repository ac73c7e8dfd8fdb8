"""Train the small segmenter that the notebook about pictures shows: circles, squares and triangles.

    TOOLCHAIN_PYTHON -m scripts.train_shapes --folder tests/models/shapes-segmenter [--steps N]

Needs torch, transformers and pillow, and some minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from scripts.shapes import LABELS, SIDE, Scene, draw_scene

BATCH, SEED = 32, 16


def main() -> None:
    """Train the model and save it with its processor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    torch.manual_seed(SEED)
    train(build_model(), given.steps, given.folder)


def build_model() -> Any:
    """A Segformer with four small stages."""
    names = ("background", *LABELS)
    config = SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 4, 4], decoder_hidden_size=48,
        mlp_ratios=[2, 2, 2, 2], id2label=dict(enumerate(names)),
        label2id={label: index for index, label in enumerate(names)},
    )  # fmt: skip
    return SegformerForSemanticSegmentation(config)


def train(model: Any, steps: int, folder: Path) -> None:
    """AdamW with a warm-up and a decay, on the cross entropy of pixels."""
    processor = SegformerImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    generator = np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.05)
    began, total = time.time(), 0.0
    model.train()
    for step in range(1, steps + 1):
        scenes = [draw_scene(generator) for _ in range(BATCH)]
        classes = torch.from_numpy(np.stack([scene.classes for scene in scenes]).astype(np.int64))
        found = model(pixel_values=pixels(scenes), labels=classes).loss
        optimizer.zero_grad()
        found.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(found.detach())
        if step % 250 == 0 or step == steps:
            print(f"step {step}: loss {total / 250:.4f}, {time.time() - began:.0f} s", flush=True)
            total = 0.0
            model.save_pretrained(folder)
            processor.save_pretrained(folder)


def pixels(scenes: list[Scene]) -> torch.Tensor:
    """[batch, 3, SIDE, SIDE], -1 to 1."""
    values = np.stack([np.asarray(scene.image) for scene in scenes]).astype(np.float32) / 127.5 - 1
    return torch.from_numpy(values).permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
