"""``gpux chat``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from gpux.cli.generating import chosen_options, generation_options
from gpux.cli.installing import with_toolchain
from gpux.cli.terminal import Terminal, command
from gpux.model.variant import StoredModel

if TYPE_CHECKING:
    from gpux.pipelines.generation.text_generation import TextGenerationPipeline

_TOKENS = 1024  #: of an answer at most, unless it is said otherwise


@command("chat")
@click.argument("ref")
@click.option("--system", help="What the model is told before the chat begins.")
@click.option("--template", help="Name of one of the model's chat templates, or a file with another.")
@click.option("--stats", is_flag=True, help="After each answer, say how fast it was.")
@click.option("--revision", help="Branch, tag, refs/pr/N or commit.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, coreml … or auto.")
@click.option("--offline", is_flag=True, help="Use what is on this machine, ask no Hub.")
@click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking.")
@generation_options
def chat_command(
    terminal: Terminal,
    ref: str,
    system: str | None,
    template: str | None,
    stats: bool,
    revision: str | None,
    device: str,
    offline: bool,
    yes: bool,
    **options: Any,
) -> None:
    """Talk with a model; pulls it first if it is not stored.

    On a terminal: /help lists what can be typed besides messages, Ctrl-C stops an answer, Ctrl-D leaves. In a pipe each
    line of standard input is a message of one chat, and the answers go to standard output. With --json each answer is
    one JSON object on a line.
    """
    from gpux.cli.chatting import Chat
    from gpux.pull.open import open_model, pipeline

    terminal.override(offline=offline or None)

    def opened() -> StoredModel:
        with terminal.progress() as progress:
            return open_model(
                ref, task="text-generation", revision=revision, settings=terminal.settings, progress=progress
            )

    model = with_toolchain(terminal, opened, yes=yes)
    with pipeline("text-generation", model=model, device=device) as pipe:
        for note in pipe.session.notes:  # what `auto` passed over, and why
            terminal.say(f"! {note}")
        chosen = {"max_new_tokens": _TOKENS, **chosen_options(**options)}
        if template is not None:
            chosen["chat_template"] = _template(template)
        Chat(terminal, cast("TextGenerationPipeline", pipe), chosen, system=system, stats=stats).run()


def _template(given: str) -> str:
    """A file's content, or the name as it is."""
    return Path(given).read_text(encoding="utf-8") if Path(given).is_file() else given
