from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.errors import ModelNotFoundError
from gpux.inspect.card import BaseModel, base_chain, card_of, evaluations, with_scans
from gpux.model.info import ModelFile, ModelInfo, ModelPage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
INDEX = [
    {
        "name": "x",
        "results": [
            {
                "task": {"type": "text-generation", "name": "Text Generation"},
                "dataset": {"name": "HellaSwag", "type": "hellaswag", "config": "en", "split": "validation"},
                "metrics": [
                    {"type": "acc_norm", "value": 86.5, "name": "normalized accuracy", "verified": True},
                    {"type": "acc", "value": "n/a"},
                    {"value": 3},
                ],
                "source": {"url": "https://hub/board", "name": "Board"},
            },
            {"metrics": "none"},
            7,
        ],
    }
]


def page(*tags: str, card: dict[str, Any] | None = None, files: tuple[str, ...] = (), **more: Any) -> ModelPage:
    info = ModelInfo("hf", "org/name", "org/name", tags=tags, files=tuple(ModelFile(name, 1) for name in files))
    return ModelPage(info, card=card or {}, **more)


def test_a_card() -> None:
    data = {
        "license": "other",
        "license_name": "llama3",
        "license_link": "LICENSE",
        "language": ["en", False, "de"],
        "base_model": "org/base",
        "datasets": "c4",
        "metrics": ["accuracy"],
    }
    found = card_of(page("license:other", "base_model:org/base", "base_model:finetune:org/base", card=data))

    assert (found.license, found.license_name, found.license_link) == ("other", "llama3", "LICENSE")
    assert found.languages == ("en", "no", "de")
    assert found.base_models == (BaseModel("org/base", "finetune"),)
    assert (found.datasets, found.metrics) == (("c4",), ("accuracy",))


def test_tags_replace_missing_card_fields() -> None:
    tags = ("gguf", "en", "tf", "zh", "license:mit", "dataset:c4", "arxiv:1706.03762")
    found = card_of(page(*tags, "base_model:quantized:org/base", "base_model:org/base", "region:us"))

    assert (found.license, found.languages, found.datasets) == ("mit", ("en", "zh"), ("c4",))
    assert found.base_models == (BaseModel("org/base", "quantized"),)
    assert found.papers == ("1706.03762",)


@pytest.mark.parametrize(
    ("tags", "card", "relation"),
    [
        ((), {"base_model": "a/b", "base_model_relation": "adapter"}, "adapter"),
        (("merge",), {"base_model": ["a/b", "c/d"]}, "merge"),
        ((), {"base_model": "a/b"}, None),
        ((), {"base_model": "a/b", "base_model_relation": "cousin"}, None),
    ],
)
def test_relations(tags: tuple[str, ...], card: dict[str, Any], relation: str | None) -> None:
    assert card_of(page(*tags, card=card)).base_models[0].relation == relation


def test_results_of_a_model_index() -> None:
    first, second = evaluations(INDEX)  # type: ignore[arg-type]

    assert (first.metric, first.value, first.verified) == ("normalized accuracy", 86.5, True)
    assert (first.dataset, first.dataset_id, first.config, first.split) == (
        "HellaSwag",
        "hellaswag",
        "en",
        "validation",
    )
    assert (first.task, first.source) == ("Text Generation", "https://hub/board")
    assert (second.metric, second.value, second.verified) == ("acc", "n/a", False)
    assert card_of(page(results=tuple(INDEX))).evaluations == (first, second)
    assert card_of(page(card={"model-index": INDEX})).evaluations == (first, second)


def test_security() -> None:
    files = ("pytorch_model.bin", "model.safetensors", "modeling_x.py", "training_args.bin", "data.bin", "x.pkl")
    scan = {"scansDone": True, "filesWithIssues": [{"path": "x.pkl", "level": "unsafe"}, {"level": "?"}]}
    found = card_of(page(files=files, scan=scan)).security

    assert (found.status, found.pickles, found.code) == ("issues", ("pytorch_model.bin", "x.pkl"), ("modeling_x.py",))
    assert [(issue.path, issue.level) for issue in found.issues] == [("x.pkl", "unsafe")]
    imported = [{"module": "torch", "name": "FloatStorage", "safety": "innocuous"}]
    imported += [{"module": "os", "name": "system", "safety": "dangerous"}]
    scans = {"pytorch_model.bin": {"status": "safe", "pickle_import_scan": {"pickleImports": imported}}}
    first, second = with_scans(found, scans).issues
    assert (first.path, first.level) == ("pytorch_model.bin", "safe")
    assert first.imports == ("os.system (dangerous)", "torch.FloatStorage")
    assert second.path == "x.pkl"


@pytest.mark.parametrize(
    ("scan", "status"),
    [(None, "unknown"), ({"scansDone": True, "filesWithIssues": []}, "safe"), ({"scansDone": False}, "pending")],
)
def test_scan_status(scan: dict[str, Any] | None, status: str) -> None:
    assert card_of(page(scan=scan)).security.status == status


def test_a_chain_is_followed_to_its_end() -> None:
    asked: list[str] = []

    def look(id: str) -> ModelPage:
        asked.append(id)
        return page(card={"base_model": f"org/m{int(id[-1]) + 1}"})

    chain, why = base_chain(card_of(page(card={"base_model": "org/m1"})), look)
    assert ([base.id for base in chain], why) == ([f"org/m{number}" for number in range(1, 6)], None)
    assert asked == [f"org/m{number}" for number in range(1, 5)]


def test_a_circular_chain_and_one_that_breaks() -> None:
    first = card_of(page(card={"base_model": "a/b"}))
    assert base_chain(first, lambda id: page(card={"base_model": "a/b"}))[1] == "a/b is its own base model"

    def missing(id: str) -> ModelPage:
        raise ModelNotFoundError(f"{id} is not there")

    assert base_chain(first, missing) == ((BaseModel("a/b"),), "a/b is not there")


@given(JSON, JSON, st.lists(st.text(max_size=12), max_size=4))
def test_any_card_is_read(card: Any, index: Any, tags: list[str]) -> None:
    data = card if isinstance(card, dict) else {"base_model": card, "language": card, "model-index": index}
    results = tuple(item for item in (index if isinstance(index, list) else []) if isinstance(item, dict))
    scan = card if isinstance(card, dict) else None
    found = card_of(page(*tags, card=data, results=results, scan=scan)).to_dict()
    assert json.loads(json.dumps(found, default=str))
