"""Operations with long lists: others get their turn meanwhile, and too much is refused."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from gpux.chat.api.graphql.execution import Context, execute
from gpux.chat.api.graphql.limits import MOST_ALIASES, SLICE
from gpux.chat.providers.aggregator import ModelListAggregator
from gpux.chat.service import ChatService
from gpux.server.api.endpoint import Call
from tests.chat.providers.scripted import Scripted, registry_of

MODELS = 1000
ALL = "{ name provider displayName description capabilities { supportsVision supportsStreaming maxContextLength "
ALL += "supportedLanguages } metadata { size parameters architecture license lastUpdated } }"


class Counted(ModelListAggregator):
    """How often the models were searched."""

    searched = 0

    async def search_models(self, *arguments: Any, **options: Any) -> Any:
        self.searched += 1
        return await super().search_models(*arguments, **options)


def asked(query: str) -> tuple[dict[str, Any], int, int]:
    """The answer to an operation, how often the event loop was free meanwhile, and how often models were searched."""

    async def main() -> tuple[dict[str, Any], int, int]:
        provider = Scripted("p", [f"model-{number}" for number in range(MODELS)])
        aggregator = Counted(await registry_of(provider))
        await aggregator.lists()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.create_task(others())
        context = Context(cast(Call, None), cast(ChatService, SimpleNamespace(aggregator=aggregator)))
        found = await execute(context, query, None, None)
        other.cancel()
        return found, turns, aggregator.searched

    return asyncio.run(main())


def test_other_requests_get_their_turn_while_lists_are_written() -> None:
    names = "".join(f"a{number}: modelInfos {{ name }} " for number in range(MOST_ALIASES))
    found, turns, searched = asked(f"{{ {names} }}")
    assert "errors" not in found
    assert [len(one) for one in found["data"].values()] == [MODELS] * MOST_ALIASES
    assert turns >= MOST_ALIASES * MODELS / SLICE
    assert searched == 1, "a list is found once"


def test_too_many_values_are_refused() -> None:
    for define, fields in (("", ALL), (f"fragment F on ModelInfo {ALL} ", "{ ...F }")):
        lists = "".join(f"a{number}: modelInfos {fields} " for number in range(MOST_ALIASES))
        found, _, searched = asked(f"{define}{{ {lists} }}")
        assert {one["extensions"]["code"] for one in found["errors"]} == {"too_large"}
        assert found["errors"][0]["extensions"]["hint"]
        assert found.get("data") is None
        assert searched == 1


def test_fifty_aliases_are_refused_before_anything_is_searched() -> None:
    found, _, searched = asked("{ " + "".join(f"a{number}: modelInfos {{ name }} " for number in range(50)) + "}")
    assert found["errors"][0]["extensions"]["code"] == "usage"
    assert searched == 0


def test_all_of_one_list_is_allowed() -> None:
    found, _, _ = asked(f"{{ modelInfos {ALL} }}")
    assert "errors" not in found
    assert len(found["data"]["modelInfos"]) == MODELS
