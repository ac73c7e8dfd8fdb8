from __future__ import annotations

import json
import pickle

import pytest

from gpux.errors import EntryNotFoundError, NoWeightsError, UsageError
from gpux.inspect.formats import SelectedFiles, Selection, select
from gpux.model.info import ModelFile
from tests.inspect.formats.listings import (
    BY_PARTS,
    COREML,
    DIFFUSION,
    GEMMA,
    GPT2,
    LLAMA,
    MINILM,
    SAVED_MODEL,
    WHISPER,
    files,
)

MINILM_RUN = (
    "1_Pooling/config.json config.json config_sentence_transformers.json modules.json sentence_bert_config.json"
    " special_tokens_map.json tokenizer.json tokenizer_config.json vocab.txt"
)
GPT2_RUN = "config.json generation_config.json merges.txt tokenizer.json tokenizer_config.json vocab.json"
LLAMA_RUN = "config.json generation_config.json special_tokens_map.json tokenizer.json tokenizer_config.json"
LLAMA_SHARDS = "model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json"
GEMMA_RUN = (
    "chat_template.jinja config.json generation_config.json preprocessor_config.json processor_config.json"
    " tokenizer.json tokenizer.model tokenizer_config.json"
)
DIFFUSION_RUN = (
    "feature_extractor/preprocessor_config.json model_index.json scheduler/scheduler_config.json"
    " text_encoder/config.json tokenizer/merges.txt tokenizer/vocab.json unet/config.json vae/config.json"
)
GGUF = (
    "README.md config.json m-IQ4_XS.gguf m-Q4_K_M.gguf m-Q8_0-00001-of-00003.gguf m-Q8_0-00002-of-00003.gguf"
    " m-Q8_0-00003-of-00003.gguf mmproj-m-F16.gguf mmproj-m-F32.gguf m.imatrix.gguf"
)
DENSE = (
    "modules.json config.json model.safetensors 1_Pooling/config.json 2_Dense/config.json 2_Dense/model.safetensors"
    " 2_Dense/pytorch_model.bin"
)

#: what it shows: (listing, selection, format, precision, files chosen)
CASES: dict[str, tuple[str, Selection, str | None, str | None, str]] = {
    "a plain ONNX graph is run as it is": (MINILM, Selection(), "onnx", "fp32", f"{MINILM_RUN} onnx/model.onnx"),
    "decoders are no plain graph": (" ".join(GPT2), Selection(), "safetensors", None, f"{GPT2_RUN} model.safetensors"),
    "ONNX in parts": (
        " ".join(GPT2),
        Selection("onnx"),
        "onnx",
        "fp32",
        f"{GPT2_RUN} onnx/decoder_model_merged.onnx onnx/special_tokens_map.json",
    ),
    "one precision of many": (
        MINILM,
        Selection("onnx", "fp16"),
        "onnx",
        "fp16",
        f"{MINILM_RUN} onnx/model_O4.onnx",
    ),
    "a precision that is not shipped is converted to": (
        MINILM,
        Selection(precision="int8"),
        "safetensors",
        None,
        f"{MINILM_RUN} model.safetensors",
    ),
    "for a machine": (
        MINILM,
        Selection(precision="int8", machine="arm64"),
        "onnx",
        "int8",
        f"{MINILM_RUN} onnx/model_qint8_arm64.onnx",
    ),
    "OpenVINO in pairs": (
        MINILM,
        Selection("openvino"),
        "openvino",
        None,
        f"{MINILM_RUN} openvino/openvino_model.bin openvino/openvino_model.xml",
    ),
    "OpenVINO quantized": (
        MINILM,
        Selection("openvino", "int8"),
        "openvino",
        "int8",
        f"{MINILM_RUN} openvino/openvino_model_qint8_quantized.bin openvino/openvino_model_qint8_quantized.xml",
    ),
    "TensorFlow": (MINILM, Selection("tensorflow"), "tensorflow", None, f"{MINILM_RUN} tf_model.h5"),
    "Rust": (MINILM, Selection("rust"), "rust", None, f"{MINILM_RUN} rust_model.ot"),
    "TFLite, the plain one": (" ".join(GPT2), Selection("tflite"), "tflite", None, f"{GPT2_RUN} 64.tflite"),
    "TFLite in half precision": (
        " ".join(GPT2),
        Selection("tflite", "fp16"),
        "tflite",
        "fp16",
        f"{GPT2_RUN} 64-fp16.tflite",
    ),
    "flax": (" ".join(GPT2), Selection("flax"), "flax", None, f"{GPT2_RUN} flax_model.msgpack"),
    "only ONNX in parts is there": (
        GEMMA,
        Selection(),
        "onnx",
        "fp32",
        f"{GEMMA_RUN} onnx/audio_encoder.onnx onnx/audio_encoder.onnx_data onnx/decoder_model_merged.onnx"
        " onnx/decoder_model_merged.onnx_data onnx/decoder_model_merged.onnx_data_1 onnx/embed_tokens.onnx"
        " onnx/embed_tokens.onnx_data onnx/vision_encoder.onnx onnx/vision_encoder.onnx_data",
    ),
    "parts in four bits": (
        GEMMA,
        Selection(precision="q4"),
        "onnx",
        "int4",
        f"{GEMMA_RUN} onnx/audio_encoder_q4.onnx onnx/audio_encoder_q4.onnx_data onnx/decoder_model_merged_q4.onnx"
        " onnx/decoder_model_merged_q4.onnx_data onnx/embed_tokens_q4.onnx onnx/embed_tokens_q4.onnx_data"
        " onnx/vision_encoder_q4.onnx onnx/vision_encoder_q4.onnx_data",
    ),
    "encoder and merged decoder": (
        WHISPER,
        Selection("onnx", "q8"),
        "onnx",
        "int8",
        "config.json normalizer.json onnx/decoder_model_merged_quantized.onnx onnx/encoder_model_quantized.onnx"
        " preprocessor_config.json tokenizer.json",
    ),
    "only four bits are there": (
        "config.json onnx/model_q4.onnx onnx/model_q4.onnx_data",
        Selection(),
        "onnx",
        "int4",
        "config.json onnx/model_q4.onnx onnx/model_q4.onnx_data",
    ),
    "a lone file of external data": (
        "model.onnx model.onnx.data",
        Selection(),
        "onnx",
        "fp32",
        "model.onnx model.onnx.data",
    ),
    "shards, index, and no duplicate": (LLAMA, Selection(), "safetensors", None, f"{LLAMA_RUN} {LLAMA_SHARDS}"),
    "the publisher's own pickles": (
        LLAMA,
        Selection("pytorch"),
        "pytorch",
        None,
        f"{LLAMA_RUN} original/consolidated.00.pth original/consolidated.01.pth original/tokenizer.model",
    ),
    "Mistral's duplicate": (
        "consolidated.safetensors model-00001-of-00001.safetensors model.safetensors.index.json",
        Selection(),
        "safetensors",
        None,
        "model-00001-of-00001.safetensors model.safetensors.index.json",
    ),
    "an incomplete set is passed over": (
        "model-00002-of-00002.safetensors model.safetensors.index.json pytorch_model.bin",
        Selection(),
        "pytorch",
        None,
        "pytorch_model.bin",
    ),
    "shards with an index before shards without": (
        "model-00001-of-00001.safetensors pytorch_model-00001-of-00001.bin pytorch_model.bin.index.json",
        Selection(),
        "pytorch",
        None,
        "pytorch_model-00001-of-00001.bin pytorch_model.bin.index.json",
    ),
    "shards without an index, where nothing else is": (
        "model-00001-of-00001.safetensors",
        Selection(),
        "safetensors",
        None,
        "model-00001-of-00001.safetensors",
    ),
    "a variant of the weights": (
        "model.safetensors model.fp16.safetensors",
        Selection("safetensors", "fp16"),
        "safetensors",
        "fp16",
        "model.fp16.safetensors",
    ),
    "a pipeline of diffusers": (
        DIFFUSION,
        Selection(),
        "safetensors",
        None,
        f"{DIFFUSION_RUN} text_encoder/model.safetensors unet/diffusion_pytorch_model.safetensors"
        " vae/diffusion_pytorch_model.safetensors",
    ),
    "a pipeline in half precision": (
        DIFFUSION,
        Selection("safetensors", "fp16"),
        "safetensors",
        "fp16",
        f"{DIFFUSION_RUN} text_encoder/model.fp16.safetensors unet/diffusion_pytorch_model.fp16.safetensors"
        " vae/diffusion_pytorch_model.fp16.safetensors",
    ),
    "no pipeline of two formats": (
        "model_index.json unet/diffusion_pytorch_model.safetensors unet/diffusion_pytorch_model.bin"
        " safety_checker/pytorch_model.bin",
        Selection(),
        "pytorch",
        None,
        "model_index.json safety_checker/pytorch_model.bin unet/diffusion_pytorch_model.bin",
    ),
    "a pipeline in ONNX": (
        BY_PARTS,
        Selection(),
        "onnx",
        "fp32",
        "config.json model_index.json text_encoder/model.onnx unet/model.onnx unet/weights.pb vae_decoder/model.onnx",
    ),
    "sentence-transformers in a folder": (
        "modules.json 0_Transformer/config.json 0_Transformer/model.safetensors 0_Transformer/sentencepiece.bpe.model"
        " 0_Transformer/pytorch_model.bin 1_Pooling/config.json",
        Selection(),
        "safetensors",
        None,
        "0_Transformer/config.json 0_Transformer/model.safetensors 0_Transformer/sentencepiece.bpe.model"
        " 1_Pooling/config.json modules.json",
    ),
    "a dense layer": (
        DENSE,
        Selection(),
        "safetensors",
        None,
        "1_Pooling/config.json 2_Dense/config.json 2_Dense/model.safetensors config.json model.safetensors"
        " modules.json",
    ),
    "a dense layer that is pickled": (
        DENSE.replace(" 2_Dense/model.safetensors", ""),
        Selection(),
        "safetensors",
        None,
        "1_Pooling/config.json 2_Dense/config.json 2_Dense/pytorch_model.bin config.json model.safetensors"
        " modules.json",
    ),
    "GGUF, the usual one, with its projector": (
        GGUF,
        Selection("gguf"),
        "gguf",
        "Q4_K_M",
        "config.json m-Q4_K_M.gguf mmproj-m-F16.gguf",
    ),
    "GGUF in splits": (
        GGUF,
        Selection("gguf", "q8_0"),
        "gguf",
        "Q8_0",
        "config.json m-Q8_0-00001-of-00003.gguf m-Q8_0-00002-of-00003.gguf m-Q8_0-00003-of-00003.gguf"
        " mmproj-m-F16.gguf",
    ),
    "GGUF, narrowed": (
        GGUF,
        Selection("gguf", include=("*IQ4*",)),
        "gguf",
        "IQ4_XS",
        "m-IQ4_XS.gguf",
    ),
    "Core ML: a package before a compiled one": (
        COREML,
        Selection("coreml"),
        "coreml",
        None,
        "Model.mlpackage/Data/com.apple.CoreML/model.mlmodel Model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
        " Model.mlpackage/Manifest.json config.json tokenizer.json",
    ),
    "a SavedModel": (
        SAVED_MODEL,
        Selection("tensorflow"),
        "tensorflow",
        None,
        "tf/assets/vocab.txt tf/keras_metadata.pb tf/saved_model.pb tf/variables/variables.data-00000-of-00001"
        " tf/variables/variables.index",
    ),
    "include brings a whole package": (
        COREML,
        Selection(include=("Model.mlpackage/Manifest.json",)),
        "coreml",
        None,
        "Model.mlpackage/Data/com.apple.CoreML/model.mlmodel Model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
        " Model.mlpackage/Manifest.json",
    ),
    "include of a folder": (
        LLAMA,
        Selection(include=("original/",)),
        "pytorch",
        None,
        " ".join(path for path in LLAMA.split() if path.startswith("original/")),
    ),
    "a star matches slashes, and no shards come with their index": (
        LLAMA,
        Selection(include=("*.json",)),
        None,
        None,
        "config.json generation_config.json model.safetensors.index.json original/params.json special_tokens_map.json"
        " tokenizer.json tokenizer_config.json",
    ),
    "include completes shards": (LLAMA, Selection(include=("*-00001-*",)), "safetensors", None, LLAMA_SHARDS),
    "include completes external data": (
        GEMMA,
        Selection(include=("onnx/decoder_model_merged.onnx",)),
        "onnx",
        None,
        "onnx/decoder_model_merged.onnx onnx/decoder_model_merged.onnx_data onnx/decoder_model_merged.onnx_data_1",
    ),
    "exclude leads to the next best": (
        MINILM,
        Selection(exclude=("onnx/*",)),
        "safetensors",
        None,
        f"{MINILM_RUN} model.safetensors",
    ),
    "exclude removes a whole unit": (
        "model.onnx model.onnx_data pytorch_model.bin config.json",
        Selection(exclude=("*.onnx_data",)),
        "pytorch",
        None,
        "config.json pytorch_model.bin",
    ),
    "everything": (LLAMA, Selection(everything=True), None, None, LLAMA),
    "everything but": (
        LLAMA,
        Selection(everything=True, exclude=("*.safetensors", "original/*")),
        None,
        None,
        f"{LLAMA_RUN} LICENSE.txt README.md",
    ),
    "one file": (GGUF, Selection(file="m-Q4_K_M.gguf"), "gguf", None, "m-Q4_K_M.gguf"),
    "one file of a split": (
        GGUF,
        Selection(file="m-Q8_0-00002-of-00003.gguf"),
        "gguf",
        None,
        "m-Q8_0-00001-of-00003.gguf m-Q8_0-00002-of-00003.gguf m-Q8_0-00003-of-00003.gguf",
    ),
    "one file with its external data": (
        "onnx/model_q4.onnx onnx/model_q4.onnx_data onnx/model.onnx",
        Selection(file="onnx/model_q4.onnx"),
        "onnx",
        None,
        "onnx/model_q4.onnx onnx/model_q4.onnx_data",
    ),
    "one package": (
        COREML,
        Selection(file="compiled/Model.mlmodelc"),
        "coreml",
        None,
        "compiled/Model.mlmodelc/coremldata.bin compiled/Model.mlmodelc/metadata.json"
        " compiled/Model.mlmodelc/model.mil",
    ),
    "one file that looks like a pattern": ("a[1].bin a1.bin", Selection(file="a[1].bin"), None, None, "a[1].bin"),
    "one odd file name": ("yolo.pt README.md", Selection(), "pytorch", None, "yolo.pt"),
    "an adapter": (
        "adapter_config.json adapter_model.safetensors optimizer.pt",
        Selection(),
        "safetensors",
        None,
        "adapter_config.json adapter_model.safetensors",
    ),
}


def wanted(names: str) -> tuple[str, ...]:
    return tuple(sorted(names.split()))


@pytest.mark.parametrize(("listing", "selection", "format_", "precision", "chosen"), CASES.values(), ids=CASES)
def test_selected_files(
    listing: str, selection: Selection, format_: str | None, precision: str | None, chosen: str
) -> None:
    found = select(files(listing), selection)
    assert found.paths == wanted(chosen)
    assert (found.format, found.precision) == (format_, precision)
    assert sorted([*found.paths, *(file.path for file in found.left_out)]) == sorted(listing.split())
    assert all(file.reason for file in (*found.chosen, *found.left_out))
    assert select(files(" ".join(reversed(listing.split()))), selection) == found


def test_gpt2_costs_less_than_a_third_of_its_repository() -> None:
    found = select(files(dict(GPT2)))
    assert found.total_bytes <= 0.3 * sum(GPT2.values())
    assert found.total_bytes == sum(GPT2[path] for path in wanted(f"{GPT2_RUN} model.safetensors"))
    in_parts = select(files(dict(GPT2)), Selection("onnx"))
    assert in_parts.total_bytes <= 0.3 * sum(GPT2.values())


@pytest.mark.parametrize(
    ("listing", "selection", "message"),
    [
        ("config.json tokenizer.json", Selection(), "no weights at all"),
        ("m-Q4_K_M.gguf", Selection(), r"it has gguf \(Q4_K_M\)"),
        (MINILM, Selection("gguf"), r"no gguf weights .* it has onnx \(fp32, fp16, int8, uint8\), safetensors"),
        (MINILM, Selection("onnx", "q4"), r"no q4 onnx weights"),
        (MINILM, Selection("onnx", "int8"), r"no int8 onnx weights"),
        ("model.safetensors", Selection("safetensors", "fp16"), "no fp16 safetensors weights"),
        ("a.safetensors b.safetensors", Selection(), "a complete model"),
        ("a/model.safetensors b/model.safetensors", Selection(), "a complete model"),
        ("model-00001-of-00002.safetensors", Selection(), "it has safetensors"),
        (GGUF, Selection("gguf", "Q2_K"), r"gguf \(.*IQ4_XS, Q4_K_M, Q8_0.*\)"),
        (
            MINILM,
            Selection(exclude=("*.onnx", "*.safetensors", "*.bin")),
            "among the files that pass --include and --exclude",
        ),
        (MINILM, Selection("onnx", include=("*.json",)), "among the files that pass --include and --exclude"),
        (COREML, Selection("tflite"), "it has coreml"),
    ],
)
def test_missing_weights_are_an_error_that_lists_the_others(listing: str, selection: Selection, message: str) -> None:
    with pytest.raises(NoWeightsError, match=message) as caught:
        select(files(listing), selection)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(include=("*.ggml",)), r"no file matches '\*.ggml'; the repository has 1_Pooling/config.json"),
        (Selection(file="onnx/model_fp16.onnx"), "no file 'onnx/model_fp16.onnx'; it has onnx/model_"),
        (Selection(file="onnx"), "no file 'onnx'"),
        (Selection("onnx", include=("nothing",)), "no file matches 'nothing'"),
    ],
)
def test_a_missing_file_is_an_error_that_lists_the_others(selection: Selection, message: str) -> None:
    with pytest.raises(EntryNotFoundError, match=message):
        select(files(MINILM), selection)


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "ggml"},
        {"precision": "fp17"},
        {"precision": "Q4_K_M"},
        {"everything": True, "format": "onnx"},
        {"everything": True, "file": "a"},
        {"everything": True, "include": ("*.json",)},
        {"file": "a", "include": ("b",)},
        {"file": "a", "precision": "fp16"},
    ],
)
def test_an_invalid_selection(fields: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Selection(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("onnx/decoder_model_merged_fp16.onnx", "another precision: fp16"),
        ("pytorch_model.bin", "another format: pytorch"),
        ("onnx/decoder_model.onnx", "decoder_model_merged contains it"),
        ("modeling_x.py", "code, which is fetched only if it is named"),
        ("README.md", "documentation"),
        ("optimizer.pt", "state of a training run"),
        ("onnx/config.json", "belongs to the model of another folder"),
        ("tf_model-00001-of-00002.h5", "shards missing in the repository: 1"),
        ("2_Dense/pytorch_model.bin", "weights of a module that has safetensors"),
        ("photo.png", "not needed to run"),
        ("extra.json", "excluded by extra*"),
        ("tf_model.h5", "another format: tensorflow"),
        ("onnx/decoder_model_merged_O2.onnx", "another form of the weights"),
    ],
)
def test_why_a_file_is_left_out(path: str, reason: str) -> None:
    names = f"config.json onnx/decoder_model_merged.onnx 2_Dense/model.safetensors {path}"
    found = select(files(names), Selection("onnx", exclude=("extra*",)))
    assert {file.path: file.reason for file in found.left_out} == {path: reason}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("model-00001-of-00002.safetensors", "weights: safetensors, 2 shards"),
        ("model.safetensors.index.json", "index of the shards"),
        ("tokenizer.json", "tokenizer"),
        ("config.json", "config"),
        ("generation_config.json", "generation config"),
    ],
)
def test_why_a_file_is_selected(path: str, reason: str) -> None:
    assert {file.path: file.reason for file in select(files(LLAMA)).chosen}[path] == reason


def test_the_reason_of_a_quantization() -> None:
    listing = {"m-Q6_K.gguf": 600, "m-Q8_0.gguf": 800, "m-Q3_K_S.gguf": 300}
    (file,) = select(files(dict(listing)), Selection("gguf")).chosen
    assert (file.path, file.reason) == ("m-Q6_K.gguf", "no Q4_K_M: the smallest with at least 4 bits")


def test_unknown_sizes() -> None:
    found = select([ModelFile("model.safetensors", None), ModelFile("config.json", 5)])
    assert (found.total_bytes, found.unknown_sizes) == (5, ("model.safetensors",))


def test_a_selection_is_json_and_pickles() -> None:
    found: SelectedFiles = select(files(MINILM))
    answer = json.loads(json.dumps(found.to_dict()))
    assert answer["total_bytes"] == found.total_bytes
    assert answer["format"] == "onnx"
    assert answer["chosen"][0] == {
        "file": {"path": "1_Pooling/config.json", "size": 1000, "blob_id": None, "sha256": None},
        "reason": "module 1_Pooling",
    }
    assert pickle.loads(pickle.dumps(found)) == found
