"""``gpux pull --dry-run``: what a pull would do, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpux.cli import figures
from gpux.cli.fetching import Choice
from gpux.cli.terminal import Terminal
from gpux.reference import ModelRef

if TYPE_CHECKING:
    from gpux.preview import PullPreview


def show_preview(
    terminal: Terminal, refs: Sequence[str], choice: Choice, *, task: str | None, revision: str | None
) -> int:
    """Print what the pull would do."""
    from gpux.managers.registry import manager_for
    from gpux.preview import preview_files, preview_pull

    previews = []
    for ref in (ModelRef.parse(text).at(revision) for text in refs):
        manager = manager_for(ref.scheme, terminal.settings)
        if choice.wants_files([str(ref)]) or ref.file:
            previews.append(preview_files(ref, manager, choice.selection(ref)))
        else:
            previews.append(preview_pull(ref, manager, task=task, precision=choice.precision or "fp32"))
    if terminal.as_json:
        documents = [preview.to_dict() for preview in previews]
        terminal.data(documents[0] if len(refs) == 1 else documents)
    else:
        for preview in previews:
            _print(terminal, preview)
    return 0


def _print(terminal: Terminal, preview: PullPreview) -> None:
    terminal.table(
        ("File", "Size", "", "Why"),
        [(f.path, figures.size(f.size), "cached" if f.cached else "fetch", f.reason) for f in preview.files],
        title=f"{preview.id} at {preview.commit[:12]}",
        right=(1,),
    )
    what = {"stored": "stored already", "shipped": "runs as shipped", "convert": "is converted", "files": "as files"}
    left = sum(file.size or 0 for file in preview.left_out)
    terminal.say(
        f"{what[preview.kind]}: {figures.size(preview.total_bytes)}, {figures.size(preview.fetch_bytes)} to fetch; "
        f"{len(preview.left_out)} files of {figures.size(left)} left out"
    )
    for need in preview.space:
        state = "fits" if need.fits else "DOES NOT FIT"
        terminal.say(
            f"{need.purpose}: {figures.size(need.needed)} on the disk of {need.folder}, "
            f"{figures.size(need.free)} free: {state}"
        )
