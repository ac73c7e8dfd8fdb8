"""A worker for tests; its behaviour is its argument, or in its request."""

from __future__ import annotations

import json
import mmap
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Request = dict[str, Any]
FOREVER = 3600  #: seconds, longer than any test may take


def send(event: str, **values: object) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def wait_for(file: str | None) -> None:
    """Wait until a file exists; forever without one."""
    while file is None or not Path(file).exists():
        time.sleep(0.01)


def echo(request: Request) -> None:
    send("result", request=request, environment=dict(os.environ))


def noise(request: Request) -> None:
    print("not json", "[1, 2]", '"text"', "{}", sep="\n", flush=True)
    os.write(1, b"\xff\xfe binary\n")
    print("on stderr", file=sys.stderr, flush=True)
    send("result")


def good(request: Request) -> None:
    send("stage", stage="load", message="Loading")
    send("stage", stage="export", message="Exporting")
    send("warning", message="careful")
    (Path(request["output"]) / "model.onnx").write_bytes(b"onnx")
    no_file(request)


def no_file(request: Request) -> None:
    call_spec = {"padding_side": "right", "max_length": 7, "position_inputs": False}
    send("result", graphs={"model": "model.onnx"}, call_spec=call_spec, versions={"torch": "1"}, peak_rss=5)


def failure(request: Request) -> None:
    send("failure", code="unsupported_task", message="no", hint="do that", cause="KeyError: 'x'")
    sys.exit(1)


def unknown_failure(request: Request) -> None:
    send("failure", code="never heard of", message="no", hint=None, cause=None)
    sys.exit(1)


def last_words(request: Request) -> None:
    print("the last words", file=sys.stderr, flush=True)
    sys.exit(3)


def silent(request: Request) -> None:
    sys.exit(0)


def killed(request: Request) -> None:
    print("so much memory", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def hang(request: Request) -> None:
    time.sleep(FOREVER)


def deaf(request: Request) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _child(deaf=True)
    time.sleep(FOREVER)


def orphans(request: Request) -> None:
    _child(deaf=False)
    os._exit(0)


def closed(request: Request) -> None:
    os.close(1)
    time.sleep(FOREVER)


def watches_parent(request: Request) -> None:
    die_with_parent = runpy.run_path(request["protocol"])["die_with_parent"]
    die_with_parent()  # before the test learns of the child
    _child(deaf=True)
    time.sleep(FOREVER)


def _child(*, deaf: bool) -> None:
    """Start a child that holds the output open, and report its process id."""
    setup = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
    ready, theirs = os.pipe()
    code = f"{setup}import os, time; os.write({theirs}, b'1'); time.sleep({FOREVER})"
    started = subprocess.Popen([sys.executable, "-I", "-c", code], pass_fds=[theirs])
    os.close(theirs)
    os.read(ready, 1)  # its handler is set
    send("child", pid=started.pid)


def eat(request: Request) -> None:
    """Allocate memory, a tenth at a time; with ``child`` in another process."""
    size = request["bytes"] // 10
    if request.get("child"):
        code = f"import time; kept = [bytes([1]) * {size} for _ in range(10)]; time.sleep({FOREVER})"
        subprocess.Popen([sys.executable, "-I", "-c", code])
        time.sleep(FOREVER)
    kept = []
    for _ in range(10):
        kept.append(bytes([1]) * size)
    wait_for(request.get("until"))
    send("result", held=len(kept))


def map_file(request: Request) -> None:
    """Map a file and read it, as weights: the system may drop its pages at any time."""
    with Path(request["file"]).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
        total = sum(pages[place] for place in range(0, len(pages), 4096))
        wait_for(request["until"])
    send("result", total=total)


BEHAVIOURS: tuple[Callable[[Request], None], ...] = (
    echo,
    noise,
    good,
    no_file,
    failure,
    unknown_failure,
    last_words,
    silent,
    killed,
    hang,
    deaf,
    orphans,
    closed,
    watches_parent,
    eat,
    map_file,
)

if __name__ == "__main__":
    asked = json.loads(sys.stdin.buffer.readline())
    name = sys.argv[1] if len(sys.argv) > 1 else asked["behaviour"]
    send("started", pid=os.getpid())
    {behaviour.__name__: behaviour for behaviour in BEHAVIOURS}[name](asked)
