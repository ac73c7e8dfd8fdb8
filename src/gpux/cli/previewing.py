"""``gpux pull --dry-run``: what a pull would do, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpux.cli import figures
from gpux.cli.fetching import Choice
from gpux.cli.terminal import Terminal
from gpux.model.reference import ModelRef

if TYPE_CHECKING:
    from gpux.pull.preview import PullPreview


def show_preview(
    terminal: Terminal, ref: ModelRef, choice: Choice, *, task: str | None, convert: bool = False
) -> dict[str, Any]:
    """Print what the pull of one model would do; what ``--json`` says of it."""
    from gpux.managers.registry import manager_for
    from gpux.pull.preview import preview_files, preview_pull

    manager = manager_for(ref.scheme, terminal.settings)
    if choice.wants_files(ref):
        preview = preview_files(ref, manager, choice.selection(ref))
    else:
        preview = preview_pull(ref, manager, task=task, precision=choice.precision or "fp32", convert=convert)
    if not terminal.as_json:
        _print(terminal, preview)
    return {"ref": str(ref), **preview.to_dict()}


def _print(terminal: Terminal, preview: PullPreview) -> None:
    terminal.table(
        ("File", "Size", "", "Why"),
        [(f.path, figures.size(f.size), "cached" if f.cached else "fetch", f.reason) for f in preview.files],
        title=f"{preview.id} at {preview.commit[:12]}",
        right=(1,),
    )
    if preview.kind == "stored":
        terminal.say(f"{preview.id} at {preview.commit[:12]} is stored for {preview.task}: nothing to do")
        return
    what = {"shipped": "runs as shipped", "convert": "is converted", "reduce": "is reduced", "files": "comes as files"}
    left = sum(file.size or 0 for file in preview.left_out)
    terminal.say(
        f"{preview.id} at {preview.commit[:12]} {what[preview.kind]}: {figures.size(preview.total_bytes)}, "
        f"{figures.size(preview.fetch_bytes)} to fetch; {len(preview.left_out)} files of {figures.size(left)} left out"
    )
    for need in preview.space:
        state = "fits" if need.fits else "DOES NOT FIT"
        terminal.say(
            f"{need.purpose}: {figures.size(need.needed)} on the disk of {need.folder}, "
            f"{figures.size(need.free)} free: {state}"
        )
