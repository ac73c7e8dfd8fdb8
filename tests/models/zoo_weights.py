"""Redraws weights so that errors of a graph change its outputs.

The library's own initialisation (deviation 0.02, zero biases) makes every model nearly an identity on its embeddings,
which hides wrong masks, positions and biases.
"""

from __future__ import annotations

from typing import Any

#: Parameters that are not redrawn: weight-norm magnitudes match their direction's size; others scale later layers.
_KEPT = frozenset({"original0", "weight_g", "logit_scale", "logit_bias", "A_log", "dt_bias"})


def liven(model: Any, seed: int) -> None:
    """Redraw every trainable tensor at unit gain, biases and norms too."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.is_floating_point() and parameter.numel():
                _redraw(name.rsplit(".", 1)[-1], parameter, generator)  # frozen tables (sinusoids) are kept


def _redraw(leaf: str, parameter: Any, generator: Any) -> None:
    import torch

    draw = torch.randn(parameter.shape, generator=generator)
    if leaf in _KEPT:
        return
    if parameter.ndim >= 2:
        fan_in = parameter[0].numel() if parameter.ndim > 2 else parameter.shape[-1]
        parameter.copy_(draw / max(fan_in, 1) ** 0.5)
    elif "bias" in leaf:
        parameter.copy_(0.1 * draw)
    else:  # norm weights, layer scales, class tokens
        parameter.add_(0.1 * draw)
