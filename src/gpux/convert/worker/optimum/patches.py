"""Forwards that a trace can follow, with the same arithmetic as the originals that it cannot.

A trace keeps what one call did. A mixture that skips the experts which no token chose loses them; here every expert is
called, with its own tokens, which may be none. All of it is proven against the unpatched model afterwards.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpux.convert.worker.optimum.patches_attention import led_unpadded, longformer_unpadded, window_attention
from gpux.convert.worker.optimum.patches_vision import (
    bicubic_positions,
    fold_patches,
    resized_positions,
    standardized_convolution,
    unfold_patches,
    zeros_around,
)

Forward = Callable[..., Any]


def mix(experts: Any, tokens: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """The sum over each token's chosen experts.

    Args:
        experts: callables from (n, width) to (n, width).
        tokens: (tokens, width).
        chosen: (tokens, k), numbers of experts.
        weights: (tokens, k).
    """
    mixed = torch.zeros_like(tokens)
    for number in range(len(experts)):
        row, slot = torch.where(chosen == number)
        answer = experts[number](tokens[row]) * weights[row, slot, None]
        mixed = mixed.index_add(0, row, answer.to(tokens.dtype))
    return mixed


def _softmax_then_top(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The router of mixtral and its kin: (logits, chosen, weights)."""
    logits = block.gate(tokens)
    weights, chosen = torch.topk(functional.softmax(logits, dim=1, dtype=torch.float), block.top_k, dim=-1)
    if getattr(block, "norm_topk_prob", True):
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return logits, chosen, weights.to(tokens.dtype)


def sparse_block(self: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """mixtral, olmoe, qwen2_moe, qwen3_moe and what was derived from them."""
    tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
    logits, chosen, weights = _softmax_then_top(self, tokens)
    mixed = mix(self.experts, tokens, chosen, weights)
    if hasattr(self, "shared_expert"):
        mixed = mixed + torch.sigmoid(self.shared_expert_gate(tokens)) * self.shared_expert(tokens)
    return mixed.reshape(hidden_states.shape), logits


def sparse_mixer_block(self: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """phimoe, whose router takes the best expert and then the best of the others, each softened on its own."""
    tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
    logits = self.gate(tokens)
    first, weight = _best_within(logits, logits, 2 * self.router_jitter_noise)
    others = logits.masked_fill(_at(first, logits), float("-inf"))
    second, weight_of_second = _best_within(others, logits, 2 * self.router_jitter_noise)
    chosen = torch.cat((first, second), dim=-1)
    mixed = mix(self.experts, tokens, chosen, torch.cat((weight, weight_of_second), dim=-1).to(tokens.dtype))
    return mixed.reshape(hidden_states.shape), logits


def _at(index: Tensor, scores: Tensor) -> Tensor:
    """True at each row's index; shapes (rows, 1) and (rows, experts)."""
    return torch.arange(scores.shape[-1], device=scores.device)[None] == index


def _best_within(candidates: Tensor, scores: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """The best candidate, and its softmax among those whose score is near the best."""
    best, index = candidates.max(dim=-1, keepdim=True)
    far = ((best - scores) / torch.maximum(scores.abs(), best)) > width
    shares = torch.softmax(candidates.masked_fill(far, float("-inf")), dim=-1)
    return index, shares.gather(dim=-1, index=index)


def routed_experts(self: Any, hidden_states: Tensor, topk_indices: Tensor, topk_weights: Tensor) -> Tensor:
    """The ``moe`` of deepseek_v3, glm4_moe and dots1, which get what the router chose."""
    return mix(self.experts, hidden_states, topk_indices, topk_weights.to(hidden_states.dtype))


def granite_experts(self: Any, layer_input: Tensor) -> tuple[Tensor, Tensor]:
    """granitemoe and jetmoe keep all experts in two tensors, (experts, out, in), and split the tokens by a list."""
    tokens = layer_input.reshape(-1, layer_input.shape[-1])
    logits = self.router.layer(tokens).float()
    best, chosen = logits.topk(self.router.top_k, dim=1)
    weights = torch.softmax(best, dim=1).type_as(tokens)

    def expert(number: int) -> Callable[[Tensor], Tensor]:
        def answer(rows: Tensor) -> Tensor:
            gate, up = functional.linear(rows, self.input_linear.weight[number]).chunk(2, dim=-1)
            return functional.linear(self.activation(gate) * up, self.output_linear.weight[number])

        return answer

    experts = [expert(number) for number in range(self.input_linear.num_experts)]
    return mix(experts, tokens, chosen, weights).reshape(layer_input.shape), logits


def interleaved_rotary(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """cohere2: frequencies next to each other in pairs, without an expanded view."""
    angles = position_ids[:, :, None].float() * self.inv_freq[None, None, :].float()
    pairs = torch.stack((angles, angles), dim=-1).flatten(-2)
    return (pairs.cos() * self.attention_scaling).to(x.dtype), (pairs.sin() * self.attention_scaling).to(x.dtype)


def fourier_mixing(self: Any, hidden_states: Tensor) -> tuple[Tensor]:
    """fnet: the real part of the Fourier transform over tokens and features, as products with cosines and sines."""
    rows, columns = _waves(hidden_states.shape[1]), _waves(hidden_states.shape[2])
    cosines, sines = hidden_states @ columns[0], hidden_states @ columns[1]
    return (rows[0] @ cosines - rows[1] @ sines,)


def expanded_relu(self: Any, x: Tensor) -> Tensor:
    """apertus' activation, whose own weights are half as wide as the rest and rounded so; ONNX has no ``expm1``."""
    beta, eps = float(self.beta), float(self.eps)
    positive = float(functional.softplus(self.alpha_p))
    negative = float(self.beta + functional.softplus(self.alpha_n))
    below = (torch.exp(torch.clamp(x, max=eps)) - 1 - x) * negative + beta * x
    return torch.where(x > 0, positive * x * x + beta * x, below)


def _waves(size: Any) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the whole turns, (size, size) each."""
    steps = torch.arange(size)
    angles = torch.remainder(steps[:, None] * steps[None, :], size).float() * (2 * torch.pi / size)
    return angles.cos(), angles.sin()


def counted_positions(self: Any, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
    """imagegpt, which looks for the length of a cache that it has not."""
    kwargs["position_ids"] = torch.arange(input_ids.shape[1])[None]
    return type(self).forward(self, input_ids, *args, **kwargs)


#: Class of a module -> the methods to replace, and by what.
METHODS: dict[str, dict[str, Forward]] = {
    "MixtralSparseMoeBlock": {"forward": sparse_block},
    "Qwen2MoeSparseMoeBlock": {"forward": sparse_block},
    "OlmoeSparseMoeBlock": {"forward": sparse_block},
    "FlexOlmoSparseMoeBlock": {"forward": sparse_block},
    "PhimoeSparseMoeBlock": {"forward": sparse_mixer_block},
    "DeepseekV3MoE": {"moe": routed_experts},
    "Glm4MoeMoE": {"moe": routed_experts},
    "Dots1MoE": {"moe": routed_experts},
    "GraniteMoeMoE": {"forward": granite_experts},
    "Cohere2RotaryEmbedding": {"forward": interleaved_rotary},
    "LongformerSelfAttention": {"forward": window_attention},
    "LEDEncoderSelfAttention": {"forward": window_attention},
    "LongformerModel": {"_pad_to_window_size": longformer_unpadded},
    "LEDEncoder": {"_pad_to_window_size": led_unpadded},
    "Siglip2VisionEmbeddings": {"resize_positional_embeddings": resized_positions},
    "Dinov2WithRegistersEmbeddings": {"interpolate_pos_encoding": bicubic_positions},
    "MobileViTV2Layer": {"unfolding": unfold_patches, "folding": fold_patches},
    "WeightStandardizedConv2d": {"forward": standardized_convolution},
    "BitEmbeddings": {"forward": zeros_around},
    "XIELUActivation": {"forward": expanded_relu},
    "FNetBasicFourierTransform": {"forward": fourier_mixing},
    "ImageGPTModel": {"forward": counted_positions},
}


@contextlib.contextmanager
def patched(model: nn.Module) -> Iterator[None]:
    """Replace the methods of the model's modules that a trace cannot follow, and put them back."""
    changed: list[tuple[nn.Module, str]] = []
    for module in model.modules():
        for name, method in METHODS.get(type(module).__name__, {}).items():
            setattr(module, name, types.MethodType(method, module))
            changed.append((module, name))
    try:
        yield
    finally:
        for module, name in changed:
            delattr(module, name)
