"""``gpux info``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpux.cli import figures
from gpux.cli.references import reference_argument
from gpux.cli.terminal import Terminal, command
from gpux.errors import UsageError, WrongKindError
from gpux.model.precisions import QUANTIZED
from gpux.model.reference import ModelRef
from gpux.model.tasks import task_of_architectures
from gpux.system.words import counted

if TYPE_CHECKING:
    from gpux.describe import ModelDescription
    from gpux.inspect.architecture import ArchitectureSummary, Quantization
    from gpux.inspect.card import Evaluation, ModelCard, Security
    from gpux.inspect.fit import DeviceFit, FitReport
    from gpux.inspect.headers.gguf_summary import GgufSummary
    from gpux.managers.info_cache import DatedInfo
    from gpux.model.info import ModelInfo
    from gpux.model.variant import Manifest, StoredModel

Rows = Iterator[tuple[str, str]]
_SHOWN = 5  #: results, languages, files … of a list; --json prints all


@command("info")
@reference_argument
@click.option("--revision", help="Branch, tag, refs/pr/N or commit.")
@click.option("--files", is_flag=True, help="List the files instead.")
@click.option(
    "--headers", is_flag=True, help="Read the headers of the weight files even if the Hub reports the parameter count."
)
@click.option("--scan", is_flag=True, help="Show what the Hub's scanners found in pickle files.")
@click.option("--chain", is_flag=True, help="Follow the base models back to the original.")
@click.option("--fit", is_flag=True, help="Estimate whether the model fits this machine, and its tokens per second.")
@click.option("--context", type=click.IntRange(min=1), help="Tokens of context for --fit.")
@click.option("--batch", type=click.IntRange(min=1), help="Batch size for --fit.")
@click.option("--precision", help=f"Precision for --fit: fp32, {', '.join(QUANTIZED)}, auto; default: all of them.")
@click.option("--offline", is_flag=True, help="Send no request; show the last answer of the Hub.")
def info_command(
    terminal: Terminal, ref: str, revision: str | None, files: bool, offline: bool, **options: Any
) -> None:
    """Show metadata of a model without pulling it; for spaces/org/name, the models that the Space uses.

    REF may name one file: org/name/path/file.gguf, or a local ./file.gguf.
    If the Hub cannot be reached, its last answer is shown, with its age.
    """
    terminal.override(offline=offline or None)
    try:
        parsed = _parsed(ref).at(revision).in_precision(options["precision"])
    except WrongKindError as exc:
        if exc.details["kind"] != "space" or revision or files:
            raise
        _show_space(terminal, ModelRef("hf", exc.details["id"], endpoint=exc.details["endpoint"]))
        return
    if not options["fit"] and any(options[name] for name in ("context", "batch", "precision")):
        raise UsageError("--context, --batch and --precision are for --fit", hint="Add --fit.")
    if files:
        _show_files(terminal, parsed)
    else:
        _show_page(terminal, parsed, options)


def _show_page(terminal: Terminal, ref: ModelRef, options: dict[str, Any]) -> None:
    from gpux.describe import describe_model
    from gpux.store import Store

    found = describe_model(
        ref,
        settings=terminal.settings,
        headers="always" if options["headers"] else "auto",
        chain=options["chain"],
        scans=options["scan"],
    )
    stored = [model for model in Store(terminal.settings.store).models() if model.id == found.known.info.id]
    stored = [model for model in stored if ref.precision in (None, model.manifest.precision)]
    if note := _remark(found.known):
        terminal.say(f"! {note}")
    fit = _fit_reports(terminal, found, {**options, "precision": ref.precision}) if options["fit"] else None
    if terminal.as_json:
        terminal.data(_document(found, stored, fit))
        return
    terminal.table(("", ""), [*_rows(found), *_variants(stored)])
    if fit is not None:
        _show_fit(terminal, fit)


def _show_files(terminal: Terminal, ref: ModelRef) -> None:
    from gpux.managers.info_cache import latest_info
    from gpux.managers.registry import manager_for

    known = latest_info(manager_for(ref.scheme, terminal.settings), ref)
    if note := _remark(known):
        terminal.say(f"! {note}")
    files = known.info.files
    if terminal.as_json:
        terminal.data([file.to_dict() for file in files])
        return
    rows = [(file.path, figures.size(file.size), (file.etag or "")[:12]) for file in files]
    terminal.table(("File", "Size", "Hash"), rows, right=(1,))


def _show_space(terminal: Terminal, ref: ModelRef) -> None:
    """Print the models on stdout; in a pipe one per line, as `gpux pull` and `gpux check` accept them."""
    from gpux.huggingface.manager import HuggingFaceManager

    space = HuggingFaceManager(terminal.settings).get_space_info(ref)
    if terminal.as_json:
        terminal.data(space.to_dict())
        return
    facts = ", ".join(filter(None, (space.sdk, (space.stage or "").lower(), "private" if space.private else "")))
    uses = f"uses {counted(len(space.models), 'model')}" if space.models else "names no models"
    terminal.say(f"{space.id} is a Space ({facts or 'unknown SDK'}) that {uses}.")
    terminal.table(("Model",), [(model,) for model in space.models])


def _parsed(ref: str) -> ModelRef:
    """Parse a reference; the bare name of a weight file in the working directory is that file."""
    if ref.lower().endswith((".gguf", ".safetensors")) and "/" not in ref and Path(ref).is_file():
        return ModelRef("local", ref)
    return ModelRef.parse(ref)


def _remark(known: DatedInfo) -> str | None:
    """Return why the shown metadata is not current and options old it is; None if the Hub just answered."""
    if known.why is None:
        return None
    if known.age is None:
        return f"{known.why}; shown: the model's files on this machine"
    return f"{known.why}; shown: the Hub's answer from {figures.ago(known.age)}"


def _document(
    found: ModelDescription, stored: Sequence[StoredModel], fit: Sequence[Any] | None = None
) -> dict[str, Any]:
    """The JSON document: metadata, its age in seconds and why it is not current, description, stored variants."""
    described = found.to_dict()
    known = described.pop("known")
    age = found.known.age
    said = {"retrieved": known["retrieved"], "age": age and round(age), "why": known["why"]}
    size = {"parameter_facts": described.pop("parameters")}
    fits = {} if fit is None else {"fit": [report.to_dict() for report in fit]}
    return {**known["info"], **said, **size, **described, **fits, "stored": [model.to_dict() for model in stored]}


def _variants(stored: Sequence[StoredModel]) -> list[tuple[str, str]]:
    """One row per stored variant: task, precision, recipe and proof."""
    return [
        ("stored", f"{model.task}, {model.manifest.precision}, {_recipe_and_proof(model.manifest)}") for model in stored
    ]


def _recipe_and_proof(manifest: Manifest) -> str:
    proof = figures.proof(manifest)
    return proof if proof == manifest.recipe else f"{manifest.recipe}: {proof}"


def _rows(found: ModelDescription) -> list[tuple[str, str]]:
    """The rows of the page; rows without a value are omitted."""
    info = found.known.info
    rows = [
        ("as of", _as_of(found.known)),
        ("model", info.id + (f" (requested as {info.requested_id})" if info.id != info.requested_id else "")),
        ("commit", (info.commit or "") + (f" ({info.revision})" if info.commit and info.revision else "")),
        ("task", _task(info)),
        ("library", info.library),
        *_architecture(found),
        *_parameters(found),
        ("precision", _precision(found)),
        ("formats", " ".join(info.formats)),
        ("files", f"{len(info.files)}, {figures.size(info.size)}"),
        *_card(found.card, info),
        *_unknown(found.unknown),
        *(("note", note) for note in found.notes),
    ]
    chain = " → ".join(base.id for base in found.base_chain)
    return [(name, value) for name, value in (*rows, ("base chain", chain)) if value]


def _unknown(unknown: Mapping[str, str]) -> Rows:
    """One row per reason, with all fields that are unknown for that reason."""
    for why in dict.fromkeys(unknown.values()):
        yield "unknown", f"{', '.join(sorted(name for name in unknown if unknown[name] == why))}: {why}"


def _task(info: ModelInfo) -> str | None:
    by_class = task_of_architectures(info.architectures)
    return info.task or (f"{by_class} (by its class name)" if by_class else None)


def _card(card: ModelCard, info: ModelInfo) -> Rows:
    named = f" ({card.license_name})" if card.license_name else ""
    yield "license", f"{card.license}{named}" if card.license else ""
    yield "languages", _some(card.languages)
    yield (
        "base model",
        _some([f"{base.id} ({base.relation})" if base.relation else base.id for base in card.base_models]),
    )
    yield "datasets", _some(card.datasets)
    yield from (("result", _result(result)) for result in card.evaluations[:_SHOWN])
    if len(card.evaluations) > _SHOWN:
        yield "result", f"… and {len(card.evaluations) - _SHOWN} more with --json"
    yield "access", _access(info)
    yield from _security(card.security)
    yield "downloads", figures.count(card.downloads)
    yield "likes", figures.count(card.likes)
    yield "last modified", info.last_modified or ""


def _security(security: Security) -> Rows:
    if security.status != "unknown":
        yield "scan", {"safe": "no issues", "issues": "issues", "pending": "not finished"}[security.status]
    for issue in security.issues[:_SHOWN]:
        imports = f": imports {_some(issue.imports)}" if issue.imports else ""
        yield "scan", f"{issue.path} is {issue.level}{imports}"
    yield "pickles", _some(security.pickles)
    yield "runs code", _some(security.code)


def _result(result: Evaluation) -> str:
    value = f"{result.value:.4g}" if isinstance(result.value, float) else str(result.value)
    where = ", ".join(filter(None, (result.dataset, result.split)))
    return f"{result.metric} {value}" + (f" on {where}" if where else "") + (", verified" if result.verified else "")


def _some(values: Sequence[str]) -> str:
    rest = f" … {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(values[:_SHOWN]) + rest


def _as_of(known: DatedInfo) -> str:
    if known.why is None:
        return ""
    return "files on this machine" if known.age is None else f"{figures.ago(known.age)} ({known.retrieved})"


def _access(info: ModelInfo) -> str:
    if info.scheme != "hf":
        return ""
    if info.disabled:
        return "disabled"
    visible = "private" if info.private else "public"
    return f"{visible}, gated ({info.gated})" if info.gated else visible


def _architecture(found: ModelDescription) -> Rows:
    """Model type, layers, attention, experts, context and vocabulary."""
    info, summary = found.known.info, found.architecture
    kind = info.model_type or (summary.model_type if summary else None)
    yield "architecture", " ".join(filter(None, (kind, *info.architectures)))
    if summary is None:
        return
    yield "shape", ", ".join(_shape(summary))
    yield "attention", ", ".join(_attention(summary))
    yield "experts", _experts(summary)
    yield "context", _context(summary)
    yield "vocabulary", f"{summary.vocab_size:,} tokens" if summary.vocab_size else ""
    for name, tower in summary.towers.items():
        yield f"{name} part", ", ".join(filter(None, (tower.model_type, *_shape(tower))))


def _parameters(found: ModelDescription) -> Rows:
    """The parameter count and its source."""
    facts = found.parameters
    if facts.total is not None:
        active = f", {figures.count(facts.active)} active" if facts.active else ""
        yield "parameters", f"{figures.count(facts.total)}{active} ({facts.basis})"


def _precision(found: ModelDescription) -> str:
    """dtypes or GGUF types, the largest share first, with the quantization method."""
    summary, stored = found.architecture, _shares(found.parameters.dtypes)
    said = summary.dtype if summary and not stored else None
    parts = [*([stored] if stored else []), *([f"{said} (config.json)"] if said else [])]
    if summary and summary.quantization:
        parts.append(_quantized(summary.quantization))
    return ", ".join([*parts, *(_gguf(found.gguf) if found.gguf else ())])


def _gguf(summary: GgufSummary) -> Iterator[str]:
    if summary.label:
        yield f"as {summary.label}"
    if summary.bits:
        yield f"{summary.bits:.2f} bits a weight"


def _shape(summary: ArchitectureSummary) -> Iterator[str]:
    if summary.kind:
        yield summary.kind
    if summary.encoder_layers and summary.decoder_layers:
        yield f"{summary.encoder_layers} + {summary.decoder_layers} layers"
    elif summary.layers:
        yield f"{summary.layers} layers"
    if summary.hidden_size:
        yield f"hidden {summary.hidden_size:,}"
    if summary.intermediate_size:
        yield f"inner {summary.intermediate_size:,}"


def _attention(summary: ArchitectureSummary) -> Iterator[str]:
    if summary.attention and summary.attention != "none":
        yield summary.attention
    if summary.attention_heads:
        kv = summary.kv_heads
        yield f"{summary.attention_heads} heads" + (f" on {kv}" if kv and kv != summary.attention_heads else "")
    if summary.head_size:
        yield f"of {summary.head_size}"
    if summary.sliding_window:
        some = f" in {summary.sliding_layers} of {summary.layers} layers" if summary.sliding_layers else ""
        yield f"window {summary.sliding_window:,}{some}"


def _experts(summary: ArchitectureSummary) -> str:
    experts = summary.experts
    if experts is None:
        return ""
    used = f", {experts.active} active per token" if experts.active else ""
    return f"{experts.count}{used}" + (f", {experts.shared} shared" if experts.shared else "")


def _context(summary: ArchitectureSummary) -> str:
    if not summary.context_length:
        return ""
    before, scaling = summary.original_context_length, summary.rope_scaling
    options = f" ({scaling.kind} from {before:,})" if scaling and before and before != summary.context_length else ""
    return f"{summary.context_length:,} tokens{options}"


def _quantized(found: Quantization) -> str:
    bits = f" {found.bits} bits" if found.bits else ""
    return f"{found.method}{bits}" + (f" in groups of {found.group_size}" if found.group_size else "")


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{name} {100 * count / total:.3g} %" if len(counts) > 1 else name for name, count in ordered)


def _fit_reports(terminal: Terminal, found: ModelDescription, options: dict[str, Any]) -> list[FitReport]:
    """The estimates for the requested precision, context and batch size."""
    from gpux.describe.fitting import PRECISIONS, fit_model, this_machine
    from gpux.model.precisions import AUTO, canonical_precision

    precision = options["precision"]
    wanted = (canonical_precision(precision),) if precision else PRECISIONS
    if wanted == (AUTO,):
        from gpux.quantize.choose import automatic_precision

        info = found.known.info
        device, choice = automatic_precision(info, info.task or task_of_architectures(info.architectures) or "")
        terminal.say(f"{choice.precision} for {device}: {choice.reason}")
        wanted = (choice.precision,)
    machine = this_machine(terminal.settings.home)
    return fit_model(found, machine, context=options["context"], batch=options["batch"] or 1, precisions=wanted)


def _show_fit(terminal: Terminal, fits: Sequence[FitReport]) -> None:
    """Print two tables, memory per precision and verdict per device, then notes on the estimates."""
    first = fits[0]
    disk = f"{figures.size(first.download)} download, {figures.size(first.conversion_disk)} to convert"
    terminal.say(f"At {first.context:,} tokens and batch {first.batch}; disk: {disk} ({first.disk_verdict}).")
    needs = [
        (
            fit.precision,
            figures.size(fit.weights),
            figures.size(fit.kv_cache),
            figures.size(fit.activations),
            figures.size(fit.memory),
        )
        for fit in fits
    ]
    terminal.table(("Precision", "Weights", "Cache", "Activations", "Memory"), needs, right=(1, 2, 3, 4))
    where = [row for fit in fits for row in _devices(fit)]
    terminal.table(("Precision", "Device", "Free", "Verdict", "Max context", "Tokens/s"), where, right=(2, 4, 5))
    for note in dict.fromkeys(note for fit in fits for note in fit.notes):
        terminal.say(f"! {note}")


def _devices(fit: FitReport) -> Iterator[tuple[str, ...]]:
    return ((fit.precision, device.name, *_device(device)) for device in fit.devices)


def _device(device: DeviceFit) -> tuple[str, str, str, str]:
    speed = device.tokens_per_second
    return (
        figures.size(device.free),
        device.verdict,
        "" if device.largest_context is None else f"{device.largest_context:,}",
        "" if speed is None else f"{speed:.2g}" if speed < 10 else f"{speed:,.0f}",
    )
