"""``gpux revisions``."""

from __future__ import annotations

import click

from gpux.cli.terminal import Terminal, command


@command("revisions")
@click.argument("ref")
@click.option("--offline", is_flag=True, help="Ask no Hub: only a folder of this machine can be listed then.")
def revisions_command(terminal: Terminal, ref: str, offline: bool) -> None:
    """List a model's branches, tags and pull requests with their commits."""
    from gpux.managers.registry import manager_for
    from gpux.model.reference import ModelRef

    terminal.override(offline=offline or None)
    parsed = ModelRef.parse(ref)
    found = manager_for(parsed.scheme, terminal.settings).list_revisions(parsed)
    if terminal.as_json:
        terminal.data([revision.to_dict() for revision in found])
        return
    terminal.table(("Revision", "Kind", "Commit"), [(r.name, r.kind.replace("_", " "), r.commit) for r in found])
