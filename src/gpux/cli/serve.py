"""``gpux serve``: models behind HTTP."""

from __future__ import annotations

import click

from gpux.cli.terminal import Terminal, command


@command("serve")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, help="Port to listen on; 0 for any free one.")
def serve_command(terminal: Terminal, models: tuple[str, ...], host: str, port: int) -> None:
    """Serve models over HTTP, in the APIs of OpenAI and others."""
    from gpux.server.run import serve
    from gpux.server.settings import ServerSettings

    def started(url: str) -> None:
        if terminal.as_json:
            terminal.data({"url": url}, compact=True)
        else:
            terminal.say(f"Serving on {url}. Press Ctrl-C to stop.")

    serve(ServerSettings(host=host, port=port, models=models, gpux=terminal.settings), started)
