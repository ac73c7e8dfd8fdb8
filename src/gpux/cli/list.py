"""``gpux list``."""

from __future__ import annotations

from gpux.cli import figures
from gpux.cli.terminal import Terminal, command


@command("list")
def list_command(terminal: Terminal) -> None:
    """List the models in the store."""
    from gpux.store import Store

    store = Store(terminal.settings.store)
    models = store.models()
    if terminal.as_json:
        terminal.data([model.to_dict() for model in models])
    else:
        terminal.table(
            ("Model", "Commit", "Task", "Precision", "Size", "Proof"),
            [
                (
                    model.id,
                    model.commit[:7],
                    model.task,
                    model.manifest.precision,
                    figures.size(model.size),
                    figures.proof(model.manifest.proof),
                )
                for model in models
            ],
            right=(4,),
        )
        if not models:
            terminal.say("Nothing is stored yet: `gpux pull org/name`.")
    for damaged in store.damaged():
        terminal.say(f"! {damaged.path}: {damaged.message}; `gpux prune` removes it")
