"""``gpux info``."""

from __future__ import annotations

import click

from gpux.cli import figures
from gpux.cli.facts import as_json, facts, remark
from gpux.cli.terminal import Terminal, command
from gpux.errors import WrongKindError
from gpux.reference import ModelRef


@command("info")
@click.argument("ref")
@click.option("--revision", help="Branch, tag, refs/pr/N or commit.")
@click.option("--files", is_flag=True, help="List the files instead.")
@click.option("--offline", is_flag=True, help="Show what the Hub said last, ask no Hub.")
def info_command(terminal: Terminal, ref: str, revision: str | None, files: bool, offline: bool) -> None:
    """Show what the Hub knows of a model, without pulling it; of spaces/org/name, the models that the Space uses.

    If the Hub cannot be reached, this is what it said when it was asked last, with its age.
    """
    from gpux.managers.info_cache import latest_info
    from gpux.managers.registry import manager_for

    terminal.override(offline=offline or None)
    try:
        parsed = ModelRef.parse(ref)
    except WrongKindError as exc:
        if exc.details["kind"] != "space" or revision or files:
            raise
        return _show_space(terminal, ModelRef("hf", exc.details["id"], endpoint=exc.details["endpoint"]))
    known = latest_info(manager_for(parsed.scheme, terminal.settings), parsed, revision=revision)
    info, note = known.info, remark(known)
    if note:
        terminal.say(f"! {note}")
    if terminal.as_json:
        terminal.data([file.to_dict() for file in info.files] if files else as_json(known))
    elif files:
        terminal.table(
            ("File", "Size", "Hash"),
            [(file.path, figures.size(file.size), (file.etag or "")[:12]) for file in info.files],
            right=(1,),
        )
    else:
        terminal.table(("", ""), facts(known))
    return None


def _show_space(terminal: Terminal, ref: ModelRef) -> None:
    """The models on stdout, one on each line of a pipe, as `gpux pull` and `gpux check` take them."""
    from gpux.managers.huggingface import HuggingFaceManager

    space = HuggingFaceManager(terminal.settings).get_space_info(ref)
    if terminal.as_json:
        terminal.data(space.to_dict())
        return
    facts = ", ".join(filter(None, (space.sdk, (space.stage or "").lower(), "private" if space.private else "")))
    uses = f"uses {len(space.models)} models" if space.models else "names no models"
    terminal.say(f"{space.id} is a Space ({facts or 'of unknown kind'}) that {uses}.")
    terminal.table(("Model",), [(model,) for model in space.models])
