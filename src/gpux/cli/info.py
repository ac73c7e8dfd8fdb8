"""``gpux info``."""

from __future__ import annotations

import click

from gpux.cli import figures
from gpux.cli.terminal import Terminal, command
from gpux.types import ModelInfo


@command("info")
@click.argument("ref")
@click.option("--revision", help="Branch, tag, refs/pr/N or commit.")
@click.option("--files", is_flag=True, help="List the files instead.")
def info_command(terminal: Terminal, ref: str, revision: str | None, files: bool) -> None:
    """Show what the Hub knows of a model, without pulling it."""
    from gpux.managers.registry import manager_for
    from gpux.reference import ModelRef

    parsed = ModelRef.parse(ref)
    info = manager_for(parsed.scheme, terminal.settings).get_model_info(parsed, revision=revision)
    if terminal.as_json:
        terminal.data([file.to_dict() for file in info.files] if files else info.to_dict())
    elif files:
        terminal.table(
            ("File", "Size", "Hash"),
            [(file.path, figures.size(file.size), (file.etag or "")[:12]) for file in info.files],
            right=(1,),
        )
    else:
        terminal.table(("", ""), _facts(info))


def _facts(info: ModelInfo) -> list[tuple[str, str]]:
    facts = {
        "model": info.id + (f" (asked for as {info.requested_id})" if info.id != info.requested_id else ""),
        "commit": info.commit + (f" ({info.revision})" if info.revision else ""),
        "task": info.task,
        "library": info.library,
        "architecture": " ".join(filter(None, (info.model_type, *info.architectures))),
        "parameters": figures.count(info.parameters),
        "formats": " ".join(info.formats),
        "files": f"{len(info.files)}, {figures.size(info.size)}",
        "licence": info.licence,
        "access": _access(info),
        "downloads": figures.count(info.downloads),
        "likes": figures.count(info.likes),
        "last modified": info.last_modified,
    }
    return [(name, value) for name, value in facts.items() if value]


def _access(info: ModelInfo) -> str:
    if info.disabled:
        return "disabled"
    visible = "private" if info.private else "public"
    return f"{visible}, gated ({info.gated})" if info.gated else visible
