"""What a slice of the zoo writes, token for token against transformers' ``generate`` with one row at a time.

`./dev generation_matrix` runs the whole zoo, with the same requests, references and checks.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripts.generation_shard import compare, request_for

from gpux.convert.host.pip import interpreter
from gpux.runtime.graphs import Graphs
from tests.models import zoo
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain

ROOT = Path(zoo.__file__).parents[2]
DECODER, PAIR = "text-generation-with-past", "text2text-generation-with-past"
#: Model type and the zoo's name of the task: a shared cache, positions that are learned, ALiBi, a graph that counts
#: places itself with a window in every second layer, relative positions, and forced tokens.
SLICE = (
    ("llama", DECODER),
    ("gpt2", DECODER),
    ("bloom", DECODER),
    ("gemma2", DECODER),
    ("t5", PAIR),
    ("bart", PAIR),
)
#: Tokens of a prompt and its answer: half as many new ones as in the whole matrix.
CONTEXT = 52
NAMES = tuple(zoo.folder_name(*entry) for entry in SLICE)


@pytest.fixture(scope="module")
def toolchain_python(warm_toolchains: Path) -> Path:
    """Its interpreter, which has torch and transformers."""
    return interpreter(warm_toolchains / "optimum")


@pytest.fixture(scope="module")
def folders(zoo_models: ZooModels) -> Path:
    """The models of the slice."""
    return zoo_models.build(*NAMES)


@pytest.fixture(scope="module")
def requests(folders: Path) -> dict[str, dict[str, Any]]:
    return {name: request_for(name, folders / name, CONTEXT) for name in NAMES}


@pytest.fixture(scope="module")
def references(
    toolchain_python: Path, requests: dict[str, dict[str, Any]], computed_once: Callable[..., Any]
) -> dict[str, dict[str, Any]]:
    """What transformers writes, all by one process."""

    def ask() -> list[Any]:
        said = subprocess.run(
            [toolchain_python, "-m", "scripts.generation_reference"],
            input="".join(json.dumps(request) + "\n" for request in requests.values()),
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        )
        return [json.loads(line) for line in said.stdout.splitlines()]

    return dict(zip(requests, computed_once("generation-references", ask), strict=True))


@pytest.mark.parametrize(("name", "task"), [(name, entry[1]) for name, entry in zip(NAMES, SLICE, strict=True)])
def test_tokens_and_beams_are_those_of_transformers(
    name: str,
    task: str,
    zoo_models: ZooModels,
    requests: dict[str, dict[str, Any]],
    references: dict[str, dict[str, Any]],
) -> None:
    assert "error" not in references[name]
    model = zoo_models.pull(name.partition("__")[0], task)
    proof = model.manifest.proof
    assert proof is not None
    scores_last_tokens = "last" in {case.name for case in proof.cases}
    assert scores_last_tokens is (task == DECODER)

    with Graphs.of(model, device="cpu") as graphs:
        checks = compare(graphs, model.manifest.call_spec, model.path, requests[name], references[name])

    assert [wrong for found in checks.values() for wrong in found["wrong"]] == []
    assert checks["ragged"]["equal"] + checks["ragged"]["ties"] == 16
    assert checks["beams"]["equal"] >= 10  # of 12; the others are near ties
    ended = references[name]["ended"]
    assert len({len(row["tokens"]) for row in ended}) > 1  # rows left at different times
    assert len(set(references[name]["varied"][0]["tokens"])) == 32
