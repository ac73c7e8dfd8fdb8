"""The load generator against a server that fails in each way, and against a real one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpux.errors import ForbiddenError, GpuxError, ModelNotFoundError, ServerError, UnauthorizedError, UsageError
from gpux.server.bench.endpoint import Endpoint, base_url
from gpux.server.bench.load import Load, Measurement, measure, with_only_model
from gpux.server.bench.prompts import Prompt, random_prompts, read_dataset
from gpux.server.bench.report import Distribution, Report
from tests.server.bench.partner import KEY, MODEL, TOKENS, Partner, partner
from tests.server.conftest import filled_home as filled_home
from tests.server.conftest import server as server
from tests.server.running import EMBEDDER, WRITER, Running

FOUR = Load(concurrency=2, requests=4, warmup=0)


@pytest.fixture
def other() -> Iterator[Partner]:
    with partner() as found:
        yield found


def measured(endpoint: Endpoint, load: Load = FOUR, **arguments: Any) -> Measurement:
    return asyncio.run(measure(endpoint, load, **arguments))


def figures(endpoint: Endpoint, load: Load = FOUR, **arguments: Any) -> Report:
    return Report.of(measured(endpoint, load, **arguments))


def refusal(endpoint: Endpoint, load: Load = FOUR, **arguments: Any) -> GpuxError:
    with pytest.raises(GpuxError) as caught:
        measured(endpoint, load, **arguments)
    return caught.value


# What is measured


def test_every_request_is_counted_with_the_tokens_that_the_server_counts(other: Partner) -> None:
    report = figures(Endpoint(other.url(), MODEL), prompt_tokens=43)
    assert (report.successful, report.failed, report.errors) == (4, 0, {})
    assert (report.output_tokens, report.counted_chunks) == (4 * 2 * TOKENS, 0)
    assert report.input_tokens == 4 * 43
    assert report.highest <= 2
    assert report.remarks() == [] or "processor core" in report.remarks()[0]
    for found in (report.ttft, report.tpot, report.itl, report.e2el):
        assert found is not None
        assert 0 < found.median <= found.p95 <= found.p99
    assert report.ttft is not None
    assert report.e2el is not None
    assert report.ttft.mean < report.e2el.mean
    assert report.request_throughput == pytest.approx(4 / report.seconds)
    assert json.loads(json.dumps(report.to_dict()))["successful_requests"] == 4


def test_without_usage_tokens_are_counted_as_chunks_and_the_report_says_so(other: Partner) -> None:
    report = figures(Endpoint(other.url("uncounted"), MODEL))
    assert (report.output_tokens, report.input_tokens, report.counted_chunks) == (4 * TOKENS, None, 4)
    assert "counted as chunks" in report.remarks()[0]


def test_calls_of_tools_are_chunks(other: Partner) -> None:
    report = figures(Endpoint(other.url("tools"), MODEL))
    assert (report.successful, report.failed) == (4, 0)
    assert report.itl is not None


@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_bodies_are_those_of_the_endpoint(other: Partner, kind: Any) -> None:
    measured(Endpoint(other.url(), MODEL, kind, max_tokens=7, extra={"temperature": 0}), prompt_tokens=9)
    body = other.sent[-1]
    content = body["messages"][0]["content"] if kind == "chat" else body["prompt"]
    assert len(content.split()) == 3  # (9 - 3 of the template) / 2
    assert {name: body[name] for name in ("model", "max_tokens", "stream", "temperature")} == {
        "model": MODEL,
        "max_tokens": 7,
        "stream": True,
        "temperature": 0,
    }
    assert body["stream_options"] == {"include_usage": True}


def test_vectors_have_no_times_of_tokens(other: Partner) -> None:
    report = figures(Endpoint(other.url(), MODEL, "embeddings"), prompt_tokens=9)
    assert (report.successful, report.input_tokens, report.output_tokens) == (4, 36, 0)
    assert (report.ttft, report.tpot, report.itl, report.counted_chunks) == (None, None, None, 0)
    assert set(other.sent[-1]) == {"model", "input"}


def test_the_same_seed_sends_the_same_prompts_and_no_two_are_alike(other: Partner) -> None:
    def sent(seed: int) -> list[str]:
        other.sent.clear()
        measured(Endpoint(other.url(), MODEL), replace(FOUR, concurrency=1, seed=seed, warmup=1), prompt_tokens=43)
        return [body["messages"][0]["content"] for body in other.sent]

    first = sent(3)
    assert first == sent(3)
    assert first != sent(4)
    assert len(set(first[4:])) == 4  # after the check and the warm-up
    assert first[3] not in first[4:]


def test_requests_at_a_rate_do_not_wait_for_answers(other: Partner) -> None:
    load = Load(concurrency=None, rate=200.0, requests=10, warmup=0)
    found = measured(Endpoint(other.url("slow"), MODEL), load)
    report = Report.of(found)
    assert report.successful == 10
    assert report.highest > 2  # each takes 250 ms, and all arrive within 100 ms or so
    assert len(found.delays) == 10


def test_a_duration_ends_the_measurement_when_the_running_requests_have_ended(other: Partner) -> None:
    report = figures(Endpoint(other.url(), MODEL), Load(concurrency=2, requests=None, duration=0.2, warmup=0))
    assert report.successful >= 2
    assert report.failed == report.unfinished == 0


def test_an_interruption_keeps_what_was_measured(other: Partner) -> None:
    async def interrupted() -> Measurement:
        ended: asyncio.Event = asyncio.Event()

        def progress(done: int, failed: int) -> None:
            if done >= 2:
                ended.set()

        endpoint = Endpoint(other.url("slow"), MODEL)
        task = asyncio.create_task(measure(endpoint, Load(concurrency=2, requests=1000, warmup=0), progress=progress))
        await ended.wait()
        task.cancel()
        return await task

    report = Report.of(asyncio.run(interrupted()))
    assert report.interrupted
    assert report.successful >= 2
    assert report.unfinished in (1, 2)
    assert "Interrupted" in report.remarks()[0]


# What a server does not know


def test_a_server_that_refuses_stream_options_is_measured_without(other: Partner) -> None:
    report = figures(Endpoint(other.url("no-options"), MODEL))
    assert (report.successful, report.counted_chunks) == (4, 4)


def test_a_server_with_the_newer_name_of_the_limit_is_measured(other: Partner) -> None:
    assert figures(Endpoint(other.url("new-names"), MODEL, max_tokens=6)).successful == 4
    assert other.sent[-1]["max_completion_tokens"] == 6


# Errors of requests


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("busy", "HTTP 429 busy"),
        ("broken", "HTTP 502"),
        ("cut", "connection lost"),
        ("unfinished", "incomplete stream"),
        ("stream-error", "error in the stream: worker_died"),
        ("garbage", "invalid answer"),
    ],
)
def test_an_error_is_counted_by_its_kind(other: Partner, fault: str, kind: str) -> None:
    report = figures(Endpoint(other.url(fault), MODEL))
    assert set(report.errors) == {kind}
    assert report.failed + report.successful == 4
    assert report.failed == (2 if fault in ("busy", "broken") else 4)
    assert (report.e2el is None) is (report.successful == 0)  # failed requests are in no latency


def test_a_server_that_does_not_answer_is_a_timeout(other: Partner) -> None:
    report = figures(Endpoint(other.url("hangs"), MODEL, timeout=3), Load(concurrency=2, requests=2, warmup=0))
    assert report.errors == {"timeout": 2}


def test_a_server_that_goes_away_is_no_connection(other: Partner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    error = refusal(Endpoint(f"http://127.0.0.1:{port}/v1", MODEL))
    assert (type(error), error.code) == (ServerError, "server")
    assert f"no server answers at http://127.0.0.1:{port}/v1" in error.message


# Errors before a measurement


def test_a_missing_key_and_a_wrong_one_are_told_apart(other: Partner) -> None:
    missing = refusal(Endpoint(other.url("keys"), MODEL))
    wrong = refusal(Endpoint(other.url("keys"), MODEL, key="other"))
    assert isinstance(missing, UnauthorizedError)
    assert isinstance(wrong, UnauthorizedError)
    assert "needs an API key" in missing.message
    assert "refuses the API key" in wrong.message
    assert "GPUX_API_KEY" in str(missing.hint)
    assert figures(Endpoint(other.url("keys"), MODEL, key=KEY)).successful == 4
    assert KEY not in repr(Endpoint(other.url("keys"), MODEL, key=KEY))
    assert isinstance(refusal(Endpoint(other.url("forbidden"), MODEL)), ForbiddenError)


@pytest.mark.parametrize("kind", ["plain", "unlisted"])
def test_an_unknown_model_is_named_with_those_that_there_are(other: Partner, kind: str) -> None:
    error = refusal(Endpoint(other.url(kind), "no/such"))
    if kind == "plain":
        assert isinstance(error, ModelNotFoundError)
        assert MODEL in str(error.hint)
    else:
        assert "no/such does not exist" in error.message
    assert "no/such" in error.message


def test_another_error_of_a_name_that_is_not_listed_is_not_about_the_model(other: Partner) -> None:
    error = refusal(Endpoint(other.url("alias"), MODEL))
    assert type(error) is ServerError
    assert "the prompt is too long" in error.message


@pytest.mark.parametrize("kind", ["page", "moved", "not-a-stream"])
def test_what_has_another_api_is_said_to(other: Partner, kind: str) -> None:
    error = refusal(Endpoint(other.url(kind), MODEL))
    assert "is not an endpoint of OpenAI's API" in error.message
    assert "address" in str(error.hint)


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        ("fastapi", "status 422: a field is missing", "--extra-body"),
        ("gateway", "status 502: without a message", "try again later"),
        ("text", "status 500: Internal Server Error", "log of the server"),
    ],
)
def test_an_error_in_another_form_is_shown(other: Partner, kind: str, message: str, hint: str) -> None:
    error = refusal(Endpoint(other.url(kind), MODEL))
    assert message in error.message
    assert hint in str(error.hint)


def test_a_server_without_http_is_said_to_close_the_connection() -> None:
    async def against() -> GpuxError:
        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        closing = await asyncio.start_server(leave, "127.0.0.1", 0)
        async with closing:
            port = closing.sockets[0].getsockname()[1]
            with pytest.raises(ServerError) as caught:
                await measure(Endpoint(f"http://127.0.0.1:{port}/v1", MODEL), FOUR)
        return caught.value

    assert "closes the connection" in asyncio.run(against()).message


def test_vectors_that_are_missing_are_an_error(other: Partner) -> None:
    assert "no vectors" in refusal(Endpoint(other.url("empty"), MODEL, "embeddings")).message


def test_a_warm_up_that_fails_altogether_is_an_error(other: Partner) -> None:
    error = refusal(Endpoint(other.url("too-long"), MODEL), replace(FOUR, warmup=2))
    assert "the prompt is too long" in error.message
    assert "--prompt-tokens" in str(error.hint)


def test_the_only_model_needs_no_name(other: Partner) -> None:
    assert asyncio.run(with_only_model(Endpoint(other.url(), ""))).model == MODEL
    assert asyncio.run(with_only_model(Endpoint(other.url("precisions"), ""))).model == MODEL
    with pytest.raises(UsageError) as caught:
        asyncio.run(with_only_model(Endpoint(other.url("several"), "")))
    assert "other/model" in str(caught.value.hint)


def test_a_key_with_a_line_break_is_refused() -> None:
    with pytest.raises(UsageError, match="API key"):
        Endpoint("http://127.0.0.1:1/v1", MODEL, key="a\r\nb")


# Addresses, datasets, statistics


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://host/openai/v1/", "https://host/openai/v1"),
        ("http://host/v1/chat/completions", "http://host/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_is_completed(given: str, url: str) -> None:
    assert base_url(given) == url


@pytest.mark.parametrize(
    "given", ["", "ftp://host", "http://", "http://host:port", "http://host/v1?key=a", "http://a:b@host", "http://[::1"]
)
def test_another_address_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="not the address"):
        base_url(given)


def test_a_dataset_is_sent_in_order_and_again(other: Partner, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    messages = [{"role": "system", "content": "b"}, {"role": "user", "content": "c"}]
    lines = [{"prompt": "a", "max_tokens": 3}, {"messages": messages}]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8")
    dataset = read_dataset(file)
    load = Load(concurrency=1, requests=3, warmup=1)
    measured(Endpoint(other.url(), MODEL, max_tokens=9), load, dataset=dataset)
    assert [body["max_tokens"] for body in other.sent] == [3, 3, 3, 9, 3]  # check, warm-up, three requests
    assert other.sent[3]["messages"] == messages
    with pytest.raises(UsageError, match="only chats"):
        read_dataset(file, chats=False)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"prompt": ""}', '{"messages": ["a"]}', '{"prompt": "a", "max_tokens": 0}', '"a"', "\xff"],
)
def test_another_dataset_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"prompts\.jsonl"):
        read_dataset(file)


def test_random_prompts_have_as_many_words_as_wanted() -> None:
    prompts = random_prompts(1, 40)
    found = [next(prompts) for _ in range(3)]
    assert all(isinstance(one, Prompt) and len(str(one.content).split()) == 40 for one in found)


def test_percentiles_are_interpolated() -> None:
    found = Distribution.of([value / 1000 for value in range(1, 101)])
    assert found is not None
    shown = (found.mean, found.median, found.p95, found.p99)
    assert shown == pytest.approx((50.5, 50.5, 95.05, 99.01))
    assert Distribution.of([]) is None
    one = Distribution.of([0.5])
    assert one is not None
    assert (one.mean, one.p99) == (500.0, 500.0)


# A real server


def test_gpux_serve_is_measured(server: Running) -> None:
    report = figures(Endpoint(f"{server.url}/v1", WRITER, max_tokens=6), prompt_tokens=40)
    assert (report.successful, report.errors) == (4, {})
    assert report.counted_chunks == 0
    assert 4 <= report.output_tokens <= 24
    assert report.input_tokens is not None
    assert 4 * 20 < report.input_tokens < 4 * 60  # the tokens of this model are characters
    assert report.ttft is not None
    embedded = figures(Endpoint(f"{server.url}/v1", EMBEDDER, "embeddings"), prompt_tokens=12)
    assert (embedded.successful, embedded.errors) == (4, {})
    assert isinstance(refusal(Endpoint(f"{server.url}/v1", "no/such")), ModelNotFoundError)
    assert "is not an endpoint" in refusal(Endpoint(f"{server.url}/gpux/v1", WRITER)).message
