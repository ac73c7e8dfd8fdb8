"""``gpux convert --explain``: which ways there are, which one is taken, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpux.cli.terminal import Terminal

if TYPE_CHECKING:
    from gpux.pull.plan import Way

SHIPPED = "shipped"


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
