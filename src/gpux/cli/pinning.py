"""What ``gpux pin`` and ``gpux unpin`` share."""

from __future__ import annotations

from gpux.cli.terminal import Terminal


def set_pins(terminal: Terminal, refs: tuple[str, ...], *, task: str | None, pinned: bool) -> None:
    """Pin or unpin every variant that the references cover, and print them."""
    from gpux.model.reference import ModelRef
    from gpux.store import Store

    store = Store(terminal.settings.store)
    covered = [model for ref in map(ModelRef.parse, refs) for model in store.matching(ref, task=task)]
    models = list({model.path: model for model in covered}.values())
    for model in models:
        (store.pin if pinned else store.unpin)(model)
    if terminal.as_json:
        terminal.data([{**model.to_dict(), "pinned": pinned} for model in models])
        return
    word = "pinned" if pinned else "not pinned"
    for model in models:
        terminal.line(f"{model.id}@{model.commit[:12]}\t{model.task}\t{model.manifest.precision}\t{word}")
