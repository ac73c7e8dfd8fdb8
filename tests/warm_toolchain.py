"""A toolchain whose interpreter is warm: it imports torch and the exporter once, and forks for each program.

Importing them takes several seconds of each conversion, and the tests convert many small models. The folder that
:func:`warm` writes looks like a toolchain; its ``bin/python`` hands its arguments and its three standard streams to the
server, which runs the program in a forked process, and ends with that process's exit code. Programs that measure memory
or are killed by their process group need the real interpreter: there, use the fixture ``toolchains``.

Run by the toolchain's interpreter: ``python -I warm_toolchain.py CLIENT SOCKET LAUNCHER MODULE…``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CLIENT = """#!{interpreter} -IS
import json, os, socket, sys
REAL, SOCKET = {real!r}, {address!r}
arguments = sys.argv[1:]
program = arguments[1:] if arguments[:1] == ["-I"] else arguments
server = socket.socket(socket.AF_UNIX)
try:
    if not program or (program[0].startswith("-") and program[0] not in ("-c", "-m")):
        raise OSError
    server.connect(SOCKET)
except OSError:
    os.execv(REAL, [REAL, *arguments])
request = {{"isolated": program is not arguments, "argv": program, "folder": os.getcwd()}}
body = json.dumps(request | {{"environment": dict(os.environ)}}).encode()
socket.send_fds(server, [len(body).to_bytes(4, "big")], [0, 1, 2])
server.sendall(body)
answer = server.recv(4)
sys.exit(int.from_bytes(answer, "big", signed=True) if answer else "the warm interpreter ended; see server.log")
"""


@contextlib.contextmanager
def warm(toolchain: Path, folder: Path, launcher: Path, *modules: str) -> Iterator[None]:
    """Write a warm copy of a toolchain into ``folder``; its server runs within this context.

    Args:
        toolchain: the installed one.
        folder: of the copy; made here.
        launcher: ``gpux/system/launch.py``.
        modules: what the server imports before the first program.
    """
    real = toolchain / "bin" / "python"
    client = folder / "bin" / "python"
    client.parent.mkdir(parents=True)
    shutil.copyfile(toolchain / "toolchain.json", folder / "toolchain.json")
    address = str(folder / "socket")
    client.write_text(CLIENT.format(interpreter=sys.executable, real=str(real), address=address))
    client.chmod(0o755)
    command = [str(part) for part in (real, "-I", __file__, client, address, launcher, *modules)]
    with (folder / "server.log").open("wb") as log:
        # The models are tiny: a second thread of torch only waits for the first one.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        if not server.stdout.readline():  # it says that it listens
            raise RuntimeError((folder / "server.log").read_text())
        yield
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait()


def serve(client_program: str, address: str, launcher: str, *modules: str) -> None:
    """Listen, import at the first client, and fork for each client, until standard input closes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    os.write(1, b"listening\n")
    either: list[Any] = [0, listener]
    select.select(either, [], [])  # imports for no one cost seconds, too
    if not select.select([listener], [], [], 0)[0]:
        return
    launch = runpy.run_path(launcher, run_name="launch")
    launch["register_gpux"]()
    importlib.import_module("gpux.convert.worker.common.program").prepare({})
    for module in modules:
        importlib.import_module(module)
    sys.executable = client_program  # processes that a program starts are warm too
    for name in [name for name in sys.modules if name.partition(".")[0] == "gpux"]:
        del sys.modules[name]  # a program imports its own, as in a new process
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(_attend(client))
        client.close()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def _attend(client: socket.socket) -> int:
    """Run one program in a process, and send its exit code."""
    head, streams, _, _ = socket.recv_fds(client, 4, 3)
    body = b""
    while len(body) < int.from_bytes(head, "big"):
        body += client.recv(65536)
    request = json.loads(body)
    child = os.fork()
    if child == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os._exit(_run(request))
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(child, 0)
    client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    return 0


def _run(request: dict[str, Any]) -> int:
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["argv"]
    option = sys.argv.pop(0) if sys.argv[0] in ("-c", "-m") else None
    if not request["isolated"]:
        sys.path[:0] = filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))
        sys.path.insert(0, request["folder"] if option else str(Path(sys.argv[0]).parent))
    code: Any = 0
    try:
        if option == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        elif option == "-c":
            program, sys.argv[0] = sys.argv[0], "-c"
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as exc:
        code = exc.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


if __name__ == "__main__":
    serve(*sys.argv[1:])
