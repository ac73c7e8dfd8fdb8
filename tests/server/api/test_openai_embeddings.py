"""Answers of ``/v1/embeddings``."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.model.reference import ModelRef
from gpux.pull.open import pipeline
from gpux.store import Store
from gpux.system.settings import Settings
from tests.server.running import EMBEDDER, WRITER, Running

TEXTS = ["the cat", "a", "dogs and cats"]


@pytest.fixture(scope="module")
def vectors(filled_home: Path) -> Any:
    """The vectors of the texts, float32 [3, 32], as the library computes them."""
    settings = Settings.from_env({"GPUX_HOME": str(filled_home)})
    model = Store(settings.store).get(ModelRef.parse(EMBEDDER))
    with pipeline("feature-extraction", model) as pipe:
        return pipe.encode(TEXTS)


def embed(server: Running, **more: Any) -> Any:
    """The vectors of an answer, in the order of the texts."""
    answer = server.post("/v1/embeddings", {"model": EMBEDDER, "input": TEXTS, **more})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["object"], found["model"]) == ("list", EMBEDDER)
    assert [one["index"] for one in found["data"]] == list(range(len(found["data"])))
    return [one["embedding"] for one in found["data"]]


def test_vectors_are_those_of_the_library(server: Running, vectors: Any) -> None:
    np.testing.assert_allclose(embed(server), vectors, atol=1e-5)
    np.testing.assert_allclose(embed(server, input=TEXTS[0], encoding_format="float"), vectors[:1], atol=1e-5)


def test_base64_has_the_same_floats(server: Running) -> None:
    plain = embed(server)
    coded = [base64.b64decode(one) for one in embed(server, encoding_format="base64")]
    assert [list(struct.unpack("<32f", one)) for one in coded] == plain


def test_fewer_dimensions_have_the_length_one(server: Running, vectors: Any) -> None:
    found = np.asarray(embed(server, dimensions=8))
    cut = vectors[:, :8]
    np.testing.assert_allclose(found, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-5)


def test_tokens_are_counted(server: Running) -> None:
    answer = server.post("/v1/embeddings", {"model": EMBEDDER, "input": ["a", "a a"]}).json()
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == 7


def test_a_long_text_is_cut_only_on_request(server: Running) -> None:
    long = "a " * 200
    answer = server.post("/v1/embeddings", {"model": EMBEDDER, "input": ["a", long]})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "input")
    assert "truncate: true" in error["message"]
    assert len(embed(server, input=["a", long], truncate=True)) == 2


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": None}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [[9707, 1879]]}, "input[0]"),
        ({"input": [9707, 1879]}, "input"),
        ({"input": ["a", {}]}, "input[1]"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 33}, "dimensions"),
        ({"dimensions": 10**30}, "dimensions"),
        ({"prompt_name": "no such"}, "prompt_name"),
        ({"model": WRITER}, "model"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_an_invalid_parameter_is_named(server: Running, more: dict[str, Any], param: str) -> None:
    answer = server.post("/v1/embeddings", {"model": EMBEDDER, "input": "a", **more})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_token_ids_are_refused_with_the_option_of_langchain(server: Running) -> None:
    answer = server.post("/v1/embeddings", {"model": EMBEDDER, "input": [[9707, 1879]]})
    assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]
