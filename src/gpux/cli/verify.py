"""``gpux verify``."""

from __future__ import annotations

import click

from gpux.cli import figures
from gpux.cli.terminal import Terminal, command
from gpux.errors import CorruptFileError
from gpux.types import StoredModel


@command("verify")
@click.argument("refs", nargs=-1)
@click.option("--proof", is_flag=True, help="Replay the kept proof inputs too, without torch.")
@click.option("--device", default="cpu", show_default=True, help="Where to replay them: cpu, cuda, coreml, auto …")
def verify_command(terminal: Terminal, refs: tuple[str, ...], proof: bool, device: str) -> None:
    """Check stored models, offline: every file against its hash, and with --proof every answer against its proof."""
    from gpux.reference import ModelRef
    from gpux.store import Store

    store = Store(terminal.settings.store)
    models = [store.get(ModelRef.parse(ref)) for ref in refs] if refs else store.models()
    with terminal.progress() as progress:
        reports = [store.verify(model, progress=progress) for model in models]
    rows, results = [], []
    for model, report in zip(models, reports, strict=True):
        replayed = _replay(model, device) if proof and report.ok else None
        rows.append(
            (model.id, model.commit[:7], model.task, _files(report.ok, report.files, report.size), replayed or "")
        )
        results.append({**report.to_dict(), "ok": report.ok, "replay": replayed})
    if terminal.as_json:
        terminal.data(results)
    else:
        terminal.table(("Model", "Commit", "Task", "Files", "Proof"), rows)
    problems = [problem for report in reports for problem in report.problems]
    for problem in problems:
        terminal.say(f"! {problem.message}")
    if problems:
        raise CorruptFileError(f"{len(problems)} problems found", hint="Pull the model again with `gpux pull --force`.")


def _files(ok: bool, files: int, size: int) -> str:
    return f"{'ok' if ok else 'DAMAGED'} ({files}, {figures.size(size)})"


def _replay(model: StoredModel, device: str) -> str:
    """Replay the kept cases; what came out, in a few words."""
    from gpux.proof import replay
    from gpux.runtime.session import Session

    with Session(model.path / model.graph().file, device=device) as session:
        cases = replay(model, session.run)
    if not cases:
        return "shipped: nothing to replay"
    largest = max(case.max_abs_diff for case in cases)
    return f"{len(cases)} cases on {session.device}: {figures.difference(largest)}"
