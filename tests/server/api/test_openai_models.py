"""``/v1/models``."""

from __future__ import annotations

import pytest

from tests.server.running import EMBEDDER, WRITER, Running


def test_every_name_of_a_stored_model_is_listed_and_served(server: Running) -> None:
    answer = server.get("/v1/models").json()
    assert answer["object"] == "list"
    ids = [one["id"] for one in answer["data"]]
    assert len(ids) == len(set(ids))
    assert {WRITER, f"{WRITER}:fp32", EMBEDDER, f"{EMBEDDER}:fp32"} <= set(ids)
    for one in answer["data"]:
        assert set(one) == {"id", "object", "created", "owned_by"}
        assert (one["object"], one["owned_by"]) == ("model", "tests")
        assert one["created"] > 1_700_000_000


@pytest.mark.parametrize("path", ["tests/writer", "tests%2Fwriter", "tests%2Fwriter%3Afp32", "tests/writer:fp32"])
def test_a_model_is_found_by_its_id(server: Running, path: str) -> None:
    listed = {one["id"]: one for one in server.get("/v1/models").json()["data"]}
    found = server.get(f"/v1/models/{path}").json()
    assert found == listed[found["id"]]


@pytest.mark.parametrize("path", ["no/such", "tests%2Fwriter:int4", "..%2F..%2Fetc"])
def test_an_unknown_model_is_not_found(server: Running, path: str) -> None:
    answer = server.get(f"/v1/models/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_an_unknown_path_is_in_the_shape_of_the_api(server: Running) -> None:
    answer = server.get("/v1/nothing")
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
