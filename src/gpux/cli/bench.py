"""``gpux bench serve``: a load generator for servers with OpenAI's API."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpux.cli.quantities import Duration
from gpux.cli.terminal import CommandGroup, Terminal, command
from gpux.errors import UsageError
from gpux.model.units import format_duration
from gpux.system.words import counted

if TYPE_CHECKING:
    from gpux.server.bench.endpoint import Kind
    from gpux.server.bench.load import Load, Measurement
    from gpux.server.bench.report import Distribution, Report

_RATE = click.FloatRange(min=0, min_open=True)
_NUMBER = click.IntRange(min=1)


@click.group("bench", cls=CommandGroup)
def bench_command() -> None:
    """Measure how fast a server answers."""


@command("serve")
@click.argument("url", required=False, metavar="[URL]")
@click.option("--model", metavar="NAME", help="Name of the model at the server; default: the only one that it lists.")
@click.option("--endpoint", type=click.Choice(["chat", "completions", "embeddings"]), default="chat", show_default=True)
@click.option("--concurrency", type=_NUMBER, metavar="N", help="Requests at the same time; 8 without --rate.")
@click.option(
    "--rate", type=_RATE, metavar="R", help="Requests per second, arriving at random, in place of --concurrency."
)
@click.option("--requests", type=_NUMBER, metavar="N", help="Requests to send; 100 without --duration.")
@click.option("--duration", type=Duration(), help="Begin no request after this time: 30s, 5m.")
@click.option("--warmup", type=click.IntRange(min=0), metavar="N", help="Requests before; default: the concurrency.")
@click.option("--prompt-tokens", type=_NUMBER, default=128, show_default=True, help="Length of the random prompts.")
@click.option("--max-tokens", type=_NUMBER, default=128, show_default=True, help="Longest answer to a prompt.")
@click.option(
    "--dataset",
    type=click.Path(path_type=Path, dir_okay=False),
    help='Prompts in place of random ones, JSON lines: {"prompt": "…"} or {"messages": […]}.',
)
@click.option(
    "--extra-body", metavar="JSON", help='More fields of each request: \'{"temperature": 0, "ignore_eos": true}\'.'
)
@click.option("--api-key", envvar="GPUX_API_KEY", help="Key of the server; default: that in GPUX_API_KEY.")
@click.option("--timeout", type=Duration(), default="10m", show_default=True, help="Longest time of one request.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random prompts and arrivals.")
def serve_bench(terminal: Terminal, url: str | None, model: str | None, **options: Any) -> int:
    """Send requests to a server with OpenAI's API, and print throughput and latencies.

    URL is the address of any such server, http://127.0.0.1:8000 or https://host/v1; by default that of the running
    `gpux serve`. Some requests before the measurement check the server and warm it up. Ctrl-C ends the measurement and
    prints the figures until then.
    """
    from gpux.server.bench import endpoint as endpoints
    from gpux.server.bench.load import measure, with_only_model
    from gpux.server.bench.loop import run as on_loop
    from gpux.server.bench.prompts import read_dataset
    from gpux.server.bench.report import Report

    kind: Kind = options["endpoint"]
    load = _load(options)
    extra = _object(options["extra_body"])
    dataset = None if options["dataset"] is None else read_dataset(options["dataset"], chats=kind == "chat")
    address = endpoints.base_url(url if url else _running(terminal))
    endpoint = endpoints.Endpoint(
        address,
        model or "",
        kind,
        key=options["api_key"] or None,
        max_tokens=options["max_tokens"],
        timeout=options["timeout"],
        extra=extra,
    )

    async def run() -> Measurement:
        chosen = endpoint if model else await with_only_model(endpoint)
        with terminal.rows_progress(None if load.duration else load.requests, "requests") as progress:
            return await measure(
                chosen, load, prompt_tokens=options["prompt_tokens"], dataset=dataset, progress=progress
            )

    found = on_loop(run())
    report = Report.of(found)
    if terminal.as_json:
        terminal.data({**_setting(found), **report.to_dict()})
    else:
        _print(terminal, found, report)
    if report.interrupted:
        return 130
    return 0 if report.successful else 10


bench_command.add_command(serve_bench)


def _load(options: dict[str, Any]) -> Load:
    """The options of the load.

    Raises:
        UsageError: two of them exclude each other, or a number is not finite.
    """
    from gpux.server.bench.load import Load

    rate, duration = options["rate"], options["duration"]
    if rate is not None and options["concurrency"] is not None:
        raise UsageError(
            "--rate and --concurrency exclude each other",
            hint="At a rate, requests are sent whether or not earlier ones are answered.",
        )
    if rate is not None and not math.isfinite(rate):
        raise UsageError("--rate is not a finite number", hint="Use --concurrency for as many requests as possible.")
    return Load(
        concurrency=None if rate is not None else options["concurrency"] or 8,
        rate=rate,
        requests=options["requests"] or (None if duration else 100),
        duration=duration or None,
        warmup=options["warmup"],
        seed=options["seed"],
    )


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError("--extra-body is not a JSON object", hint="Write it as '{\"temperature\": 0}'.")
    return found


def _running(terminal: Terminal) -> str:
    """The address of the only running server.

    Raises:
        ServerError: no server is running.
        UsageError: several are.
    """
    from gpux.cli.servers import only_server

    with only_server(terminal, None) as client:
        return client.url


def _setting(found: Measurement) -> dict[str, Any]:
    """What was measured, JSON-able."""
    load, endpoint = found.load, found.endpoint
    return {
        "url": endpoint.address,
        "model": endpoint.model,
        "endpoint": endpoint.kind,
        "concurrency": load.concurrency,
        "request_rate": load.rate,
        "requests": load.requests,
        "duration_limit": load.duration,
        "warmup": load.warmups,
        "max_tokens": None if endpoint.kind == "embeddings" else endpoint.max_tokens,
        "seed": load.seed,
    }


def _print(terminal: Terminal, found: Measurement, report: Report) -> None:
    load = found.load
    how = f"{load.rate:g} requests/s" if load.rate else f"{load.concurrency} at a time"
    until = [counted(load.requests, "request")] if load.requests else []
    until += [f"for {format_duration(load.duration)}"] if load.duration else []
    terminal.say(f"{found.endpoint.address}  {found.endpoint.model}: {' '.join(until)}, {how}")
    embeddings = found.endpoint.kind == "embeddings"
    terminal.table(("", ""), _summary(report, embeddings=embeddings), right=(1,))
    latencies = [("End-to-end latency (ms)", report.e2el)]
    if not embeddings:
        latencies[:0] = [
            ("Time to first token, TTFT (ms)", report.ttft),
            ("Time per output token, TPOT (ms)", report.tpot),
            ("Inter-token latency, ITL (ms)", report.itl),
        ]
    rows = [_row(*one) for one in latencies]
    terminal.table(("", "Mean", "Median", "P95", "P99"), rows, right=(1, 2, 3, 4), follows=True)
    for kind, number in report.errors.items():
        terminal.say(f"! {counted(number, 'request')}: {kind}: {report.examples[kind]}")
    for remark in report.remarks():
        terminal.say(f"! {remark}")
    terminal.say(f"This client used {report.cpu_seconds:.2f} s of a processor core, {report.client_share:.0%} of one.")


def _summary(report: Report, *, embeddings: bool) -> list[tuple[str, str]]:
    rows = [
        ("Successful requests", f"{report.successful:,}"),
        ("Failed requests", f"{report.failed:,}"),
        ("Benchmark duration (s)", f"{report.seconds:.2f}"),
        ("Peak concurrent requests", f"{report.highest:,}"),
        ("Total input tokens", "unknown" if report.input_tokens is None else f"{report.input_tokens:,}"),
    ]
    if not embeddings:
        rows.append(("Total generated tokens", f"{report.output_tokens:,}"))
    rows.append(("Request throughput (req/s)", f"{report.request_throughput:,.2f}"))
    if report.input_throughput is not None:
        rows.append(("Input token throughput (tok/s)", f"{report.input_throughput:,.1f}"))
    if not embeddings:
        rows.append(("Output token throughput (tok/s)", f"{report.output_throughput:,.1f}"))
    return rows


def _row(name: str, found: Distribution | None) -> tuple[str, ...]:
    if found is None:
        return (name, "", "", "", "")
    return (name, *(f"{value:,.2f}" for value in (found.mean, found.median, found.p95, found.p99)))
