from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gpux.inspect.formats import (
    OnnxVariant,
    external_data_of,
    onnx_variants,
    run_files,
    shipped_onnx,
    source_weights,
    weight_formats,
)


@dataclass(frozen=True)
class Repository:
    """File names, and the expected result of each function."""

    files: str
    formats: str
    run: str = ""
    weights: str = ""
    shipped: str | None = None
    #: graph -> part and precision, the plain ones first
    graphs: dict[str, str] = field(default_factory=dict)


DECODERS = {
    "onnx/decoder_model.onnx": "decoder_model fp32",
    "onnx/decoder_model_merged.onnx": "decoder_model_merged fp32",
    "onnx/decoder_with_past_model.onnx": "decoder_with_past_model fp32",
}

REPOSITORIES = {
    "gpt2": Repository(
        files=".gitattributes 64-8bits.tflite 64.tflite README.md config.json flax_model.msgpack generation_config.json"
        " merges.txt model.safetensors pytorch_model.bin rust_model.ot tf_model.h5 tokenizer.json"
        " tokenizer_config.json vocab.json onnx/config.json onnx/merges.txt onnx/decoder_model.onnx"
        " onnx/decoder_model_merged.onnx onnx/decoder_with_past_model.onnx onnx/vocab.json",
        formats="onnx safetensors pytorch tensorflow flax tflite rust",
        run="config.json generation_config.json merges.txt tokenizer.json tokenizer_config.json vocab.json",
        weights="model.safetensors",
        graphs=DECODERS,
    ),
    "onnx-community": Repository(
        files="config.json tokenizer.json tokenizer_config.json special_tokens_map.json quantize_config.json"
        " onnx/model.onnx onnx/model.onnx_data onnx/model.onnx_data_1 onnx/model_fp16.onnx onnx/model_fp16.onnx_data"
        " onnx/model_int8.onnx onnx/model_uint8.onnx onnx/model_quantized.onnx onnx/model_q4.onnx"
        " onnx/model_q4f16.onnx onnx/model_bnb4.onnx onnx/model_no_gather_q4.onnx",
        formats="onnx",
        run="config.json special_tokens_map.json tokenizer.json tokenizer_config.json",
        shipped="onnx/model.onnx onnx/model.onnx_data onnx/model.onnx_data_1",
        graphs={
            "onnx/model.onnx": "model fp32",
            "onnx/model_bnb4.onnx": "model bnb4",
            "onnx/model_fp16.onnx": "model fp16",
            "onnx/model_int8.onnx": "model int8",
            "onnx/model_no_gather_q4.onnx": "model_no_gather int4",
            "onnx/model_q4.onnx": "model int4",
            "onnx/model_q4f16.onnx": "model q4f16",
            "onnx/model_quantized.onnx": "model int8",
            "onnx/model_uint8.onnx": "model uint8",
        },
    ),
    "onnx-community decoder": Repository(
        files="config.json onnx/decoder_model_merged_q4f16.onnx onnx/encoder_model_fp16.onnx onnx/encoder_model.onnx",
        formats="onnx",
        run="config.json",
        graphs={
            "onnx/encoder_model.onnx": "encoder_model fp32",
            "onnx/decoder_model_merged_q4f16.onnx": "decoder_model_merged q4f16",
            "onnx/encoder_model_fp16.onnx": "encoder_model fp16",
        },
    ),
    "sentence-transformers": Repository(
        files=".gitattributes 1_Pooling/config.json README.md config.json config_sentence_transformers.json"
        " data_config.json model.safetensors modules.json pytorch_model.bin rust_model.ot sentence_bert_config.json"
        " special_tokens_map.json tf_model.h5 tokenizer.json tokenizer_config.json train_script.py vocab.txt"
        " onnx/model.onnx onnx/model_O1.onnx onnx/model_O2.onnx onnx/model_O3.onnx onnx/model_O4.onnx"
        " onnx/model_qint8_arm64.onnx onnx/model_qint8_avx512.onnx onnx/model_qint8_avx512_vnni.onnx"
        " onnx/model_quint8_avx2.onnx openvino/openvino_model.bin openvino/openvino_model.xml"
        " openvino/openvino_model_qint8_quantized.bin openvino/openvino_model_qint8_quantized.xml",
        formats="onnx safetensors pytorch tensorflow openvino rust",
        run="1_Pooling/config.json config.json config_sentence_transformers.json modules.json"
        " sentence_bert_config.json special_tokens_map.json tokenizer.json tokenizer_config.json vocab.txt",
        weights="model.safetensors",
        shipped="onnx/model.onnx",
        graphs={
            "onnx/model.onnx": "model fp32",
            "onnx/model_O1.onnx": "model fp32",
            "onnx/model_O2.onnx": "model fp32",
            "onnx/model_O3.onnx": "model fp32",
            "onnx/model_O4.onnx": "model fp16",
            "onnx/model_qint8_arm64.onnx": "model int8",
            "onnx/model_qint8_avx512.onnx": "model int8",
            "onnx/model_qint8_avx512_vnni.onnx": "model int8",
            "onnx/model_quint8_avx2.onnx": "model uint8",
        },
    ),
    "sentence-transformers with a dense layer": Repository(
        files="modules.json config.json model.safetensors tokenizer.json 1_Pooling/config.json 2_Dense/config.json"
        " 2_Dense/model.safetensors 3_Normalize/note.txt",
        formats="safetensors",
        run="1_Pooling/config.json 2_Dense/config.json 2_Dense/model.safetensors 3_Normalize/note.txt config.json"
        " modules.json tokenizer.json",
        weights="model.safetensors",
    ),
    "a pickled dense layer, which nothing here reads": Repository(
        files="modules.json config.json pytorch_model.bin vocab.txt 1_Pooling/config.json 2_Dense/config.json"
        " 2_Dense/pytorch_model.bin",
        formats="pytorch",
        run="1_Pooling/config.json 2_Dense/config.json config.json modules.json vocab.txt",
        weights="pytorch_model.bin",
    ),
    "sharded safetensors": Repository(
        files="config.json chat_template.jinja model-00001-of-00002.safetensors model-00002-of-00002.safetensors"
        " model.safetensors.index.json tokenizer.model original/consolidated.00.pth original/params.json"
        " modeling_x.py",
        formats="safetensors pytorch",
        run="chat_template.jinja config.json tokenizer.model",
        weights="model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json",
    ),
    "sharded pickles": Repository(
        files="config.json pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin"
        " pytorch_model.bin.index.json spiece.model",
        formats="pytorch",
        run="config.json spiece.model",
        weights="pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin pytorch_model.bin.index.json",
    ),
    "shards of both kinds": Repository(
        files="config.json model-00001-of-00001.safetensors model.safetensors.index.json"
        " pytorch_model-00001-of-00001.bin pytorch_model.bin.index.json",
        formats="safetensors pytorch",
        run="config.json",
        weights="model-00001-of-00001.safetensors model.safetensors.index.json",
    ),
    "a training folder": Repository(
        files="config.json pytorch_model.bin optimizer.pt scheduler.pt training_args.bin rng_state.pth"
        " trainer_state.json source.spm target.spm",
        formats="pytorch",
        run="config.json source.spm target.spm",
        weights="pytorch_model.bin",
    ),
    "external data at the top": Repository(
        files="config.json model.onnx model.onnx.data tokenizer.json",
        formats="onnx",
        run="config.json tokenizer.json",
        shipped="model.onnx model.onnx.data",
        graphs={"model.onnx": "model fp32"},
    ),
    "ONNX in both places": Repository(
        files="onnx/model.onnx model.onnx deep/er/model.onnx",
        formats="onnx",
        shipped="model.onnx",
        graphs={"model.onnx": "model fp32", "onnx/model.onnx": "model fp32", "deep/er/model.onnx": "model fp32"},
    ),
    "ONNX elsewhere": Repository(
        files="text_encoder/model.onnx unet/model.onnx unet/model.onnx_data",
        formats="onnx",
        graphs={"text_encoder/model.onnx": "model fp32", "unet/model.onnx": "model fp32"},
    ),
    "optimised only": Repository(
        files="onnx/model_O3.onnx onnx/model_O2.onnx",
        formats="onnx",
        shipped="onnx/model_O2.onnx",
        graphs={"onnx/model_O2.onnx": "model fp32", "onnx/model_O3.onnx": "model fp32"},
    ),
    "GGUF only": Repository(
        files="README.md llama-q4_k_m.gguf llama-q8_0.gguf config.json", formats="gguf", run="config.json"
    ),
    "Core ML": Repository(
        files="config.json coreml/m.mlpackage/Manifest.json coreml/m.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
        " coreml/m.mlpackage/Data/com.apple.CoreML/model.mlmodel old.mlmodel",
        formats="coreml",
        run="config.json",
    ),
    "flax": Repository(files="config.json flax_model.msgpack", formats="flax", run="config.json"),
    "TensorFlow": Repository(files="saved_model.pb tf_model-00001-of-00002.h5 model.ckpt.index", formats="tensorflow"),
    "an adapter": Repository(
        files="adapter_config.json adapter_model.safetensors adapter_model.bin",
        formats="safetensors pytorch",
        run="adapter_config.json",
    ),
    "a diffusion pipeline": Repository(
        files="model_index.json unet/config.json unet/model.safetensors tokenizer/vocab.json tokenizer/merges.txt",
        formats="safetensors",
    ),
    "an image model": Repository(
        files="config.json preprocessor_config.json processor_config.json video_preprocessor_config.json"
        " model.safetensors",
        formats="safetensors",
        run="config.json preprocessor_config.json processor_config.json video_preprocessor_config.json",
        weights="model.safetensors",
    ),
    "no weights": Repository(files="README.md config.json model.txt onnx/readme.md", formats="", run="config.json"),
    "nothing": Repository(files="", formats=""),
}
every_repository = pytest.mark.parametrize("repository", REPOSITORIES.values(), ids=REPOSITORIES)


@every_repository
def test_formats_of_the_weights(repository: Repository) -> None:
    assert weight_formats(repository.files.split()) == tuple(repository.formats.split())


@every_repository
def test_run_files(repository: Repository) -> None:
    assert run_files(repository.files.split()) == tuple(repository.run.split())


@every_repository
def test_source_weights(repository: Repository) -> None:
    assert source_weights(repository.files.split()) == tuple(repository.weights.split())


@every_repository
def test_graphs_and_their_precision(repository: Repository) -> None:
    found = onnx_variants(repository.files.split())
    assert [(variant.graph, f"{variant.part} {variant.precision}") for variant in found] == [*repository.graphs.items()]
    plain = [variant.plain for variant in found]
    assert plain == sorted(plain, reverse=True)


@every_repository
def test_shipped_onnx(repository: Repository) -> None:
    found = shipped_onnx(repository.files.split())
    assert (" ".join(found.files) if found else None) == repository.shipped


@every_repository
def test_the_order_of_the_names_does_not_matter(repository: Repository) -> None:
    names = repository.files.split()
    for function in (weight_formats, run_files, source_weights, onnx_variants, shipped_onnx):
        assert function(reversed(names)) == function(iter(names))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("repository", "precision", "graph"),
    [
        ("onnx-community", "fp16", "onnx/model_fp16.onnx"),
        ("onnx-community", "q4f16", "onnx/model_q4f16.onnx"),
        ("onnx-community", "int4", "onnx/model_q4.onnx"),
        ("onnx-community", "uint8", "onnx/model_uint8.onnx"),
        ("onnx-community", "bf16", None),
        ("sentence-transformers", "fp16", "onnx/model_O4.onnx"),
        ("sentence-transformers", "uint8", "onnx/model_quint8_avx2.onnx"),
        ("gpt2", "fp32", None),
    ],
)
def test_shipped_onnx_of_a_precision(repository: str, precision: str, graph: str | None) -> None:
    found = shipped_onnx(REPOSITORIES[repository].files.split(), precision)
    assert (found.graph if found else None) == graph
    assert found is None or found.precision == precision


def test_external_data_belongs_to_its_own_graph() -> None:
    files = "m.onnx m.onnx_data m.onnx_data_10 m.onnx.data mXonnx_data m.onnx_data_x sub/m.onnx_data m.onnx.data.md5"
    assert external_data_of("m.onnx", files.split()) == ("m.onnx.data", "m.onnx_data", "m.onnx_data_10")
    assert external_data_of("m_fp16.onnx", files.split()) == ()


def test_a_variant_lists_its_files() -> None:
    variant = OnnxVariant("a.onnx", "a", "fp32", ("a.onnx_data",), plain=True)
    assert variant.files == ("a.onnx", "a.onnx_data")
