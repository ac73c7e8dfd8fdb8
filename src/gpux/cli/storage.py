"""``gpux list``, ``du``, ``pin``, ``unpin``, ``rm`` and ``prune``: the models on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import click

from gpux.cli import figures
from gpux.cli.references import required_references_argument
from gpux.cli.terminal import Terminal, command
from gpux.errors import NotStoredError, StorageError, UsageError
from gpux.system.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from gpux.model.reference import ModelRef
    from gpux.model.variant import StoredModel
    from gpux.source_cache.scan import CachedCommit
    from gpux.store import Store

HEADER = ("Model", "Commit", "Task", "Precision", "Variant", "Source", "Proof", "Kept")
Row = tuple[str, ...]


@command("list")
@click.option("--runnable", is_flag=True, help="Omit source files that have no variant.")
def list_command(terminal: Terminal, runnable: bool) -> None:
    """List the models on this machine: variants that can run, and source files without a variant.

    Variants are in gpux's store, source files in the Hugging Face cache, which other tools share.
    """
    from gpux.store import Store
    from gpux.upkeep.inventory import HUB, take_inventory

    store = Store(terminal.settings.store)
    found = take_inventory(settings=terminal.settings, store=store)
    sources = {(HUB, part.repository.id, commit.commit): commit for part in found.sources for commit in part.commits}
    rows, entries = [], []
    defaults = store.defaults(found.variants)
    for model in found.variants:
        source = sources.get((model.manifest.scheme, model.id, model.commit))
        row, entry = _variant(model, source, store, default=model.path in defaults)
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
        _show(terminal, rows)
        if len({(model.manifest.scheme, model.id) for model in found.variants}) < len(found.variants):
            terminal.say("* the variant that a reference without a precision means; `gpux pin --default` changes it")
        if not rows:
            terminal.say("Nothing is stored yet: `gpux pull org/name`.")
    for damaged in found.damaged:
        terminal.say(f"! {damaged.path}: {damaged.message}; `gpux verify --repair` repairs it, `gpux prune` removes it")


def _show(terminal: Terminal, rows: Sequence[Row]) -> None:
    """Print one column per fact in a pipe, and fewer, combined columns on a terminal, so that names are not broken."""
    if not sys.stdout.isatty():
        terminal.table(HEADER, rows)
        return
    brief = [
        (id, ", ".join(filter(None, (precision, task, commit, kept))), size or source, proof)
        for id, commit, task, precision, size, source, proof, kept in rows
    ]
    terminal.table(("Model", "Variant", "Size", "Proof"), brief, right=(2,), whole=0)


def _variant(
    model: StoredModel, source: CachedCommit | None, store: Store, *, default: bool
) -> tuple[Row, dict[str, Any]]:
    manifest, pinned = model.manifest, store.pinned(model)
    precision = f"{manifest.precision} *" if default else manifest.precision
    row = (
        *(model.id, model.commit[:7], model.task, precision, figures.size(model.size)),
        *(figures.size(source.size) if source else "", figures.proof(manifest), "pinned" if pinned else ""),
    )
    entry = {
        "kind": "variant",
        **model.to_dict(),
        "source_size": source.size if source else 0,
        "pinned": pinned,
        "default": default,
        "last_used": store.last_used(model).isoformat(timespec="seconds"),
    }
    return row, entry


def _source(scheme: str, id: str, commit: CachedCommit) -> dict[str, Any]:
    named = {"kind": "source", "scheme": scheme, "id": id, "commit": commit.commit, "path": str(commit.path)}
    return {**named, "revisions": list(commit.revisions), "size": 0, "source_size": commit.size}


@command("du")
def du_command(terminal: Terminal) -> None:
    """Show disk usage: store, source cache by repository, partial downloads, toolchains, logs."""
    from gpux.upkeep.inventory import usage

    found = usage(settings=terminal.settings)
    if terminal.as_json:
        terminal.data(found.to_dict())
        return
    rows: list[tuple[Any, ...]] = [("store", counted(found.variants, "variant"), found.store)]
    if found.max_cache is not None:
        rows[0] = (
            "store",
            f"{counted(found.variants, 'variant')}, limited to {figures.size(found.max_cache)}",
            found.store,
        )
    rows.append(("store", "unfinished or removed, not deleted yet", found.unfinished))
    for repository in sorted(found.repositories, key=lambda repository: -repository.size):
        name = repository.id if repository.kind == "model" else f"{repository.id} ({repository.kind})"
        rows.append(("source cache", name, repository.size))
    rows.append(("source cache", "shared by repositories", found.shared))
    rows.append(("partial downloads", counted(len(found.partials), "file"), sum(file.size for file in found.partials)))
    rows += [("toolchains", "", found.toolchains), ("logs", "", found.logs)]
    shown = [(part, what, figures.size(size)) for part, what, size in rows if size]
    terminal.table(("Part", "What", "Size"), [*shown, ("total", "", figures.size(found.total))], right=(2,))
    unfinished = [repository.id for repository in found.repositories if repository.partials]
    if unfinished:
        terminal.say(f"`gpux pull` resumes its own partial downloads: {', '.join(unfinished)}.")


def set_pins(
    terminal: Terminal, refs: tuple[str, ...], *, task: str | None, precision: str | None, pinned: bool
) -> None:
    """Pin or unpin every variant that the references match, and print them."""
    from gpux.model.reference import ModelRef
    from gpux.store import Store

    store = Store(terminal.settings.store)
    covered = [
        model for ref in map(ModelRef.parse, refs) for model in store.matching(ref, task=task, precision=precision)
    ]
    models = list({model.path: model for model in covered}.values())
    for model in models:
        (store.pin if pinned else store.unpin)(model)
    if terminal.as_json:
        terminal.data([{**model.to_dict(), "pinned": pinned} for model in models])
        return
    word = "pinned" if pinned else "not pinned"
    for model in models:
        terminal.line(f"{model.id}@{model.commit[:12]}\t{model.task}\t{model.manifest.precision}\t{word}")


def set_defaults(terminal: Terminal, refs: tuple[str, ...], *, precision: str | None, chosen: bool) -> None:
    """Choose the precision that references without one mean, or end that choice, and print what they mean then.

    Raises:
        UsageError: no precision is given to choose.
    """
    from gpux.model.reference import ModelRef
    from gpux.store import Store

    store = Store(terminal.settings.store)
    wanted = [ModelRef.parse(ref).in_precision(precision) for ref in refs]
    if chosen:
        for ref in wanted:
            _refuse_without_precision(store, ref)
    for ref in wanted:
        if chosen or ref.precision in (None, store.default_precision(ref)):
            store.choose_precision(ref, ref.precision if chosen else None)
    meant = [(ref, store.find_ref(replace(ref.bare, revision=None))) for ref in wanted]
    if terminal.as_json:
        documents = [
            {
                "reference": str(ref),
                "chosen": store.default_precision(ref),
                "precision": model.manifest.precision if model else None,
            }
            for ref, model in meant
        ]
        terminal.data(documents)
        return
    for ref, model in meant:
        how = "chosen" if store.default_precision(ref) else "the most exact one stored"
        terminal.line(f"{ref.id}\t{model.manifest.precision if model else 'not stored'}\t{how}")


def _refuse_without_precision(store: Store, ref: ModelRef) -> None:
    from gpux.model.precisions import preference

    if ref.precision is not None:
        return
    found = {model.manifest.precision for model in store.matching(ref)}
    stored = " or ".join(f"{ref}:{name}" for name in sorted(found, key=preference))
    raise UsageError(f"{ref} names no precision that could become the default", hint=f"Name one: {stored}.")


def _canonical_task(_: click.Context, __: click.Parameter, task: str | None) -> str | None:
    """The task that variants are stored for: ``text2text-generation`` for ``translation_en_to_de``."""
    from gpux.model.tasks import canonical

    return canonical(task) if task else None


_TASK = click.option("--task", callback=_canonical_task, help="Only the variants for this task.")
_PRECISION = click.option("--precision", metavar="NAME", help="Only the variants in this precision, as REF:int8.")


@command("pin")
@required_references_argument
@_TASK
@_PRECISION
@click.option("--default", "default", is_flag=True, help="Let REF without a precision mean REF:int8; pins nothing.")
def pin_command(
    terminal: Terminal, refs: tuple[str, ...], task: str | None, precision: str | None, default: bool
) -> None:
    """Pin stored models, so that neither GPUX_MAX_CACHE nor `gpux prune` removes them.

    Pins the variants that are stored now: those of the revision and precision in REF, or all. `gpux rm` removes pinned
    ones too. With --default, `gpux pin REF:int8` chooses the precision that REF alone means, at every revision.
    """
    if default:
        _refuse_task(task)
        set_defaults(terminal, refs, precision=precision, chosen=True)
    else:
        set_pins(terminal, refs, task=task, precision=precision, pinned=True)


@command("unpin")
@required_references_argument
@_TASK
@_PRECISION
@click.option("--default", "default", is_flag=True, help="Let REF mean the most exact variant that is stored again.")
def unpin_command(
    terminal: Terminal, refs: tuple[str, ...], task: str | None, precision: str | None, default: bool
) -> None:
    """Allow stored models to be evicted and pruned again."""
    if default:
        _refuse_task(task)
        set_defaults(terminal, refs, precision=precision, chosen=False)
    else:
        set_pins(terminal, refs, task=task, precision=precision, pinned=False)


def _refuse_task(task: str | None) -> None:
    if task is not None:
        raise UsageError("--default holds for every task of a model", hint="Remove --task.")


class Removed(Protocol):
    """One entry of a removal plan."""

    @property
    def path(self) -> Path:
        """Its folder or file."""

    @property
    def title(self) -> str:
        """Name of the variant or the source files."""

    @property
    def reason(self) -> str:
        """Why it is removed."""

    @property
    def size(self) -> int:
        """Bytes that its removal frees."""


class Plan(Protocol):
    """A removal plan of the store or of the source cache."""

    @property
    def removals(self) -> Sequence[Removed]:
        """Its entries."""

    @property
    def bytes_freed(self) -> int:
        """Bytes that all removals free."""

    def execute(self) -> int:
        """Remove everything in the plan; returns the bytes that were freed."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""


def carry_out(terminal: Terminal, plan: Plan, *sources: Plan, dry_run: bool, yes: bool) -> None:
    """Show a plan, ask unless ``yes``, and execute it; source files are removed first."""
    plans = (*sources, plan)
    removals = [removal for one in (plan, *sources) for removal in one.removals]
    planned = sum(one.bytes_freed for one in plans)
    if removals and not terminal.as_json:
        rows = [(removal.title, removal.reason, figures.size(removal.size)) for removal in removals]
        terminal.table(("Removed", "Why", "Size"), rows, right=(2,))
    loaded = _loaded(terminal, plan)
    for title, url in loaded:
        terminal.say(
            f"! {title} is loaded by the server at {url}: new requests for it fail once it is removed, and the server "
            "unloads it within 10 seconds after its running requests."
        )
    if not removals:
        terminal.say("Nothing to remove.")
    elif not dry_run:
        if not terminal.confirm(f"Remove {figures.size(planned)}?", yes=yes):
            raise terminal.declined("nothing was removed", "Add --yes to remove without a question.")
        freed = sum(one.execute() for one in plans)
        terminal.say(f"{figures.size(freed)} freed.")
    else:
        terminal.say(f"{figures.size(planned)} would be freed.")
    if terminal.as_json:
        source = {"source": [one.to_dict() for one in sources]} if sources else {}
        done = bool(removals) and not dry_run
        servers = [{"title": title, "url": url} for title, url in loaded]
        terminal.data({**plan.to_dict(), "bytes_freed": planned, **source, "loaded": servers, "removed": done})


def _loaded(terminal: Terminal, plan: Plan) -> list[tuple[str, str]]:
    """The titles of what running servers have loaded, each with the address of the server."""
    from gpux.server.records import servers_with

    found = [(one, servers_with(one.path, terminal.settings)) for one in plan.removals]
    return [(one.title, server.url) for one, servers in found for server in servers]


@command("rm")
@required_references_argument
@_TASK
@_PRECISION
@click.option("--source", is_flag=True, help="Remove their source files too, unless another commit needs them.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and stop.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rm_command(
    terminal: Terminal,
    refs: tuple[str, ...],
    task: str | None,
    precision: str | None,
    source: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove stored models. Source files stay in the Hugging Face cache, which other tools share.

    With --source, the source files of the same commits are removed too, or of all commits where REF has no revision.
    """
    from gpux.model.reference import ModelRef
    from gpux.source_cache.removal import plan_source_removal
    from gpux.store import Store
    from gpux.upkeep.inventory import take_inventory

    store = Store(terminal.settings.store)
    wanted = [ModelRef.parse(ref).in_precision(precision) for ref in refs]
    if not source:
        models = [model for ref in wanted for model in _variants(terminal, store, ref, task)]
        carry_out(terminal, store.removal_plan(models), dry_run=dry_run, yes=yes)
        return
    found = take_inventory([ref.bare for ref in wanted], settings=terminal.settings, store=store)
    plans = []
    for part in found.sources:
        _refuse_busy(store, part.repository.id)
        every = part.commits == part.repository.commits
        cache = terminal.settings.hf_cache
        plans.append(plan_source_removal(cache, part.repository.id, None if every else part.commits))
    if all(ref.precision is None for ref in wanted):
        models = [model for model in found.variants if task in (None, model.task)]
    else:
        models = [model for ref in wanted for model in store.matching(ref, task=task)]
    kept = sum(plan.kept for plan in plans)
    if kept:
        terminal.say(f"{figures.size(kept)} of source files are kept: other commits need them.")
    carry_out(terminal, store.removal_plan(models), *plans, dry_run=dry_run, yes=yes)


def _variants(terminal: Terminal, store: Store, ref: ModelRef, task: str | None) -> list[StoredModel]:
    from gpux.upkeep.inventory import take_inventory

    try:
        return store.matching(ref, task=task)
    except NotStoredError as exc:
        if not take_inventory([ref.bare], settings=terminal.settings, store=store).sources:
            raise
        if ref.precision is not None:  # source files have no precision of their own
            raise
        hint = f"Only source files are on this machine: `gpux rm {ref} --source` removes them."
        raise NotStoredError(exc.message, hint=hint, **exc.details) from exc


def _refuse_busy(store: Store, id: str) -> None:
    if store.busy("hf", id):
        hint = "Run the same command again when the conversion has ended."
        raise StorageError(f"{id} is being converted right now; its source files are in use", hint=hint)


@command("prune")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and stop.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def prune_command(terminal: Terminal, dry_run: bool, yes: bool) -> None:
    """Remove superseded and damaged variants, and files left by killed processes."""
    from gpux.store import Store

    carry_out(terminal, Store(terminal.settings.store).prune_plan(), dry_run=dry_run, yes=yes)
