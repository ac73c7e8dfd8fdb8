"""Memory, disk and speed, compared with sums computed by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gpux.errors import UsageError
from gpux.inspect.architecture import ParameterCount, count_parameters, summarize
from gpux.inspect.fit import (
    BASE,
    FitReport,
    GpuFacts,
    MachineFacts,
    activation_bytes,
    cache_bytes,
    conversion_disk,
    download_bytes,
    estimate,
    read_bytes,
    tokens_per_second,
    weight_bytes,
)
from gpux.system.bandwidth import measure_bandwidth
from tests.inspect.architecture.golden import load

GB = 10**9
MACHINE = MachineFacts(64 * GB, 60 * GB, bandwidth=50e9, disk_free=500 * GB)


def ask(name: str, machine: MachineFacts = MACHINE, **options: object) -> FitReport:
    config = load(name)
    return estimate(summarize(config), count_parameters(config), machine=machine, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp32", 4 * 7_241_732_096),
        ("fp16", 2 * 7_241_732_096),
        ("bf16", 2 * 7_241_732_096),
        ("int8", (7_241_732_096 - 262_144_000) * 9 // 8 + 4 * 262_144_000),
        ("int4", (7_241_732_096 - 262_144_000) * 5 // 8 + 4 * 262_144_000),
    ],
)
def test_weights(precision: str, expected: int) -> None:
    assert weight_bytes(count_parameters(load("mistral-7b-v0.1")), precision) == expected


@pytest.mark.parametrize(
    ("name", "context", "numbers"),
    [
        ("llama-2-7b", 4096, 2 * 32 * 128 * 32 * 4096),  # 2 GiB in fp16, as published
        ("llama-3-8b", 8192, 2 * 8 * 128 * 32 * 8192),
        ("mistral-7b-v0.1", 32768, 2 * 8 * 128 * 32 * 4096),  # all layers have a sliding window
        ("gemma-2-9b", 8192, 2 * 8 * 256 * (21 * 8192 + 21 * 4096)),
        ("falcon-7b", 2048, 2 * 64 * 32 * 2048),
        ("deepseek-v2-lite", 1000, 16 * (192 + 128) * 27 * 1000),
        ("whisper-tiny", 448, 2 * 384 * 4 * (448 + 1500)),
        ("t5-small", 512, 2 * 512 * 6 * (512 + 512)),
        ("mamba-130m", 100_000, 24 * 1536 * (16 + 4)),
        ("bert-base-uncased", 512, 0),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_cache(name: str, context: int, numbers: int, batch: int) -> None:
    shape = summarize(load(name)).cache
    assert cache_bytes(shape, "fp16", context, batch) == 2 * batch * numbers
    assert cache_bytes(shape, "int4", context, batch) == 4 * batch * numbers


def test_activations_grow_with_context_and_batch() -> None:
    llama, bert = summarize(load("llama-2-7b")), summarize(load("bert-base-uncased"))
    rows = 4 * 4096 + 3 * 11008 + 2 * 32 * 2048 + 32000
    assert activation_bytes(llama, "fp16", 2048, 1) == 2 * 512 * rows
    assert activation_bytes(bert, "fp32", 512, 8) == 8 * 4 * 512 * (4 * 768 + 3 * 3072 + 2 * 12 * 512)


def test_speed_is_bandwidth_over_bytes_read() -> None:
    config = load("mistral-7b-v0.1")
    summary, count = summarize(config), count_parameters(config)
    read = 2 * (7_241_732_096 - 32_000 * 4096) + 2 * 2048 * 32 * 1000
    assert read_bytes(summary, count, "fp16", 1000, 1) == read
    assert tokens_per_second(summary, count, "fp16", 1000, 1, 50e9) == pytest.approx(50e9 / read)
    assert tokens_per_second(summary, count, "fp16", 1000, 1, None) is None
    bert = load("bert-base-uncased")
    assert tokens_per_second(summarize(bert), count_parameters(bert), "fp16", 512, 1, 50e9) is None


def test_a_larger_batch_uses_more_experts() -> None:
    config = load("mixtral-8x7b")
    summary, count = summarize(config), count_parameters(config)
    weights = [read_bytes(summary, count, "fp16", 1, batch) or 0 for batch in (1, 2, 64)]
    assert weights[0] == pytest.approx(2 * 12_879_925_248, rel=0.02)
    assert weights[0] < weights[1] < weights[2] == pytest.approx(2 * 46_702_792_704, rel=0.02)


def test_download_and_disk() -> None:
    gpt2 = count_parameters(load("gpt2"))
    assert download_bytes(replace(summarize(load("gpt2")), dtype="float32"), gpt2) == 4 * 137_022_720
    assert download_bytes(summarize(load("gpt2")), gpt2) is None
    oss = load("gpt-oss-20b")
    assert download_bytes(summarize(oss), count_parameters(oss)) == pytest.approx(12.8e9, rel=0.1)
    assert conversion_disk(gpt2, weight_bytes(gpt2, "fp32")) == 8 * 124_439_808


def test_report_adds_up() -> None:
    report = ask("llama-3-8b", precision="fp16", context=8192, batch=2)
    assert None not in (report.weights, report.kv_cache, report.activations)
    assert report.memory == sum((report.weights or 0, report.kv_cache or 0, report.activations or 0, BASE))
    assert report.download == 2 * 8_030_261_248
    assert report.disk_verdict == "fits"
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("total", "free", "verdict"),
    [
        (64 * GB, 60 * GB, "fits"),
        (20 * GB, 16 * GB, "tight"),  # nearly all free memory
        (64 * GB, 4 * GB, "tight"),  # if other programs freed theirs
        (12 * GB, 12 * GB, "does not fit"),
        (None, None, "unknown"),
    ],
)
def test_verdicts(total: int | None, free: int | None, verdict: str) -> None:
    report = ask("mistral-7b-v0.1", MachineFacts(total, free), precision="fp16", context=2048)
    assert 15 * GB < (report.memory or 0) < 17 * GB
    assert [device.verdict for device in report.devices] == [verdict]


def test_largest_context_is_the_last_that_fits() -> None:
    machine = MachineFacts(24 * GB, 18 * GB)
    found = ask("llama-3.1-8b", machine, precision="fp16").devices[0].largest_context
    assert found is not None and 0 < found < 131072
    assert (ask("llama-3.1-8b", machine, precision="fp16", context=found).memory or 0) <= 18 * GB
    assert (ask("llama-3.1-8b", machine, precision="fp16", context=found + 1).memory or 0) > 18 * GB


def test_largest_context_is_at_most_the_models() -> None:
    assert ask("llama-3-8b", precision="fp16").devices[0].largest_context == 8192
    assert ask("llama-3-8b", MachineFacts(GB, GB), precision="fp16").devices[0].largest_context == 0
    assert ask("bert-base-uncased").devices[0].largest_context is None


def test_several_gpus() -> None:
    cards = tuple(GpuFacts(f"card {n}", 24 * GB, 23 * GB, 900e9) for n in range(2))
    report = ask("llama-2-13b", MachineFacts(64 * GB, 60 * GB, cards), precision="fp16")
    verdicts = {device.name: device.verdict for device in report.devices}
    assert verdicts == {"RAM": "fits", "card 0": "does not fit", "card 1": "does not fit", "2 GPUs together": "fits"}
    assert any("one GPU" in note for note in report.notes)


def test_an_unknown_size_is_noted() -> None:
    report = estimate(summarize({}), ParameterCount(None, None, None, "unknown", "no config"), machine=MACHINE)
    assert (report.weights, report.memory, report.download) == (None, None, None)
    assert report.devices[0].verdict == report.disk_verdict == "unknown"
    assert "no config" in report.notes[0]


def test_notes() -> None:
    assert "8192 tokens" in ask("llama-3-8b", context=10_000).notes[0]
    assert any("9 times smaller" in note for note in ask("deepseek-v2-lite").notes)


def test_the_default_context_is_at_most_the_models() -> None:
    assert ask("gpt2").context == 1024
    assert ask("llama-3.1-8b").context == 4096


@pytest.mark.parametrize("options", [{"precision": "int3"}, {"context": 0}, {"batch": 0}])
def test_invalid_arguments(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ask("gpt2", **options)


def test_bandwidth_counts_the_bytes_of_a_copy() -> None:
    ticks = iter(range(100))  # the clock advances a second per call
    assert measure_bandwidth(buffer_bytes=8000, limit=5, threads=3, clock=lambda: float(next(ticks))) == 16000


def test_bandwidth_of_this_machine() -> None:
    assert 1e8 < measure_bandwidth(limit=0.05) < 1e13
