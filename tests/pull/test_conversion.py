"""Pulls that convert: tiny models with safetensors alone, and every kind of failure of a conversion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpux import Settings, Store, errors, pipeline, pull_model
from gpux.model.precisions import find_precision
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, StageStarted
from gpux.upkeep.replays import replay_model
from tests.models import zoo
from tests.models.bert import bert_repository
from tests.models.cases import PIPELINE_CASES, expected
from tests.models.sentence import write_sentence_files
from tests.waiting import wait_until

pytestmark = pytest.mark.toolchain


@pytest.fixture
def converting(warm_toolchains: Path) -> Settings:
    return Settings.from_env(toolchains=warm_toolchains)


@pytest.mark.parametrize("case", PIPELINE_CASES[:3], ids=lambda case: case.name)
def test_converted_models_answer_as_transformers(case, converting: Settings, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = case.build(tmp_path / "model", onnx=False)

    model = pull_model(folder, settings=converting, task=case.task)

    assert model.manifest.proof.status == "proven"
    assert model.manifest.evidence == "answers proven"
    with pipeline(case.task, model=model) as pipe:
        call = case.calls[0]
        answer = np.asarray([str(pipe(call.input, **call.options))])
        assert answer.size and expected(case.task, case.name, call) is not None


def test_a_decoder_whose_tokenizer_ends_each_text_embeds_as_sentence_transformers(
    converting: Settings, warm_toolchains: Path, tmp_path: Path
) -> None:
    """As e5-mistral: last-token pooling over the end token that only tokenizer_config.json asks for."""
    folder = tmp_path / "model"
    python = warm_toolchains / "optimum" / "bin" / "python"
    subprocess.run([python, zoo.__file__, tmp_path, "llama__feature-extraction"], check=True, capture_output=True)
    (tmp_path / "llama__feature-extraction").rename(folder)
    write_sentence_files(folder, {"pooling": "lasttoken", "normalize": True}, hidden=64, seed=1)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config |= {"tokenizer_class": "LlamaTokenizer", "add_eos_token": True, "pad_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")

    model = pull_model(folder, settings=converting)

    answers = model.manifest.proof.answers
    assert model.manifest.evidence == "answers proven" and answers is not None
    assert answers.reference["transformers (tokenizer)"].startswith("4.57")
    assert "sentence-transformers" in answers.reference

    edited = json.loads((model.path / "tokenizer.json").read_text(encoding="utf-8")) | {"post_processor": None}
    (model.path / "tokenizer.json").write_text(json.dumps(edited), encoding="utf-8")
    found = replay_model(model, intact=False)
    assert found.error is not None
    assert "differ from those of transformers 4.57" in found.error.message
    assert "token 0 is " in found.error.message


def test_beyond_tolerance_nothing_is_stored(
    converting: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bert_repository(tmp_path / "model", "fill-mask")
    strict = replace(find_precision("fp32"), tolerance=1e-12)
    monkeypatch.setattr("gpux.proof.comparison.find_precision", lambda _name: strict)

    with pytest.raises(errors.ProofError, match="nothing was stored") as caught:
        pull_model(folder, settings=converting)
    assert Store(converting.store).models() == []
    assert "--allow-inexact" in str(caught.value.hint)

    model = pull_model(folder, settings=converting, allow_inexact=True)
    assert model.manifest.proof.status == "inexact"


def test_convert_ignores_shipped_onnx(converting: Settings, tmp_path: Path) -> None:
    folder = bert_repository(tmp_path / "model", "text-classification", onnx=True)
    assert pull_model(folder, settings=converting).manifest.recipe == "shipped"

    converted = pull_model(folder, settings=converting, convert=True)

    assert (converted.manifest.recipe, converted.manifest.proof.status) == ("optimum", "proven")


def test_damaged_weights(converting: Settings, tmp_path: Path) -> None:
    folder = bert_repository(tmp_path / "model", "text-classification")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])

    with pytest.raises(errors.GpuxError) as caught:
        pull_model(folder, settings=converting)

    assert isinstance(caught.value, errors.ConversionError | errors.CorruptFileError)
    assert Path(str(caught.value.details["log"])).is_file()
    assert Store(converting.store).models() == []


def test_cancel_while_converting(converting: Settings, tmp_path: Path) -> None:
    folder = bert_repository(tmp_path / "model", "text-classification")
    cancel = CancelToken()

    def on_event(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "convert":
            cancel.cancel()

    with pytest.raises(errors.CancelledError):
        pull_model(folder, settings=converting, progress=on_event, cancel=cancel)
    assert Store(converting.store).models() == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc to find the worker in")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_pull_leaves_no_worker_process(toolchains: Path, tmp_path: Path, number: int) -> None:
    converting = Settings.from_env(toolchains=toolchains)
    folder = bert_repository(tmp_path / "model", "text-classification")
    env = {**os.environ, "GPUX_TOOLCHAINS": str(converting.toolchains)}
    command = [sys.executable, "-m", "gpux", "pull", str(folder)]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: workers(converting) or process.poll() is not None)
        process.send_signal(number)
        process.wait()

    wait_until(lambda: not workers(converting))
    assert Store(converting.store).models() == []


def workers(settings: Settings) -> list[str]:
    """Process ids of conversions that belong to this test's home."""
    home = f"GPUX_HOME={settings.home}".encode()
    return [
        process.name
        for process in Path("/proc").iterdir()
        if process.name.isdigit()
        and any(part.startswith(b"gpux.convert.worker.") for part in _read(process / "cmdline"))
        and home in _read(process / "environ")
    ]


def _read(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []
