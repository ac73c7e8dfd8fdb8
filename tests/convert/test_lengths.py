"""Thresholds in a configuration: lengths from which a model computes differently. Without torch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gpux.convert.worker.reference import lengths


class Config(SimpleNamespace):
    """A configuration of transformers: settings as attributes, some of which are configurations."""

    model_type = "any"

    def to_dict(self) -> dict[str, Any]:
        return vars(self)


LONGROPE = {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
CASES = {
    "none": ({"max_position_embeddings": 128}, []),
    "window": ({"sliding_window": 8}, [("sliding_window", 8, False)]),
    "window off": ({"sliding_window": 8, "use_sliding_window": False}, []),
    "window of no layer": ({"sliding_window": 8, "layer_types": ["full_attention"]}, []),
    "window of a layer": (
        {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]},
        [("sliding_window", 8, False)],
    ),
    "local layers": ({"window_size": 256, "attention_layers": ["global", "local"]}, [("window_size", 256, False)]),
    "no local layers": ({"window_size": 256, "attention_layers": ["global"]}, []),
    "two sides": ({"local_attention": 128}, [("local_attention", 64, False)]),
    "a window per layer": (
        {"attention_window": [8, 8, 16]},
        [("attention_window", 4, False), ("attention_window", 8, False)],
    ),
    "chunks": ({"attention_chunk_size": 64}, [("attention_chunk_size", 64, False)]),
    "llama3": ({"rope_scaling": {"rope_type": "llama3", "original_max_position_embeddings": 32}}, []),
    "yarn": ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 32}}, []),
    "dynamic": ({"max_position_embeddings": 32, "rope_scaling": DYNAMIC}, [("rope_dynamic", 32, True)]),
    "longrope": (
        {"max_position_embeddings": 128, "original_max_position_embeddings": 32, "rope_scaling": LONGROPE},
        [("rope_longrope", 32, True)],
    ),
    "a scaling per kind of layer": (
        {"max_position_embeddings": 32, "rope_parameters": {"full_attention": DYNAMIC}},
        [("rope_dynamic", 32, True)],
    ),
    "sparse": (
        {"attention_type": "block_sparse", "num_random_blocks": 3, "block_size": 64},
        [("block_sparse", 704, True)],
    ),
    "dense": ({"attention_type": "original_full", "num_random_blocks": 3, "block_size": 64}, []),
    "inside": ({"text_config": Config(sliding_window=8)}, [("sliding_window", 8, False)]),
    "inside a vision config": ({"vision_config": Config(sliding_window=8)}, []),
}


@pytest.mark.parametrize(("settings", "expected"), CASES.values(), ids=CASES)
def test_thresholds_of_a_configuration(settings: dict[str, Any], expected: list[tuple[str, int, bool]]) -> None:
    found = lengths.find_thresholds(Config(**settings))
    assert [(one.name, one.length, one.capped) for one in found] == expected
