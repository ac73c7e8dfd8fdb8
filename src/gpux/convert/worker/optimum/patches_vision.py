"""Forwards of vision models that a trace can follow: positions scaled to another size, folds, standardised weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

#: A filter's weight at a distance in units of the target's step.
Kernel = Callable[[Tensor], Tensor]


def resized_positions(self: Any, positional_embeddings: Tensor, spatial_shapes: Tensor, max_length: Any) -> Tensor:
    """siglip2's table of positions, (side, side, width), scaled to each image's shape by the same triangle filter.

    Args:
        self: the module, which the original method does not get.
        positional_embeddings: the table.
        spatial_shapes: (batch, 2), rows and columns of patches.
        max_length: patches of a row, those that fill it up included.

    Returns:
        (batch, max_length, width); what fills up has the position of the first patch.
    """
    height, width = spatial_shapes[:, :1], spatial_shapes[:, 1:]
    place = torch.arange(max_length, device=spatial_shapes.device)[None]
    place = torch.where(place < height * width, place, torch.zeros_like(place))
    row, column = torch.div(place, width, rounding_mode="floor"), torch.remainder(place, width)
    rows = _weights(row, height, positional_embeddings.shape[0], _triangle)
    columns = _weights(column, width, positional_embeddings.shape[1], _triangle)
    return torch.einsum("bpy,bpx,yxd->bpd", rows, columns, positional_embeddings.float())


def bicubic_positions(self: Any, embeddings: Tensor, height: Any, width: Any) -> Tensor:
    """dinov2_with_registers' table of positions, scaled to an image by torch's antialiased cubic filter.

    Args:
        self: the module that holds the table.
        embeddings: (batch, 1 + patches, width); only asked for its width.
        height: of the image in pixels.
        width: the same.

    Returns:
        (1, 1 + patches, width).
    """
    side, size = int((self.position_embeddings.shape[1] - 1) ** 0.5), self.config.patch_size
    table = self.position_embeddings[0, 1:].reshape(side, side, -1).float()
    rows, columns = (_spread(torch.as_tensor(pixels) // size, side) for pixels in (height, width))
    scaled = torch.einsum("iy,jx,yxd->ijd", rows, columns, table).flatten(0, 1)
    return torch.cat((self.position_embeddings[:, :1], scaled[None]), dim=1)


def _spread(size: Tensor, side: int) -> Tensor:
    """Weights of ``side`` sources for ``size`` targets, (size, side)."""
    index = torch.arange(size)  # type: ignore[call-overload]
    return _weights(index[None], size.reshape(1, 1), side, _cubic)[0]


def _weights(index: Tensor, size: Tensor, side: int, kernel: Kernel) -> Tensor:
    """Weights of ``side`` sources for each target, (batch, targets, side), as torch's antialiased interpolation."""
    scale = (side / size.float())[:, :, None]
    centre = (index.float()[:, :, None] + 0.5) * scale
    distance = (torch.arange(side, device=index.device).float() + 0.5 - centre) / torch.clamp(scale, min=1.0)
    weights = kernel(distance.abs())
    return weights / weights.sum(dim=-1, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    return torch.clamp(1.0 - distance, min=0.0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic with a = -0.5."""
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return torch.where(distance < 1.0, near, torch.where(distance < 2.0, far, torch.zeros_like(distance)))


def unfold_patches(self: Any, feature_map: Tensor) -> tuple[Tensor, tuple[Any, Any]]:
    """mobilevitv2: (batch, channels, height, width) to (batch, channels, patch, patches), and the size."""
    batch, channels, height, width = feature_map.shape
    high, wide = self.patch_height, self.patch_width
    cut = feature_map.reshape(batch, channels, height // high, high, width // wide, wide).permute(0, 1, 3, 5, 2, 4)
    return cut.reshape(batch, channels, high * wide, -1), (height, width)


def fold_patches(self: Any, patches: Tensor, output_size: tuple[Any, Any]) -> Tensor:
    """The way back."""
    batch, channels = patches.shape[:2]
    (height, width), high, wide = output_size, self.patch_height, self.patch_width
    cut = patches.reshape(batch, channels, high, wide, height // high, width // wide)
    return cut.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, height, width)


def standardized_convolution(self: Any, hidden_state: Tensor) -> Tensor:
    """bit: each filter of the convolution has mean 0 and variance 1."""
    if self.pad is not None:
        hidden_state = self.pad(hidden_state)
    filters = self.weight.flatten(1)
    mean = filters.mean(dim=1, keepdim=True)
    spread = ((filters - mean) ** 2).mean(dim=1, keepdim=True)
    weight = ((filters - mean) / torch.sqrt(spread + self.eps)).reshape(self.weight.shape)
    return functional.conv2d(hidden_state, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def zeros_around(self: Any, pixel_values: Tensor) -> Tensor:
    """bit's entrance, its frame of zeros joined on: onnxruntime takes a Pad before a MaxPool for one of the lowest."""
    found = self.convolution(pixel_values)
    left, right, top, bottom = getattr(self.pad, "padding", (0, 0, 0, 0))
    found = torch.cat([torch.zeros_like(found[:, :, :top]), found, torch.zeros_like(found[:, :, :bottom])], dim=2)
    found = torch.cat([torch.zeros_like(found[..., :left]), found, torch.zeros_like(found[..., :right])], dim=3)
    return self.pooler(self.norm(found))  # type: ignore[no-any-return]
