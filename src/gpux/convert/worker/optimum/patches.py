"""Replacements for methods that tracing does not capture correctly, with the same arithmetic.

A trace records one call. A mixture of experts that skips experts which no token chose loses them: here every expert is
called with its own tokens, which may be none. Attention in windows cuts a sequence into a number of chunks that a trace
freezes: here the scores of all pairs are computed and those outside the window masked. Every graph is compared with the
unpatched model afterwards.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def window_attention(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    layer_head_mask: Tensor | None = None,
    is_index_masked: Tensor | None = None,
    is_index_global_attn: Tensor | None = None,
    is_global_attn: bool | None = None,
    output_attentions: bool = False,
) -> tuple[Tensor]:
    """longformer and led: tokens attend to a window and to global tokens; global tokens attend to all.

    Args:
        self: the attention module.
        hidden_states: (batch, tokens, width).
        attention_mask: (batch, tokens): negative for padding, positive for global tokens.
        layer_head_mask: not used.
        is_index_masked: not used, as the next two: the attention mask has the same information.
        is_index_global_attn: not used.
        is_global_attn: not used.
        output_attentions: not used.

    Returns:
        the new states, (batch, tokens, width).
    """
    hidden, everywhere = attention_mask < 0, attention_mask > 0
    place = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    near = (place[:, None] - place[None, :]).abs() <= self.one_sided_attn_window_size
    seen = (near[None] | everywhere[:, None, :]) & ~hidden[:, None, :]
    local = _attend(self, hidden_states, (self.query, self.key, self.value), seen)
    local = local.masked_fill(hidden[:, :, None], 0.0)
    named = (self.query_global, self.key_global, self.value_global)
    everything = _attend(self, hidden_states, named, ~hidden[:, None, :])
    return (torch.where(everywhere[:, :, None], everything, local),)


def _attend(self: Any, states: Tensor, projections: tuple[Any, Any, Any], seen: Tensor) -> Tensor:
    """Scaled attention of all heads; ``seen`` is (batch, tokens or 1, tokens)."""
    query, key, value = (self_heads(self, projection(states)) for projection in projections)
    scores = (query / self.head_dim**0.5) @ key.transpose(-1, -2)
    scores = scores.masked_fill(~seen[:, None], torch.finfo(scores.dtype).min)
    return (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).flatten(2)


def self_heads(self: Any, states: Tensor) -> Tensor:
    """(batch, tokens, width) to (batch, heads, tokens, head size)."""
    return states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)


def longformer_unpadded(
    self: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor,
    position_ids: Tensor,
    inputs_embeds: Tensor,
    pad_token_id: int,
) -> tuple[Any, ...]:
    """longformer's inputs unchanged: here the length need not be a multiple of the window."""
    return 0, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds


def led_unpadded(
    self: Any, input_ids: Tensor, attention_mask: Tensor, inputs_embeds: Tensor, pad_token_id: int
) -> tuple[Any, ...]:
    """The same for led."""
    return 0, input_ids, attention_mask, inputs_embeds


#: The weight of a filter at a distance, in steps of the target.
Kernel = Callable[[Tensor], Tensor]


def resized_positions(self: Any, positional_embeddings: Tensor, spatial_shapes: Tensor, max_length: Any) -> Tensor:
    """siglip2's position embeddings, (side, side, width), resized to each image's shape by the same triangle filter.

    Args:
        self: the module; the original is a static method.
        positional_embeddings: the table.
        spatial_shapes: (batch, 2), rows and columns of patches.
        max_length: patches in a row, padding included.

    Returns:
        (batch, max_length, width); padding has the position of the first patch.
    """
    height, width = spatial_shapes[:, :1], spatial_shapes[:, 1:]
    place = torch.arange(max_length, device=spatial_shapes.device)[None]
    place = torch.where(place < height * width, place, torch.zeros_like(place))
    row, column = torch.div(place, width, rounding_mode="floor"), torch.remainder(place, width)
    rows = _weights(row, height, positional_embeddings.shape[0], _triangle)
    columns = _weights(column, width, positional_embeddings.shape[1], _triangle)
    return torch.einsum("bpy,bpx,yxd->bpd", rows, columns, positional_embeddings.float())


def bicubic_positions(self: Any, embeddings: Tensor, height: Any, width: Any) -> Tensor:
    """dinov2_with_registers' position embeddings, resized to an image by torch's antialiased cubic filter.

    Args:
        self: the module that holds the table.
        embeddings: (batch, 1 + patches, width); not used.
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
    index = torch.arange(size)
    return _weights(index[None], size.reshape(1, 1), side, _cubic)[0]


def _weights(index: Tensor, size: Tensor, side: int, kernel: Kernel) -> Tensor:
    """Weights of ``side`` sources for each target, (batch, targets, side), as torch's antialiased interpolation."""
    scale = (side / size.float())[:, :, None]
    center = (index.float()[:, :, None] + 0.5) * scale
    distance = (torch.arange(side, device=index.device).float() + 0.5 - center) / torch.clamp(scale, min=1.0)
    weights = kernel(distance.abs())
    return weights / weights.sum(dim=-1, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    return torch.clamp(1.0 - distance, min=0.0)


def _cubic(distance: Tensor) -> Tensor:
    """The cubic convolution kernel of Keys (1981) with a = -0.5."""
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
    """The inverse of :func:`unfold_patches`."""
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
    """bit's stem, with zeros concatenated: onnxruntime pads before a MaxPool with the lowest value instead."""
    found = self.convolution(pixel_values)
    left, right, top, bottom = getattr(self.pad, "padding", (0, 0, 0, 0))
    found = torch.cat([torch.zeros_like(found[:, :, :top]), found, torch.zeros_like(found[:, :, :bottom])], dim=2)
    found = torch.cat([torch.zeros_like(found[..., :left]), found, torch.zeros_like(found[..., :right])], dim=3)
    return self.pooler(self.norm(found))


def depth_of_patches(self: Any, hidden_states: list[Tensor], patch_height: Any, patch_width: Any) -> Tensor:
    """depth_anything's head: (batch, height, width) of the patches of any picture; the original fixes their number."""
    states = self.conv1(hidden_states[self.head_in_index])
    size = (patch_height * self.patch_size, patch_width * self.patch_size)
    states = self.conv2(functional.interpolate(states, size, mode="bilinear", align_corners=True))
    states = self.conv3(self.activation1(states))
    return (self.activation2(states) * self.max_depth).squeeze(dim=1)


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
    """The router of mixtral and derived models: (logits, chosen, weights)."""
    logits = block.gate(tokens)
    weights, chosen = torch.topk(functional.softmax(logits, dim=1, dtype=torch.float), block.top_k, dim=-1)
    if getattr(block, "norm_topk_prob", True):
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return logits, chosen, weights.to(tokens.dtype)


def sparse_block(self: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """mixtral, olmoe, qwen2_moe, qwen3_moe and models derived from these."""
    tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
    logits, chosen, weights = _softmax_then_top(self, tokens)
    mixed = mix(self.experts, tokens, chosen, weights)
    if hasattr(self, "shared_expert"):
        mixed = mixed + torch.sigmoid(self.shared_expert_gate(tokens)) * self.shared_expert(tokens)
    return mixed.reshape(hidden_states.shape), logits


def sparse_mixer_block(self: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """phimoe, whose router chooses the best expert, then the best of the others, each with a softmax of its own."""
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
    """The ``moe`` of deepseek_v3, glm4_moe and dots1, whose router runs before it."""
    return mix(self.experts, hidden_states, topk_indices, topk_weights.to(hidden_states.dtype))


def granite_experts(self: Any, layer_input: Tensor) -> tuple[Tensor, Tensor]:
    """granitemoe and jetmoe, which have all experts in two tensors, (experts, out, in)."""
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
    """cohere2: interleaved pairs of frequencies, without an expanded view."""
    angles = position_ids[:, :, None].float() * self.inv_freq[None, None, :].float()
    pairs = torch.stack((angles, angles), dim=-1).flatten(-2)
    return (pairs.cos() * self.attention_scaling).to(x.dtype), (pairs.sin() * self.attention_scaling).to(x.dtype)


def fourier_mixing(self: Any, hidden_states: Tensor) -> tuple[Tensor]:
    """fnet: the real part of the Fourier transform over tokens and features, as products with cosines and sines."""
    rows, columns = _waves(hidden_states.shape[1]), _waves(hidden_states.shape[2])
    cosines, sines = hidden_states @ columns[0], hidden_states @ columns[1]
    return (rows[0] @ cosines - rows[1] @ sines,)


def expanded_relu(self: Any, x: Tensor) -> Tensor:
    """apertus' activation, whose weights are in half precision, as constants; ONNX has no ``expm1``."""
    beta, eps = float(self.beta), float(self.eps)
    positive = float(functional.softplus(self.alpha_p))
    negative = float(self.beta + functional.softplus(self.alpha_n))
    below = (torch.exp(torch.clamp(x, max=eps)) - 1 - x) * negative + beta * x
    return torch.where(x > 0, positive * x * x + beta * x, below)


def _waves(size: Any) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the discrete Fourier transform, (size, size) each."""
    steps = torch.arange(size)
    angles = torch.remainder(steps[:, None] * steps[None, :], size).float() * (2 * torch.pi / size)
    return angles.cos(), angles.sin()


def counted_positions(self: Any, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
    """imagegpt, which reads the length of a cache that does not exist."""
    kwargs["position_ids"] = torch.arange(input_ids.shape[1])[None]
    return type(self).forward(self, input_ids, *args, **kwargs)


#: Class of a module -> method -> its replacement.
METHODS: dict[str, dict[str, Forward]] = {
    "DepthAnythingDepthEstimationHead": {"forward": depth_of_patches},
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
    """Replace the methods of the model's modules within this block."""
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
