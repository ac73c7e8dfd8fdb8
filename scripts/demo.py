"""An end-to-end demo with real models from a Hub on loopback: all-MiniLM-L6-v2, and a small model that generates text.

Pulls them over HTTP, converts them, proves the ONNX equal to the originals, ranks sentences for a query in a process
without torch, generates a story and answers a question. Needs no network except the package index for its installation.
Run it with ``./dev demo``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hub import HubServer, add_repo, folder_files
from tests.models.minilm import minilm_repository

SMALL = Path(__file__).parent.parent / "tests" / "models" / "small"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
WRITER = "gpux/small"
QUERY = "How do I keep my cat from scratching the sofa?"
SENTENCES = (
    "A scratching post near the couch gives felines a better place for their claws.",
    "Trim your kitten's nails every two weeks.",
    "The sofa was delivered on Tuesday in three boxes.",
    "Quantum computers factor integers with Shor's algorithm.",
    "Reward the dog when it stays off the furniture.",
)
RANK = """
import sys
from gpux import pipeline

with pipeline("feature-extraction", model=sys.argv[1]) as embed:
    query, *vectors = embed.encode(sys.argv[2:], normalize=True)
scores = sorted(((float(query @ vector), text) for vector, text in zip(vectors, sys.argv[3:])), reverse=True)
for score, text in scores:
    print(f"  {score:.3f}  {text}")
print(f"  torch in this process: {'torch' in sys.modules}")
"""


def main() -> int:
    """Run the demo in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="gpux-demo-") as name:
        folder = Path(name)
        source = minilm_repository(folder / "source", onnx=False)
        add_repo(folder / "hub", MODEL, folder_files(source))
        add_repo(folder / "hub", WRITER, folder_files(SMALL))
        with HubServer(folder / "hub") as hub:
            environment = {**os.environ, **hub.client_env(folder / "hf"), "GPUX_HOME": str(folder / "gpux")}
            print(f"A Hub on loopback serves {MODEL} and {WRITER}: HF_ENDPOINT={hub.url}", flush=True)
            _gpux(environment, "pull", MODEL)
            print(f"\n$ python rank.py   # {QUERY!r}", flush=True)
            subprocess.run([sys.executable, "-c", RANK, MODEL, QUERY, *SENTENCES], env=environment, check=True)
            _gpux(environment, "run", WRITER, "Once upon a time", "--max-new-tokens", "60", "--seed", "1")
            _gpux(environment, "chat", WRITER, typed="What is a list?\n")
            _gpux(environment, "list")
            _gpux(environment, "verify", "--proof")
    return 0


def _gpux(environment: dict[str, str], *arguments: str, typed: str | None = None) -> None:
    """Run a command and show it as it would be typed."""
    before = "" if typed is None else f"echo {shlex.quote(typed.strip())} | "
    print(f"\n$ {before}gpux {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "gpux", *arguments], env=environment, check=True, input=typed, text=True)


if __name__ == "__main__":
    sys.exit(main())
