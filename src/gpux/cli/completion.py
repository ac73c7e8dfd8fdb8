"""``gpux completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from gpux.cli.terminal import Terminal, command
from gpux.errors import UsageError


@command("completion", json_option=False)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(terminal: Terminal, shell: str) -> None:
    """Print the shell's completion script.

    \b
    bash:  gpux completion bash > ~/.local/share/bash-completion/completions/gpux
    zsh:   gpux completion zsh > "${fpath[1]}/_gpux"
    fish:  gpux completion fish > ~/.config/fish/completions/gpux.fish
    """
    from gpux.cli.main import gpux

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"no completion for {shell}")
    terminal.line(found(gpux, {}, "gpux", "_GPUX_COMPLETE").source())
