"""Any config.json gives a summary and a count, or a reason why there is no count."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gpux.inspect.architecture import count_parameters, parameters_from_name, parameters_from_tags, summarize
from gpux.inspect.architecture.fields import NAMES as FACTS
from gpux.inspect.architecture.fields import SECTIONS, library_defaults
from tests.inspect.architecture.golden import NAMES, load

FIELDS = sorted(
    {name for names in FACTS.values() for name in names}
    | {name for names in SECTIONS.values() for name in names}
    | {name for defaults in library_defaults().values() for name in defaults}
    | {"architectures", "rope_scaling", "quantization_config", "id2label", "layer_types", "torch_dtype", "attn_config"}
)
TYPES = sorted(library_defaults())
NUMBERS = st.integers() | st.integers(-2, 300) | st.floats() | st.just(10**4000) | st.just(1 << 62)
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=4),
    max_leaves=12,
)
CONFIG = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=10)


def look(config: Mapping[str, Any]) -> None:
    summary, count = summarize(config), count_parameters(config)
    json.dumps([summary.to_dict(), count.to_dict()], allow_nan=False)
    for size in (summary.hidden_size, summary.layers, summary.kv_heads, summary.context_length, count.total):
        assert size is None or size > 0
    assert (count.total is None) == (count.reason is not None)
    assert count.total is None or (0 < (count.active or 0) <= count.total and (count.non_embedding or 0) >= 0)


@given(CONFIG, st.sampled_from(TYPES) | PLAIN)
def test_any_fields_of_any_type(config: dict[str, Any], model_type: object) -> None:
    look({**config, "model_type": model_type})


@given(st.sampled_from(NAMES), st.data())
def test_a_real_configuration_with_a_damaged_field(name: str, data: st.DataObject) -> None:
    config = load(name)
    for field in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=3)):
        config[field] = data.draw(JSON)
    look(config)


@given(JSON)
def test_a_config_that_is_not_an_object(config: Any) -> None:
    look(config if isinstance(config, dict) else {"text_config": config})
    assert summarize(config).model_type is None or isinstance(config, dict)


def test_endlessly_nested_towers() -> None:
    config: dict[str, Any] = {"model_type": "llava"}
    for _ in range(900):
        config = {"model_type": "llava", "text_config": config, "vision_config": {"depths": [10**9] * 9}}
    look(config)


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_name(name: str, tags: list[str]) -> None:
    for found in (parameters_from_name(name), parameters_from_tags(tags)):
        assert found is None or (found > 0 and math.isfinite(found))
