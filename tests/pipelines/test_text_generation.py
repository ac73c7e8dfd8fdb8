"""Texts and chats through the pipeline, on a decoder of one layer: options, batches, errors, the kept prefix."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from gpux import CancelToken, pipeline
from gpux.errors import (
    CacheMemoryError,
    ChatTemplateError,
    ContextLengthError,
    InputError,
    NumericError,
    SessionError,
    UnsupportedError,
    UsageError,
)
from gpux.model.variant import CallSpec
from gpux.pipelines.generation.options import GenerationKeywords
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.runtime.generation.engine import cache, calls
from gpux.runtime.generation.engine.calls import Caller
from gpux.runtime.generation.options import option_names
from tests.pipelines.writer import BOS, LIMIT, expected, tokenizer, writer
from tests.runtime.generation import tiny_graphs

PROMPTS = ["a cat", "the dog ran", "x", "to be or not to be"]
CHAT = [{"role": "user", "content": "how are you, little model?"}]
Opened = Callable[..., TextGenerationPipeline]


@pytest.fixture(params=["growing", "shared"])
def kind(request: pytest.FixtureRequest) -> tiny_graphs.Kind:
    found: tiny_graphs.Kind = request.param
    return found


@pytest.fixture
def opened(tmp_path: Path, kind: tiny_graphs.Kind) -> Iterator[Opened]:
    """Opens the writer; keywords go to it, `options` to the pipeline."""
    pipes: list[TextGenerationPipeline] = []

    def make(options: dict[str, Any] | None = None, **arguments: Any) -> TextGenerationPipeline:
        model = writer(tmp_path / f"model-{len(pipes)}", kind, **arguments)
        pipes.append(TextGenerationPipeline(model, device="cpu", **(options or {})))
        return pipes[-1]

    yield make
    for pipe in pipes:
        pipe.close()


@pytest.fixture
def pipe(opened: Opened) -> TextGenerationPipeline:
    return opened()


def test_text_equals_that_of_the_model_in_numpy(pipe: TextGenerationPipeline) -> None:
    for prompt in PROMPTS:
        assert pipe(prompt, max_new_tokens=9) == [{"generated_text": prompt + expected(prompt, 9)}]


def test_several_texts_in_one_batch(pipe: TextGenerationPipeline) -> None:
    alone = [pipe(prompt, max_new_tokens=9) for prompt in PROMPTS]
    assert pipe(PROMPTS, max_new_tokens=9) == alone
    assert pipe(PROMPTS, max_new_tokens=9, batch_size=3) == alone
    assert pipe([PROMPTS[0]], max_new_tokens=9) == alone[:1]
    assert pipe([], max_new_tokens=9) == []


def test_only_the_answer(pipe: TextGenerationPipeline) -> None:
    assert pipe("a cat", max_new_tokens=9, return_full_text=False) == [{"generated_text": expected("a cat", 9)}]


def test_an_empty_text_begins_with_the_model_s_begin_token(pipe: TextGenerationPipeline) -> None:
    written = tokenizer().decode(tiny_graphs.greedy([BOS], 5))
    assert pipe("", max_new_tokens=5, eos_token_id=[]) == [{"generated_text": written}]


def test_the_same_seed_draws_the_same_texts_in_any_batch(pipe: TextGenerationPipeline) -> None:
    drawn = pipe(PROMPTS, max_new_tokens=9, seed=5, temperature=1.5, num_return_sequences=2)
    assert drawn == pipe(PROMPTS, max_new_tokens=9, seed=5, temperature=1.5, num_return_sequences=2, batch_size=1)
    assert drawn != pipe(PROMPTS, max_new_tokens=9, seed=6, temperature=1.5, num_return_sequences=2)
    assert all(one != other for one, other in drawn)


def test_beams_and_their_scores(pipe: TextGenerationPipeline) -> None:
    found = pipe.generate(["a cat"], max_new_tokens=6, num_beams=4, num_return_sequences=3)[0]
    best = [one.score for one in found]
    assert None not in best and best == sorted(best, reverse=True)  # type: ignore[type-var]
    assert len({one.tokens for one in found}) == 3


def test_a_beam_ends_at_a_stop_text(pipe: TextGenerationPipeline) -> None:
    whole = pipe("a cat", max_new_tokens=8, num_beams=3, return_full_text=False)[0]["generated_text"]
    cut = pipe.generate(["a cat"], max_new_tokens=8, num_beams=3, stop=whole[2:4])[0][0]
    assert whole[2:4] not in cut.text


def test_guessed_tokens_change_nothing(pipe: TextGenerationPipeline) -> None:
    prompt = "abcabcabcabcabc"
    plain = pipe(prompt, max_new_tokens=20)
    assert pipe(prompt, max_new_tokens=20, prompt_lookup_tokens=4, reuse_prefix=False) == plain


def test_logprobs(pipe: TextGenerationPipeline) -> None:
    (found,) = pipe.generate(["a cat"], max_new_tokens=3, logprobs=2)[0]
    assert [score.token for score in found.scores] == list(found.tokens)
    assert all(score.logprob == score.top[0][1] and len(score.top) == 2 for score in found.scores)


def test_stop_text_ends_the_answer_and_is_not_part_of_it(pipe: TextGenerationPipeline) -> None:
    whole = expected("a cat", 12)
    (found,) = pipe.generate(["a cat"], max_new_tokens=12, stop=whole[4:6])[0]
    assert (found.text, found.finish_reason, found.stopped_by) == (
        whole[: whole.index(whole[4:6])],
        "stop",
        whole[4:6],
    )


def test_the_model_s_own_defaults(opened: Opened) -> None:
    forbidding = opened(generation_config={"suppress_tokens": list(range(4, 40)), "do_sample": False})
    assert set(forbidding("a cat", max_new_tokens=6, return_full_text=False)[0]["generated_text"]) <= set("0123456789-")
    assert opened({"max_new_tokens": 2}).generate(["a cat"])[0][0].finish_reason == "length"


def test_a_chat_is_answered_at_its_end(pipe: TextGenerationPipeline) -> None:
    prompt = "<user>how are you, little model?<assistant>"
    answer = expected(prompt, 6)
    assert pipe.prompt_text(CHAT) == prompt
    assert pipe(CHAT, max_new_tokens=6)[0]["generated_text"] == [*CHAT, {"role": "assistant", "content": answer}]
    assert pipe([CHAT, CHAT], max_new_tokens=6)[1] == pipe(CHAT, max_new_tokens=6)


def test_a_begun_answer_is_continued(pipe: TextGenerationPipeline) -> None:
    begun = [*CHAT, {"role": "assistant", "content": "well"}]
    answer = expected("<user>how are you, little model?<assistant>well", 5)
    assert pipe(begun, max_new_tokens=5)[0]["generated_text"] == [
        *CHAT,
        {"role": "assistant", "content": f"well{answer}"},
    ]


def test_the_next_turn_of_a_chat_reads_only_what_is_new(pipe: TextGenerationPipeline) -> None:
    first = pipe.stream(CHAT, max_new_tokens=4)
    answer = "".join(first)
    turn = [*CHAT, {"role": "assistant", "content": answer}, {"role": "user", "content": "and now?"}]
    fresh = pipe(turn, max_new_tokens=5, reuse_prefix=False)
    held = pipe.memory_bytes

    second = pipe.stream(turn, max_new_tokens=5)
    text = "".join(second)

    assert first.result.timings.reused_tokens == 0
    assert second.result.timings.reused_tokens >= len(tokenizer().encode(pipe.prompt_text(CHAT)).ids)
    assert text == fresh[0]["generated_text"][-1]["content"]
    assert held > pipe.graphs.memory_bytes  # the cache is counted


def test_no_chat_template(opened: Opened) -> None:
    with pytest.raises(ChatTemplateError, match="no chat template") as caught:
        opened(template=None)(CHAT)
    assert caught.value.hint is not None and "plain prompt" in caught.value.hint


def test_a_broken_chat_template(opened: Opened) -> None:
    with pytest.raises(ChatTemplateError):
        opened(template="{% for message in messages %}")(CHAT)


def test_a_prompt_that_is_too_long(pipe: TextGenerationPipeline) -> None:
    long = "abcdefgh" * 9
    with pytest.raises(ContextLengthError, match="72 tokens, and the limit is 63") as caught:
        pipe(long)
    assert caught.value.details == {"tokens": 72, "limit": LIMIT - 1}
    left = pipe.generate([long], truncation=True, eos_token_id=[])[0][0]
    assert (left.prompt_tokens, left.text) == (LIMIT - 1, expected(long[-(LIMIT - 1) :], 1))
    right = pipe.generate([long], truncation="right", eos_token_id=[])[0][0]
    assert right.text == expected(long[: LIMIT - 1], 1)
    with pytest.raises(UsageError, match="truncation is 'middle'"):
        pipe(long, truncation="middle")


def test_the_context_ends_an_answer(pipe: TextGenerationPipeline) -> None:
    (found,) = pipe.generate(["a" * 60], max_new_tokens=30, eos_token_id=[])[0]
    assert (len(found.tokens), found.finish_reason) == (4, "length")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"num_beams": 2, "do_sample": True}, "cannot be combined"),
        ({"batch_size": 0}, "batch_size"),
        ({"stop": [7]}, "stop"),
        ({"max_tokns": 3}, "no option max_tokns"),
    ],
)
def test_invalid_options_are_rejected(pipe: TextGenerationPipeline, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pipe("a cat", **wrong)


def test_a_near_name_is_proposed(pipe: TextGenerationPipeline) -> None:
    with pytest.raises(UsageError) as caught:
        pipe("a cat", max_new_token=3)
    assert caught.value.hint == "Did you mean max_new_tokens?"


@pytest.mark.parametrize("wrong", [7, None, b"a cat", ["a cat", 7]])
def test_inputs_of_another_type_are_rejected(pipe: TextGenerationPipeline, wrong: Any) -> None:
    with pytest.raises(InputError):
        pipe(wrong)


def test_scores_that_are_no_numbers(tmp_path: Path) -> None:
    model = writer(tmp_path)
    graph = onnx.load(tmp_path / "model.onnx")
    head = next(tensor for tensor in graph.graph.initializer if tensor.name == "head")
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) * float("nan"), "head"))
    onnx.save(graph, tmp_path / "model.onnx")
    with TextGenerationPipeline(model, device="cpu") as pipe, pytest.raises(NumericError):
        pipe("a cat")


def test_too_little_memory_raises_before_allocation(
    pipe: TextGenerationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "available_memory", lambda: 100)
    monkeypatch.setattr(cache, "SMALL", 0)
    with pytest.raises(CacheMemoryError, match="key-value cache") as caught:
        pipe("a cat")
    assert caught.value.details["available"] == 100 < caught.value.details["needed"]


def test_a_shipped_graph_that_counts_padding_is_run_row_by_row(opened: Opened) -> None:
    unknown = CallSpec("left", LIMIT, chunks_after_cache=True)
    careful = opened(call_spec=unknown, status="shipped")
    assert careful(PROMPTS, max_new_tokens=5) == opened()(PROMPTS, max_new_tokens=5)
    drawn = careful("a cat", max_new_tokens=5, seed=1, temperature=2.0, num_return_sequences=2)
    assert drawn == opened()("a cat", max_new_tokens=5, seed=1, temperature=2.0, num_return_sequences=2)
    with pytest.raises(UnsupportedError, match="supports 1 row"):
        careful("a cat", num_beams=2)


def test_many_threads(pipe: TextGenerationPipeline) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda prompt: pipe(prompt, max_new_tokens=9), PROMPTS * 5))
    assert found == [pipe(prompt, max_new_tokens=9) for prompt in PROMPTS] * 5


def test_cancelled_before_and_during(pipe: TextGenerationPipeline) -> None:
    token = CancelToken()
    token.cancel()
    assert pipe.generate(["a cat"], cancel=token)[0][0].finish_reason == "cancelled"
    assert pipe.generate(["a cat"], timeout=0)[0][0].finish_reason == "deadline"


def test_closed(pipe: TextGenerationPipeline) -> None:
    pipe("a cat", max_new_tokens=2)
    pipe.close()
    pipe.close()
    with pytest.raises(SessionError):
        pipe("a cat")


def test_pickles(pipe: TextGenerationPipeline) -> None:
    with pickle.loads(pickle.dumps(pipe)) as copy:
        assert copy("a cat", max_new_tokens=4) == pipe("a cat", max_new_tokens=4)


def test_by_its_task(tmp_path: Path) -> None:
    with pipeline("text-generation", writer(tmp_path), device="cpu", max_new_tokens=3) as pipe:
        assert isinstance(pipe, TextGenerationPipeline)
        assert len(pipe.generate(["a cat"])[0][0].tokens) <= 3


def test_no_torch_in_the_process(tmp_path: Path) -> None:
    model = writer(tmp_path)
    program = (
        "import pickle, sys; from gpux import pipeline\n"
        f"model = pickle.loads({pickle.dumps(model)!r})\n"
        "print(pipeline(model=model, device='cpu')('a cat', max_new_tokens=3)[0]['generated_text'])\n"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n") == "a cat" + expected("a cat", 3)


def test_cancelled_while_a_long_prompt_is_read(pipe: TextGenerationPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CHUNK", 4)
    token, made = CancelToken(), []
    call = Caller.call

    def counted(self: Caller, *arguments: Any) -> Any:
        made.append(1)
        if len(made) == 2:
            token.cancel()
        return call(self, *arguments)

    monkeypatch.setattr(Caller, "call", counted)
    (found,) = pipe.generate(["abcdefghijklmnopqrstuvwxyz"], cancel=token)[0]
    assert (found.finish_reason, found.tokens, len(made)) == ("cancelled", (), 2)
    monkeypatch.undo()
    again = pipe.stream("abcdefghijklmnopqrstuvwxyz", max_new_tokens=5)
    assert "".join(again) == expected("abcdefghijklmnopqrstuvwxyz", 5)


def test_the_keywords_of_a_call_are_the_generation_options() -> None:
    assert set(GenerationKeywords.__annotations__) == set(option_names())


def test_options_are_listed_with_the_range_of_each() -> None:
    listed = {spec.name: spec for spec in TextGenerationPipeline.options()}
    assert listed["max_new_tokens"].default == 256
    assert listed["max_tokens"].help == "another name of max_new_tokens"
    assert listed["top_k"].schema == {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}
    assert all(spec.help for spec in listed.values())


# What the model's files set


def test_published_stop_strings_end_the_text_after_them(opened: Opened) -> None:
    whole = opened().generate(["a cat"], max_new_tokens=9)[0][0].text
    stop = whole[2:4]
    cut = whole[: whole.index(stop) + 2]
    for pipe, options in (
        (opened(generation_config={"stop_strings": [stop]}), {}),
        (opened(generation_config={"stop_strings": stop}), {}),
        (opened(), {"stop_strings": ["nowhere", stop]}),
        (opened({"stop_strings": stop}), {}),
    ):
        found = pipe.generate(["a cat"], max_new_tokens=9, **options)[0][0]
        assert (found.text, found.finish_reason, found.stopped_by) == (cut, "stop", stop)
        with pipe.stream("a cat", max_new_tokens=9, **options) as stream:
            assert "".join(stream) == cut
        batch = pipe.generate(["x", "a cat"], max_new_tokens=9, **options)
        assert batch[1][0].text == cut
    both = opened(generation_config={"stop_strings": [stop]}).generate(["a cat"], max_new_tokens=9, stop=stop[0])
    assert both[0][0].text == whole[: whole.index(stop[0])]


def test_published_stop_strings_end_the_answer_of_a_chat(opened: Opened) -> None:
    whole = opened().generate([CHAT], max_new_tokens=8)[0][0].text
    found = opened(generation_config={"stop_strings": [whole[1:3]]}).generate([CHAT], max_new_tokens=8)[0][0]
    assert found.text == whole[: whole.index(whole[1:3]) + 2]


def test_a_published_temperature_of_0_is_greedy(opened: Opened) -> None:
    greedy = opened()("a cat", max_new_tokens=9)
    pipe = opened(generation_config={"do_sample": True, "temperature": 0.0, "top_k": 0})
    assert all(pipe("a cat", max_new_tokens=9) == greedy for _ in range(3))
    with pytest.raises(UsageError, match="temperature is 0") as caught:
        pipe("a cat", do_sample=True)
    assert "Set temperature to a number above 0" in str(caught.value.hint)
    assert pipe("a cat", max_new_tokens=9, do_sample=True, temperature=0.7, seed=1)
    assert opened(generation_config={"do_sample": True})("a cat", max_new_tokens=9, temperature=0) == greedy


def test_a_published_max_length_limits_a_text(opened: Opened) -> None:
    pipe = opened(generation_config={"max_length": 9})
    for prompt in ("a cat", "a"):
        (found,) = pipe.generate([prompt], eos_token_ids=[])[0]
        assert found.prompt_tokens + len(found.tokens) == 9 and found.finish_reason == "length"
    pair = pipe.generate(["a cat", "a"], eos_token_ids=[])
    assert [one.prompt_tokens + len(one.tokens) for (one,) in pair] == [9, 9]
    assert len(pipe.generate(["a cat"], eos_token_ids=[], max_new_tokens=12)[0][0].tokens) == 12
    assert len(pipe.generate(["a cat"], eos_token_ids=[], max_length=12)[0][0].tokens) == 7
    with pytest.raises(ContextLengthError) as caught:
        pipe("a cat and a dog")
    assert "max_new_tokens" in str(caught.value.hint) and pipe("a cat and a dog", max_new_tokens=2)


def test_what_is_not_followed_is_named(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    opened(generation_config={"guidance_scale": 2.0, "top_p": 7, "max_new_tokens": 99, "use_cache": True})
    first, second = (record.getMessage() for record in caplog.records)
    assert first.endswith("does not support: guidance_scale, max_new_tokens")
    assert second.endswith("to invalid values, ignored: top_p=7")


def test_a_task_of_the_configuration_sets_options(opened: Opened, tmp_path: Path) -> None:
    model = writer(tmp_path / "model")
    config = json.loads((model.path / "config.json").read_text())
    params = {"text-generation": {"num_beams": 3, "max_length": 50, "do_sample": False}}
    (model.path / "config.json").write_text(json.dumps({**config, "task_specific_params": params}))
    with TextGenerationPipeline(model, device="cpu") as pipe:
        assert (pipe.defaults.num_beams, pipe.defaults.max_length) == (3, None)
