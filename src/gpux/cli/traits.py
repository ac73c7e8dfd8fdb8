"""Architecture, size and precision of a model in a few words each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gpux.cli import figures

if TYPE_CHECKING:
    from gpux.describe import ModelDescription
    from gpux.inspect.architecture import ArchitectureSummary, Quantization
    from gpux.inspect.headers.gguf_summary import GgufSummary

Rows = Iterator[tuple[str, str]]


def architecture(found: ModelDescription) -> Rows:
    """What it is built of."""
    info, summary = found.known.info, found.architecture
    kind = info.model_type or (summary.model_type if summary else None)
    yield "architecture", " ".join(filter(None, (kind, *info.architectures)))
    if summary is None:
        return
    yield "built of", ", ".join(_shape(summary))
    yield "attention", ", ".join(_attention(summary))
    yield "experts", _experts(summary)
    yield "context", _context(summary)
    yield "vocabulary", f"{summary.vocab_size:,} tokens" if summary.vocab_size else ""
    for name, tower in summary.towers.items():
        yield f"{name} part", ", ".join(filter(None, (tower.model_type, *_shape(tower))))


def parameters(found: ModelDescription) -> Rows:
    """How many, and by which source."""
    facts = found.parameters
    if facts.total is not None:
        active = f", {figures.count(facts.active)} active" if facts.active else ""
        yield "parameters", f"{figures.count(facts.total)}{active} ({facts.basis})"


def precision(found: ModelDescription) -> str:
    """dtypes or GGUF types, the largest share first, and how they came to be."""
    summary, stored = found.architecture, _shares(found.parameters.dtypes)
    said = summary.dtype if summary and not stored else None
    parts = [*([stored] if stored else []), *([f"{said} by its config.json"] if said else [])]
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
    used = f", {experts.active} used by a token" if experts.active else ""
    return f"{experts.count}{used}" + (f", {experts.shared} shared" if experts.shared else "")


def _context(summary: ArchitectureSummary) -> str:
    if not summary.context_length:
        return ""
    before, scaling = summary.original_context_length, summary.rope_scaling
    how = f" ({scaling.kind} from {before:,})" if scaling and before and before != summary.context_length else ""
    return f"{summary.context_length:,} tokens{how}"


def _quantized(found: Quantization) -> str:
    bits = f" {found.bits} bits" if found.bits else ""
    return f"{found.method}{bits}" + (f" in groups of {found.group_size}" if found.group_size else "")


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{name} {100 * count / total:.3g} %" if len(counts) > 1 else name for name, count in ordered)
