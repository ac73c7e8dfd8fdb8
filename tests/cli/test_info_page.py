"""``gpux info`` on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from gpux.cli.main import run
from tests.cli.test_main import on_terminal
from tests.describe.test_describing import described, hub
from tests.hub import HubServer
from tests.inspect.headers.files import llama

__all__ = ["described", "hub"]

pytestmark = pytest.mark.hub

Captured = pytest.CaptureFixture[str]
GPUX = [sys.executable, "-m", "gpux"]


def page(capsys: Captured, *args: str) -> dict[str, list[str]]:
    """Row name -> values."""
    assert run(["info", *args]) == 0
    found: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        name, _, value = line.partition("\t")
        found.setdefault(name, []).append(value)
    return found


def test_the_page(hub: HubServer, capsys: Captured) -> None:
    found = page(capsys, "acme/small")

    assert found["architecture"] == ["llama LlamaForCausalLM"]
    assert found["shape"] == ["decoder, 2 layers, hidden 64, inner 128"]
    assert found["attention"] == ["GQA, 4 heads on 2, of 16"]
    assert found["parameters"] == ["80.4k (safetensors metadata of the Hub)"]
    assert found["precision"] == ["F16"]
    assert (found["license"], found["languages"], found["base model"]) == (
        ["apache-2.0"],
        ["en"],
        ["acme/base (finetune)"],
    )
    assert (found["result"], found["scan"], found["pickles"]) == (
        ["acc 0.5 on Arc"],
        ["no issues"],
        ["pytorch_model.bin"],
    )
    assert len(hub.requests) == 2


def test_a_model_of_experts(hub: HubServer, capsys: Captured) -> None:
    found = page(capsys, "mistralai/Mixtral-8x7B-v0.1")

    assert found["parameters"] == ["46.7B, 12.9B active (config by formula)"]
    assert (found["experts"], found["context"]) == (["8, 2 active per token"], ["32,768 tokens"])
    assert found["unknown"] == ["license: the Hub reports none"]


def test_a_gated_model(hub: HubServer, capsys: Captured) -> None:
    found = page(capsys, "acme/gated")

    assert found["access"] == ["public, gated (manual)"]
    assert any(
        "architecture, parameters: acme/gated is gated" in line and "auth login" in line for line in found["unknown"]
    )


def test_gguf_by_name_and_by_path(
    hub: HubServer, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").write_bytes(llama().file())
    monkeypatch.chdir(tmp_path)

    for ref in ("acme/gguf/Tiny-Q4_K_M.gguf", "./a.gguf", "a.gguf"):
        found = page(capsys, ref)
        assert found["parameters"] == ["470.5k (gguf)"]
        assert found["precision"][0].startswith("Q6_K 55.7 %, Q4_K 44.2 %")
        assert found["license"] == ["mit"]


def test_the_page_as_json(hub: HubServer, capsys: Captured) -> None:
    assert run(["info", "acme/small", "--json", "--chain", "--fit", "--context", "128", "--precision", "q4"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert (found["id"], found["parameters"], found["parameter_facts"]["formula"]) == ("acme/small", 80_448, 80_448)
    assert found["card"]["base_models"] == [{"id": "acme/base", "relation": "finetune"}]
    assert found["architecture"]["kv_heads"] == 2
    assert [base["id"] for base in found["base_chain"]] == ["acme/base", "acme/root"]
    assert [(fit["precision"], fit["context"]) for fit in found["fit"]] == [("int4", 128)]
    assert (found["config"]["model_type"], found["stored"], found["why"]) == ("llama", [], None)


def test_fit(hub: HubServer, capsys: Captured) -> None:
    assert run(["info", "mistralai/Mixtral-8x7B-v0.1", "--fit", "--context", "8192"]) == 0
    shown, remarks = capsys.readouterr()

    assert "fp16\t93.4 GB\t1.1 GB" in shown
    assert "At 8,192 tokens and batch 1" in remarks
    assert run(["info", "acme/small", "--context", "10"]) == 2
    assert run(["info", "acme/small", "--fit", "--precision", "auto", "--json"]) == 0
    assert [fit["precision"] for fit in json.loads(capsys.readouterr().out)["fit"]] == ["int8"]
    assert run(["info", "acme/small", "--fit", "--precision", "int3"]) == 2


def test_the_page_at_eighty_columns(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: os.environ[name] for name in ("HF_ENDPOINT", "HF_HOME", "GPUX_HOME")}
    shown = on_terminal(*GPUX, "info", "acme/gated", TERM="dumb", **kept | {"COLUMNS": "80"})

    assert max(map(len, shown.splitlines())) <= 80
    assert "gpux" in shown and "auth login" in shown


def test_the_files_cost_one_request(hub: HubServer, capsys: Captured) -> None:
    assert run(["info", "acme/small", "--files"]) == 0

    assert "model.safetensors" in capsys.readouterr().out
    assert len(hub.requests) == 1
