"""Tasks, lengths and stop strings that a model's files set, compared with ``transformers.pipeline`` of 4.57."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpux import StoredModel, pipeline
from tests.models import zoo
from tests.pipelines.test_writing_parity import TEXT, WITH_PAST, answered
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain

PARAMS = {
    "summarization": {
        "early_stopping": True,
        "length_penalty": 2.0,
        "max_length": 40,
        "min_length": 12,
        "no_repeat_ngram_size": 2,
        "num_beams": 3,
        "prefix": "summarize: ",
    },
    "translation_en_to_de": {"max_length": 30, "num_beams": 2, "prefix": "translate English to German: "},
    "translation_en_to_fr": {"early_stopping": True, "num_beams": 5, "prefix": "translate English to French: "},
}
TOKENS = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
SHORT = {**TOKENS, "max_length": 14}
#: Additions to config.json; generation_config.json; task; options of the call.
Case = tuple[dict[str, Any], dict[str, Any] | None, str, dict[str, Any]]
T5: tuple[Case, ...] = (
    ({"task_specific_params": PARAMS}, SHORT, "summarization", {}),
    ({"task_specific_params": PARAMS}, SHORT, "translation", {}),
    ({"task_specific_params": PARAMS}, SHORT, "translation_en_to_de", {}),
    ({"task_specific_params": PARAMS}, SHORT, "translation_en_to_fr", {}),
    ({"task_specific_params": PARAMS}, SHORT, "translation_en_to_ro", {}),
    ({"task_specific_params": PARAMS}, SHORT, "text2text-generation", {}),
    ({"task_specific_params": PARAMS}, TOKENS, "summarization", {"max_new_tokens": 9}),
    ({"task_specific_params": PARAMS}, TOKENS, "summarization", {"num_beams": 1, "min_length": 0, "max_new_tokens": 9}),
    ({"task_specific_params": PARAMS}, {**TOKENS, "num_beams": 2, "min_length": 5}, "translation_en_to_de",
     {"max_new_tokens": 9}),
    ({"prefix": "own: "}, SHORT, "text2text-generation", {}),
    ({"task_specific_params": PARAMS, "prefix": "own: "}, SHORT, "translation_en_to_ro", {}),
    ({"task_specific_params": PARAMS, "max_length": 16, "num_beams": 2}, None, "summarization", {}),
    ({"max_length": 16, "min_length": 5, "num_beams": 2}, None, "text2text-generation", {}),
    ({}, {**SHORT, "num_beams": 2}, "text2text-generation", {}),
    ({}, {**SHORT, "num_beams": 2}, "text2text-generation", {"max_length": 9}),
    ({}, {**SHORT, "num_beams": 2}, "text2text-generation", {"max_new_tokens": 20}),
    ({"task_specific_params": {"summarization": {"min_length": 0, "num_beams": 1}}},
     {**SHORT, "min_length": 9, "num_beams": 2, "transformers_version": "4.57.6"}, "summarization", {}),
    ({"task_specific_params": {"summarization": {"min_length": 0, "num_beams": 1}}},
     {**SHORT, "min_length": 9, "num_beams": 2, "transformers_version": "4.41.0"}, "summarization", {}),
    ({"task_specific_params": {"summarization": {"max_new_tokens": 5, "num_beams": 2}}}, TOKENS, "summarization", {}),
)  # fmt: skip
BART: tuple[Case, ...] = (
    ({"task_specific_params": {"summarization": {"num_beams": 2, "min_length": 6, "max_length": 16}}, "max_length": 12},
     None, "summarization", {}),
    ({"task_specific_params": {"summarization": {"length_penalty": 0.5, "min_length": 9, "early_stopping": True}}},
     {"max_length": 14, "decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1, "bos_token_id": 0,
      "no_repeat_ngram_size": 3, "num_beams": 3, "forced_eos_token_id": 2}, "summarization", {}),
)  # fmt: skip
#: The model types of the zoo, each with its cases.
CALLS = [("t5", *case) for case in T5] + [("bart", *case) for case in BART]


@pytest.fixture(scope="module")
def models(zoo_models: ZooModels) -> dict[str, tuple[Path, StoredModel]]:
    """The folder of a small model of each type, and its variant."""
    names = {kind: zoo.folder_name(kind, WITH_PAST) for kind in ("t5", "bart")}
    folder = zoo_models.build(*names.values())
    return {kind: (folder / name, zoo_models.pull(kind, WITH_PAST)) for kind, name in names.items()}


@pytest.fixture(scope="module")
def cases(
    models: dict[str, tuple[Path, StoredModel]], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, StoredModel]]:
    """The model and the variant with the files of each call."""
    made = []
    for kind, config, generation_config, _, _ in CALLS:
        root, (folder, model) = tmp_path_factory.mktemp("case"), models[kind]
        for number, source in enumerate((folder, model.path)):
            target = root / str(number)
            shutil.copytree(source, target)
            merged = {**json.loads((target / "config.json").read_text()), **config}
            (target / "config.json").write_text(json.dumps(merged))
            (target / "generation_config.json").unlink(missing_ok=True)
            if generation_config is not None:
                (target / "generation_config.json").write_text(json.dumps(generation_config))
        made.append((root / "0", StoredModel(root / "1", replace(model.manifest, files=()))))
    return made


@pytest.fixture(scope="module")
def wanted(
    warm_toolchains: Path, cases: list[tuple[Path, StoredModel]], computed_once: Callable[..., Any]
) -> list[Any]:
    """The answers of transformers, in the order of the calls."""
    calls = [
        (task, str(folder), TEXT, options) for (folder, _), (_, _, _, task, options) in zip(cases, CALLS, strict=True)
    ]
    answers: list[Any] = computed_once("task-params", lambda: answered(warm_toolchains, calls))
    return answers


@pytest.mark.parametrize("number", range(len(CALLS)), ids=[f"{number}, {call[3]}" for number, call in enumerate(CALLS)])
def test_as_transformers(cases: list[tuple[Path, StoredModel]], wanted: list[Any], number: int) -> None:
    _, _, _, task, options = CALLS[number]
    with pipeline(task, model=cases[number][1], device="cpu") as pipe:
        assert pipe(TEXT, **options) == wanted[number]


# Stop strings


@pytest.fixture(scope="module")
def decoder(zoo_models: ZooModels) -> tuple[Path, StoredModel]:
    """The folder of a small GPT-2, and its variant."""
    name = zoo.folder_name("gpt2", "text-generation-with-past")
    return zoo_models.build(name) / name, zoo_models.pull("gpt2", "text-generation-with-past")


def test_stop_strings_as_transformers(
    warm_toolchains: Path, decoder: tuple[Path, StoredModel], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, variant = decoder
    greedy = {"do_sample": False, "max_new_tokens": 16, "return_full_text": False}
    with pipeline("text-generation", model=variant, device="cpu") as pipe:
        text = pipe(TEXT, **greedy)[0]["generated_text"]
    places = sorted({2, len(text) // 3, len(text) // 2, len(text) - 3})
    stops = [[text[place : place + size]] for place in places for size in (1, 3)] + [["nowhere", text[5:7], text[4:9]]]
    cases, calls = [], []
    for stop in stops:
        for beams in (1, 3):
            root = tmp_path_factory.mktemp("stop")
            for number, source in enumerate((folder, variant.path)):
                shutil.copytree(source, root / str(number))
                file = root / str(number) / "generation_config.json"
                known = json.loads(file.read_text()) if file.exists() else {}
                file.write_text(json.dumps({**known, "stop_strings": stop}))
            options = {**greedy, "num_beams": beams}
            cases.append((replace(variant, path=root / "1"), stop, options))
            calls.append(("text-generation", str(root / "0"), TEXT, {**options, "tokenizer": True}))
    for (model, stop, options), wanted in zip(cases, answered(warm_toolchains, calls), strict=True):
        with pipeline("text-generation", model=model, device="cpu") as pipe:
            assert pipe(TEXT, **options) == wanted, stop
            with pipe.stream(TEXT, **{k: v for k, v in options.items() if k != "return_full_text"}) as stream:
                assert "".join(stream) == wanted[0]["generated_text"]
        with pipeline("text-generation", model=variant, device="cpu") as pipe:
            assert pipe(TEXT, stop_strings=stop, **options) == wanted
