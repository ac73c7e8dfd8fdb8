"""Real weights end to end: all-MiniLM-L6-v2 is pulled from a Hub, converted, proven, run and compared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from gpux import Session, Settings, Store, StoredModel, errors, pipeline, pull_model
from gpux.proof.replay import replay
from tests.hub import HubServer
from tests.models.cases import MINILM_CALLS, expected
from tests.repositories import MINILM, MINILM_ONNX

pytestmark = [pytest.mark.hub]


@pytest.fixture
def pulled(minilm_hub: HubServer, warm_toolchains: Path, shared_folder: Callable[[str], Path]) -> Iterator[StoredModel]:
    """The converted model; converted once per test run, by the first test that needs it."""
    folder = shared_folder("minilm-store")
    settings = Settings.from_env(home=folder, toolchains=warm_toolchains, hf_cache=folder / "hf")
    with FileLock(folder / "lock"):
        yield pull_model(MINILM, settings=settings)


def gpux(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpux", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.toolchain
def test_it_is_converted_and_proven(pulled: StoredModel) -> None:
    proof = pulled.manifest.proof

    assert (pulled.task, pulled.manifest.recipe, proof.status) == ("feature-extraction", "optimum", "proven")
    assert proof.max_abs_diff is not None and 0 < proof.max_abs_diff < 1e-4
    assert len({case.shapes["input_ids"] for case in proof.cases}) == len(proof.cases) >= 3
    assert any(case.kept for case in proof.cases)
    assert {"torch", "transformers", "optimum-onnx"} <= set(pulled.manifest.versions)
    assert pulled.manifest.call_spec.max_length == 512


@pytest.mark.toolchain
def test_vectors_are_those_of_sentence_transformers(pulled: StoredModel) -> None:
    check_vectors(pulled)


def check_vectors(model: StoredModel) -> None:
    with pipeline("feature-extraction", model=model) as embed:
        for call in MINILM_CALLS:
            ours = np.asarray(embed.encode(call.input, **call.options))
            theirs = np.asarray(expected("minilm", "all-MiniLM-L6-v2", call))
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_shipped_onnx_needs_no_toolchain(minilm_hub: HubServer) -> None:
    model = pull_model(MINILM_ONNX, settings=Settings.from_env(toolchains=Path("nowhere")))

    assert model.manifest.proof.status == "shipped"
    check_vectors(model)
    assert not any("safetensors" in request.path for request in minilm_hub.requests)


@pytest.mark.toolchain
def test_the_commands_of_the_readme(pulled: StoredModel, minilm_hub: HubServer, warm_toolchains: Path) -> None:
    """As a user types them, with one home folder."""
    home = {"GPUX_HOME": str(pulled.path.parents[5]), "GPUX_TOOLCHAINS": str(warm_toolchains)}

    pull = gpux("pull", MINILM, "--json", **home)
    run = gpux("run", MINILM, "a cat sits", "a kitten rests", "--json", **home)
    listed = gpux("list", "--json", **home)
    verified = gpux("verify", "--proof", "--json", **home)

    assert [done.returncode for done in (pull, run, listed, verified)] == [0, 0, 0, 0]
    assert json.loads(pull.stdout)["proof"]["status"] == "proven"
    vectors = np.array(json.loads(run.stdout))
    assert vectors.shape == (2, 384) and vectors[0] @ vectors[1] > 0.5
    assert [entry["id"] for entry in json.loads(listed.stdout)] == [MINILM]
    assert json.loads(listed.stdout)[0]["evidence"] == "answers proven"
    (entry,) = json.loads(verified.stdout)
    assert entry["ok"] and entry["replay"]["graphs"] > 0 and entry["replay"]["answers"] > 0


@pytest.mark.toolchain
def test_running_imports_no_torch(pulled: StoredModel) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gpux import Store, pipeline\n"
        f"(model,) = Store(Path({str(pulled.path.parents[4])!r})).models()\n"
        "print(pipeline('feature-extraction', model=model).encode(['hi']).shape)\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'rich', 'onnx'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["(1, 384)", "[]"]


@pytest.mark.toolchain
def test_damage_in_the_store_is_found(pulled: StoredModel, tmp_path: Path) -> None:
    copy = Store(tmp_path / "store")
    root = pulled.path.parents[4]
    shutil.copytree(root, copy.root)
    (model,) = copy.models()
    graph = model.path / model.graph().file
    content = bytearray(graph.read_bytes())
    content[-1000] ^= 0xFF
    graph.write_bytes(content)

    report = copy.verify(model)

    assert not report.ok and report.problems[0].kind == "hash"


@pytest.mark.toolchain
def test_a_proof_can_fail(pulled: StoredModel) -> None:
    def plain(_: str, inputs: Any) -> Any:
        return session.run(inputs)

    def shifted(_: str, inputs: Any) -> Any:
        return {name: array + 0.01 for name, array in session.run(inputs).items()}

    with Session(pulled.path / pulled.graph().file, device="cpu") as session:
        assert all(case.passed for case in replay(pulled, plain))
        with pytest.raises(errors.ProofError):
            replay(pulled, shifted)
