"""Run real clients against a running server, each in an environment of its own. ``./dev clients`` runs it.

tests/clients/README.md says what a folder of a client has. The programs of the pages in docs/how-to that name a client
(``<!-- client: openai -->`` above the block) are run in its environment too, with names of models of that server.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.ollama.running import running_ollama
from tests.pipelines.writer import writer
from tests.server import running, senses

from gpux.store import Store

ROOT = Path(__file__).parent.parent
CLIENTS = ROOT / "tests" / "clients"
SMALL = ROOT / "tests" / "models" / "small"
PAGES = ROOT / "docs" / "how-to"
#: Seconds for one client.
LIMIT = 600
_BLOCK = re.compile(r"^<!-- client: (\S+) -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Folders of clients of Ollama's API, which check the server of tests/ollama too.
STAND_IN = ("ollama", "ollama-node")
#: What pages write -> the variable of the environment with what is at hand.
WRITTEN = {
    "http://127.0.0.1:5000": "GPUX_URL",
    "127.0.0.1:5000": "GPUX_HOST",
    "org/chat-model": "GPUX_CHAT_OF_PAGES",
    "org/tool-model": "GPUX_RECITER",
    "org/embedder": "GPUX_EMBEDDER",
    "org/whisper": "GPUX_SPEECH",
    "talk.flac": "GPUX_SOUND",
}


@dataclass(frozen=True)
class Block:
    """A program of a page, which its client's environment runs."""

    client: str  #: folder of tests/clients
    language: str  #: ``python``, ``javascript``, or ``console``: commands of a shell after ``$``
    text: str
    place: str  #: page and line

    def program(self, environment: Mapping[str, str]) -> str:
        """What is run: the text with the address and the models of the server."""
        text = self.text
        for written, variable in WRITTEN.items():
            text = text.replace(written, environment[variable])
        return re.sub(r"^\$ ", "", text, flags=re.MULTILINE) if self.language == "console" else text


def blocks() -> list[Block]:
    """The programs of all pages."""
    found = []
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(3)) + 1
            found.append(Block(match[1], match[2], match[3], f"{page.name}:{line}"))
    return found


@dataclass(frozen=True)
class Client:
    """A client whose environment is installed, or will be."""

    folder: Path  #: of tests/clients
    home: Path  #: its environment
    command: Future[list[str]]  #: of its check, when it is installed


@dataclass
class Result:
    """What the checks of one client said."""

    client: str
    version: str = "?"
    passed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def main() -> int:
    """Print a table of the clients; returns 1 when a check failed."""
    arguments = _parser().parse_args()
    folders = sorted(path.parent for path in CLIENTS.glob("*/check.*"))
    if unknown := set(arguments.clients) - {folder.name for folder in folders}:
        print(f"No such client: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [folder for folder in folders if folder.name in (arguments.clients or [one.name for one in folders])]
    began = time.monotonic()
    installing = ThreadPoolExecutor(1)  # the next environment while a client is checked
    try:
        homes = [arguments.environments / one.name for one in chosen]
        clients = [
            Client(folder, home, installing.submit(_install, folder, home))
            for folder, home in zip(chosen, homes, strict=True)
        ]
        with _server(arguments) as environment:
            results = [_check(one, environment) for one in clients]
            if not arguments.url:
                results += _on_stand_in([one for one in clients if one.folder.name in STAND_IN], environment)
    finally:
        installing.shutdown(cancel_futures=True)
    print("\n| client | version | passed | skipped | failed |\n|---|---|---|---|---|")
    for result in results:
        cells = (len(result.passed), len(result.skipped), "; ".join(result.failed) or 0)
        print(f"| {result.client} | {result.version} | {cells[0]} | {cells[1]} | {cells[2]} |")
    checks = sum(len(result.passed) + len(result.failed) for result in results)
    print(f"\n{len(clients)} clients, {checks} checks, {(time.monotonic() - began) / 60:.1f} min")
    return int(any(result.failed or not result.passed for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", nargs="*", help="folders of tests/clients; all by default")
    parser.add_argument("--url", help="of a server that runs; by default one is started")
    parser.add_argument("--small", help="reference of the small model on that server", default="")
    parser.add_argument("--environments", type=Path, default=ROOT / ".nox" / "clients")
    return parser


@contextmanager
def _server(arguments: argparse.Namespace) -> Iterator[dict[str, str]]:
    """The environment of the checks, while a server runs."""
    names = {
        "GPUX_CHAT": running.WRITER,
        "GPUX_TURNS": running.TURNS,
        "GPUX_RECITER": running.RECITER,
        "GPUX_EMBEDDER": running.EMBEDDER,
        "GPUX_CLASSIFIER": running.CLASSIFIER,
        "GPUX_MASKS": running.MASKS,
        "GPUX_SPEECH": running.SPEECH,
        "GPUX_SOUND": str(ROOT / "docs" / "notebooks" / "digits.flac"),
        "GPUX_TASKS": json.dumps(senses.TASKS),
        "GPUX_SMALL": arguments.small,
        "GPUX_LEGACY_DOCUMENT": str(ROOT / "tests" / "server" / "api" / "legacy" / "integration.md"),
    }
    inherited = {**os.environ, "NO_PROXY": "127.0.0.1,localhost", "PYTHONPATH": str(CLIENTS)}
    if arguments.url:
        yield inherited | _located(names, arguments.url.rstrip("/"))
        return
    with tempfile.TemporaryDirectory(prefix="gpux-clients-") as name:
        home = Path(name)
        settings = running.fill(home)
        senses.fill_senses(home)
        with tempfile.TemporaryDirectory() as folder:  # under the id that the document of the legacy API names
            running.put(Store(settings.store), writer(Path(folder)), "gpt2")
        names["GPUX_SMALL"] = _pull_small(home)
        with running.serving(home, ["--tei-model", senses.RANKER]) as server:
            yield inherited | _located(names, server.url)


def _on_stand_in(clients: Sequence[Client], environment: Mapping[str, str]) -> list[Result]:
    """The checks of Ollama's clients on the server that the tests of chat providers take for an Ollama."""
    if not clients:
        return []
    with running_ollama() as server:
        given = {**environment, **_located(dict(environment), server.url), "GPUX_FORMAT": "gguf", "GPUX_SMALL": ""}
        results = [_check(one, given, pages=False) for one in clients]
    for one in results:
        one.client += " (on tests.ollama)"
    return results


def _located(names: dict[str, str], url: str) -> dict[str, str]:
    """The variables with the address of the server."""
    chat = names["GPUX_SMALL"] or names["GPUX_CHAT"]
    return {**names, "GPUX_CHAT_OF_PAGES": chat, "GPUX_URL": url, "GPUX_HOST": url.partition("//")[2]}


def _pull_small(home: Path) -> str:
    """Store the small model where a toolchain is at hand; its reference, or nothing."""
    if not os.environ.get("GPUX_TOOLCHAINS"):
        return ""
    print("Storing the small model", flush=True)
    command = [sys.executable, "-P", "-m", "gpux", "pull", str(SMALL), "--yes"]
    subprocess.run(command, check=True, env={**os.environ, "GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
    return SMALL.name


def _install(folder: Path, home: Path) -> list[str]:
    """Install the client; returns the command of its check."""
    return _python(folder, home) if (folder / "check.py").exists() else _node(folder, home)


def _check(client: Client, environment: Mapping[str, str], *, pages: bool = True) -> Result:
    name = client.folder.name
    result = Result(name)
    try:
        command = client.command.result()
        print(f"== {name}", flush=True)
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=LIMIT)
    except (subprocess.SubprocessError, OSError) as error:
        result.failed.append(str(error))
        return result
    print(done.stdout, end="", flush=True)
    for line in done.stdout.splitlines():
        kind, _, text = line.partition(": ")
        if kind == "client":
            result.client, _, result.version = text.rpartition(" ")
        elif kind in ("ok", "skipped", "failed"):
            {"ok": result.passed, "skipped": result.skipped, "failed": result.failed}[kind].append(text)
    if done.returncode and not result.failed:
        result.failed.append(f"exit status {done.returncode}")
    if result.passed and pages:
        for block in blocks():
            if block.client == name:
                _run(block, client.home, environment, result)
    return result


def _run(block: Block, home: Path, environment: Mapping[str, str], result: Result) -> None:
    """Run a program of a page; it passes where it prints something and ends with 0."""
    program = block.program(environment)
    binaries = (home / ("Scripts" if os.name == "nt" else "bin")).resolve()
    with tempfile.TemporaryDirectory() as folder:
        if block.language == "python":
            command = [str(binaries / "python"), "-c", program]
        elif block.language == "javascript":
            script = home / "page.mjs"  # node resolves packages beside the script
            script.write_text(program, encoding="utf-8")
            command = [shutil.which("node") or "node", str(script.resolve())]
        else:
            command = ["bash", "-euc", program]
        # An error of the server ends curl with a status.
        Path(folder, ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n", encoding="utf-8")
        given = {
            **environment,
            "CURL_HOME": folder,
            "PATH": os.pathsep.join((str(binaries), environment["PATH"])),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else litellm loads a table from the network
            "LLM_USER_PATH": folder,
        }
        try:
            done = subprocess.run(
                command, env=given, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
            )
        except (subprocess.SubprocessError, OSError) as error:
            result.failed.append(f"{block.place}: {error}")
            return
    failed = done.returncode != 0 or not done.stdout.strip()
    print(f"{'failed' if failed else 'ok'}: {block.place}", flush=True)
    if failed:
        print(f"{program}\n{done.stdout}\n{done.stderr}", file=sys.stderr)
        result.failed.append(f"{block.place} ends with {done.returncode}")
    else:
        result.passed.append(block.place)


def _python(folder: Path, home: Path) -> list[str]:
    """The command of a check, in an environment with the newest releases that its requirements allow."""
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    if (requirements := folder / "requirements.txt").exists():
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)
    return [str(python), str(folder / "check.py")]


def _node(folder: Path, home: Path) -> list[str]:
    """As :func:`_python`; node resolves packages beside the script, so that it is copied."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise OSError("node and npm are not installed")
    home.mkdir(parents=True, exist_ok=True)
    for file in (CLIENTS / "checks.mjs", *folder.iterdir()):
        shutil.copy(file, home / file.name)
    if (home / "package.json").exists():
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=home, check=True
        )
    return [node, str(home / "check.mjs")]


if __name__ == "__main__":
    sys.exit(main())
