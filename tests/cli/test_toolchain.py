"""The offer to install a missing toolchain: the one that is missing, and only if somebody can agree."""

from __future__ import annotations

import pytest

from gpux.cli import toolchain
from gpux.cli.terminal import Terminal
from gpux.errors import GpuxError, ToolchainMissingError, UsageError


def missing(name: str) -> ToolchainMissingError:
    return ToolchainMissingError(f"the toolchain {name} is missing", toolchain=name, status="missing")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(toolchain, "install_toolchain", lambda terminal, name, yes: names.append(name))
    return names


def test_the_missing_one_is_installed_and_the_action_runs_again(installed: list[str]) -> None:
    def action() -> str:
        if not installed:
            raise missing("mobius")
        return "done"

    assert toolchain.with_toolchain(Terminal(as_json=False, quiet=True), action, yes=True) == "done"
    assert installed == ["mobius"]


def test_each_missing_one_of_several_pulls_is_installed_once(installed: list[str]) -> None:
    errors: list[GpuxError | None] = [
        missing("mobius"),
        None,
        UsageError("other"),
        missing("optimum"),
        missing("mobius"),
    ]
    assert toolchain.install_missing(Terminal(as_json=False, quiet=True), errors, yes=True)
    assert installed == ["mobius", "optimum"]


def test_without_a_terminal_nothing_is_installed(installed: list[str]) -> None:
    def action() -> None:
        raise missing("mobius")

    with pytest.raises(ToolchainMissingError):
        toolchain.with_toolchain(Terminal(as_json=False, quiet=True), action, yes=False)
    assert not toolchain.install_missing(Terminal(as_json=False, quiet=True), [UsageError("other")], yes=True)
    assert installed == []
