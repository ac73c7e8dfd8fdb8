"""Every task of gpux through a running server: the answers are those of the pipeline in this process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gpux.model.variant import CallSpec, StoredModel
from gpux.pipelines.registry import pipelines
from gpux.pipelines.text.late_interaction import LateInteractionPipeline
from gpux.pull.api import pull_model
from gpux.store import Store
from gpux.system.settings import Settings
from tests.models import zoo
from tests.models.bert import bert_repository
from tests.models.digits_onnx import digits
from tests.pipelines import audio_graphs, picture_models
from tests.pipelines.conftest import stored
from tests.pipelines.late_cases import colbert_repository
from tests.pipelines.located.cases import CASES
from tests.pipelines.located.models import model_of
from tests.pipelines.writer import writer
from tests.server.asking import (
    QUESTIONS,
    TEXT,
    Question,
    alone,
    by_legacy,
    difference,
    in_the_shape_of_clients,
    picture,
    sent,
    served,
)
from tests.server.running import Running, put, serving

Make = Callable[[Path], StoredModel]


def _bert(folder: Path, task: str, **arguments: Any) -> StoredModel:
    path = bert_repository(folder, task, onnx=True, safetensors=False, **arguments)
    return stored(path, task, call_spec=CallSpec(max_length=64))


def _colbert(folder: Path, layout: str) -> StoredModel:
    return stored(colbert_repository(folder, layout), "feature-extraction")


#: Name -> the model, and the tasks that it is asked for; each model has graphs of a few nodes.
SMALL: Mapping[str, tuple[Make, tuple[str, ...]]] = {
    "encoder": (partial(_bert, task="feature-extraction"), ("feature-extraction", "sentence-similarity")),
    "colbert": (partial(_colbert, layout="stanford"), ("late-interaction",)),
    "colbert-pylate": (partial(_colbert, layout="pylate"), ("late-interaction",)),
    "masks": (partial(_bert, task="fill-mask"), ("fill-mask", "sparse-embedding")),
    "labels": (partial(_bert, task="text-classification"), ("text-classification",)),
    "inference": (
        partial(_bert, task="text-classification", labels=["contradiction", "neutral", "entailment"]),
        ("zero-shot-classification",),
    ),
    "cross-encoder": (partial(_bert, task="text-classification", labels=["relevant"]), ("text-ranking",)),
    "names": (partial(_bert, task="token-classification"), ("token-classification",)),
    "answers": (partial(_bert, task="question-answering"), ("question-answering",)),
    "writer": (writer, ("text-generation",)),
    "sounds": (
        partial(audio_graphs.stored, task="audio-classification", pooled=True),
        ("audio-classification",),
    ),
    "frames": (partial(audio_graphs.stored, task="audio-frame-classification"), ("audio-frame-classification",)),
    "speakers": (
        partial(audio_graphs.stored, task="audio-xvector", name="embeddings", pooled=True),
        ("audio-xvector",),
    ),
    "sound-vectors": (
        partial(audio_graphs.stored, task="feature-extraction", name="last_hidden_state"),
        ("audio-feature-extraction",),
    ),
    "ctc": (audio_graphs.speech, ("automatic-speech-recognition",)),
    "whisper": (digits, ("automatic-speech-recognition",)),
    "pictures": (picture_models.classifier, ("image-classification",)),
    "picture-vectors": (picture_models.features, ("image-feature-extraction",)),
    "clip": (picture_models.compared, ("zero-shot-image-classification",)),
    "captions": (picture_models.captions, ("image-to-text",)),
    "enlarger": (picture_models.same_picture, ("image-to-image",)),
    "videos": (picture_models.videos, ("video-classification",)),
    # One for each task: tests/pipelines/located has the answers of each processor, and the server sees no difference.
    **{case.task: (partial(model_of, case), (case.task,)) for case in CASES},
}
#: Entries of the zoo, the task that each is stored for, and the tasks that it is asked for.
CONVERTED: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
    "t5__text2text-generation-with-past": (
        None,
        ("text2text-generation", "summarization", "translation", "translation_en_to_de"),
    ),
    "sam__feature-extraction": ("mask-generation", ("mask-generation",)),
    "owlvit__zero-shot-object-detection": (None, ("zero-shot-object-detection",)),
    "clap__feature-extraction": ("zero-shot-audio-classification", ("zero-shot-audio-classification",)),
    "vision-encoder-decoder__image-to-text-with-past": (None, ("image-to-text",)),
    "moonshine__automatic-speech-recognition-with-past": (None, ("automatic-speech-recognition",)),
}


def question_of(task: str) -> Question:
    return replace(QUESTIONS["translation"], task=task) if task.startswith("translation_") else QUESTIONS[task]


@pytest.fixture(scope="module")
def task_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("every-task")
    store = Store(Settings.from_env({"GPUX_HOME": str(folder)}).store)
    for name, (make, _) in SMALL.items():
        put(store, make(folder / "made" / name), f"tests/{name}")
    return folder


@pytest.fixture(scope="module")
def tasks(task_home: Path) -> Iterator[Running]:
    """A server with the small models, of which few are loaded at the same time."""
    with serving(task_home, ["--max-models", "3"]) as running:
        yield running


@pytest.fixture(scope="module")
def converted(warm_toolchains: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with models of the zoo."""
    folder = tmp_path_factory.mktemp("converted")
    python = warm_toolchains / "optimum" / "bin" / "python"
    subprocess.run([python, zoo.__file__, folder, *CONVERTED], check=True, capture_output=True)
    settings = Settings.from_env().with_overrides(home=folder / "gpux", toolchains=warm_toolchains, offline=True)
    for name, (task, _) in CONVERTED.items():
        pull_model(folder / name, task=task, settings=settings)
    with serving(folder / "gpux", ["--max-models", "3"]) as running:
        yield running


def stored_in(home: Path, name: str) -> StoredModel:
    models = Store(Settings.from_env({"GPUX_HOME": str(home)}).store).models()
    return next(model for model in models if model.id.rpartition("/")[2] == name)


def test_every_task_is_asked_for() -> None:
    asked = {task for _, listed in (*SMALL.values(), *CONVERTED.values()) for task in listed}
    assert asked - {"translation_en_to_de"} == set(pipelines()) == set(QUESTIONS)


@pytest.mark.parametrize(("name", "task"), [(name, task) for name, (_, asked) in SMALL.items() for task in asked])
def test_a_small_model_answers_as_in_this_process(tasks: Running, task_home: Path, name: str, task: str) -> None:
    question = question_of(task)
    expected = alone(stored_in(task_home, name), question)
    found = served(tasks, f"tests/{name}", question)
    assert difference(found, in_the_shape_of_clients(question, expected)) is None
    if task != "text-generation":
        assert difference(by_legacy(tasks, f"tests/{name}", question), expected) is None


@pytest.mark.toolchain
@pytest.mark.parametrize(("name", "task"), [(name, task) for name, (_, asked) in CONVERTED.items() for task in asked])
def test_a_converted_model_answers_as_in_this_process(converted: Running, name: str, task: str) -> None:
    question = question_of(task)
    expected = alone(stored_in(converted.home, name), question)
    assert difference(served(converted, name, question), in_the_shape_of_clients(question, expected)) is None
    assert difference(by_legacy(converted, name, question), expected) is None


@pytest.mark.parametrize("name", ["colbert", "colbert-pylate"])
def test_a_colbert_ranks_by_the_vectors_of_tokens(tasks: Running, task_home: Path, name: str) -> None:
    """And not by the mean of these vectors, of which it has none that means anything."""
    documents = ["the dog", "a cat in june", "mat"]
    with LateInteractionPipeline(stored_in(task_home, name)) as pipe:
        expected = pipe.rank("a cat", documents)
    answer = tasks.post("/v1/rerank", {"model": f"tests/{name}", "query": "a cat", "documents": documents})
    found = [{"corpus_id": one["index"], "score": one["relevance_score"]} for one in answer.json()["results"]]
    assert difference(found, expected) is None


@pytest.mark.parametrize(
    ("name", "path", "body", "words"),
    [
        ("picture-vectors", "/v1/embeddings", {"input": "a"}, "gives no vectors of texts"),
        ("sound-vectors", "/v1/embeddings", {"input": "a"}, "gives no vectors of texts"),
        ("picture-vectors", "/models/{}/pipeline/feature-extraction", {"inputs": "a"}, "reads what image-feature"),
        (
            "picture-vectors",
            "/models/{}/pipeline/audio-feature-extraction",
            {"inputs": "a"},
            "reads what image-feature",
        ),
        ("pictures", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, "is stored for image-"),
        ("captions", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, "is stored for image-"),
        ("pictures", "/v1/embeddings", {"input": "a"}, "is stored for image-classification"),
        ("videos", "/models/{}", {"inputs": [[picture()]]}, "must be the content of a file"),
        ("writer", "/models/{}/pipeline/visual-question-answering", {"inputs": "a"}, "there is no pipeline for"),
        ("names", "/v1/rerank", {"query": "a", "documents": ["b"]}, "is stored for token-classification"),
        ("labels", "/v1/rerank", {"query": "a", "documents": ["b"]}, "are ranked by one score"),
    ],
)
def test_what_a_path_cannot_serve_is_refused_with_what_can(
    tasks: Running, name: str, path: str, body: dict[str, Any], words: str
) -> None:
    answer = tasks.post(path.format(f"tests/{name}"), {"model": f"tests/{name}", **sent(body)})
    assert answer.status_code == 400, answer.text
    assert words in answer.text
    if words.startswith("is stored for"):
        assert f"to /models/tests/{name}." in answer.text


@pytest.mark.toolchain
def test_a_sequence_model_continues_a_prompt_of_the_legacy_api(converted: Running) -> None:
    """By the documented parameters; one beam, as the tokens of a prompt are continued there."""
    (name,) = (name for name in CONVERTED if name.startswith("t5__"))
    used = {"max_new_tokens": 6, "do_sample": False, "repetition_penalty": 1.3}
    converted.post("/api/huggingface/models", {"model_id": name, "name": "T5", "model_type": "summarization"})
    answer = converted.post("/api/huggingface/generate", {"model_id": name, "prompt": TEXT, **used})
    assert answer.status_code == 200, answer.text
    expected = alone(stored_in(converted.home, name), Question("text2text-generation", TEXT, used))
    assert answer.json()["response"] == expected[0]["generated_text"]
