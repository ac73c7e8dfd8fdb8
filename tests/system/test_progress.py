from __future__ import annotations

import io
import json
import pickle
import sys
import threading
import time
import types

import pytest
from rich.console import Console

from gpux.model.info import ModelFile
from gpux.system.progress import (
    INTERVAL,
    ByteCounter,
    BytesAdvanced,
    Event,
    StageFinished,
    Stages,
    StageStarted,
    Warned,
    event_to_dict,
    silent,
)
from gpux.system.progress_argument import callback
from gpux.system.progress_display import ProgressDisplay, PullsDisplay

EVENTS: list[Event] = [
    StageStarted("download", "3 files"),
    BytesAdvanced("download", 5, 10, "a.bin"),
    StageFinished("download", "10 B", 0.25),
    Warned("a mirror answered"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_events_are_json_and_pickle(event: Event) -> None:
    data = event_to_dict(event)
    assert json.loads(json.dumps(data)) == data
    kind = data.pop("kind")
    assert {each.kind for each in EVENTS} >= {kind}
    assert type(event)(**data) == event
    assert pickle.loads(pickle.dumps(event)) == event


def test_kinds_differ() -> None:
    assert len({event.kind for event in EVENTS}) == len(EVENTS)


def test_the_default_callback_ignores_events() -> None:
    for event in EVENTS:
        assert silent(event) is None  # type: ignore[func-returns-value]


def test_bytes_of_many_threads_add_up() -> None:
    events: list[Event] = []
    files = [ModelFile(f"{number}.bin", 1000) for number in range(16)]
    counter = ByteCounter("download", files, events.append)
    barrier = threading.Barrier(len(files))

    def arrive(file: ModelFile) -> None:
        barrier.wait()
        for done in range(1, 1001):
            counter.advance(file, done)

    threads = [threading.Thread(target=arrive, args=(file,)) for file in files]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started

    advanced = [event for event in events if isinstance(event, BytesAdvanced)]
    done = [event.done for event in advanced]
    assert len(advanced) == len(events) <= took / INTERVAL + 2
    assert done == sorted(done)
    assert (done[-1], advanced[-1].total) == (16_000, 16_000)
    assert {event.stage for event in advanced} == {"download"}


def test_a_resumed_file_starts_where_it_was() -> None:
    events: list[Event] = []
    file = ModelFile("a.bin", 100)
    ByteCounter("download", [file, ModelFile("b.bin", 100)], events.append).advance(file, 60)
    assert events == [BytesAdvanced("download", 60, 200, "a.bin")]


def test_without_sizes_the_total_is_0_and_events_are_limited() -> None:
    events: list[Event] = []
    file = ModelFile("a.bin", None)
    counter = ByteCounter("download", [file], events.append)
    started = time.monotonic()
    for done in range(1, 2001):
        counter.advance(file, done)
    took = time.monotonic() - started
    assert {event.total for event in events if isinstance(event, BytesAdvanced)} == {0}
    assert len(events) <= took / INTERVAL + 2


def test_never_more_than_the_total() -> None:
    events: list[BytesAdvanced] = []
    known, unknown = ModelFile("a.bin", 10), ModelFile("b.bin", None)
    counter = ByteCounter("download", [known, unknown], events.append)  # type: ignore[arg-type]
    counter.advance(known, 10)
    counter.advance(unknown, 500)
    assert events
    assert all(event.total == 0 or event.done <= event.total for event in events)


def test_a_stage_ends_with_its_last_message() -> None:
    events: list[Event] = []
    stages = Stages(events.append)
    with stages.stage("resolve", "asking") as say:
        time.sleep(0.02)
        say("found")
        say("found a1b2")
        stages.warn("slow")
    assert events[:2] == [StageStarted("resolve", "asking"), Warned("slow")]
    assert isinstance(events[2], StageFinished)
    assert (events[2].stage, events[2].message) == ("resolve", "found a1b2")
    assert events[2].seconds >= 0.02


def test_a_failed_stage_ends_without_a_message() -> None:
    events: list[Event] = []
    with pytest.raises(OSError, match="no"), Stages(events.append).stage("store", "writing"):
        raise OSError("no")
    assert events[0] == StageStarted("store", "writing")
    assert [(type(event), getattr(event, "message", None)) for event in events[1:]] == [(StageFinished, "")]


def drawn(*events: Event, terminal: bool) -> str:
    screen = io.StringIO()
    with ProgressDisplay(Console(file=screen, force_terminal=terminal, width=80)) as display:
        for event in events:
            display(event)
    return screen.getvalue()


def test_plain_lines_without_a_terminal() -> None:
    assert drawn(*EVENTS, terminal=False) == "✓ 10 B (0.2 s)\n! a mirror answered\n"
    assert drawn(StageFinished("store", "stored", 0.01), terminal=False) == "✓ stored\n"


def test_bars_on_a_terminal() -> None:
    screen = drawn(*EVENTS, terminal=True)
    assert "━" in screen
    assert "5/10 bytes" in screen
    assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again
    assert screen.endswith("a mirror answered\n")


def test_a_spinner_until_bytes_arrive() -> None:
    screen = drawn(StageStarted("convert", "exporting"), terminal=True)
    assert "exporting" in screen
    assert "━" not in screen


def test_bytes_before_their_stage_draw_nothing() -> None:
    assert drawn(BytesAdvanced("download", 1, 2), terminal=True) == ""


def assert_ended(before: set[threading.Thread]) -> None:
    """The threads that were started since have ended, or end soon: the display does not wait for its own."""
    for thread in set(threading.enumerate()) - before:
        thread.join()


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_leaks_when_a_stage_fails(terminal: bool) -> None:
    screen = io.StringIO()
    before = set(threading.enumerate())
    console = Console(file=screen, force_terminal=terminal, width=80)
    with pytest.raises(OSError, match="no"), ProgressDisplay(console) as display:
        display(StageStarted("download", "3 files"))
        display(BytesAdvanced("download", 5, 0))
        raise OSError("no")
    assert_ended(before)
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == int(terminal)
    with ProgressDisplay(console) as again:
        again(StageStarted("download", "3 files"))
    assert_ended(before)


@pytest.mark.parametrize("message", ["kept at [/tmp/x]", "an input [int64] more", "[bold]", "a\\[b]"])
@pytest.mark.parametrize("terminal", [False, True])
def test_messages_are_not_markup(message: str, terminal: bool) -> None:
    events = StageStarted("store", message), StageFinished("store", message, 0.0), Warned(message)
    assert drawn(*events, terminal=terminal).count(message) >= 2


@pytest.mark.parametrize("event", [StageFinished("store", "word " * 60 + "end", 0.0), Warned("word " * 60 + "end")])
def test_a_long_line_stays_one_line_without_a_terminal(event: Event) -> None:
    assert drawn(event, terminal=False).count("\n") == 1


def test_of_several_pulls_only_those_that_run_have_a_line() -> None:
    screen = io.StringIO()
    with PullsDisplay(Console(file=screen, force_terminal=True, width=80)) as display:
        for event in (StageStarted("store", "Storing"), StageFinished("store", "stored, 1 kB", 0.1)):
            display("org/done", event)
        display("org/runs", StageStarted("download", "Downloading"))
        screen.truncate(0)
        display._progress.refresh()
        assert "org/done" not in screen.getvalue() and "org/runs: Downloading" in screen.getvalue()
        display("org/done", StageStarted("quantize", "Quantizing"))
        display._progress.refresh()
        assert "org/done: Quantizing" in screen.getvalue()


def test_a_notebook_shows_one_output_that_is_replaced() -> None:
    shown: list[tuple[str, str]] = []

    class Display:
        def __init__(self, data: str) -> None:
            self.data = data

        def update(self, html: Display) -> None:
            shown.append(("update", html.data))

    def display(html: Display, *, display_id: bool) -> Display:
        assert display_id
        shown.append(("display", html.data))
        return html

    module = types.ModuleType("IPython.display")
    module.HTML, module.display = Display, display  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
        patch.setitem(sys.modules, "IPython.display", module)
        patch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
        patch.delitem(sys.modules, "gpux.system.progress_notebook", raising=False)
        draw = callback(None)
        draw(StageStarted("download", "downloading <org/name>"))
        draw(StageFinished("download", "fetched 2 files", 1.25))
        draw(Warned("slow & steady"))
    sys.modules.pop("gpux.system.progress_notebook")  # it holds the functions of this test
    assert [kind for kind, _ in shown] == ["display", "update", "update"]
    assert "downloading &lt;org/name&gt; …" in shown[0][1]
    assert "fetched 2 files" in shown[1][1] and "(1.2 s)" in shown[1][1] and "downloading" not in shown[1][1]
    assert "slow &amp; steady" in shown[2][1] and "fetched 2 files" in shown[2][1]
