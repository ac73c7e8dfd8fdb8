"""``gpux info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gpux.cli import figures, fitting
from gpux.cli.facts import as_json, facts, remark, variants
from gpux.cli.terminal import Terminal, command
from gpux.errors import UsageError, WrongKindError
from gpux.model.reference import ModelRef


@command("info")
@click.argument("ref")
@click.option("--revision", help="Branch, tag, refs/pr/N or commit.")
@click.option("--files", is_flag=True, help="List the files instead.")
@click.option("--headers", is_flag=True, help="Read the headers of the weights, also where the Hub tells their sizes.")
@click.option("--scan", is_flag=True, help="Ask what the Hub's scanners found in pickled files.")
@click.option("--chain", is_flag=True, help="Follow the base models to where they come from.")
@click.option("--fit", is_flag=True, help="Estimate whether it fits this machine, and how fast it writes.")
@click.option("--context", type=click.IntRange(min=1), help="Tokens of context for --fit.")
@click.option("--batch", type=click.IntRange(min=1), help="Sequences at once for --fit.")
@click.option("--precision", help="Precision for --fit: fp32, fp16, int8, int4; all of them by default.")
@click.option("--offline", is_flag=True, help="Show what the Hub said last, ask no Hub.")
def info_command(terminal: Terminal, ref: str, revision: str | None, files: bool, offline: bool, **how: Any) -> None:
    """Show what is known of a model, without pulling it; of spaces/org/name, the models that the Space uses.

    REF may name one file: org/name/path/file.gguf, or ./file.gguf of this machine.
    If the Hub cannot be reached, this is what it said when it was asked last, with its age.
    """
    terminal.override(offline=offline or None)
    try:
        parsed = _parsed(ref).at(revision)
    except WrongKindError as exc:
        if exc.details["kind"] != "space" or revision or files:
            raise
        _show_space(terminal, ModelRef("hf", exc.details["id"], endpoint=exc.details["endpoint"]))
        return
    if not how["fit"] and any(how[name] for name in ("context", "batch", "precision")):
        raise UsageError("--context, --batch and --precision are for --fit", hint="Add --fit.")
    if files:
        _show_files(terminal, parsed)
    else:
        _show_page(terminal, parsed, how)


def _show_page(terminal: Terminal, ref: ModelRef, how: dict[str, Any]) -> None:
    from gpux.describe import describe_model
    from gpux.store import Store

    found = describe_model(
        ref,
        terminal.settings,
        headers="always" if how["headers"] else "auto",
        chain=how["chain"],
        scans=how["scan"],
    )
    stored = [model for model in Store(terminal.settings.store).models() if model.id == found.known.info.id]
    if note := remark(found.known):
        terminal.say(f"! {note}")
    fit = fitting.reports(terminal, found, how) if how["fit"] else None
    if terminal.as_json:
        terminal.data(as_json(found, stored, fit))
        return
    terminal.table(("", ""), [*facts(found), *variants(stored)])
    if fit is not None:
        fitting.show(terminal, fit)


def _show_files(terminal: Terminal, ref: ModelRef) -> None:
    from gpux.managers.info_cache import latest_info
    from gpux.managers.registry import manager_for

    known = latest_info(manager_for(ref.scheme, terminal.settings), ref)
    if note := remark(known):
        terminal.say(f"! {note}")
    files = known.info.files
    if terminal.as_json:
        terminal.data([file.to_dict() for file in files])
        return
    rows = [(file.path, figures.size(file.size), (file.etag or "")[:12]) for file in files]
    terminal.table(("File", "Size", "Hash"), rows, right=(1,))


def _show_space(terminal: Terminal, ref: ModelRef) -> None:
    """The models on stdout, one on each line of a pipe, as `gpux pull` and `gpux check` take them."""
    from gpux.huggingface.manager import HuggingFaceManager

    space = HuggingFaceManager(terminal.settings).get_space_info(ref)
    if terminal.as_json:
        terminal.data(space.to_dict())
        return
    facts = ", ".join(filter(None, (space.sdk, (space.stage or "").lower(), "private" if space.private else "")))
    uses = f"uses {len(space.models)} models" if space.models else "names no models"
    terminal.say(f"{space.id} is a Space ({facts or 'of unknown kind'}) that {uses}.")
    terminal.table(("Model",), [(model,) for model in space.models])


def _parsed(ref: str) -> ModelRef:
    """A bare file name of this directory is that file: no model of the Hub is named so."""
    if ref.lower().endswith((".gguf", ".safetensors")) and "/" not in ref and Path(ref).is_file():
        return ModelRef("local", ref)
    return ModelRef.parse(ref)
