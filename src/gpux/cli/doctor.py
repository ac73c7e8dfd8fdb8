"""``gpux doctor``."""

from __future__ import annotations

import click

from gpux.cli.terminal import Terminal, command


@command("doctor")
def doctor_command(terminal: Terminal) -> int:
    """Check which devices and tools of this machine gpux can use, and why not the others. Exit code 1 on a problem."""
    from gpux.runtime.doctor import doctor

    report = doctor(terminal.settings)
    if terminal.as_json:
        terminal.data(report.to_dict())
    else:
        for check in report.checks:
            mark, colour = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}[check.status]
            terminal.line(f"{click.style(mark, fg=colour)} {check.name}: {check.message}")
            if check.hint:
                terminal.line(f"    → {check.hint}")
    return int(any(check.status == "problem" for check in report.checks))
