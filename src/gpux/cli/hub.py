"""``gpux revisions`` and ``gpux check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpux.cli import figures
from gpux.cli.references import reference_argument, required_references_argument
from gpux.cli.terminal import Terminal, command

if TYPE_CHECKING:
    from gpux.huggingface.access import AccessReport


@command("revisions")
@reference_argument
@click.option("--offline", is_flag=True, help="Make no request; only local folders can be listed then.")
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


_ANSWER = {True: "yes", False: "no", None: "?"}


@command("check")
@required_references_argument
@click.option("--files", is_flag=True, help="List each model's files instead.")
@click.option("--offline", is_flag=True, help="Make no request; nothing can be checked then.")
def check_command(terminal: Terminal, refs: tuple[str, ...], files: bool, offline: bool) -> int:
    """Check whether models can be downloaded, with and without the token, and how large they are.

    Downloads nothing. The exit code is 0 if you can download all of them, else that of the first error.
    """
    from gpux.huggingface.access import check_many

    terminal.override(offline=offline or None)
    reports = check_many(refs, settings=terminal.settings)
    if terminal.as_json:
        terminal.data([report.to_dict() for report in reports])
    elif files:
        terminal.table(
            ("Model", "File", "Size", "Downloads"),
            [(r.id, file.path, figures.size(file.size), _ANSWER[r.downloads]) for r in reports for file in r.files],
            right=(2,),
        )
    else:
        header = ("Model", "Verdict", "Files", "Size", "Without token", "With token")
        has_token = terminal.settings.token is not None
        terminal.table(header, [_row(report, has_token) for report in reports], right=(2, 3))
    hints = dict.fromkeys(report.error.hint for report in reports if report.error and report.error.hint)
    for hint in hints:  # each once, also where several models have it
        terminal.say(f"→ {hint}")
    return next((report.error.exit_code for report in reports if report.error), 0)


def _row(report: AccessReport, has_token: bool) -> tuple[str, ...]:
    found = bool(report.id)
    return (
        report.id or report.reference,
        report.verdict,
        str(len(report.files)) if found else "",
        figures.size(report.size) if found else "",
        _ANSWER[report.without_token],
        _ANSWER[report.with_token] if has_token else "",
    )
