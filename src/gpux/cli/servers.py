"""``gpux ps``, ``load``, ``unload`` and ``stop``: running servers and their loaded models."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from gpux.cli import figures
from gpux.cli.quantities import Duration
from gpux.cli.references import complete
from gpux.cli.terminal import Terminal, command
from gpux.errors import GpuxError, ServerError, UsageError
from gpux.model.units import format_duration
from gpux.system.words import counted

if TYPE_CHECKING:
    from gpux.server.client import ServerClient

HEADER = (
    *("Server", "Model", "State", "Task", "Precision", "Device", "Memory", "Running", "Waiting", "Mode", "Until"),
)

_URL = click.option(
    "--url", metavar="URL", help="Address of the server; default: the running one. GPUX_API_KEY has its key."
)


@command("ps")
@_URL
def ps_command(terminal: Terminal, url: str | None) -> int:
    """Show the loaded models of running servers: what they do, their memory, and until when they stay loaded.

    A server that needs another key does not hide the others; the exit code is that of its error.
    """
    from gpux.server.client import clients

    found: list[tuple[str, list[dict[str, Any]]]] = []
    failed: dict[str, GpuxError] = {}
    running = clients(terminal.settings, [url] if url else [])
    for client in running:
        with client, _kept(failed, client.url, of=len(running)):
            found.append((client.url, client.get("/loaded")["models"]))
    if terminal.as_json:
        errors = [{"url": url, "models": [], "error": error.to_dict()} for url, error in failed.items()]
        terminal.data([*({"url": url, "models": models} for url, models in found), *errors])
        return _exit_code(failed)
    rows = [(url, *_row(model)) for url, models in found for model in models]
    if not sys.stdout.isatty():
        terminal.table(HEADER, rows)
    else:
        for url, models in found:
            terminal.say(f"{url}: {counted(len(models), 'model') if models else 'no model'} loaded")
            if models:
                terminal.table(
                    ("Model", "State", "Memory", "Requests", "Until"), map(_brief, models), right=(2,), whole=0
                )
    for _, models in found:
        for model in models:
            if model["error"]:
                terminal.say(f"! {model['name']}: {model['error']['message']}")
    _warn(terminal, failed)
    return _exit_code(failed)


@command("load")
@click.argument("ref", shell_complete=complete)
@click.option("--pin", is_flag=True, help="Keep the model loaded until `gpux unload`.")
@click.option("--keep-alive", type=Duration(never=True), help="Unload it this long after its last request; -1: never.")
@_URL
def load_command(terminal: Terminal, ref: str, pin: bool, keep_alive: float | None, url: str | None) -> None:
    """Load a stored model into the running server, and wait until it is loaded."""
    body = {"model": ref, "pin": pin, "keep_alive": _sent(keep_alive)}
    with only_server(terminal, url) as client:
        found = client.post("/load", body, timeout=None)
    if terminal.as_json:
        terminal.data(found)
    else:
        facts = (found["task"], found["precision"], found["device"], figures.size(found["bytes"]))
        terminal.say(f"{found['name']} is loaded: {', '.join(facts)}.")


@command("unload")
@click.argument("ref", required=False, shell_complete=complete)
@click.option("--all", "every", is_flag=True, help="Unload every model.")
@click.option("--force", is_flag=True, help="End running requests with an error.")
@_URL
def unload_command(terminal: Terminal, ref: str | None, every: bool, force: bool, url: str | None) -> None:
    """Unload a model of the running server after its running requests, which frees its memory."""
    if (ref is None) is not every:
        raise UsageError("name either a model or --all", hint="`gpux ps` shows the loaded models.")
    body = {"all": True, "force": force} if ref is None else {"model": ref, "force": force}
    with only_server(terminal, url) as client:
        found = client.post("/unload", body, timeout=None)
    if terminal.as_json:
        terminal.data(found)
        return
    for name in found["unloaded"]:
        terminal.say(f"{name} is unloaded.")
    if not found["unloaded"]:
        terminal.say(f"{ref} was not loaded." if ref else "No model was loaded.")


@command("stop")
@click.argument("url", required=False, metavar="[URL]")
@click.option("--all", "every", is_flag=True, help="Stop every server that runs with this GPUX_HOME.")
def stop_command(terminal: Terminal, url: str | None, every: bool) -> int:
    """Stop the running server when its running requests have ended, and wait for its end."""
    from gpux.server.client import clients

    found = clients(terminal.settings, [url] if url else []) if every else [only_server(terminal, url)]
    stopped: list[dict[str, Any]] = []
    failed: dict[str, GpuxError] = {}
    for client in found:
        with client, _kept(failed, client.url, of=len(found)):
            pid = client.post("/shutdown")["pid"]
            _wait_for_end(client)
            stopped.append({"url": client.url, "pid": pid})
            terminal.say(f"{client.url} has stopped.")
    if terminal.as_json:
        terminal.data([*stopped, *({"url": url, "error": error.to_dict()} for url, error in failed.items())])
    else:
        _warn(terminal, failed)
    return _exit_code(failed)


@contextmanager
def _kept(failed: dict[str, GpuxError], url: str, *, of: int) -> Iterator[None]:
    """Keep the error of one of several servers, so that the others are used; the only one's is raised."""
    try:
        yield
    except GpuxError as error:
        if of == 1:
            raise
        failed[url] = error


def _warn(terminal: Terminal, failed: dict[str, GpuxError]) -> None:
    for url, error in failed.items():
        terminal.warn(f"{url}: {error.message}", error.hint)


def _exit_code(failed: dict[str, GpuxError]) -> int:
    return next((error.exit_code for error in failed.values()), 0)


def only_server(terminal: Terminal, url: str | None) -> ServerClient:
    """The server at an address, or the only one that runs."""
    from gpux.server.client import clients

    found = clients(terminal.settings, [url] if url else [])
    if len(found) > 1:
        urls = [client.url for client in found]
        name = click.get_current_context().info_name
        option = "" if name == "stop" else "--url "
        raise UsageError(
            f"{len(found)} servers are running: {', '.join(urls)}", hint=f"Name one: gpux {name} {option}{urls[0]}"
        )
    return found[0]


def _wait_for_end(client: ServerClient) -> None:
    """Return when the server does not answer any more."""
    while True:
        try:
            client.get("/server")
        except ServerError as error:
            if error.code != "overloaded":  # it answers so while it drains
                return
        except GpuxError:
            return
        time.sleep(0.1)


def _sent(keep_alive: float | None) -> float | None:
    return -1.0 if keep_alive == float("inf") else keep_alive


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    """The columns of :data:`HEADER` after the first."""
    requests = model["requests"]
    return (
        model["name"],
        model["state"],
        model["task"] or "",
        model["precision"] or "",
        model["device"] or "",
        figures.size(model["bytes"]),
        str(requests["running"]),
        str(requests["waiting"]),
        model["mode"] or "",
        _until(model, lambda until: until.isoformat(timespec="seconds")),
    )


def _brief(model: dict[str, Any]) -> tuple[str, ...]:
    """Fewer columns for a terminal."""
    facts = [model["state"] if model["progress"] is None else f"{model['state']} {model['progress']:.0%}"]
    facts += [text for text in (model["precision"], model["task"], model["device"]) if text]
    requests = f"{model['requests']['running']} running"
    if model["requests"]["waiting"]:
        requests += f", {model['requests']['waiting']} waiting"
    if model["mode"]:
        requests += f" ({model['mode']})"
    until = _until(model, lambda until: format_duration((until - datetime.now(UTC)).total_seconds()))
    return (model["name"], ", ".join(facts), figures.size(model["bytes"]), requests, until)


def _until(model: dict[str, Any], show: Callable[[datetime], str]) -> str:
    if model["pinned"]:
        return "pinned"
    if model["expires"]:
        return show(datetime.fromisoformat(model["expires"]))
    return "kept" if model["state"] == "loaded" else ""
