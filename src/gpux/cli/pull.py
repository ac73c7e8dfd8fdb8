"""``gpux pull`` and ``gpux convert``: options, plans (``--dry-run``, ``--explain``), pulls of models and of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

import click

from gpux.cli import figures, jobs
from gpux.cli.references import reference_argument, references_argument
from gpux.cli.terminal import Terminal, command
from gpux.cli.toolchain import install_missing, with_toolchain
from gpux.errors import GpuxError
from gpux.inspect.formats import FORMATS, Selection
from gpux.model.precisions import QUANTIZED
from gpux.model.reference import ModelRef, whole_model
from gpux.model.variant import StoredModel
from gpux.system.words import counted

if TYPE_CHECKING:
    from gpux.pull.files import FilesPlan
    from gpux.pull.plan import PullPlan

_OPTIONS = (
    click.option("--revision", help="Branch, tag, refs/pr/N or commit."),
    click.option("--task", help="The task; by default the one that the model's files declare."),
    click.option(
        "--device", default="auto", show_default=True, help="Device that --precision auto chooses for: cpu, cuda …"
    ),
    click.option("--force", is_flag=True, help="Pull again although the model is stored."),
    click.option("--prove", is_flag=True, help="Prove a model's own ONNX against its original weights."),
    click.option("--allow-inexact", is_flag=True, help="Store a conversion beyond tolerance, marked as inexact."),
    click.option("--trust-remote-code", is_flag=True, help="Run the repository's own code while converting."),
    click.option("--discard-source", is_flag=True, help="Remove the source files after the model is stored."),
    click.option("--ignore-disk-space", is_flag=True, help="Start although the disk space seems too small."),
    click.option("--ignore-memory", is_flag=True, help="Start although the memory seems too small."),
    click.option("--offline", is_flag=True, help="Use files on this machine only; make no request."),
    click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking."),
)


def pull_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands share."""
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


def pull_several(
    terminal: Terminal,
    refs: Sequence[str],
    failed: Mapping[str, GpuxError] = MappingProxyType({}),
    *,
    yes: bool,
    **options: Any,
) -> int:
    """Pull several models, a few at a time, and print one report; the exit code is that of the first failure.

    ``failed`` are texts that are not references, which the report lists too.
    """
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
    outcomes |= {text: PullOutcome(text, None, exc, 0.0) for text, exc in failed.items()}
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
    terminal.line(f"{model.id}@{model.commit[:12]}\t{model.task}\t{figures.proof(model.manifest)}")


@dataclass(frozen=True)
class Choice:
    """The options that select files; :meth:`selection` applies them to one reference."""

    format: str | None
    precision: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    everything: bool

    def wants_files(self, ref: ModelRef) -> bool:
        """True where files are to be downloaded unchanged, instead of a runnable model."""
        return bool(self.format or self.include or self.exclude or self.everything or ref.file)

    def selection(self, ref: ModelRef) -> Selection:
        """The selection of files for one reference."""
        precision = self.precision or ref.precision
        return Selection(self.format, precision, self.include, self.exclude, self.everything, ref.file)


_FILE_OPTIONS = (
    click.option("--format", type=click.Choice(list(FORMATS)), help="Download weights in this format, unchanged."),
    click.option(
        "--precision",
        help=f"{', '.join(QUANTIZED)}, auto …: shipped, or quantized from fp32; with --format, of files.",
    ),
    click.option("--include", multiple=True, help="Download only matching files, e.g. 'Model.mlpackage/**'."),
    click.option("--exclude", multiple=True, help="Download all files except matching ones."),
    click.option("--all", "everything", is_flag=True, help="Download every file, in every format."),
)


def choice_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select files; the command gets them as one argument, ``choice``."""

    def gathered(*args: Any, **options: Any) -> Any:
        names = ("format", "precision", "include", "exclude", "everything")
        return function(*args, choice=Choice(**{name: options.pop(name) for name in names}), **options)

    gathered.__doc__ = function.__doc__
    gathered.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Callable[..., Any] = gathered
    for option in reversed(_FILE_OPTIONS):
        decorated = option(decorated)
    return decorated


def fetch_files(terminal: Terminal, ref: ModelRef, choice: Choice, *, ignore_disk_space: bool) -> dict[str, Any]:
    """Download files of one model and print where they are; returns the JSON document."""
    from gpux.pull.files import place_of, pull_files

    with terminal.progress() as progress:
        snapshot = pull_files(
            ref,
            selection=choice.selection(ref),
            ignore_disk_space=ignore_disk_space,
            settings=terminal.settings,
            progress=progress,
        )
    place = str(place_of(snapshot))
    if not terminal.as_json:
        if snapshot.report is not None and snapshot.report.received:
            terminal.say(figures.transfer(snapshot.report))
        terminal.line(place)
    transfer = snapshot.report.to_dict() if snapshot.report else None
    files = {"path": str(snapshot.path), "files": list(snapshot.files), "id": snapshot.info.id}
    return {"ref": str(ref), "place": place, **files, "commit": snapshot.info.commit, "transfer": transfer}


#: Options of the command that are not keywords of :func:`gpux.plan_model`.
_NOT_PLANNED = ("yes", "revision")


def show_plans(
    terminal: Terminal,
    refs: Sequence[ModelRef],
    choice: Choice,
    options: Mapping[str, Any],
    failed: Mapping[str, GpuxError] = MappingProxyType({}),
) -> int:
    """Print the plan of each pull; the exit code is that of the first pull that is refused.

    Raises:
        GpuxError: the error of a single reference.
    """
    documents: list[dict[str, Any]] = []
    errors: list[GpuxError] = []
    error: GpuxError | None
    for ref in refs:
        try:
            plan = _plan(terminal, ref, choice, options)
        except GpuxError as exc:
            if len(refs) == 1 and not failed:
                raise
            document, error = {"ref": str(ref), "error": exc.to_dict()}, exc
        else:
            document, error = {"ref": str(ref), **plan.to_dict()}, plan.refusal
            if not terminal.as_json:
                _print_plan(terminal, plan)
        documents.append(document)
        if error is not None:
            errors.append(error)
    documents += [{"ref": text, "error": exc.to_dict()} for text, exc in failed.items()]
    errors += failed.values()
    return _conclude(terminal, documents if len(refs) != 1 or failed else documents[0], errors)


def _plan(terminal: Terminal, ref: ModelRef, choice: Choice, options: Mapping[str, Any]) -> PullPlan | FilesPlan:
    from gpux.pull.api import plan_model
    from gpux.pull.files import plan_files

    if choice.wants_files(ref):
        ignore = options["ignore_disk_space"]
        selection = choice.selection(ref)
        return plan_files(ref, selection=selection, ignore_disk_space=ignore, settings=terminal.settings)
    planned = {name: value for name, value in options.items() if name not in _NOT_PLANNED}
    return plan_model(ref, precision=choice.precision, settings=terminal.settings, **planned)


def _conclude(terminal: Terminal, document: Any, errors: Sequence[GpuxError]) -> int:
    """Print the document, and report the errors of refused plans; the exit code.

    Raises:
        GpuxError: the error of a single plan that was printed for a person.
    """
    if terminal.as_json:
        terminal.data(document)
    elif isinstance(document, dict) and errors:
        raise errors[0]
    for error in errors:
        terminal.warn(error.message, error.hint)
    return errors[0].exit_code if errors else 0


def _print_plan(terminal: Terminal, plan: PullPlan | FilesPlan) -> None:
    from gpux.pull.plan import PullPlan

    title = f"{plan.id} at {plan.commit[:12]}"
    if isinstance(plan, PullPlan):
        for note in plan.notes:
            terminal.say(note)
        if plan.stored is not None:
            terminal.say(f"{title} is stored for {plan.task} in {plan.precision}: nothing to do")
            return
        if plan.candidates:
            _print_candidates(terminal, plan)
        if not plan.usable and not plan.files:
            return
    terminal.table(
        ("File", "Size", "", "Why"),
        [(f.path, figures.size(f.size), "cached" if f.cached else "fetch", f.reason) for f in plan.files],
        title=title,
        right=(1,),
    )
    left = sum(file.size or 0 for file in plan.left_out)
    terminal.say(
        f"{title}: {figures.size(plan.total_bytes)}, {figures.size(plan.fetch_bytes)} to fetch; "
        f"{counted(len(plan.left_out), 'file')} of {figures.size(left)} left out"
    )
    for need in plan.space:
        state = "fits" if need.fits else "DOES NOT FIT"
        terminal.say(
            f"{need.purpose}: {figures.size(need.needed - need.reserve)} on the disk of {need.folder}, "
            f"{figures.size(need.reserve)} in reserve, {figures.size(need.free)} free: {state}"
        )
    memory = plan.memory if isinstance(plan, PullPlan) else None
    if memory is not None:
        state = "fits" if memory.fits else "DOES NOT FIT"
        available = figures.size(memory.available)
        terminal.say(f"{memory.purpose}: about {figures.size(memory.needed)} of memory, {available} available: {state}")


def _print_candidates(terminal: Terminal, plan: PullPlan) -> None:
    terminal.table(
        ("", "Candidate", "Why"),
        [("yes" if candidate.usable else "no", candidate.name, candidate.reason) for candidate in plan.candidates],
        title=f"{plan.id} at {plan.commit[:12]}: {plan.task}, {plan.precision}",
    )
    if plan.ready:  # otherwise the error names the toolchain
        for name, hint in plan.missing.items():
            terminal.say(f"The toolchain of {name} is not installed. {hint}")


def explain(terminal: Terminal, ref: str, **options: Any) -> int:
    """Print the candidates of one pull; the exit code is 0, or that of the error with which the pull is refused."""
    from gpux.pull.api import explain_model

    plan = explain_model(ref, settings=terminal.settings, **options)
    if not terminal.as_json:
        for note in plan.notes:
            terminal.say(note)
        _print_candidates(terminal, plan)
        if plan.stored is not None:
            terminal.say(f"It is stored at {plan.stored.path}.")
        elif plan.ready:
            terminal.say(f"{plan.ready[0].name} is tried first.")
        for repository in plan.other_repositories:
            terminal.say(f"{repository} holds ONNX that was made from it: `gpux pull {repository}` uses that instead.")
    return _conclude(terminal, plan.to_dict(), [plan.refusal] if plan.refusal else [])


def each(
    terminal: Terminal,
    refs: Sequence[ModelRef],
    action: Callable[[ModelRef], dict[str, Any]],
    failed: Mapping[str, GpuxError] = MappingProxyType({}),
) -> int:
    """Run an action for every reference, and print its JSON documents; a failure does not stop the others.

    ``failed`` are texts that are not references. Returns the exit code of the first failure. The error of a single
    reference is raised.
    """
    if len(refs) == 1 and not failed:
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
    for text, error in failed.items():
        codes.append(error.exit_code)
        documents.append({"ref": text, "error": error.to_dict()})
        terminal.warn(error.message, error.hint)
    if terminal.as_json:
        terminal.data(documents)
    return next(iter(codes), 0)


@command("pull")
@references_argument
@click.option(
    "--from-file",
    "listed",
    type=click.File(encoding="utf-8", errors="replace"),
    help="File with one reference per line; - for stdin. A bad line does not stop the others.",
)
@choice_options
@click.option("--detach", is_flag=True, help="Pull in the background, even after the terminal closes; see gpux jobs.")
@click.option("--dry-run", is_flag=True, help="Show the plan: candidates, files, sizes, disk and memory; then stop.")
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
    """Download, convert, prove and store models, so that they can be run.

    REFS are org/name, name, org/name@revision, org/name:int8, Hub URLs, ./folder or file.onnx. ONNX that a repository
    ships is used as it is, and nothing is converted. A model that is stored already costs one request at most.

    With --format, --include, --exclude or --all, or for org/name/path/to/file, files are downloaded unchanged into the
    Hugging Face cache, and their path is printed.
    """
    terminal.override(offline=offline or None)
    if detach:
        jobs.refuse_standard_input(terminal)
    wanted = [_reference(text, choice, options) for text in refs]
    failed: dict[str, GpuxError] = {}
    for text in _read(listed):
        try:
            wanted.append(_reference(text, choice, options))
        except GpuxError as exc:
            failed[text] = exc
    if wanted or not failed:
        _check(wanted, choice, options, detach=detach, dry_run=dry_run)
    if detach:
        for error in failed.values():
            raise error
        jobs.detach(terminal, [str(ref) for ref in wanted])
        return 0
    if dry_run:
        return show_plans(terminal, wanted, choice, options, failed)
    if any(map(choice.wants_files, wanted)):
        ignore = options["ignore_disk_space"]
        return each(terminal, wanted, lambda ref: fetch_files(terminal, ref, choice, ignore_disk_space=ignore), failed)
    options = {**options, "precision": None, "revision": None}
    if len(wanted) == 1 and listed is None:
        return pull_one(terminal, str(wanted[0]), **options)
    return pull_several(terminal, [str(ref) for ref in wanted], failed, **options)


def _reference(text: str, choice: Choice, options: Mapping[str, Any]) -> ModelRef:
    ref = ModelRef.parse(text).at(options["revision"])
    return ref if choice.wants_files(ref) else ref.in_precision(choice.precision)


def _check(wanted: list[ModelRef], choice: Choice, options: dict[str, Any], *, detach: bool, dry_run: bool) -> None:
    """Refuse contradicting options before any request."""
    context = click.get_current_context()
    if not wanted:
        raise click.UsageError("no model given: gpux pull org/name", context)
    if detach and dry_run:
        raise click.UsageError("--detach cannot be combined with --dry-run", context)
    as_files = {choice.wants_files(ref) for ref in wanted}
    if len(as_files) == 2:
        raise click.UsageError("some references name files and some name models: pull them with two commands", context)
    ignored = [name for name in ("task", "force", "allow_inexact", "discard_source") if options[name]]
    if True in as_files and ignored and not dry_run:
        for ref in wanted:  # a folder that is written without ./ reads as a file of a repository
            if ref.file and Path(ref.id, ref.file).is_dir():
                whole_model(ref)
        names = ", ".join("--" + name.replace("_", "-") for name in ignored)
        raise click.UsageError(f"{names} cannot be used where files are downloaded unchanged", context)


def _read(listed: IO[str] | None) -> list[str]:
    """The references in a file, without blank lines and comments (#)."""
    lines = (line.lstrip("\ufeff").partition("#")[0].strip() for line in listed or ())
    return [line for line in lines if line]


@command("convert")
@reference_argument
@click.option(
    "--precision", help=f"fp32, {', '.join(QUANTIZED)}, or auto for the device; as REF:int8; by default fp32."
)
@click.option(
    "--converter", metavar="NAME", help="The only converter to try: optimum, mobius …; by default the best first."
)
@click.option(
    "--explain", "explained", is_flag=True, help="Show the candidates and why each is used or not, then stop."
)
@pull_options
def convert_command(
    terminal: Terminal, ref: str, explained: bool, precision: str | None, offline: bool, **options: Any
) -> int:
    """Convert a model's original weights and prove the ONNX against them, even if the repository ships ONNX."""
    terminal.override(offline=offline or None)
    options["precision"] = precision
    if explained:
        del options["yes"]
        return explain(terminal, ref, convert=True, **options)
    return pull_one(terminal, ref, convert=True, **options)
