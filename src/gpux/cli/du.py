"""``gpux du``."""

from __future__ import annotations

from typing import Any

from gpux.cli import figures
from gpux.cli.terminal import Terminal, command


@command("du")
def du_command(terminal: Terminal) -> None:
    """Show what takes how much of the disk: store, source cache by repository, partial downloads, toolchains, logs."""
    from gpux.upkeep.inventory import usage

    found = usage(terminal.settings)
    if terminal.as_json:
        terminal.data(found.to_dict())
        return
    rows: list[tuple[Any, ...]] = [("store", f"{found.variants} variants", found.store)]
    if found.max_cache is not None:
        rows[0] = ("store", f"{found.variants} variants, may take {figures.size(found.max_cache)}", found.store)
    rows.append(("store", "being made, or removed and not deleted yet", found.unfinished))
    for repository in sorted(found.repositories, key=lambda repository: -repository.size):
        name = repository.id if repository.kind == "model" else f"{repository.id} ({repository.kind})"
        rows.append(("source cache", name, repository.size))
    rows.append(("source cache", "shared by repositories", found.shared))
    rows.append(("partial downloads", f"{len(found.partials)} files", sum(file.size for file in found.partials)))
    rows += [("toolchains", "", found.toolchains), ("logs", "", found.logs)]
    shown = [(part, what, figures.size(size)) for part, what, size in rows if size]
    terminal.table(("Part", "What", "Size"), [*shown, ("total", "", figures.size(found.total))], right=(2,))
    unfinished = [repository.id for repository in found.repositories if repository.partials]
    if unfinished:
        terminal.say(f"`gpux pull` goes on with its own partial downloads: {', '.join(unfinished)}.")
