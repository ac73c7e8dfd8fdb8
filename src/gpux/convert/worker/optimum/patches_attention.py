"""Attention in windows and blocks, written so that a trace holds for every length.

The originals cut a sequence into chunks whose number a trace freezes. Here the scores of all pairs are made and those
outside of the window are left out: the same sums, more of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
    """longformer and led: near tokens and those of global attention are seen; the latter see all.

    Args:
        self: the attention module.
        hidden_states: (batch, tokens, width).
        attention_mask: (batch, tokens): negative for padding, positive for a token of global attention.
        layer_head_mask: not used by a graph.
        is_index_masked: of the attention mask, as are the next two.
        is_index_global_attn: see there.
        is_global_attn: see there.
        output_attentions: not used by a graph.

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
    """(batch, tokens, width) to (batch, heads, tokens, size of a head)."""
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
    """longformer's inputs as they are: no window needs to be filled up."""
    return 0, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds


def led_unpadded(
    self: Any, input_ids: Tensor, attention_mask: Tensor, inputs_embeds: Tensor, pad_token_id: int
) -> tuple[Any, ...]:
    """The same for led."""
    return 0, input_ids, attention_mask, inputs_embeds
