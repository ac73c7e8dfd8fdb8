"""``gpux pull`` and ``gpux convert``: their options, the preview, the explanation, and pulls of models and files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from gpux.cli import figures, jobs
from gpux.cli.terminal import Terminal, command
from gpux.cli.toolchain import install_missing, with_toolchain
from gpux.errors import GpuxError
from gpux.inspect.formats import FORMATS, Selection
from gpux.model.reference import ModelRef
from gpux.model.variant import SHIPPED, StoredModel

if TYPE_CHECKING:
    from gpux.pull.plan import Way
    from gpux.pull.preview import PullPreview

_OPTIONS = (
    click.option("--revision", help="Branch, tag, refs/pr/N or commit."),
    click.option("--task", help="The task to run it for; by default what the model's own files say."),
    click.option("--device", default="auto", show_default=True, help="What --precision auto chooses for: cpu, cuda …"),
    click.option("--force", is_flag=True, help="Make it again although it is stored."),
    click.option("--prove", is_flag=True, help="Prove a model's own ONNX against its original weights."),
    click.option("--allow-inexact", is_flag=True, help="Store a conversion beyond tolerance, marked as inexact."),
    click.option("--trust-remote-code", is_flag=True, help="Run the repository's own code while converting."),
    click.option("--discard-source", is_flag=True, help="Remove the source files when the model is stored."),
    click.option("--ignore-disk-space", is_flag=True, help="Begin although the disk looks too full."),
    click.option("--ignore-memory", is_flag=True, help="Begin although the memory looks too small."),
    click.option("--offline", is_flag=True, help="Use what is on this machine, ask no Hub."),
    click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking."),
)


def pull_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands have."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def pull_one(terminal: Terminal, ref: str, *, yes: bool, **options: Any) -> int:
    """Pull with progress, then print what is stored."""
    from gpux.pull.api import pull_model

    def pull() -> StoredModel:
        with terminal.progress() as progress:
            return pull_model(ref, settings=terminal.settings, progress=progress, **options)

    model = with_toolchain(terminal, pull, yes=yes)
    if terminal.as_json:
        transfer = model.report.to_dict() if model.report else None
        terminal.data({**model.to_dict(), "transfer": transfer})
    else:
        _say(terminal, model)
    return 0


def pull_several(terminal: Terminal, refs: Sequence[str], *, yes: bool, **options: Any) -> int:
    """Pull each, a few at a time; print one report. The exit code is that of the first failure."""
    from gpux.errors import ToolchainMissingError
    from gpux.pull.batch import PullOutcome, pull_models

    def pull(chosen: Sequence[str]) -> dict[str, PullOutcome]:
        with terminal.labelled_progress() as progress:
            found = pull_models(chosen, settings=terminal.settings, progress=progress, **options)
        return {outcome.ref: outcome for outcome in found}

    outcomes = pull(refs)
    waiting = [ref for ref, outcome in outcomes.items() if isinstance(outcome.error, ToolchainMissingError)]
    if install_missing(terminal, [outcomes[ref].error for ref in waiting], yes=yes):
        outcomes |= pull(waiting)
    if terminal.as_json:
        terminal.data([outcome.to_dict() for outcome in outcomes.values()])
    for outcome in outcomes.values():
        if outcome.model is not None and not terminal.as_json:
            _say(terminal, outcome.model)
        if outcome.error is not None:
            terminal.warn(outcome.error.message, outcome.error.hint)
    return next((outcome.error.exit_code for outcome in outcomes.values() if outcome.error), 0)


def _say(terminal: Terminal, model: StoredModel) -> None:
    if model.report is not None and model.report.received:
        terminal.say(figures.transfer(model.report))
    terminal.line(f"{model.id}@{model.commit[:12]}\t{model.task}\t{figures.proof(model.manifest.proof)}")


@dataclass(frozen=True)
class Choice:
    """What the options say; a :class:`Selection` for one reference."""

    format: str | None
    precision: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    everything: bool

    def wants_files(self, ref: ModelRef) -> bool:
        """True when files of this model are wanted as they are, not a runnable model."""
        return bool(self.format or self.include or self.exclude or self.everything or ref.file)

    def selection(self, ref: ModelRef) -> Selection:
        """What to bring of one model."""
        return Selection(self.format, self.precision, self.include, self.exclude, self.everything, ref.file)


_FETCHING_OPTIONS = (
    click.option("--format", type=click.Choice(list(FORMATS)), help="Bring weights in this format, as they are."),
    click.option("--precision", help="fp16, int8, int4, auto …: shipped, or made from fp32; with --format, of files."),
    click.option("--include", multiple=True, help="Bring exactly the files that match, e.g. 'Model.mlpackage/**'."),
    click.option("--exclude", multiple=True, help="Bring all but the files that match."),
    click.option("--all", "everything", is_flag=True, help="Bring every file, in every format."),
)


def choice_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, and hand them over as one ``choice``."""

    def gathered(*args: Any, **options: Any) -> Any:
        names = ("format", "precision", "include", "exclude", "everything")
        return function(*args, choice=Choice(**{name: options.pop(name) for name in names}), **options)

    gathered.__doc__ = function.__doc__
    gathered.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Callable[..., Any] = gathered
    for option in reversed(_FETCHING_OPTIONS):
        decorated = option(decorated)
    return decorated


def fetch_files(terminal: Terminal, ref: ModelRef, choice: Choice, *, ignore_disk_space: bool) -> dict[str, Any]:
    """Bring files of one model, and print where they are; what ``--json`` says of them."""
    from gpux.managers.registry import manager_for
    from gpux.pull.files import place_of, pull_files

    manager = manager_for(ref.scheme, terminal.settings)
    with terminal.progress() as progress:
        snapshot = pull_files(
            ref, manager, choice.selection(ref), ignore_disk_space=ignore_disk_space, progress=progress
        )
    place = str(place_of(snapshot))
    if not terminal.as_json:
        if snapshot.report is not None and snapshot.report.received:
            terminal.say(figures.transfer(snapshot.report))
        terminal.line(place)
    transfer = snapshot.report.to_dict() if snapshot.report else None
    files = {"path": str(snapshot.path), "files": list(snapshot.files), "id": snapshot.info.id}
    return {"ref": str(ref), "place": place, **files, "commit": snapshot.info.commit, "transfer": transfer}


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


def explain(terminal: Terminal, ref: str, **options: Any) -> int:
    """Print the plan for one model; 0 where a way leads there, else what the refusal ends with."""
    from gpux.pull.api import explain_model

    found = explain_model(ref, settings=terminal.settings, **options)
    if terminal.as_json:
        terminal.data(found.to_dict())
    else:
        plan = found.plan
        terminal.table(
            ("", "Way", "Why"),
            [("yes" if way.serves else "no", way.name, way.reason) for way in plan.ways],
            title=f"{plan.id} at {plan.commit[:12]}: {plan.task}, {plan.precision}",
        )
        if plan.serving:
            _say_taken(terminal, plan.serving, found.missing)
        for sibling in found.siblings:
            terminal.say(f"{sibling} holds ONNX made from it: `gpux pull {sibling}` takes that instead.")
    if found.refusal is not None:
        terminal.warn(found.refusal.message, found.refusal.hint)
        return found.refusal.exit_code
    return 0


def _say_taken(terminal: Terminal, ways: Sequence[Way], missing: Mapping[str, str]) -> None:
    first = ways[0]
    terminal.say(f"`gpux pull` takes {first.name}{_readiness(missing.get(first.name))}.")
    others = [way for way in ways if way.name != first.name]
    if first.name == SHIPPED and others:
        after = _readiness(missing.get(others[0].name))
        terminal.say(f"`gpux convert` leaves the repository's own ONNX aside and takes {others[0].name}{after}.")


def _readiness(hint: str | None) -> str:
    return f", once its toolchain is there. {hint.rstrip('.')}" if hint else ""


def each(terminal: Terminal, refs: Sequence[ModelRef], action: Callable[[ModelRef], dict[str, Any]]) -> int:
    """Do it for every reference; a failure of one does not stop the others. Prints the documents with ``--json``.

    The exit code is that of the first failure; the failure of a single reference is raised.
    """
    if len(refs) == 1:
        document = action(refs[0])
        if terminal.as_json:
            terminal.data(document)
        return 0
    documents, codes = [], []
    for ref in refs:
        try:
            documents.append(action(ref))
        except GpuxError as exc:
            codes.append(exc.exit_code)
            documents.append({"ref": str(ref), "error": exc.to_dict()})
            terminal.warn(exc.message, exc.hint)
    if terminal.as_json:
        terminal.data(documents)
    return next(iter(codes), 0)


@command("pull")
@click.argument("refs", nargs=-1)
@click.option("--from-file", "listed", type=click.File(), help="A file with one reference on each line; - for stdin.")
@choice_options
@click.option("--detach", is_flag=True, help="Go on in the background, also when the terminal closes; see gpux jobs.")
@click.option("--dry-run", is_flag=True, help="Show files, sizes, what is cached and the disk it needs, and stop.")
@pull_options
def pull_command(
    terminal: Terminal,
    refs: tuple[str, ...],
    listed: IO[str] | None,
    detach: bool,
    dry_run: bool,
    offline: bool,
    choice: Choice,
    **options: Any,
) -> int:
    """Bring models here, ready to run: download, convert, prove, store.

    REFS are org/name, name, org/name@revision, Hub URLs, ./folder or file.onnx. Where a repository has ONNX of its
    own, that is used and nothing is converted. What is there already costs one request at most.

    With --format, --include, --exclude or --all, or for org/name/path/to/file, files are brought as they are into the
    Hugging Face cache; nothing is converted, and their place is printed.
    """
    terminal.override(offline=offline or None)
    if detach:
        jobs.refuse_standard_input(terminal)
    wanted = [ModelRef.parse(text).at(options["revision"]) for text in (*refs, *_read(listed))]
    _check(wanted, choice, options, detach=detach, dry_run=dry_run)
    if detach:
        jobs.detach(terminal, [str(ref) for ref in wanted])
        return 0
    if dry_run:
        return each(terminal, wanted, lambda ref: show_preview(terminal, ref, choice, task=options["task"]))
    if choice.wants_files(wanted[0]):
        ignore = options["ignore_disk_space"]
        return each(terminal, wanted, lambda ref: fetch_files(terminal, ref, choice, ignore_disk_space=ignore))
    options = {**options, "precision": choice.precision or "fp32", "revision": None}
    if len(wanted) == 1 and listed is None:
        return pull_one(terminal, str(wanted[0]), **options)
    return pull_several(terminal, [str(ref) for ref in wanted], **options)


def _check(wanted: list[ModelRef], choice: Choice, options: dict[str, Any], *, detach: bool, dry_run: bool) -> None:
    """Refuse what contradicts itself, before anything travels."""
    context = click.get_current_context()
    if not wanted:
        raise click.UsageError("no model was named: gpux pull org/name", context)
    if detach and dry_run:
        raise click.UsageError("--detach and --dry-run: there is nothing to go on with", context)
    as_files = {choice.wants_files(ref) for ref in wanted}
    if len(as_files) == 2:
        raise click.UsageError("some references name files and some models: pull them with two commands", context)
    ignored = [name for name in ("task", "force", "allow_inexact", "discard_source") if options[name]]
    if True in as_files and ignored and not dry_run:
        names = ", ".join("--" + name.replace("_", "-") for name in ignored)
        raise click.UsageError(f"{names}: files that come as they are take no such option", context)


def _read(listed: IO[str] | None) -> list[str]:
    """The references of a list: blank lines and what follows a # do not count."""
    lines = (line.partition("#")[0].strip() for line in listed or ())
    return [line for line in lines if line]


#: What a plan depends on.
_PLANNED = ("revision", "task", "precision", "device", "converter")


@command("convert")
@click.argument("ref")
@click.option("--precision", default="fp32", show_default=True, help="fp32, fp16, int8, int4, or auto for the device.")
@click.option("--converter", metavar="NAME", help="The converter to use: optimum, mobius …; by default the best.")
@click.option("--explain", "explained", is_flag=True, help="Show which ways there are and why, and stop.")
@pull_options
def convert_command(
    terminal: Terminal, ref: str, explained: bool, precision: str, offline: bool, **options: Any
) -> int:
    """Convert a model's original weights and prove the ONNX against them, also where the repository ships ONNX."""
    terminal.override(offline=offline or None)
    options["precision"] = precision
    if explained:
        return explain(terminal, ref, **{name: options[name] for name in _PLANNED})
    return pull_one(terminal, ref, convert=True, **options)
