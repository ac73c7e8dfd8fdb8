"""Conversations with stored models, in processes of a provider without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpux.chat.provider import ProviderSetup
from gpux.chat.providers.hugging_face import HuggingFaceProvider, deltas
from gpux.chat.values import (
    ChatConfiguration,
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    Image,
    Message,
    ModelConfig,
    ProviderConfig,
)
from gpux.errors import (
    DeadlineError,
    DeviceError,
    DoesNotFitError,
    InputError,
    ModelNotFoundError,
    UnsupportedTaskError,
    UsageError,
)
from gpux.server.workers.messages import Part, Piece
from gpux.store import Store
from gpux.system.settings import Settings
from tests.pipelines.writer import LIMIT, expected, writer
from tests.server.running import CLASSIFIER, TURNS, WRITER
from tests.waiting import until

Test = Callable[[HuggingFaceProvider], Coroutine[Any, Any, None]]
GREEDY = ChatOptions(temperature=0, max_tokens=6)


@asynccontextmanager
async def opened(home: Path, timeout_ms: int = 60_000, **configuration: Any) -> AsyncIterator[HuggingFaceProvider]:
    settings = Settings.from_env({"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
    config = ProviderConfig(name="huggingface", timeout_ms=timeout_ms)
    provider = HuggingFaceProvider(ProviderSetup(config, ChatConfiguration(**configuration), settings))
    try:
        yield provider
    finally:
        await provider.aclose()


def run(home: Path, test: Test, **configuration: Any) -> None:
    async def main() -> None:
        async with opened(home, **configuration) as provider:
            await asyncio.wait_for(test(provider), 120)

    asyncio.run(main())


def configured(**values: Any) -> dict[str, ModelConfig]:
    name = f"hf:{WRITER}"
    return {name: ModelConfig(model_name=name, provider="huggingface", **values)}


def request(*contents: str, options: ChatOptions = GREEDY, model: str = WRITER) -> ChatRequest:
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[place % 2], content=one) for place, one in enumerate(contents))  # type: ignore[arg-type]
    return ChatRequest(model=model, messages=messages, options=options)


async def whole(provider: HuggingFaceProvider, asked: ChatRequest) -> tuple[str, Finished]:
    async with aclosing(provider.answer(asked)) as pieces:
        found = [one async for one in pieces]
    assert isinstance(found[-1], Finished)
    return "".join(one.text for one in found if isinstance(one, Delta)), found[-1]


def test_models_of_text_generation_are_listed(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        names = await provider.list_models()
        assert f"hf:{WRITER}" in names
        assert f"hf:{CLASSIFIER}" not in names
        info = await provider.model_info(f"hf:{WRITER}:float32")
        assert (info.name, info.provider) == (f"hf:{WRITER}:float32", "huggingface")
        assert info.capabilities.max_context_length == LIMIT
        assert not info.capabilities.supports_vision
        assert info.metadata.architecture == "llama"
        assert await provider.check_model_exists(WRITER)
        for other in (CLASSIFIER, "no/such", "../etc/passwd", "", f"{WRITER}:int4"):
            assert not await provider.check_model_exists(other)
        assert await provider.health_check()

    run(filled_store, test)


def test_an_answer_is_what_the_model_writes(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        text, end = await whole(provider, request("hi", "so", "what"))
        prompt = "<user>hi<assistant>so<user>what<assistant>"
        assert text == expected(prompt, 6)
        assert end.prompt_tokens == len("hi") + len("so") + len("what") + 4
        assert end.completion_tokens is not None
        assert await provider.generate_response(WRITER, "hi", (), {"temperature": 0, "max_tokens": 6}) == expected(
            "<user>hi<assistant>", 6
        )
        stop = expected("<user>hi<assistant>", 6)[2]
        cut = await provider.generate_response(WRITER, "hi", (), {"temperature": 0, "maxTokens": 6, "stop": [stop]})
        assert cut == expected("<user>hi<assistant>", 6).partition(stop)[0]

    run(filled_store, test)


def test_a_history_beyond_the_context_loses_its_oldest_turns(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        turns = [f"{number:02d}" for number in range(99)]
        text, end = await whole(provider, request(*turns, options=ChatOptions(temperature=0, max_tokens=4)))
        # Each message has 3 tokens, the beginning of the answer 1; 4 are left free for it.
        kept = (LIMIT - 4 - 1) // 3
        kept -= 1 - kept % 2  # whole turns: the first message that is kept is of the user, and so is the last one
        first = 99 - kept
        prompt = "".join(f"<{('user', 'assistant')[number % 2]}>{number:02d}" for number in range(first, 99))
        assert text == expected(f"{prompt}<assistant>", 4)
        assert end.prompt_tokens == 3 * kept + 1

    run(filled_store, test)


def test_a_message_that_is_too_long_alone_is_an_error(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        with pytest.raises(InputError):
            await whole(provider, request("a", "b", "c" * (LIMIT + 1)))

    run(filled_store, test)


def test_a_model_is_loaded_and_unloaded_with_its_process(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        before = {one.pid for one in psutil.Process().children()}
        assert not await provider.is_model_loaded(f"hf:{WRITER}")
        await provider.load_model(f"hf:{WRITER}")
        assert await provider.is_model_loaded(WRITER)
        assert await provider.loaded_models() == [f"hf:{WRITER}"]
        assert len({one.pid for one in psutil.Process().children()} - before) == 1
        await provider.unload_model(WRITER)
        assert not await provider.is_model_loaded(WRITER)
        assert {one.pid for one in psutil.Process().children()} == before
        await provider.unload_model(WRITER)
        for unknown in ("no/such", CLASSIFIER):
            with pytest.raises((ModelNotFoundError, UnsupportedTaskError)):
                await provider.load_model(unknown)
        with pytest.raises(ModelNotFoundError):
            await provider.unload_model("no/such")

    run(filled_store, test)


def test_an_answer_is_terminated_within_a_token(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        seen: list[Any] = []
        async for one in provider.answer(request("hi", options=ChatOptions(max_tokens=40)), lambda: len(seen) >= 2):
            seen.append(one)
        assert seen[2:] == [Finished(reason="terminated")]

    run(filled_store, test)


def test_many_conversations_at_once(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        asked = [request(f"no {number}", model=(WRITER, TURNS)[number % 2]) for number in range(20)]
        found = await asyncio.gather(*(whole(provider, one) for one in asked))
        assert [text for text, _ in found] == [expected(f"<user>no {number}<assistant>", 6) for number in range(20)]

    run(filled_store, test)


def test_images_are_refused(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        picture = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
        assert not await provider.supports_vision(WRITER)
        with pytest.raises(InputError, match="does not read images"):
            await provider.process_vision_request(WRITER, "look", [picture])

    run(filled_store, test)


def test_the_configured_precision_is_used_where_the_name_has_none(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        assert not await provider.check_model_exists(WRITER)
        with pytest.raises(ModelNotFoundError):
            await provider.load_model(WRITER)
        assert (await whole(provider, request("hi", model=f"{WRITER}:fp32")))[0] == expected("<user>hi<assistant>", 6)
        config = await provider.get_model_config(f"hf:{WRITER}")
        assert config.precision == "int8"
        await provider.update_model_config(WRITER, ModelConfig(model_name=f"hf:{WRITER}", provider="huggingface"))
        await provider.load_model(WRITER)
        with pytest.raises(ModelNotFoundError):
            await provider.update_model_config(WRITER, config)
        assert (await provider.get_model_config(WRITER)).precision is None

    run(filled_store, test, models=configured(precision="int8"))


def test_a_loaded_model_follows_a_changed_configuration_once_it_is_idle(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        def process() -> int:
            (loaded,) = provider._core.models.loaded()
            return loaded.worker.pid

        await provider.load_model(WRITER)
        first = process()
        async with aclosing(provider.answer(request("hi"))) as pieces:
            await anext(pieces)
            changed = ChatConfiguration(models=configured(enable_cache=False))
            provider.setup = replace(provider.setup, configuration=changed)
            await whole(provider, request("ho"))
            assert process() == first, "the answer that runs goes on"
            assert [piece async for piece in pieces]
        await whole(provider, request("ho"))
        assert process() != first
        second = process()
        await whole(provider, request("ho"))
        assert process() == second

    run(filled_store, test)


def test_a_name_is_that_of_a_folder_of_the_configured_one(tmp_path: Path) -> None:
    """Also where the store has a model of another folder with this name."""
    home, mine = tmp_path / "home", tmp_path / "mine"
    store = Store(Settings.from_env({"GPUX_HOME": str(home)}).store)
    for folder in (mine / "one", tmp_path / "other" / "one"):
        folder.mkdir(parents=True)
        with store.staging() as staging:
            manifest = writer(staging.path).manifest
            made = staging.commit(replace(manifest, scheme="local", id=str(folder)))
        store.record_ref("local", str(folder), str(folder), None, made.commit)

    async def test(provider: HuggingFaceProvider) -> None:
        assert (await whole(provider, request("hi", model="one")))[0] == expected("<user>hi<assistant>", 6)
        assert not await provider.check_model_exists("two")
        assert not await provider.check_model_exists("..")

    run(home, test, models_path=str(mine))

    async def unclear(provider: HuggingFaceProvider) -> None:
        with pytest.raises(ModelNotFoundError, match="2 stored models are in folders that are named 'one'"):
            await whole(provider, request("hi", model="one"))

    run(home, unclear)


def test_a_device_that_this_machine_lacks_is_an_error(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        with pytest.raises((DeviceError, UsageError)):
            await provider.load_model(WRITER)
        await provider.load_model(TURNS)

    run(filled_store, test, models=configured(device="cuda"))


def test_a_model_above_its_own_limit_of_memory_is_refused(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        with pytest.raises(DoesNotFitError, match="its configuration allows"):
            await provider.load_model(WRITER)

    run(filled_store, test, models=configured(max_memory=1 << 20))


def test_a_load_that_takes_too_long_is_an_error_and_continues(filled_store: Path) -> None:
    async def test(provider: HuggingFaceProvider) -> None:
        with pytest.raises(DeadlineError, match="was not loaded within"):
            await provider.load_model(WRITER)
        await until(lambda: provider.is_model_loaded(WRITER))
        assert (await whole(provider, request("hi")))[0] == expected("<user>hi<assistant>", 6)

    run(filled_store, test, timeout_ms=50)


def test_thoughts_are_apart_from_the_answer() -> None:
    parts = [Part("reasoning", "hm"), Part("content", "so"), Part("call", id="1", name="f"), Part("content", "")]
    assert deltas(Piece(1, 0, "so", parts=parts)) == [Delta(reasoning="hm"), Delta(text="so")]
    assert deltas(Piece(1, 0, "so")) == [Delta(text="so")]
