"""Descriptions of models on the loopback Hub: requests, facts, and reasons of unknown facts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpux import HuggingFaceManager, Settings
from gpux.describe import describe_model
from gpux.download import retry
from gpux.errors import EntryNotFoundError, GatedModelError, ModelNotFoundError, NetworkError, OfflineError
from tests.hub import Fault, HubServer, User, add_repo
from tests.inspect.headers.files import llama, safetensors

pytestmark = pytest.mark.hub

MIXTRAL = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 4096,
    "vocab_size": 32000,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "sliding_window": None,
}
SMALL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "vocab_size": 100,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
}
GPT2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 8, "n_layer": 2, "n_head": 2}
GPT2 |= {"n_positions": 16, "n_ctx": 16, "vocab_size": 50}
PAGE = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
NO_TOTALS: dict[str, Any] = {"extra": {"safetensors": None}}


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def llama_tensors(dtype: str = "F32") -> list[tuple[str, str, tuple[int, ...]]]:
    """The tensors of SMALL."""
    layer = [("self_attn.q_proj", (64, 64)), ("self_attn.k_proj", (32, 64)), ("self_attn.v_proj", (32, 64))]
    layer += [("self_attn.o_proj", (64, 64)), ("mlp.gate_proj", (128, 64)), ("mlp.up_proj", (128, 64))]
    layer += [("mlp.down_proj", (64, 128))]
    found: list[tuple[str, str, tuple[int, ...]]] = [("model.embed_tokens.weight", dtype, (100, 64))]
    for number in range(2):
        found += [(f"model.layers.{number}.{name}.weight", dtype, shape) for name, shape in layer]
        norms = ("input_layernorm", "post_attention_layernorm")
        found += [(f"model.layers.{number}.{name}.weight", dtype, (64,)) for name in norms]
    return [*found, ("model.norm.weight", dtype, (64,))]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories with every kind of metadata."""
    root = tmp_path_factory.mktemp("described")
    small, weights = text(SMALL), safetensors(llama_tensors("F16"))
    card = {"license": "apache-2.0", "language": ["en"], "base_model": "acme/base", "model-index": INDEX}
    both = {"config.json": small, "model.safetensors": weights}
    add_repo(root, "acme/small", both | {"pytorch_model.bin": b"x"}, card_data=card, pipeline_tag="text-generation")
    add_repo(root, "acme/base", {"config.json": small}, card_data={"base_model": "acme/root"})
    add_repo(root, "acme/root", {"config.json": small})
    add_repo(root, "mistralai/Mixtral-8x7B-v0.1", {"config.json": text(MIXTRAL)})
    add_repo(root, "acme/gated", both, gated="manual", **NO_TOTALS)
    add_repo(root, "acme/page", {"config.json": PAGE})
    add_repo(root, "acme/list", {"config.json": b"[1, 2]"})
    add_repo(root, "acme/Nothing-7B", {"README.md": b"# Nothing"})
    add_repo(
        root, "acme/nested", {"unet/config.json": small, "unet/model.safetensors": weights, "vae/config.json": b"{}"}
    )
    add_repo(root, "acme/broken", {"config.json": small, "model.safetensors": PAGE})
    add_repo(root, "acme/says-fp16", {"config.json": small, "model.safetensors": safetensors(llama_tensors("F32"))})
    add_repo(root, "acme/masks", {"config.json": text(GPT2), "model.safetensors": safetensors(gpt2_tensors())})
    shards = {f"model-{number:05}-of-00100.safetensors": shard(number) for number in range(1, 101)}
    add_repo(root, "acme/hundred", {"config.json": small, **shards}, **NO_TOTALS)
    add_repo(root, "acme/odd-shards", {**odd_shards(), "config.json": small}, **NO_TOTALS)
    gguf = {"Tiny-Q4_K_M.gguf": llama().file(), "sub/Tiny-Q8_0.gguf": llama(layers=1).file(), "bad.gguf": PAGE}
    add_repo(root, "acme/gguf", gguf)
    scans = {"x.pkl": {"level": "unsafe", "imports": [{"module": "os", "name": "system", "safety": "dangerous"}]}}
    add_repo(root, "acme/pickled", {"x.pkl": b"x", "config.json": small}, scans=scans)
    return root


RESULT = {"task": {"type": "text-generation"}, "dataset": {"name": "Arc", "type": "arc"}}
INDEX = [{"name": "x", "results": [RESULT | {"metrics": [{"type": "acc", "value": 0.5}]}]}]


def gpt2_tensors() -> list[tuple[str, str, tuple[int, ...]]]:
    found: list[tuple[str, str, tuple[int, ...]]] = [("wte.weight", "F32", (50, 8)), ("wpe.weight", "F32", (16, 8))]
    shapes = [("attn.c_attn.weight", (8, 24)), ("attn.c_attn.bias", (24,)), ("attn.c_proj.weight", (8, 8))]
    shapes += [("attn.c_proj.bias", (8,)), ("mlp.c_fc.weight", (8, 32)), ("mlp.c_fc.bias", (32,))]
    shapes += [("mlp.c_proj.weight", (32, 8)), ("mlp.c_proj.bias", (8,)), ("attn.bias", (1, 1, 16, 16))]
    shapes += [(f"ln_{number}.{kind}", (8,)) for number in (1, 2) for kind in ("weight", "bias")]
    for layer in range(2):
        found += [(f"h.{layer}.{name}", "F32", shape) for name, shape in shapes]
    return [*found, ("ln_f.weight", "F32", (8,)), ("ln_f.bias", "F32", (8,))]


def shard(number: int) -> bytes:
    names = [f"model.layers.{number}.mlp.experts.{expert}.down_proj.weight" for expert in range(40)]
    return safetensors([(name, "BF16", (8, 8)) for name in names])


def odd_shards() -> dict[str, bytes | Path]:
    """Shards that only the index lists."""
    index = {"weight_map": {"a": "first.safetensors", "b": "second.safetensors"}}
    parts = {name: safetensors([("w", "F32", (10,))]) for name in ("first", "second", "unrelated")}
    return {f"{name}.safetensors": data for name, data in parts.items()} | {"model.safetensors.index.json": text(index)}


@pytest.fixture
def hub(described: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(described, users={"hf_good": User("ada", orgs=("acme",)), "hf_other": User("bob")}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        assert not server.errors


def test_a_page_with_the_parameter_count_takes_two_requests(hub: HubServer, settings: Settings) -> None:
    found = describe_model("acme/small", settings=settings)

    assert [request.path.split("?")[0] for request in hub.requests] == [
        "/api/models/acme/small",
        f"/acme/small/resolve/{hub.commit('acme/small')}/config.json",
    ]
    assert (found.parameters.total, found.parameters.basis) == (80_448, "safetensors metadata of the Hub")
    assert (found.parameters.formula, found.parameters.dtypes) == (80_448, {"F16": 80_448})
    assert found.architecture is not None
    assert (found.architecture.attention, found.architecture.kv_heads) == ("GQA", 2)
    assert (found.card.license, found.card.languages) == ("apache-2.0", ("en",))
    assert [(base.id, base.relation) for base in found.card.base_models] == [("acme/base", "finetune")]
    assert [(result.metric, result.value) for result in found.card.evaluations] == [("acc", 0.5)]
    assert (found.card.security.status, found.card.security.pickles) == ("safe", ("pytorch_model.bin",))
    assert (found.unknown, found.notes) == ({}, ())


def test_a_description_takes_little_processor_time(hub: HubServer, settings: Settings) -> None:
    describe_model("acme/base", settings=settings)  # imports
    times = []
    for _ in range(5):
        start = time.process_time()  # not wall time: other processes may use the processor
        describe_model("acme/small", settings=settings)
        times.append(time.process_time() - start)

    assert min(times) < 0.3


def test_a_configuration_alone_gives_the_size(hub: HubServer, settings: Settings) -> None:
    found = describe_model("mistralai/Mixtral-8x7B-v0.1", settings=settings)

    assert (found.parameters.total, found.parameters.basis) == (46_702_792_704, "config by formula")
    assert 12.8e9 < (found.parameters.active or 0) < 13e9
    assert found.architecture is not None and found.architecture.experts is not None
    assert (found.architecture.experts.count, found.architecture.experts.active) == (8, 2)
    assert "license" in found.unknown and found.notes == ()


@pytest.mark.parametrize(("token", "hint"), [(None, "gpux auth login"), ("hf_other", "Request access")])
def test_a_gated_model_reports_what_is_missing(
    hub: HubServer, settings: Settings, token: str | None, hint: str
) -> None:
    found = describe_model("acme/gated", settings=settings.with_overrides(token=token))

    assert found.card.gated == "manual"
    assert "is gated" in found.unknown["architecture"] and hint in found.unknown["architecture"]
    assert "is gated" in found.unknown["parameters"]
    assert found.known.info.files


def test_a_gated_model_with_the_right_token(hub: HubServer, settings: Settings) -> None:
    found = describe_model("acme/gated", settings=settings.with_overrides(token="hf_good"))

    assert (found.parameters.total, found.parameters.basis) == (80_448, "safetensors headers")
    assert "architecture" not in found.unknown


@pytest.mark.parametrize("token", [None, "hf_good"])
def test_a_missing_model_is_a_typed_error(hub: HubServer, settings: Settings, token: str | None) -> None:
    with pytest.raises(ModelNotFoundError, match="acme/missing"):
        describe_model("acme/missing", settings=settings.with_overrides(token=token))


@pytest.mark.parametrize(
    ("ref", "why"), [("acme/page", "is an HTML page instead of JSON"), ("acme/list", "not a JSON object")]
)
def test_an_invalid_configuration_is_reported(hub: HubServer, settings: Settings, ref: str, why: str) -> None:
    assert why in describe_model(ref, settings=settings).unknown["architecture"]


def test_an_html_page_instead_of_a_file(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("status", path="/resolve/", status=200, body=PAGE, headers={"Content-Type": "text/html"}))

    found = describe_model("acme/small", settings=settings)

    assert "HTML page" in found.unknown["architecture"]
    assert found.parameters.total == 80_448


def test_no_configuration_leaves_the_name(hub: HubServer, settings: Settings) -> None:
    found = describe_model("acme/Nothing-7B", settings=settings)

    assert (found.parameters.total, found.parameters.basis) == (7_000_000_000, "name")
    assert found.unknown["architecture"] == "the model has no config.json"


def test_a_configuration_in_a_folder(hub: HubServer, settings: Settings) -> None:
    found = describe_model("acme/nested", settings=settings)

    assert found.config_path == "unet/config.json"
    assert "unet/config.json" in found.notes[0]
    assert found.parameters.formula == 80_448


def test_a_broken_header_is_named(hub: HubServer, settings: Settings) -> None:
    found = describe_model("acme/broken", settings=settings, headers="always")

    assert (found.parameters.total, found.parameters.basis) == (80_448, "config by formula")
    assert "model.safetensors" in found.unknown["headers"] and "page" in found.unknown["headers"]


def test_contradicting_files_are_noted(hub: HubServer, settings: Settings) -> None:
    assert describe_model("acme/says-fp16", settings=settings).notes == (
        "config.json states float16, but the weights are F32",
    )


def test_masks_are_not_parameters(hub: HubServer, settings: Settings) -> None:
    stated, read = (
        describe_model("acme/masks", settings=settings),
        describe_model("acme/masks", settings=settings, headers="always"),
    )

    assert (stated.parameters.total, stated.parameters.formula) == (2288 + 512, 2288)
    assert stated.notes == ("of the 2,800 stored values, 512 are causal masks: 2,288 are parameters",)
    assert (read.parameters.total, read.parameters.stored) == (2288, 2800)
    assert read.notes == ("512 of the 2,800 stored values are buffers and scales, not parameters",)


def test_a_hundred_shards(hub: HubServer, settings: Settings) -> None:
    found = describe_model("acme/hundred", settings=settings)

    ranged = [request for request in hub.requests if "safetensors" in request.path or request.listener == "cdn"]
    cdn = [request for request in ranged if request.listener == "cdn"]
    assert found.safetensors is not None
    assert (found.safetensors.files, found.parameters.total) == (100, 100 * 40 * 64)
    assert len(cdn) <= 200
    assert sum(request.bytes_sent for request in hub.requests) <= 2_000_000


def test_shards_found_by_their_index(hub: HubServer, settings: Settings) -> None:
    found = describe_model("acme/odd-shards", settings=settings)

    assert (found.parameters.total, found.parameters.basis) == (20, "safetensors headers")


@pytest.mark.parametrize("file", ["Tiny-Q4_K_M.gguf", None])
def test_a_gguf_file(hub: HubServer, settings: Settings, file: str | None) -> None:
    found = describe_model("acme/gguf" + (f"/{file}" if file else ""), settings=settings)

    assert found.gguf is not None and found.architecture is not None
    assert (found.gguf.label, found.parameters.basis) == ("Q4_K_M", "gguf")
    assert (found.architecture.model_type, found.architecture.kv_heads, found.architecture.context_length) == (
        "llama",
        2,
        8192,
    )


def test_an_invalid_gguf_file(hub: HubServer, settings: Settings) -> None:
    found = describe_model("acme/gguf/bad.gguf", settings=settings)

    assert "cannot read bad.gguf as a GGUF file" in found.unknown["architecture"]
    with pytest.raises(EntryNotFoundError):
        describe_model("acme/gguf/no.gguf", settings=settings)


def test_scans_and_chains_are_requested_on_demand(hub: HubServer, settings: Settings) -> None:
    pickled = describe_model("acme/pickled", settings=settings, scans=True)
    assert len(hub.requests) == 3
    assert pickled.card.security.status == "issues"
    assert pickled.card.security.issues[0].imports == ("os.system (dangerous)",)
    hub.clear_requests()
    chained = describe_model("acme/small", settings=settings, chain=True)
    assert [base.id for base in chained.base_chain] == ["acme/base", "acme/root"]
    assert len(hub.requests) == 4


def test_offline_the_last_known_page_is_described(hub: HubServer, settings: Settings) -> None:
    manager = HuggingFaceManager(settings)
    describe_model("acme/small", manager=manager)
    hub.clear_requests()

    found = describe_model("acme/small", settings=settings.with_overrides(offline=True))

    assert hub.requests == []
    assert (found.known.why, found.parameters.total) == ("offline", 80_448)
    assert found.card.license == "apache-2.0"
    assert "offline" in found.unknown["architecture"] and "scan" in found.unknown
    with pytest.raises(OfflineError):
        describe_model("acme/base", settings=settings.with_overrides(offline=True))


@pytest.mark.usefixtures("impatient")
def test_a_failing_hub_leaves_its_last_answer(hub: HubServer, settings: Settings) -> None:
    describe_model("acme/small", settings=settings)
    hub.add_fault(Fault("status", path="/api/models", status=503, times=None))

    hub.clear_requests()

    found = describe_model("acme/small", settings=settings)

    assert "503" in (found.known.why or "")
    assert "the Hub does not answer" in found.unknown["architecture"]
    assert {request.path.partition("?")[0] for request in hub.requests} == {"/api/models/acme/small"}
    with pytest.raises(Exception, match="503"):
        describe_model("acme/base", settings=settings)


def test_a_local_folder(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes(text(SMALL))
    (folder / "model.safetensors").write_bytes(safetensors(llama_tensors("F16")))
    (folder / "README.md").write_text("---\nlicense: mit\nlanguage: [en]\nbase_model: acme/base\n---\n# Small\n")
    (tmp_path / "a.gguf").write_bytes(llama().file())

    found, gguf = describe_model(folder, settings=settings), describe_model(tmp_path / "a.gguf", settings=settings)

    assert (found.parameters.total, found.parameters.basis) == (80_448, "safetensors headers")
    assert (found.card.license, found.card.languages, found.card.base_models[0].id) == ("mit", ("en",), "acme/base")
    assert gguf.gguf is not None and gguf.parameters.basis == "gguf"
    with pytest.raises(ModelNotFoundError):
        describe_model(tmp_path / "none.gguf", settings=settings)


@pytest.mark.usefixtures("impatient")
def test_an_unreachable_hub(settings: Settings) -> None:
    with pytest.raises(NetworkError):
        describe_model("acme/small", settings=settings.with_overrides(endpoint="http://127.0.0.1:9"))


def test_a_description_is_json(hub: HubServer, settings: Settings) -> None:
    for ref in ("acme/small", "acme/gguf", "mistralai/Mixtral-8x7B-v0.1", "acme/Nothing-7B"):
        found = describe_model(ref, settings=settings).to_dict()
        assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.usefixtures("impatient")
def test_an_unavailable_file_is_not_retried_for_long(
    hub: HubServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Waits of 0.15 s at least, so that few requests fit in the time of a read.
    monkeypatch.setattr(retry, "READ_POLICY", replace(retry.READ_POLICY, first=0.1, longest=0.2, deadline=0.5))
    hub.add_fault(Fault("status", path="/resolve/", status=503, times=None))

    found = describe_model("acme/small", settings=settings)

    assert "503" in found.unknown["architecture"]
    assert found.parameters.total == 80_448
    assert len([request for request in hub.requests if "/resolve/" in request.path]) <= 6


# Parts of files


def test_a_range_of_a_file(hub: HubServer, settings: Settings) -> None:
    manager = HuggingFaceManager(settings)
    info = manager.get_model_info("acme/small")
    weights = safetensors(llama_tensors("F16"))

    assert manager.read_range(info, "model.safetensors", 10, 60) == weights[10:60]
    assert manager.read_range(info, "model.safetensors", len(weights) - 5, len(weights) + 90) == weights[-5:]
    assert manager.read_range(info, "config.json", 0, 1 << 20) == text(SMALL)
    first, second = manager.read_ranges(info, [("config.json", 0, 4), ("missing", 0, 4)])
    assert first == text(SMALL)[:4] and isinstance(second, EntryNotFoundError)


def test_a_token_is_sent_to_the_origin_only(hub: HubServer, settings: Settings) -> None:
    manager = HuggingFaceManager(settings, token="hf_good")
    info = manager.get_model_info("acme/gated")
    hub.clear_requests()
    manager.read_range(info, "model.safetensors", 0, 100)

    sent = {request.listener: request.headers.get("authorization") for request in hub.requests}
    assert sent == {"origin": "Bearer hf_good", "cdn": None}
    with pytest.raises(GatedModelError):
        HuggingFaceManager(settings).read_range(info, "model.safetensors", 0, 100)


def test_cached_files_are_not_requested(hub: HubServer, settings: Settings) -> None:
    manager = HuggingFaceManager(settings)
    info = manager.get_model_info("acme/small")
    manager.fetch(info, ["config.json"])
    hub.clear_requests()

    assert manager.read_range(info, "config.json", 0, 3) == text(SMALL)[:3]
    assert hub.requests == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path="/resolve/", status=503, times=2),
        Fault("close", path="/repos/", after=20),
        Fault("ignore_range", path="/repos/", times=None),
        Fault("drop", path="/repos/"),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_range_survives_faults(hub: HubServer, settings: Settings, fault: Fault) -> None:
    manager = HuggingFaceManager(settings)
    info = manager.get_model_info("acme/small")
    hub.add_fault(fault)

    assert manager.read_range(info, "model.safetensors", 8, 400) == safetensors(llama_tensors("F16"))[8:400]
