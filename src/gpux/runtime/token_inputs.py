"""The inputs of a graph of token ids: mask, positions, an empty cache and switches that follow from the texts alone.

Encoders read ``input_ids``, ``attention_mask`` and ``token_type_ids``. A decoder that is used as an encoder reads
``position_ids`` too, and one that was exported for generation a cache, which is empty for a text that is read at once.
Graphs for fixed shapes (NPUs, some quantizers) declare numbers in place of names for their axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError
from gpux.model.graph_io import CACHE_POSITION, is_cache_input
from gpux.model.variant import TensorSpec

Ids = NDArray[np.int64]

#: Families whose positions start after the padding id (transformers: create_position_ids_from_input_ids).
_POSITIONS_AFTER_PADDING = frozenset(
    {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet", "longformer", "esm"}
)
#: Inputs for which transformers uses zeros where a caller gives none: boxes of layoutlm, task types of ernie.
_ZEROS = frozenset({"bbox", "task_type_ids"})
#: Encoder-decoders whose ``forward`` derives ``decoder_input_ids`` from ``input_ids`` (``shift_tokens_right`` in
#: transformers): shifted by one token behind ``decoder_start_token_id``, or behind the row's own last token.
_SHIFTED = frozenset({"bart", "bigbird_pegasus", "led", "mvp"})
_ROTATED = frozenset({"mbart", "plbart"})
_DECODER_START = 2  #: the default of all four
_SEPARATOR = 2  #: ``sep_token_id`` of a longformer whose configuration has none
#: How many of the last tokens get scores: 0 stands for all (``logits_to_keep`` of transformers' ``forward``).
_KEPT = frozenset({"logits_to_keep", "num_logits_to_keep"})
_BRANCH = "use_cache_branch"


@dataclass(frozen=True)
class Padded:
    """Texts as arrays ``[rows, tokens]`` of one width."""

    ids: Ids
    mask: Ids  #: 1 for a token, 0 for padding
    types: Ids  #: segment of each token


class TokenInputs:
    """What a graph of token ids reads, and which shapes it takes.

    Args:
        inputs: those of the graph that have no default value.
        config: the model's ``config.json``, for the sizes of a cache and for the first position.
        largest_batch: rows of a call at most, where the graph declares a limit.
        marks: what ``global_attention_mask`` of a longformer marks: the first token, as its classifiers do, or the
            tokens before the first separator, which are those of a question.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        config: Mapping[str, Any],
        *,
        largest_batch: int | None = None,
        marks: Literal["first", "question"] | None = None,
    ) -> None:
        self._specs = {spec.name: spec for spec in inputs}
        self._config = config
        self._marks = marks
        #: inputs that a text does not give
        self.unknown = tuple(name for name, spec in self._specs.items() if self._maker(spec) is None)
        by_row = [spec for spec in inputs if len(spec.shape) > 1 and _is_by_row(spec)]
        #: rows of every call, where the graph has a fixed batch; None: any number
        self.rows = _fixed(by_row, 0)
        #: tokens of every row, where the graph has a fixed length; None: any number
        self.length = _fixed([spec for spec in by_row if spec.name in ("input_ids", "attention_mask")], 1)
        #: rows of a call at most; None: any number
        self.largest_batch = self.rows or largest_batch
        #: whether the graph can tell padding from tokens
        self.has_mask = "attention_mask" in self._specs

    def check(self) -> None:
        """Return if the inputs can be computed.

        Raises:
            UnsupportedError: a cache whose size is fixed, or of a dtype that numpy does not have.
        """
        token = np.ones((1, 1), np.int64)
        self.feed(Padded(token, token, token))

    def feed(self, texts: Padded) -> dict[str, NDArray[Any]]:
        """One array for each input, of its dtype.

        Raises:
            UnsupportedError: a cache whose size is fixed, or of a dtype that numpy does not have.
        """
        found = {}
        for name, spec in self._specs.items():
            make = self._maker(spec)
            if make is not None:
                found[name] = _cast(make(texts), spec)
        return found

    def _maker(self, spec: TensorSpec) -> Callable[[Padded], NDArray[Any]] | None:
        """Computes an input from the texts; None for one that a text does not give."""
        name, rank = spec.name, len(spec.shape)
        if is_cache_input(name):
            return None if ".encoder." in name else lambda texts: self._past(spec, len(texts.ids))
        makers: dict[tuple[str, int], Callable[[Padded], NDArray[Any]]] = {
            ("input_ids", 2): lambda texts: texts.ids,
            ("attention_mask", 2): lambda texts: texts.mask,
            ("token_type_ids", 2): lambda texts: texts.types,
            ("position_ids", 2): lambda texts: positions(texts.mask, self._config),
            (CACHE_POSITION, 1): lambda texts: np.arange(texts.ids.shape[1]),
            ("global_attention_mask", 2): lambda texts: self._global_mask(texts),
        }
        if self._config.get("model_type") in _SHIFTED | _ROTATED:
            makers["decoder_input_ids", 2] = lambda texts: shifted(texts, self._config)
        found = makers.get((name, rank))
        if found is None and name in _ZEROS:
            return lambda texts: np.zeros((*texts.ids.shape, *_sizes(spec.shape[2:])), np.int64)
        if found is None and rank < 2 and (name in _KEPT or name == _BRANCH):
            return lambda texts: np.zeros((1,) * rank, np.int64)
        return found

    def _global_mask(self, texts: Padded) -> Ids:
        mask = np.zeros_like(texts.mask)
        if self._marks == "first":
            mask[np.arange(len(mask)), texts.mask.argmax(axis=1)] = 1
        elif self._marks == "question":  # _compute_global_attention_mask of transformers' modeling_longformer.py
            separator = self._config.get("sep_token_id")
            ends = (texts.ids == (_SEPARATOR if separator is None else separator)) & (texts.mask == 1)
            mask[(np.cumsum(ends, axis=1) == 0) & (texts.mask == 1)] = 1
        return mask

    def _past(self, spec: TensorSpec, rows: int) -> NDArray[Any]:
        """A cache of no tokens, or the first state of a recurrent layer: zeros."""
        shape = tuple(self._past_size(spec, axis, rows) for axis in range(len(spec.shape)))
        if spec.name.endswith((".key", ".value")) and np.prod(shape):
            raise UnsupportedError(
                f"the graph's cache {spec.name} has the fixed shape {list(shape)}, so it cannot be empty",
                hint="Run the graph yourself with gpux.Session, or convert the original weights.",
            )
        if not _is_numpy(spec.dtype):
            raise UnsupportedError(
                f"the graph's cache {spec.name} is {spec.dtype}, which numpy does not have",
                hint="Choose another precision of the model, or run the graph yourself with gpux.Session.",
            )
        return np.zeros(shape, spec.dtype)

    def _past_size(self, spec: TensorSpec, axis: int, rows: int) -> int:
        """Size of an axis of a cache: rows, heads, no tokens, or the size of a head."""
        declared, heads = spec.shape[axis], _heads(self._config)
        name = declared if isinstance(declared, str) else ""
        if isinstance(declared, int):
            return declared
        if axis == 0:
            return rows * heads if "head" in name else rows
        if "head" in name and not any(word in name for word in ("dim", "size")):
            return heads
        if any(word in name for word in ("past", "seq", "len", "total", "token")) or len(spec.shape) != 4:
            return 0
        return (rows, heads, 0, _head_size(self._config))[axis]


def shifted(texts: Padded, config: Mapping[str, Any]) -> Ids:
    """``decoder_input_ids`` of padded texts, int64 [rows, tokens], as bart, mbart and models like them derive them."""
    found = np.roll(texts.ids, 1, axis=1)
    rows, width = texts.mask.shape
    first = texts.mask.argmax(axis=1)
    if config.get("model_type") in _ROTATED:
        last = width - 1 - texts.mask[:, ::-1].argmax(axis=1)
        found[np.arange(rows), first] = texts.ids[np.arange(rows), last]
    else:
        start = config.get("decoder_start_token_id")
        found[np.arange(rows), first] = start if isinstance(start, int) else _DECODER_START
    return found


def positions(mask: Ids, config: Mapping[str, Any]) -> Ids:
    """``position_ids`` of padded texts, int64 [rows, tokens]: padding does not count, whichever side it is on.

    From 0 on. Types built as roberta begin at ``pad_token_id + 1``, and their padding has ``pad_token_id``.
    """
    counted = np.cumsum(mask, axis=1)
    if config.get("model_type") in _POSITIONS_AFTER_PADDING:
        return np.asarray(counted * mask + padding_id(config))
    return np.maximum(counted - 1, 0)


def position_limit(config: Mapping[str, Any]) -> int | None:
    """The number of tokens for which the model has positions, from its ``config.json``."""
    limit = config.get("max_position_embeddings")
    if not isinstance(limit, int) or limit <= 0:
        return None
    if config.get("model_type") in _POSITIONS_AFTER_PADDING:
        return limit - padding_id(config) - 1
    return limit


def padding_id(config: Mapping[str, Any]) -> int:
    """``pad_token_id`` of a configuration; 1, roberta's own, where it states none."""
    found = config.get("pad_token_id")
    return found if isinstance(found, int) else 1


def _is_numpy(dtype: str) -> bool:
    """Whether a dtype is numpy's own: bfloat16 is not, even where a library has registered its name."""
    try:
        return np.dtype(dtype).isbuiltin == 1
    except TypeError:
        return False


def _is_by_row(spec: TensorSpec) -> bool:
    """Whether axis 0 counts rows: bloom's caches have rows times heads there."""
    return not is_cache_input(spec.name) or len(spec.shape) == 4


def _fixed(specs: Sequence[TensorSpec], axis: int) -> int | None:
    """The size that an axis has in all of these inputs; None if it is free in all."""
    return next((size for spec in specs if isinstance(size := spec.shape[axis], int)), None)


def _sizes(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 1 for size in shape)


_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


def _heads(config: Mapping[str, Any]) -> int:
    return _setting(config, "num_key_value_heads", "num_kv_heads", *_HEADS)


def _head_size(config: Mapping[str, Any]) -> int:
    if isinstance(config.get("head_dim"), int):
        return _setting(config, "head_dim")
    return max(1, _setting(config, "hidden_size", "n_embd", "d_model") // _setting(config, *_HEADS))


def _setting(config: Mapping[str, Any], *names: str) -> int:
    """The first of these entries that is a positive integer; 1 without one."""
    return next((size for name in names if isinstance(size := config.get(name), int) and size > 0), 1)


def _cast(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """As the dtype that the graph declares: masks and ids are small integers, which every dtype holds."""
    return array.astype(spec.dtype, copy=False)
