"""``gpux serve``: models behind HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpux.cli.quantities import Duration, Size
from gpux.cli.references import complete
from gpux.cli.terminal import Terminal, command
from gpux.errors import GpuxError, UnsupportedError, UsageError
from gpux.model.reference import ModelRef
from gpux.model.units import format_duration
from gpux.system.words import counted

if TYPE_CHECKING:
    from gpux.server.core import Core
    from gpux.server.settings import ServerSettings

#: Libraries of the extra ``server`` without which it cannot start.
_LIBRARIES = frozenset({"starlette", "uvicorn", "multipart", "python_multipart", "prometheus_client"})


@command("serve")
@click.argument("refs", nargs=-1, metavar="[REF]...", shell_complete=complete)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="Port to listen on; 0: any free one."
)
@click.option("--device", default="auto", show_default=True, help="Device that models run on: cpu, cuda, coreml …")
@click.option(
    "--tei-model",
    "tei_models",
    multiple=True,
    metavar="REF",
    shell_complete=complete,
    help="Model for requests to /embed, /predict, /rerank … that name none; one for each task.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the keys that requests need; required unless only this machine can connect.",
)
@click.option("--allow-host", "allowed_hosts", multiple=True, metavar="NAME", help="Host name that requests may use.")
@click.option(
    "--allow-origin",
    "allowed_origins",
    multiple=True,
    metavar="URL",
    help="Web page that may call the server: https://…",
)
@click.option("--max-memory", type=Size(), help="Memory of all loaded models: 4GiB. Default: what is available.")
@click.option("--max-models", type=click.IntRange(min=1), metavar="N", help="Models loaded at the same time.")
@click.option(
    "--keep-alive",
    type=Duration(never=True),
    default="5m",
    show_default=True,
    help="Unload a model this long after its last request; -1: never.",
)
@click.option("--max-rows", type=click.IntRange(min=1), default=8, show_default=True, help="Texts generated at once.")
@click.option("--cache-memory", type=Size(), help="Memory of the KV caches of one model. Default: what is available.")
@click.option("--max-queue", type=click.IntRange(min=1), default=512, show_default=True, help="Requests of one model.")
@click.option(
    "--batch-wait",
    type=Duration(),
    default="3ms",
    show_default=True,
    help="Time that a request waits for others to share its batch.",
)
@click.option(
    "--load-timeout",
    type=Duration(),
    default="1m",
    show_default=True,
    help="Time that a request waits for memory for its model.",
)
@click.option(
    "--open-timeout",
    type=Duration(never=True),
    default="10m",
    show_default=True,
    help="Time that a model has to open before its process is ended; -1: no limit.",
)
@click.option("--max-body", type=Size(), default="32MiB", show_default=True, help="Size of one request.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=64 << 20, show_default=True, help="Of one picture.")
@click.option("--max-seconds", type=Duration(), default="1h", show_default=True, help="Length of one sound.")
@click.option(
    "--allow-media-urls", is_flag=True, help="Fetch pictures and sounds from public http(s) addresses in requests."
)
@click.option("--request-timeout", type=Duration(), help="End a request after this time. Default: no limit.")
@click.option(
    "--drain-timeout",
    type=Duration(),
    default="30s",
    show_default=True,
    help="Time that running requests have to end when the server stops.",
)
@click.option(
    "--config",
    "chat_config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration of the chat providers; default: GPUX_CONFIG, else chat.toml in GPUX_HOME.",
)
@click.option("--allow-pull", is_flag=True, help="Pull a model that a request names and that is not stored.")
@click.option("--offline", is_flag=True, help="Make no request to the Hub.")
@click.option(
    "--restore/--no-restore",
    default=True,
    show_default=True,
    help="Load the models again that were loaded when the server at this port ended.",
)
@click.option("--no-chat", is_flag=True, help="Serve no conversations: no chat providers, and no database of them.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json", "none"]),
    default="text",
    show_default=True,
    help="Format of the access log on stderr.",
)
def serve_command(
    terminal: Terminal, refs: tuple[str, ...], offline: bool, chat_config: Path | None, **options: Any
) -> int:
    """Serve stored models over HTTP, in the APIs of OpenAI and others.

    Loads the models in REF at once, and every other stored model at its first request. A REF that is not stored is
    pulled first. Ctrl-C ends the server when the running requests have ended, a second Ctrl-C at once.

    `gpux ps` shows the loaded models, `gpux stop` ends the server.
    """
    terminal.override(offline=offline or None, chat_config=chat_config)
    if options["allow_pull"] and terminal.settings.offline:
        raise UsageError("--allow-pull needs the Hub, and gpux is offline", hint="Remove one of the two.")
    settings = _settings(terminal, refs, options)
    if chat_config is not None:
        from gpux.chat.configuration import ModelConfigurationService

        ModelConfigurationService(terminal.settings).check_start()
    if code := _pull_missing(terminal, refs):
        return code
    _serve(terminal, settings)
    return 0


def _settings(terminal: Terminal, refs: tuple[str, ...], options: dict[str, Any]) -> ServerSettings:
    """The options as settings of the server.

    Raises:
        UnsupportedError: the extra ``server`` is not installed.
        UsageError: an option is invalid.
    """
    try:
        import gpux.server.run  # noqa: F401 - before a pull, which may take long
        from gpux.server.settings import ServerSettings
    except ModuleNotFoundError as exc:
        if exc.name not in _LIBRARIES:
            raise
        raise UnsupportedError(
            f"the server needs {exc.name}, which is not installed", hint="Run `pip install 'gpux[server]'`."
        ) from exc
    format = options.pop("log_format")
    without = frozenset({"chat"} if options.pop("no_chat") else ())
    return ServerSettings(
        models=refs,
        api_keys=options.pop("api_key_file"),
        cache_bytes=options.pop("cache_memory"),
        access_log=None if format == "none" else format,
        without=without,
        gpux=terminal.settings,
        **options,
    )


def _pull_missing(terminal: Terminal, refs: Sequence[str]) -> int:
    """Pull what is not stored, in a process of its own, so that the server's stays small; its exit code.

    A model in a local folder is pulled again, which converts it where its files have changed.
    """
    from gpux.server.names import Names

    names = Names(terminal.settings.store)
    missing = [ref for ref in dict.fromkeys(refs) if names.get(ref) is None or ModelRef.parse(ref).scheme == "local"]
    if not missing:
        return 0
    options = [*(["--quiet"] if terminal.quiet else []), *(["--json"] if terminal.as_json else [])]
    program = [sys.executable, "-P", "-m", "gpux", "pull", *options, "--", *missing]
    # Its progress is on stderr. The lines for other programs, with paths and proofs, say nothing more to a person.
    output = subprocess.PIPE if terminal.as_json else subprocess.DEVNULL
    process = subprocess.Popen(program, stdout=output, env={**os.environ, **terminal.settings.to_env()})
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        shown, _ = _wait(process)
    finally:
        signal.signal(signal.SIGTERM, before)
    if process.returncode and shown:
        click.echo(shown, nl=False)  # the document of the error
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _wait(process: subprocess.Popen[bytes]) -> tuple[bytes | None, bytes | None]:
    """The output of a process that gets Ctrl-C from the terminal too, and ends by itself."""
    while True:
        try:
            return process.communicate()
        except KeyboardInterrupt:
            continue


def _serve(terminal: Terminal, settings: ServerSettings) -> None:
    from gpux.server.run import Callbacks, serve

    def started(url: str, core: Core) -> None:
        if terminal.as_json:
            terminal.data({"url": url, "pid": os.getpid()}, compact=True)
        for line in _screen(url, core):
            terminal.say(line)

    def stopping(running: int) -> None:
        over = "\r" if sys.stderr.isatty() else ""  # the terminal has written ^C
        if running:
            limit = format_duration(settings.drain_timeout)
            terminal.say(
                f"{over}Stopping: {counted(running, 'request')} may run for {limit}. Ctrl-C again stops at once."
            )
        else:
            terminal.say(f"{over}Stopped.")

    serve(settings, Callbacks(started, stopping))


def _screen(url: str, core: Core) -> list[str]:
    """What a person sees when the server has started."""
    from gpux.cli import figures

    settings = core.settings
    listing = core.models.listing()
    named = set()
    for name in settings.models:
        with suppress(GpuxError):  # the log has the error
            named.add(core.models.find(name).path)
    models = [
        f"{one.name}  {one.task}, {one.precision}, {figures.size(one.bytes)}"
        for one in listing
        if one.model.path in named
    ]
    if others := sum(one.model.path not in named for one in listing):
        models.append(f"{others}{' more' if named else ''} stored; each is loaded at its first request")
    if not models:
        models.append(
            "none stored; " + ("requests pull them" if settings.allow_pull else "`gpux pull org/name` adds one")
        )
    lines = [click.style(f"gpux serves on {url}", bold=True), ""]
    lines += _labelled("models", models)
    lines += _labelled("APIs", _addresses(url, settings.without))
    if settings.api_keys:
        lines += _labelled("keys", ["needed: Authorization: Bearer KEY"])
        lines += _labelled("try", [f"curl {url}/v1/models -H 'Authorization: Bearer KEY'", "GPUX_API_KEY=KEY gpux ps"])
    else:
        lines += _labelled("keys", ["none needed; only this machine can connect"])
        lines += _labelled("try", [f"curl {url}/v1/models", "gpux ps"])
    return [*lines, "", "Ctrl-C stops the server."]


def _addresses(url: str, without: frozenset[str]) -> list[str]:
    """A row for each API: its address, or what has to be installed for it."""
    from gpux.server.app import apis
    from gpux.server.parts import parts

    every = [api for api in apis(without) if api.prefix.strip("/")]
    # chat-images, chat-graphql … belong to chat; sessions are for browsers
    shown = [api for api in every if "-" not in api.name and api.name != "session"]
    width = max(len(api.name) for api in shown)
    needs = {api.name: part.requirement for part in parts(without) if part.missing for api in part.apis}
    return [
        f"{api.name:<{width}} needs `pip install '{needs[api.name]}'`"
        if api.name in needs
        else f"{api.name:<{width}} {url}{api.prefix}"
        for api in shown
    ]


def _labelled(label: str, rows: Sequence[str]) -> list[str]:
    return [f"  {label if not number else '':<8}{row}" for number, row in enumerate(rows)]
