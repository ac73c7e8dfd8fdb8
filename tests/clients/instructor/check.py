"""instructor: typed answers by a JSON schema and by JSON in the prompt."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, TypeVar

import instructor
import openai
from checks import CHAT, RECITER, SMALL, URL, Skip, check, main
from pydantic import BaseModel, Field


class Animal(BaseModel):
    """What the answers are."""

    name: str = Field(max_length=12)
    legs: int = Field(ge=0, le=9)
    tame: bool


class Note(BaseModel):
    """An answer in which nothing is required, since the small model does not read the fields in its prompt."""

    title: str = "none"


T = TypeVar("T", bound=BaseModel)


def ask(kind: type[T], mode: instructor.Mode, **arguments: Any) -> T:
    """An answer of the small model."""
    if not SMALL:
        raise Skip("the small model is not stored")
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=60)
    found = instructor.from_openai(client, mode=mode).chat.completions.create(
        model=SMALL,
        messages=[{"role": "user", "content": "Describe a dog."}],
        response_model=kind,
        max_tokens=200,
        max_retries=0,
        **arguments,
    )
    assert isinstance(found, kind)
    return found


@check
def gives_a_typed_answer_by_a_json_schema() -> None:
    ask(Animal, instructor.Mode.JSON_SCHEMA, temperature=0)


@check
def samples_a_typed_answer_by_a_json_schema() -> None:
    one, other = (ask(Animal, instructor.Mode.JSON_SCHEMA, seed=3).model_dump() for _ in range(2))
    assert one == other


@check
def requests_a_json_object() -> None:
    ask(Note, instructor.Mode.JSON, temperature=0)


@check
def gives_a_typed_answer_by_a_forced_call() -> None:
    client = instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=60))
    messages: list[Any] = [{"role": "user", "content": "Describe a dog."}]
    for more in ({}, {"strict": True}):
        found = client.chat.completions.create(
            model=RECITER, messages=messages, response_model=Animal, max_retries=0, **more
        )
        assert isinstance(found, Animal)


@check
def tools_are_refused_by_their_name() -> None:
    client = instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0))
    messages: list[Any] = [{"role": "user", "content": "abc"}]
    try:
        client.chat.completions.create(model=CHAT, messages=messages, response_model=Animal, max_retries=0)
    except Exception as error:
        assert "tools" in str(error), error
    else:
        raise AssertionError("tools were accepted")


main("instructor", version("instructor"))
