from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tests.models import cases
from tests.models.bert import bert_repository
from tests.models.bert_onnx import TASK_OF, export_bert
from tests.models.cases import MINILM_CALLS, PIPELINE_CASES, SENTENCE_CASES, Case, expected, golden
from tests.models.minilm import minilm_repository, minilm_source
from tests.models.reference import Graph, sentence_vector, sigmoid, softmax
from tests.models.sentence import SentenceOptions
from tests.models.weights import digest

TASKS = sorted(TASK_OF.values())
ALL = [(case.task, case) for case in PIPELINE_CASES] + [("sentence-vectors", case) for case in SENTENCE_CASES]
Build = Callable[[Case], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("tiny")

    def built(case: Case) -> Path:
        dest = folder / case.task / case.name
        return dest if dest.exists() else case.build(dest, onnx=True)

    return built


def close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def of(case: Any) -> str:
    return case.name if isinstance(case, Case) else str(case)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("task", TASKS)
def test_equal_arguments_give_equal_bytes(tmp_path: Path, task: str) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    for dest, seed in ((first, 0), (second, 0), (other, 1)):
        bert_repository(dest, task, onnx=True, sentence_transformers={"dense": 8}, seed=seed)
    assert files(first) == files(second)
    assert files(first)["model.safetensors"] != files(other)["model.safetensors"]


def test_parts_can_be_omitted(tmp_path: Path) -> None:
    names = set(files(bert_repository(tmp_path / "onnx only", "fill-mask", onnx=True, safetensors=False)))
    assert "onnx/model.onnx" in names
    assert "model.safetensors" not in names
    assert "modules.json" not in names
    with pytest.raises(ValueError, match="unknown task"):
        bert_repository(tmp_path / "none", "text-generation")
    with pytest.raises(ValueError, match="unknown pooling"):
        bert_repository(tmp_path / "none", "feature-extraction", sentence_transformers={"pooling": "median"})


@pytest.mark.parametrize("external_data", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_the_graph_is_valid_and_has_the_names_of_optimum(tmp_path: Path, task: str, external_data: bool) -> None:
    repository = bert_repository(tmp_path, task, onnx=True, onnx_path="model.onnx", external_data=external_data)
    assert (repository / "model.onnx_data").exists() == external_data
    onnx.checker.check_model(repository / "model.onnx", full_check=True)
    model = onnx.load(repository / "model.onnx", load_external_data=False)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    session = Graph(repository, "model.onnx").session
    assert [i.name for i in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    assert {(i.type, *i.shape) for i in session.get_inputs()} == {("tensor(int64)", "batch_size", "sequence_length")}
    shapes = {
        "feature-extraction": [("last_hidden_state", ["batch_size", "sequence_length", 32])],
        "text-classification": [("logits", ["batch_size", 3])],
        "fill-mask": [("logits", ["batch_size", "sequence_length", 270])],
        "token-classification": [("logits", ["batch_size", "sequence_length", 3])],
        "question-answering": [(f"{name}_logits", ["batch_size", "sequence_length"]) for name in ("start", "end")],
    }
    assert [(o.name, o.shape) for o in session.get_outputs()] == shapes[task]


def test_external_data_gives_the_same_numbers_and_is_replaced_whole(tmp_path: Path) -> None:
    repository = bert_repository(tmp_path, "feature-extraction", onnx=True)
    for _ in range(2):  # onnx appends to an existing data file
        export_bert(repository, repository / "out" / "model.onnx", external_data=True)
    weights = (repository / "model.safetensors").stat().st_size
    assert (repository / "out" / "model.onnx_data").stat().st_size < 1.1 * weights
    one, two = Graph(repository)(cases.SHORT), Graph(repository, "out/model.onnx")(cases.SHORT)
    np.testing.assert_array_equal(one, two)


def test_padding_changes_nothing_and_everything_else_does(build: Build) -> None:
    graph = Graph(build(PIPELINE_CASES[0]))
    feed = graph.feed(cases.SHORT, cases.OTHER)
    length = feed["input_ids"].shape[1]
    padded = {name: np.pad(value, ((0, 0), (0, 7)), constant_values=0) for name, value in feed.items()}
    answer = graph.run(feed)
    close(graph.run(padded)[:, :length], answer)
    unmasked = graph.run({**padded, "attention_mask": np.ones_like(padded["input_ids"])})[:, :length]
    typeless = graph.run({**feed, "token_type_ids": np.zeros_like(feed["token_type_ids"])})
    moved = graph.run({name: np.roll(value, 1, axis=1) for name, value in feed.items()})
    for wrong in (unmasked, typeless, np.roll(moved, -1, axis=1)):
        assert np.abs(wrong - answer).max() > 0.1


@pytest.mark.parametrize("limits", [False, True])
def test_the_tokenizer_has_limits_by_option(tmp_path: Path, limits: bool) -> None:
    repository = bert_repository(tmp_path, "feature-extraction", tokenizer_limits=limits)
    tokenizer = Tokenizer.from_file(str(repository / "tokenizer.json"))
    assert [len(tokenizer.encode(text).ids) for text in ("fox", cases.words(21))] == ([16, 16] if limits else [3, 23])
    vocabulary = (repository / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert vocabulary == [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    assert json.loads((repository / "config.json").read_text())["vocab_size"] == len(vocabulary)


@pytest.mark.parametrize(("file", "case"), ALL, ids=of)
def test_every_call_has_an_answer_for_these_weights(build: Build, file: str, case: Case) -> None:
    assert digest(load_file(build(case) / "model.safetensors")) == golden(file)["cases"][case.name]["weights"]
    assert all(expected(file, case.name, call) for call in case.calls)
    other = cases.Call(case.calls[0].name, "another input")
    with pytest.raises(ValueError, match=r"run golden\.py again"):
        expected(file, case.name, other)


def test_golden_files_are_small_and_have_versions() -> None:
    paths = sorted(cases.GOLDEN.iterdir())
    assert sum(path.stat().st_size for path in paths) < 300_000
    assert all({"transformers", "torch"} <= golden(path.stem)["versions"].keys() for path in paths)


def of_task(task: str) -> list[Case]:
    return [case for case in PIPELINE_CASES if case.task == task]


@pytest.mark.parametrize("case", of_task("feature-extraction"), ids=of)
def test_feature_extraction_equals_transformers(build: Build, case: Case) -> None:
    graph = Graph(build(case))
    for call in case.calls:
        one = isinstance(call.input, str)
        limit = call.options.get("tokenize_kwargs", {}).get("max_length", 64)
        answers = [graph(text, limit=limit) for text in ([call.input] if one else call.input)]
        golden_answers = expected(case.task, case.name, call)
        for ours, theirs in zip(answers, [golden_answers] if one else golden_answers, strict=True):
            close(ours, theirs)


@pytest.mark.parametrize("case", of_task("text-classification"), ids=of)
def test_text_classification_equals_transformers(build: Build, case: Case) -> None:
    labels = case.repository.get("labels", ("negative", "neutral", "positive"))
    multiple = case.repository.get("problem_type") == "multi_label_classification" or case.name == "one label"
    functions: dict[str, Callable[..., Any]] = {"none": np.asarray, "sigmoid": sigmoid, "softmax": softmax}
    own = functions["none" if case.name == "regression" else "sigmoid" if multiple else "softmax"]
    graph = Graph(build(case))
    calls = [c for c in case.calls if c.options.get("top_k", 1) is None and not isinstance(c.input, list)]
    assert len(calls) == 6
    for call in calls:
        text, pair = call.input.values() if isinstance(call.input, dict) else (call.input, None)
        function = functions.get(call.options.get("function_to_apply", ""), own)
        scores = function(graph(text, pair, limit=64)[0])
        answer = expected(case.task, case.name, call)
        assert [entry["label"] for entry in answer] == [labels[i] for i in np.argsort(-scores, kind="stable")]
        close(np.sort(scores)[::-1], [entry["score"] for entry in answer])


def test_fill_mask_equals_transformers(build: Build) -> None:
    (case,) = of_task("fill-mask")
    graph = Graph(build(case))
    for call in (call for call in case.calls if isinstance(call.input, str) and "targets" not in call.options):
        feed = graph.feed(call.input, limit=64)
        rows = softmax(graph.run(feed)[feed["input_ids"] == graph.tokenizer.token_to_id("[MASK]")])
        answers = expected(case.task, case.name, call)
        for row, answer in zip(rows, answers if len(rows) > 1 else [answers], strict=True):
            best = np.argsort(-row)[: call.options.get("top_k", 5)]
            assert [entry["token"] for entry in answer] == best.tolist()
            close(row[best], [entry["score"] for entry in answer])


def encoded(graph: Graph, text: str, options: SentenceOptions, call: dict[str, Any], repository: Path) -> Any:
    name = call.get("prompt_name", options.get("default_prompt_name"))
    prompt = call.get("prompt", options["prompts"][name] if name is not None else "")
    full = prompt + (text.lower() if options.get("do_lower_case") else text)
    tokens = graph(full, limit=options.get("max_seq_length", 32) or 64)[0]
    if prompt and not options.get("include_prompt", True):  # [CLS] is excluded with the prompt
        tokens = tokens[graph.feed(prompt)["input_ids"].shape[1] - 1 :]
    vector = sentence_vector(tokens, options, repository)[: call.get("truncate_dim")]
    return vector / np.linalg.norm(vector) if call.get("normalize_embeddings") else vector


@pytest.mark.parametrize("case", SENTENCE_CASES, ids=of)
def test_sentence_vectors_equal_sentence_transformers(build: Build, case: Case) -> None:
    repository = build(case)
    options = case.repository.get("sentence_transformers", {"max_seq_length": None})
    graph = Graph(repository)
    for call in case.calls:
        one, answer = isinstance(call.input, str), expected("sentence-vectors", case.name, call)
        texts, answers = ([call.input], [answer]) if one else (call.input, answer)
        for text, theirs in zip(texts, answers, strict=True):
            close(encoded(graph, text, options, call.options, repository), theirs)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    if minilm_source() is None:
        pytest.skip("the package with MiniLM's weights is not installed")
    folder = tmp_path_factory.mktemp("minilm")
    repository = minilm_repository(folder / "repository", onnx=True, cache=folder / "cache")
    yield repository, folder / "cache"
    shutil.rmtree(folder)  # pytest keeps temporary folders, and this one is large


def test_minilm_has_the_files_of_the_hub(minilm: tuple[Path, Path]) -> None:
    repository, cache = minilm
    assert {"1_Pooling/config.json", "model.safetensors", "modules.json", "onnx/model.onnx"} <= {
        path.relative_to(repository).as_posix() for path in repository.rglob("*")
    }
    front = (repository / "README.md").read_text(encoding="utf-8").split("---")[1]
    for line in ("license: apache-2.0", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity"):
        assert line in front.splitlines()
    (built,) = cache.iterdir()
    before = built.stat().st_mtime_ns
    minilm_repository(cache.parent / "again", onnx=True, cache=cache)
    assert built.stat().st_mtime_ns == before
    assert not (minilm_repository(cache.parent / "plain", onnx=False) / "onnx").exists()


def test_minilm_equals_sentence_transformers(minilm: tuple[Path, Path]) -> None:
    graph = Graph(minilm[0])
    for call in MINILM_CALLS:
        for text, theirs in zip(call.input, expected("minilm", "all-MiniLM-L6-v2", call), strict=True):
            ours = sentence_vector(graph(text, limit=256)[0], {"normalize": True}, minilm[0])
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
