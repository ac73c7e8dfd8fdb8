"""Each route of the documentation answers in its shape, and in the documented shape of errors."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.pipelines.writer import expected
from tests.server.api.legacy.conftest import PICTURES
from tests.server.running import CLASSIFIER, EMBEDDER, MASKS, WRITER, Running

BASE = "/api/huggingface"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
INFO = {"model_id": str, "name": str, "model_type": str}
MODEL = {
    **INFO,
    "description": str,
    "parameters": dict,
    "added_date": TIME,
    "last_used": (TIME, None),
    "usage_count": int,
    "status": re.compile("available|loading|loaded|error"),
}
ID = WRITER
BODY = {"model_id": ID, "name": "DialoGPT Medium", "model_type": "conversational"}
#: method, path below the base, body, shape of the answer; ``{id}`` stands for a registered model
ROUTES: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("DELETE", "/cache", None, {"message": str}),
    ("DELETE", "/cache?model_id={id}", None, {"message": str}),
    ("GET", "/models", None, {"models": [MODEL], "count": int}),
    ("GET", "/models?type=conversational", None, {"models": [MODEL], "count": int}),
    ("POST", "/models", {**BODY, "model_id": "new/one"}, {"model": MODEL, "message": str}),
    ("GET", "/models/{id}", None, {"model": MODEL}),
    ("PUT", "/models/{id}", {"description": "better"}, {"model": MODEL, "message": str}),
    (
        "DELETE",
        "/models/{id}",
        None,
        {"message": str, "models_data": {"models": [MODEL], "last_updated": TIME, "count": int}},
    ),
    ("POST", "/models/{id}/load", None, {"message": str, "model_info": INFO, "device": re.compile("cpu|cuda")}),
    ("POST", "/models/{id}/load", {"force_reload": False}, {"message": str, "model_info": INFO, "device": str}),
    (
        "POST",
        "/generate",
        {"model_id": "{id}", "prompt": "abc", "max_new_tokens": 5},
        {
            "response": str,
            "model_used": str,
            "prompt": str,
            "parameters": {
                "max_new_tokens": int,
                "temperature": float,
                "do_sample": bool,
                "top_p": float,
                "top_k": int,
                "repetition_penalty": float,
            },
            "model_info": INFO,
        },
    ),
    (
        "POST",
        "/pipeline",
        {"model_id": "{id}", "task": "text-generation", "inputs": "abc", "max_length": 9, "num_return_sequences": 1},
        {
            "results": [{"generated_text": str}],
            "model_used": str,
            "task": str,
            "inputs": str,
            "model_info": INFO,
        },
    ),
    (
        "GET",
        "/cache",
        None,
        {"cached_models": dict, "cached_pipelines": [str], "total_cached": int},
    ),
    (
        "GET",
        "/statistics",
        None,
        {
            "statistics": {
                "total_models": int,
                "total_usage": int,
                "model_types": dict,
                "last_updated": TIME,
                "most_used": ({"model_id": str, "name": str, "usage_count": int}, None),
            }
        },
    ),
    ("GET", "/model-types", None, {"model_types": [str]}),
    (
        "GET",
        "/dependencies",
        None,
        {
            "dependencies": {
                "transformers": bool,
                "torch": bool,
                "cuda_available": bool,
                "onnxruntime": bool,
                "ready": bool,
            }
        },
    ),
]


def fits(value: Any, shape: Any, place: str = "$") -> None:
    """Assert that a JSON value has a shape: its type, every key of it, each item, one of several, or a pattern."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), place
        assert set(shape) <= set(value), f"{place}: {set(shape) - set(value)}"
        for key, inner in shape.items():
            fits(value[key], inner, f"{place}.{key}")
    elif isinstance(shape, list):
        assert isinstance(value, list), place
        for one in value:
            fits(one, shape[0], f"{place}[]")
    elif isinstance(shape, tuple):
        if value is None:
            assert None in shape, place
        else:
            fits(value, shape[0], place)
    elif isinstance(shape, re.Pattern):
        assert isinstance(value, str) and shape.fullmatch(value), f"{place}: {value}"
    else:
        assert type(value) is shape, f"{place}: {value!r}"


@pytest.fixture
def client(legacy: Running) -> Iterator[httpx2.Client]:
    """A client of a server with an empty registry."""
    with legacy.client() as client:
        for model in client.get(f"{BASE}/models").json()["models"]:
            client.delete(f"{BASE}/models/{model['model_id']}")
        yield client


def ask(client: httpx2.Client, method: str, path: str, body: Any = None) -> httpx2.Response:
    return client.request(method, BASE + path, **({} if body is None else {"json": body}))


def register(client: httpx2.Client, id: str = ID, **more: Any) -> Any:
    answer = ask(client, "POST", "/models", {**BODY, "model_id": id, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["model"]


def failed(response: httpx2.Response, status: int) -> str:
    """The text of an error, whose shape and status are checked."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["success"] is False and isinstance(body["error"], str)
    assert set(body) <= {"success", "error", "code"}
    return str(body["error"])


@pytest.mark.parametrize(("method", "path", "body", "shape"), ROUTES, ids=[f"{row[0]} {row[1]}" for row in ROUTES])
def test_a_route_answers_in_its_shape(client: httpx2.Client, method: str, path: str, body: Any, shape: Any) -> None:
    register(client)
    if isinstance(body, dict) and body.get("model_id") == "{id}":
        body = {**body, "model_id": ID}
    answer = ask(client, method, path.replace("{id}", ID), body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    fits(answer.json(), {"success": bool, **shape})
    assert answer.json()["success"] is True


def test_an_added_model_has_the_documented_defaults(client: httpx2.Client) -> None:
    made = register(client, "org/absent", unknown="ignored")
    assert {**made, "added_date": ""} == {
        **BODY,
        "model_id": "org/absent",
        "description": "",
        "parameters": {},
        "added_date": "",
        "last_used": None,
        "usage_count": 0,
        "status": "available",
    }


@pytest.mark.parametrize("id", ["org/name", "load", "org/load", "a/load/load", "org/name@main:int8"])
@pytest.mark.parametrize("encoded", [False, True])
def test_ids_with_slashes_are_found_encoded_or_not(client: httpx2.Client, id: str, encoded: bool) -> None:
    register(client, id)
    written = id.replace("/", "%2F") if encoded else id
    assert ask(client, "GET", f"/models/{written}").json()["model"]["model_id"] == id
    assert "is registered, but not stored" in failed(ask(client, "POST", f"/models/{written}/load"), 400)
    assert ask(client, "DELETE", f"/models/{written}").json()["message"] == f"Model '{id}' removed successfully"


def test_an_id_that_is_not_registered_is_404(client: httpx2.Client) -> None:
    text = "Model 'invalid-model' not found"
    for method in ("GET", "DELETE"):
        assert failed(ask(client, method, "/models/invalid-model"), 404) == text
    assert failed(ask(client, "PUT", "/models/invalid-model", {}), 404) == text
    assert failed(ask(client, "POST", "/models/invalid-model/load"), 404) == text
    assert failed(ask(client, "POST", "/generate", {"model_id": "invalid-model", "prompt": "a"}), 404) == text
    body = {"model_id": "invalid-model", "task": "fill-mask", "inputs": "a"}
    assert failed(ask(client, "POST", "/pipeline", body), 404) == text
    assert failed(ask(client, "DELETE", "/cache?model_id=invalid-model"), 404) == text


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/models", ["model_id", "name", "model_type"]),
        ("/generate", ["model_id", "prompt"]),
        ("/pipeline", ["model_id", "task", "inputs"]),
    ],
)
def test_the_first_missing_field_is_named(client: httpx2.Client, path: str, fields: list[str]) -> None:
    for place, field in enumerate(fields):
        body = dict.fromkeys(fields[:place], "gpt2")
        assert failed(ask(client, "POST", path, body), 400) == f"Missing required field: {field}"


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[1]", b'"text"', b"\xff", b"[" * 5000])
def test_a_body_that_is_no_object_is_400(client: httpx2.Client, content: bytes) -> None:
    register(client)
    for method, path in (("POST", "/models"), ("PUT", f"/models/{ID}"), ("POST", "/generate"), ("POST", "/pipeline")):
        headers = {"content-type": "application/json"}
        failed(client.request(method, BASE + path, content=content, headers=headers), 400)


@pytest.mark.parametrize(
    "body",
    [
        {**BODY, "name": 5},
        {**BODY, "model_id": ""},
        {**BODY, "model_id": None},
        {**BODY, "parameters": []},
        {**BODY, "parameters": {"temperature": "hot"}},
        {**BODY, "parameters": {"max_new_tokens": -1}},
        {**BODY, "model_type": "juggling"},
        {**BODY, "model_id": "not a reference"},
    ],
)
def test_a_wrong_value_is_400(client: httpx2.Client, body: Any) -> None:
    failed(ask(client, "POST", "/models", body), 400)
    assert ask(client, "GET", "/models").json()["count"] == 0


def test_an_id_is_registered_once(client: httpx2.Client) -> None:
    register(client, "gpt2")
    body = {**BODY, "model_id": "gpt2"}
    assert failed(ask(client, "POST", "/models", body), 400) == "Model 'gpt2' already exists"


def test_a_change_replaces_parameters_and_leaves_what_is_protected(client: httpx2.Client) -> None:
    made = register(client, parameters={"top_k": 3, "temperature": 0.5})
    protected = {"model_id": "other", "added_date": "never", "usage_count": 9, "last_used": "now"}
    answer = ask(client, "PUT", f"/models/{ID}", {**protected, "parameters": {"temperature": 0.9}}).json()
    assert answer["model"] == {**made, "parameters": {"temperature": 0.9}}
    assert answer["message"] == f"Model '{ID}' updated successfully"


@pytest.mark.parametrize("path", ["", "/", "/nothing", "/models/a/b/load/x/load?y", "/cache/x"])
def test_unknown_paths_and_methods_are_in_the_shape_of_the_api(client: httpx2.Client, path: str) -> None:
    answer = ask(client, "PUT", path, {})
    assert answer.status_code in (404, 405)
    failed(answer, answer.status_code)


def test_the_root_answers(client: httpx2.Client) -> None:
    assert client.get("/").status_code == 200


# Running models


def test_the_answer_is_the_continuation_alone(client: httpx2.Client) -> None:
    register(client, WRITER)
    body = {"model_id": WRITER, "prompt": "abc", "max_new_tokens": 9, "do_sample": False, "repetition_penalty": 1}
    assert ask(client, "POST", "/generate", body).json()["response"] == expected("abc", 9)


def test_results_of_text_generation_contain_the_prompt(client: httpx2.Client) -> None:
    register(client, WRITER)
    body = {"model_id": WRITER, "task": "text-generation", "inputs": "abc", "max_length": 12, "do_sample": False}
    answer = ask(client, "POST", "/pipeline", body).json()
    assert answer["results"] == [{"generated_text": "abc" + expected("abc", 9)}]


def test_a_parameter_is_the_requests_then_the_models_then_the_default(client: httpx2.Client) -> None:
    register(client, WRITER, parameters={"max_new_tokens": 3, "top_k": 7, "temperature": 0.5})
    answer = ask(client, "POST", "/generate", {"model_id": WRITER, "prompt": "abc", "top_k": 9}).json()
    assert answer["parameters"] == {
        "max_new_tokens": 3,
        "temperature": 0.5,
        "do_sample": True,
        "top_p": 0.9,
        "top_k": 9,
        "repetition_penalty": 1.1,
    }
    assert len(answer["response"]) <= 3


def test_a_seed_repeats_an_answer(client: httpx2.Client) -> None:
    register(client, WRITER)
    body = {"model_id": WRITER, "prompt": "abc", "max_new_tokens": 12, "seed": 3, "temperature": 2}
    first, second = (ask(client, "POST", "/generate", body).json()["response"] for _ in range(2))
    assert first == second


def test_parameters_that_generate_does_not_have_are_refused(client: httpx2.Client) -> None:
    register(client, WRITER)
    text = failed(ask(client, "POST", "/generate", {"model_id": WRITER, "prompt": "a", "temprature": 1}), 400)
    assert "temprature" in text


@pytest.mark.parametrize("task", ["sentiment-analysis", "text-classification", "Text_Classification"])
def test_aliases_of_a_task_give_its_results(client: httpx2.Client, task: str) -> None:
    register(client, CLASSIFIER, model_type="sentiment-analysis")
    answer = ask(client, "POST", "/pipeline", {"model_id": CLASSIFIER, "task": task, "inputs": "good"}).json()
    fits(answer["results"], [{"label": str, "score": float}])
    assert (answer["task"], answer["model_info"]["model_type"]) == (task, "sentiment-analysis")


@pytest.mark.parametrize(
    ("id", "task", "inputs", "options", "shape"),
    [
        (MASKS, "fill-mask", "a [MASK] b", {"top_k": 2}, [{"token_str": str, "score": float, "sequence": str}]),
        (CLASSIFIER, "sentiment-analysis", ["a", "b"], {}, [{"label": str, "score": float}]),
        (EMBEDDER, "feature-extraction", "a b", {}, [[[float]]]),
        (
            CLASSIFIER,
            "zero-shot-classification",
            "a b",
            {"candidate_labels": ["x", "y"]},
            {"sequence": str, "labels": [str], "scores": [float]},
        ),
    ],
)
def test_results_have_the_shape_of_transformers(
    client: httpx2.Client, id: str, task: str, inputs: Any, options: dict[str, Any], shape: Any
) -> None:
    register(client, id)
    answer = ask(client, "POST", "/pipeline", {"model_id": id, "task": task, "inputs": inputs, **options})
    assert answer.status_code == 200, answer.text
    fits(answer.json()["results"], shape)


def test_a_picture_is_its_file_in_base64_and_never_a_path(client: httpx2.Client, legacy: Running) -> None:
    register(client, PICTURES)
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(stream, "PNG")
    content = base64.b64encode(stream.getvalue()).decode()
    path = legacy.home / "picture.png"
    path.write_bytes(stream.getvalue())

    def answer(inputs: Any) -> httpx2.Response:
        body = {"model_id": PICTURES, "task": "image-classification", "inputs": inputs}
        return ask(client, "POST", "/pipeline", body)

    found = answer(content)
    assert found.status_code == 200, found.text
    fits(found.json()["results"], [{"label": str, "score": float}])
    assert found.json()["results"][0]["label"] == "red"
    assert answer(f"data:image/png;base64,{content}").json()["results"] == found.json()["results"]
    for other in (str(path), f"file://{path}", "http://localhost/picture.png", 5, {"image": str(path)}):
        assert "base64" in failed(answer(other), 400)


def test_unknown_tasks_and_options_are_refused_with_a_list(client: httpx2.Client) -> None:
    register(client, CLASSIFIER)
    body = {"model_id": CLASSIFIER, "task": "juggling", "inputs": "a"}
    assert "text-classification" in failed(ask(client, "POST", "/pipeline", body), 400)
    body = {"model_id": CLASSIFIER, "task": "sentiment-analysis", "inputs": "a", "speed": 3}
    text = failed(ask(client, "POST", "/pipeline", body), 400)
    assert "speed" in text and "top_k" in text
    body = {"model_id": CLASSIFIER, "task": "sentiment-analysis", "inputs": "a", "top_k": "many"}
    assert "top_k" in failed(ask(client, "POST", "/pipeline", body), 400)
    body = {"model_id": CLASSIFIER, "task": "summarization", "inputs": "a"}
    failed(ask(client, "POST", "/pipeline", body), 400)


def test_only_answers_count_as_uses(client: httpx2.Client) -> None:
    register(client, WRITER)
    ask(client, "POST", f"/models/{WRITER}/load")
    ask(client, "POST", "/pipeline", {"model_id": WRITER, "task": "fill-mask", "inputs": "a"})
    assert ask(client, "GET", f"/models/{WRITER}").json()["model"]["last_used"] is None
    ask(client, "POST", "/generate", {"model_id": WRITER, "prompt": "abc", "max_new_tokens": 2})
    body = {"model_id": WRITER, "task": "text-generation", "inputs": "abc", "max_length": 5}
    ask(client, "POST", "/pipeline", body)
    found = ask(client, "GET", f"/models/{WRITER}").json()["model"]
    assert found["usage_count"] == 2 and TIME.fullmatch(found["last_used"])
    counted = ask(client, "GET", "/statistics").json()["statistics"]
    assert counted["most_used"] == {"model_id": WRITER, "name": BODY["name"], "usage_count": 2}
    assert (counted["total_usage"], counted["model_types"]) == (2, {"conversational": 1})


def test_the_cache_lists_what_is_loaded(client: httpx2.Client) -> None:
    register(client, WRITER)
    ask(client, "DELETE", "/cache")
    assert ask(client, "GET", "/cache").json()["total_cached"] == 0

    def load(**body: Any) -> Any:
        assert ask(client, "POST", f"/models/{WRITER}/load", body or None).status_code == 200
        return ask(client, "GET", "/cache").json()

    first = load()
    fits(first["cached_models"], {WRITER: {"loaded_at": TIME, "device": str, "model_type": str}})
    assert first["cached_models"][WRITER]["model_type"] == "conversational"
    assert (first["cached_pipelines"], first["total_cached"]) == ([f"{WRITER}_text-generation"], 1)
    assert ask(client, "GET", f"/models/{WRITER}").json()["model"]["status"] == "loaded"
    assert load(force_reload=False) == first
    assert load(force_reload=True)["cached_models"][WRITER]["loaded_at"] > first["cached_models"][WRITER]["loaded_at"]
    answer = ask(client, "DELETE", f"/cache?model_id={WRITER}").json()
    assert answer["message"] == f"Cache cleared for model '{WRITER}'"
    assert ask(client, "GET", "/cache").json()["cached_models"] == {}


def test_a_model_that_is_not_stored_is_400_with_the_command_that_stores_it(client: httpx2.Client) -> None:
    register(client, "org/absent")
    text = failed(ask(client, "POST", "/generate", {"model_id": "org/absent", "prompt": "a"}), 400)
    assert "gpux pull org/absent" in text


def test_dependencies_are_as_installed(client: httpx2.Client) -> None:
    found = ask(client, "GET", "/dependencies").json()["dependencies"]
    assert found["torch"] is (importlib.util.find_spec("torch") is not None)
    assert found["transformers"] is (importlib.util.find_spec("transformers") is not None)
    assert found["ready"] is found["onnxruntime"] is True


def test_errors_name_no_path_of_the_machine(client: httpx2.Client, legacy: Running) -> None:
    register(client, "org/absent")
    for body in ({"model_id": "org/absent", "prompt": "a"}, {"model_id": WRITER, "prompt": 5}, {"prompt": "a"}):
        assert str(legacy.home) not in ask(client, "POST", "/generate", body).text
