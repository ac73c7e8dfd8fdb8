"""What ``gpux info --fit`` shows: a line for each precision, and one for each device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gpux.cli import figures

if TYPE_CHECKING:
    from gpux.cli.terminal import Terminal
    from gpux.describe import ModelDescription
    from gpux.inspect.fit import DeviceFit, FitReport


def reports(terminal: Terminal, found: ModelDescription, how: dict[str, Any]) -> list[FitReport]:
    """The estimates for what was asked for."""
    from gpux.describe.fitting import PRECISIONS, fit_model, this_machine
    from gpux.model.precisions import canonical_precision

    asked = how["precision"]
    wanted = (canonical_precision(asked),) if asked else PRECISIONS
    machine = this_machine(terminal.settings.home)
    return fit_model(found, machine, context=how["context"], batch=how["batch"] or 1, precisions=wanted)


def show(terminal: Terminal, fits: Sequence[FitReport]) -> None:
    """Two tables: what each precision needs, and where that fits; then what the estimates leave open."""
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
    terminal.table(("Precision", "Device", "Free", "Verdict", "Context at most", "Tokens/s"), where, right=(2, 4, 5))
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
