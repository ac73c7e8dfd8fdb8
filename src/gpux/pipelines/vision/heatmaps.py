"""From heatmaps to points, as transformers 4.57 reads those of ViTPose (``post_process_pose_estimation``).

The peak of a heatmap is refined by one step of Newton's method on the logarithm of the smoothed map (Zhang et al. 2020,
Huang et al. 2020), and mapped back to the box of the picture that the model saw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_SIGMA = 0.8
_LEAST, _MOST = 0.001, 50.0


def peaks(heatmaps: Floats, kernel: int) -> tuple[Floats, Floats]:
    """Points and scores.

    Args:
        heatmaps: [objects, points, height, width].
        kernel: pixels of the filter that smooths a map, which is odd.

    Returns:
        points [objects, points, 2] as x and y in pixels of the map, and their scores [objects, points].
    """
    objects, points, height, width = heatmaps.shape
    flat = heatmaps.reshape(objects, points, -1)
    places, scores = flat.argmax(axis=2), flat.max(axis=2)
    found = np.stack([places % width, places // width], axis=-1).astype(np.float32)
    found[scores <= 0] = -1
    smooth = np.log(np.clip(_smoothed(heatmaps, (kernel - 1) // 2), np.float32(_LEAST), np.float32(_MOST)))
    padded = np.pad(smooth, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge").ravel()
    wide = width + 2
    at = found[..., 0] + 1 + (found[..., 1] + 1) * wide
    at = at.astype(np.intp) + wide * (height + 2) * np.arange(objects * points).reshape(objects, points)
    near = {(x, y): padded[at + x + y * wide] for x in (-1, 0, 1) for y in (-1, 0, 1)}
    middle = near[0, 0]
    gradient = np.stack([near[1, 0] - near[-1, 0], near[0, 1] - near[0, -1]], axis=-1) * np.float32(0.5)
    across = near[1, 1] - near[1, 0] - near[0, 1] + 2 * middle - near[-1, 0] - near[0, -1] + near[-1, -1]
    second = [near[1, 0] - 2 * middle + near[-1, 0], 0.5 * across, near[0, 1] - 2 * middle + near[0, -1]]
    hessian = np.stack([second[0], second[1], second[1], second[2]], axis=-1).reshape(objects, points, 2, 2)
    inverse = np.linalg.inv(hessian + np.finfo(np.float32).eps * np.eye(2))
    return found - np.einsum("...mn,...n->...m", inverse, gradient).astype(np.float32), scores


def in_picture(points: Floats, centre: Floats, extent: Floats, size: tuple[int, int]) -> Floats:
    """Points [points, 2] in pixels of the picture.

    Args:
        points: in pixels of a heatmap.
        centre: x and y of the box that the model saw, in pixels of the picture.
        extent: its width and height.
        size: height and width of the heatmap.
    """
    scale = extent / np.array([size[1] - 1.0, size[0] - 1.0])
    found: Floats = (points * scale + centre - extent * 0.5).astype(np.float32)
    return found


def _smoothed(maps: Floats, radius: int) -> Floats:
    """Maps convolved with a Gaussian, mirrored at the edges, by rows and then by columns, as scipy does."""
    weights = np.exp(-0.5 / _SIGMA**2 * np.arange(-radius, radius + 1) ** 2)
    weights /= weights.sum()
    for axis in (-2, -1):
        borders = [(0, 0)] * maps.ndim
        borders[axis] = (radius, radius)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(maps, borders, mode="symmetric"), len(weights), axis)
        maps = (windows.astype(np.float64) @ weights).astype(np.float32)
    return maps
