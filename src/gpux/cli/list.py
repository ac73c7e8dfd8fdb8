"""``gpux list``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpux.cli import figures
from gpux.cli.terminal import Terminal, command

if TYPE_CHECKING:
    from gpux.model.variant import StoredModel
    from gpux.source_cache.scan import CachedCommit
    from gpux.store import Store

HEADER = ("Model", "Commit", "Task", "Precision", "Variant", "Source", "Proof", "Kept")
Row = tuple[str, ...]


@command("list")
@click.option("--runnable", is_flag=True, help="Leave out source files without a variant.")
def list_command(terminal: Terminal, runnable: bool) -> None:
    """List the models on this machine: what can run, and source files of which nothing was made yet.

    Variants lie in gpux's store, source files in the Hugging Face cache, which other tools share.
    """
    from gpux.store import Store
    from gpux.upkeep.inventory import HUB, everything

    store = Store(terminal.settings.store)
    found = everything(terminal.settings, store)
    sources = {(HUB, part.repository.id, commit.commit): commit for part in found.sources for commit in part.commits}
    rows, entries = [], []
    for model in found.variants:
        row, entry = _variant(model, sources.get((model.manifest.scheme, model.id, model.commit)), store)
        rows.append(row)
        entries.append(entry)
    made = {(model.manifest.scheme, model.id, model.commit) for model in found.variants}
    for (scheme, id, _), commit in sorted(sources.items()):
        if (scheme, id, commit.commit) not in made and commit.files and not runnable:
            rows.append((id, commit.commit[:7], "source only", "", "", figures.size(commit.size), "", ""))
            entries.append(_source(scheme, id, commit))
    if terminal.as_json:
        terminal.data(entries)
    else:
        terminal.table(HEADER, rows, right=(4, 5))
        if not rows:
            terminal.say("Nothing is stored yet: `gpux pull org/name`.")
    for damaged in found.damaged:
        terminal.say(f"! {damaged.path}: {damaged.message}; `gpux verify --repair` mends it, `gpux prune` removes it")


def _variant(model: StoredModel, source: CachedCommit | None, store: Store) -> tuple[Row, dict[str, Any]]:
    manifest, pinned = model.manifest, store.pinned(model)
    row = (
        *(model.id, model.commit[:7], model.task, manifest.precision, figures.size(model.size)),
        *(figures.size(source.size) if source else "", figures.proof(manifest.proof), "pinned" if pinned else ""),
    )
    entry = {
        "kind": "variant",
        **model.to_dict(),
        "source_size": source.size if source else 0,
        "pinned": pinned,
        "last_used": store.last_used(model).isoformat(timespec="seconds"),
    }
    return row, entry


def _source(scheme: str, id: str, commit: CachedCommit) -> dict[str, Any]:
    named = {"kind": "source", "scheme": scheme, "id": id, "commit": commit.commit, "path": str(commit.path)}
    return {**named, "revisions": list(commit.revisions), "size": 0, "source_size": commit.size}
