"""Repositories with nothing to run or convert: the error says what they are, and its hint, followed, helps."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpux import Settings, errors, plan_model, pull_model
from gpux.cli.main import run
from gpux.inspect.formats import weight_formats
from gpux.model.info import ModelFile, ModelInfo
from gpux.pull.absent_weights import no_weights
from tests.hub import HubServer, add_repo, folder_files
from tests.inspect.headers.files import Gguf, safetensors
from tests.models.bert import bert_repository
from tests.pull.conftest import Make, Stub

WEIGHTS = safetensors([("w", "F32", (2, 2))])
CONFIG = json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}).encode()
GGUF = Gguf().add("general.architecture", 8, "llama").add("llama.block_count", 4, 1).tensor(
    "w", (32, 8)
).header() + bytes(1024)
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00003.safetensors", "b": "model-00002-of-00003.safetensors"}})


def adapter(**more: Any) -> dict[str, bytes]:
    config = {"peft_type": "LORA", "base_model_name_or_path": "acme/base"} | more
    return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": WEIGHTS}


def index(*names: str) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": {f"w{n}": name for n, name in enumerate(names)}}).encode()


SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
#: files, parts of the message, the command of the hint
REPOSITORIES: dict[str, tuple[dict[str, bytes], tuple[str, ...], str]] = {
    "adapter": (adapter(), ("adapter (LoRA) of acme/base",), "gpux pull acme/base"),
    "adapter-at-revision": (adapter(revision="v1"), ("of acme/base",), "gpux pull acme/base@v1"),
    "adapter-ia3": (adapter(peft_type="IA3") | {"tokenizer.json": b"{}"}, ("adapter (IA3)",), "gpux pull acme/base"),
    "adapter-of-a-path": (
        adapter(base_model_name_or_path="/root/models/base"),
        ("/root/models/base",),
        "gpux search base",
    ),
    "adapter-in-pickles": (
        {"adapter_config.json": adapter()["adapter_config.json"], "adapter_model.bin": b"x"},
        ("adapter (LoRA) of acme/base",),
        "gpux pull acme/base",
    ),
    "two-shards-missing": (
        {"config.json": CONFIG, SHARDS[0]: WEIGHTS, "model.safetensors.index.json": index(*SHARDS)},
        (SHARDS[1], SHARDS[2], "incomplete"),
        "gpux revisions acme/two-shards-missing",
    ),
    "pickled-shard-missing": (
        {
            "config.json": CONFIG,
            "pytorch_model-00002-of-00002.bin": b"x",
            "pytorch_model.bin.index.json": index(
                "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
            ),
        },
        ("pytorch_model-00001-of-00002.bin",),
        "gpux revisions acme/pickled-shard-missing",
    ),
    "odd-shard-missing": (
        {
            "config.json": CONFIG,
            "layers-a.safetensors": WEIGHTS,
            "model.safetensors.index.json": index("layers-a.safetensors", "layers-b.safetensors"),
        },
        ("layers-b.safetensors", "model.safetensors.index.json names"),
        "gpux revisions acme/odd-shard-missing",
    ),
    "index-without-shards": (
        {"config.json": CONFIG, "model.safetensors.index.json": index(*SHARDS)},
        (", ".join(SHARDS),),
        "gpux revisions acme/index-without-shards",
    ),
    "shards-without-index": (
        {"config.json": CONFIG, **dict.fromkeys(SHARDS, WEIGHTS)},
        ("3 shards have no index: model.safetensors.index.json",),
        "gpux revisions acme/shards-without-index",
    ),
    "ggufs": (
        {"m-Q4_K_M.gguf": GGUF, "m-Q8_0.gguf": GGUF, "mmproj-F16.gguf": GGUF},
        ("2 GGUF files in Q4_K_M, Q8_0",),
        "gpux pull acme/ggufs/m-Q4_K_M.gguf",
    ),
    "gguf-in-a-folder": ({"Q8_0/m.gguf": GGUF}, ("is in a folder",), "gpux pull acme/gguf-in-a-folder/Q8_0/m.gguf"),
    "tokenizer": (
        {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"},
        ("has a tokenizer and no weights",),
        "gpux search tokenizer",
    ),
    "tensorflow": (
        {"config.json": CONFIG, "tf_model.h5": b"x"},
        ("tensorflow only",),
        "gpux pull acme/tensorflow --format tensorflow",
    ),
    "flax": ({"config.json": CONFIG, "flax_model.msgpack": b"x"}, ("flax only",), "gpux pull acme/flax --format flax"),
    "openvino": (
        {"config.json": CONFIG, "openvino_model.xml": b"x", "openvino_model.bin": b"x"},
        ("openvino only",),
        "gpux pull acme/openvino --format openvino",
    ),
    "coreml": (
        {"Model.mlpackage/Manifest.json": b"{}", "Model.mlpackage/Data/w.bin": b"x"},
        ("coreml only",),
        "gpux pull acme/coreml --format coreml",
    ),
    "tflite": ({"model.tflite": b"x"}, ("tflite only",), "gpux pull acme/tflite --format tflite"),
    "mlx": ({"config.json": CONFIG, "weights.npz": b"x"}, ("weights.npz",), "gpux pull acme/mlx/weights.npz"),
    "diffusers": (
        {
            "model_index.json": b"{}",
            "unet/config.json": b"{}",
            "unet/diffusion_pytorch_model.safetensors": WEIGHTS,
            "vae/diffusion_pytorch_model.safetensors": WEIGHTS,
        },
        ("pipeline of diffusers", "unet, vae"),
        "gpux pull acme/diffusers --format safetensors",
    ),
    "lora-of-images": ({"pytorch_lora_weights.safetensors": WEIGHTS}, ("adapter (LoRA)",), ""),
    "yolo": ({"yolov8n.pt": b"x", "yolov8s.pt": b"x"}, ("yolov8n.pt, yolov8s.pt",), "gpux pull acme/yolo/yolov8n.pt"),
    "lightning": ({"last.ckpt": b"x"}, ("last.ckpt",), "gpux pull acme/lightning/last.ckpt"),
    "sklearn": ({"model.pkl": b"x"}, ("model.pkl",), "gpux pull acme/sklearn/model.pkl"),
    "own-name": (
        {"config.json": CONFIG, "weights v2.safetensors": WEIGHTS},
        ("weights v2.safetensors",),
        "gpux pull 'acme/own-name/weights v2.safetensors'",
    ),
    "dataset": ({"data/train-00000.parquet": b"x", "README.md": b"x"}, ("but data: data/train-00000.parquet",), ""),
    "card": ({"README.md": b"# soon\n"}, ("has no weights", "README.md"), "gpux search card"),
    "parts": (
        {"onnx/decoder_model_fp16.onnx": b"x", "onnx/encoder_model.onnx": b"x"},
        ("not one complete model",),
        "gpux pull acme/parts/onnx/encoder_model.onnx",
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("absent")
    base = bert_repository(scratch / "base", "fill-mask", onnx=True)
    add_repo(scratch / "hub", "acme/base", folder_files(base), git_tags={"v1": "main"})
    for name, (files, _, _) in REPOSITORIES.items():
        add_repo(scratch / "hub", f"acme/{name}", files)
    half = bert_repository(scratch / "half", "fill-mask", onnx=True)
    (half / "onnx" / "model.onnx").rename(half / "onnx" / "model_fp16.onnx")
    (half / "model.safetensors").unlink()
    add_repo(scratch / "hub", "acme/half", folder_files(half))
    weights = bert_repository(scratch / "weights", "fill-mask")
    add_repo(scratch / "hub", "acme/weights", folder_files(weights))
    checkpoint = {f"checkpoint-500/{path}": data for path, data in folder_files(weights).items()}
    add_repo(scratch / "hub", "acme/checkpoint", checkpoint)
    packed = json.dumps(
        json.loads((base / "config.json").read_text()) | {"quantization": {"bits": 4, "group_size": 64}}
    )
    tags = ["base_model:acme/base", "mlx"]
    add_repo(scratch / "hub", "acme/packed", {"config.json": packed.encode(), "model.safetensors": WEIGHTS}, tags=tags)
    return scratch / "hub"


@pytest.fixture
def served(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    with HubServer(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield Settings.from_env()


def refusal(ref: str | Path, **options: Any) -> errors.GpuxError:
    """The error of a pull, which the plan has too."""
    with pytest.raises(errors.GpuxError) as caught:
        pull_model(ref, **options)
    try:
        planned = plan_model(ref, **options).refusal
    except errors.GpuxError as exc:
        planned = exc
    assert planned is not None and planned.to_dict() == caught.value.to_dict()
    return caught.value


def command(hint: str | None) -> str:
    found = re.search(r"`(gpux [^`]+)`", hint or "")
    return found[1] if found else ""


@pytest.mark.parametrize("name", REPOSITORIES)
def test_the_error_says_what_a_repository_is_and_the_hint_helps(
    served: Settings, stubs: Make, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    stubs(a={})
    _, parts, hint = REPOSITORIES[name]

    error = refusal(f"acme/{name}", settings=served)

    assert isinstance(error, errors.NoWeightsError)
    assert not [part for part in parts if part not in error.message], error.message
    assert command(error.hint) == hint and error.hint
    if hint:
        assert run(shlex.split(hint)[1:]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", ["ggufs", "gguf-in-a-folder"])
def test_a_gguf_file_that_was_downloaded_is_converted(
    served: Settings, stubs: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stubs(a={})
    monkeypatch.setattr(Stub, "refusal", lambda self, config, task: None)
    run(shlex.split(command(refusal(f"acme/{name}", settings=served).hint))[1:])
    path = capsys.readouterr().out.strip()

    assert plan_model(path, settings=served).kind == "convert"


def test_a_model_in_a_folder(served: Settings, stubs: Make, capsys: pytest.CaptureFixture[str]) -> None:
    stubs(a={})
    error = refusal("acme/checkpoint", settings=served)
    assert "a model in checkpoint-500" in error.message
    assert run(shlex.split(command(error.hint))[1:]) == 0
    path = capsys.readouterr().out.strip()

    assert pull_model(f"{path}/checkpoint-500", settings=served).task == "fill-mask"


@pytest.mark.parametrize(
    ("ref", "precision", "message", "hint"),
    [
        ("acme/half", "fp32", "ships onnx in fp16, not in fp32", "gpux pull acme/half --precision fp16"),
        ("acme/half", "int8", "ships onnx in fp16, not in int8", "gpux pull acme/half --precision fp16"),
        ("acme/weights", "bf16", "has no weights in bf16", "gpux pull acme/weights --precision fp16"),
        ("acme/weights", "q4f16", "has no weights in q4f16", "gpux pull acme/weights --precision int4"),
        ("acme/weights", "uint8", "has no weights in uint8", "gpux pull acme/weights --precision int8"),
    ],
)
def test_another_precision(served: Settings, stubs: Make, ref: str, precision: str, message: str, hint: str) -> None:
    stubs(a={})

    error = refusal(ref, precision=precision, settings=served)

    assert message in error.message and command(error.hint) == hint
    assert run([*shlex.split(hint)[1:], "--allow-inexact"]) == 0


def test_weights_that_mlx_packed(served: Settings, stubs: Make) -> None:
    stubs(a={})

    error = refusal("acme/packed", settings=served)

    assert "quantized to 4 bits by MLX" in error.message
    assert run(shlex.split(command(error.hint))[1:]) == 0


def test_the_hint_for_a_folder_with_missing_shards_helps(folder: Path, settings: Settings, stubs: Make) -> None:
    stubs(a={})
    shutil.copy(folder / "model.safetensors", folder / "away")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (folder / "model.safetensors").rename(folder / names[0])
    (folder / "model.safetensors.index.json").write_bytes(index(*names))

    error = refusal(folder, settings=settings)
    assert error.hint == f"Copy {names[1]} into {folder}, and run the same command again."
    (folder / "away").rename(folder / names[1])

    assert plan_model(folder, settings=settings).kind == "convert"


@pytest.mark.parametrize("safe", [True, False])
def test_shards_of_any_name_are_converted_if_the_index_names_them(
    folder: Path, settings: Settings, stubs: Make, safe: bool
) -> None:
    stubs(a={})
    name, listed = (
        ("layers-a.safetensors", "model.safetensors.index.json") if safe else ("a.bin", "pytorch_model.bin.index.json")
    )
    (folder / "model.safetensors").rename(folder / name)
    (folder / listed).write_bytes(index(name))

    plan = plan_model(folder, settings=settings)

    assert plan.kind == "convert" and {name, listed} <= {file.path for file in plan.files}


def test_a_damaged_index_is_named(folder: Path, settings: Settings, stubs: Make) -> None:
    stubs(a={})
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{")

    with pytest.raises(errors.CorruptFileError, match=r"model\.safetensors\.index\.json is not JSON"):
        plan_model(folder, settings=settings)


@pytest.mark.parametrize("tags", [("base_model:adapter:acme/base",), ("base_model:acme/base",)])
@pytest.mark.parametrize("config", [{}, {"base_model_name_or_path": ""}, {"base_model_name_or_path": 5}])
def test_the_base_of_an_adapter_may_be_in_the_tags(tags: tuple[str, ...], config: Mapping[str, Any]) -> None:
    names = ("adapter_config.json", "adapter_model.safetensors")
    files = tuple(ModelFile(name, 1) for name in names)
    info = ModelInfo("hf", "a/b", "a/b", files=files, formats=weight_formats(names), tags=tags)

    error = no_weights(info, "fp32", lambda path: config)

    assert command(error.hint) == "gpux pull acme/base"
