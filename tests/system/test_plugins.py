"""Entry points of an installation whose metadata is damaged, as after an update that was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoints
from pathlib import Path

import pytest

from gpux.chat.configuration.types import provider_types
from gpux.convert.registry import converters, find_toolchain
from gpux.errors import StorageError
from gpux.managers.registry import manager_for
from gpux.pipelines.registry import pipeline_class
from gpux.server.api.huggingface.tasks import pipeline_task
from gpux.server.parts import parts
from gpux.system import events, plugins
from gpux.system.settings import Settings

SETTINGS = Settings.from_env({"GPUX_HOME": str(Path(__file__).parent / "none")})


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda: manager_for("hf", SETTINGS), "scheme"),
        (lambda: converters(SETTINGS), "converter"),
        (lambda: find_toolchain("optimum", SETTINGS), "converter"),
        (lambda: pipeline_class("fill-mask"), "task"),
        (lambda: pipeline_class("no such task"), "task"),
        (lambda: pipeline_task("fill-mask"), "task"),
        (lambda: parts.__wrapped__(frozenset({"some"})), "part of the server"),
        (provider_types, "type of chat provider"),
        (lambda: plugins.service("pull_model"), "service"),
    ],
)
def test_a_group_without_entry_points_is_a_damaged_installation(
    use: Callable[[], object], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_installed", lambda places: EntryPoints(()))
    with pytest.raises(StorageError, match=f"registers no {what} ") as caught:
        use()
    assert "`pip install --force-reinstall gpux`" in str(caught.value.hint)


def test_an_event_has_no_subscriber_where_none_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_installed", lambda places: EntryPoints(()))
    assert events._subscribers.__wrapped__() == ()


def test_no_entry_points_that_a_caller_gives_are_none() -> None:
    assert plugins.registered("gpux.pipelines", "task", []) == {}
