"""Listings of files: the shapes of published repositories, with published sizes where sizes matter."""

from __future__ import annotations

from gpux.model.info import ModelFile

#: openai-community/gpt2: the weights by their published sizes, the small files of the right order
GPT2 = {
    ".gitattributes": 445,
    "64-8bits.tflite": 125162496,
    "64-fp16.tflite": 248269688,
    "64.tflite": 125162496,
    "README.md": 8090,
    "config.json": 665,
    "flax_model.msgpack": 497764120,
    "generation_config.json": 124,
    "merges.txt": 456318,
    "model.safetensors": 548105171,
    "onnx/config.json": 879,
    "onnx/decoder_model.onnx": 653665842,
    "onnx/decoder_model_merged.onnx": 655231720,
    "onnx/decoder_with_past_model.onnx": 653672649,
    "onnx/generation_config.json": 119,
    "onnx/merges.txt": 456318,
    "onnx/special_tokens_map.json": 99,
    "onnx/tokenizer.json": 2107653,
    "onnx/tokenizer_config.json": 234,
    "onnx/vocab.json": 798156,
    "pytorch_model.bin": 548118077,
    "rust_model.ot": 702517648,
    "tf_model.h5": 497933648,
    "tokenizer.json": 1355256,
    "tokenizer_config.json": 26,
    "vocab.json": 1042301,
}

MINILM = (
    ".gitattributes 1_Pooling/config.json README.md config.json config_sentence_transformers.json data_config.json"
    " model.safetensors modules.json onnx/model.onnx onnx/model_O1.onnx onnx/model_O2.onnx onnx/model_O3.onnx"
    " onnx/model_O4.onnx onnx/model_qint8_arm64.onnx onnx/model_qint8_avx512.onnx onnx/model_qint8_avx512_vnni.onnx"
    " onnx/model_quint8_avx2.onnx openvino/openvino_model.bin openvino/openvino_model.xml"
    " openvino/openvino_model_qint8_quantized.bin openvino/openvino_model_qint8_quantized.xml pytorch_model.bin"
    " rust_model.ot sentence_bert_config.json special_tokens_map.json tf_model.h5 tokenizer.json tokenizer_config.json"
    " train_script.py vocab.txt"
)
GEMMA = (  # the shape of onnx-community's multimodal decoders
    "config.json generation_config.json chat_template.jinja preprocessor_config.json processor_config.json"
    " tokenizer.json tokenizer.model tokenizer_config.json"
    + "".join(
        f" onnx/{part}{suffix}.onnx onnx/{part}{suffix}.onnx_data"
        for part in ("audio_encoder", "decoder_model_merged", "embed_tokens", "vision_encoder")
        for suffix in ("", "_fp16", "_q4", "_q4f16", "_quantized")
    )
    + " onnx/decoder_model_merged.onnx_data_1"
)
WHISPER = "config.json preprocessor_config.json tokenizer.json normalizer.json" + "".join(
    f" onnx/{part}{suffix}.onnx"
    for part in ("encoder_model", "decoder_model", "decoder_model_merged", "decoder_with_past_model")
    for suffix in ("", "_fp16", "_quantized", "_bnb4")
)
LLAMA = (
    "LICENSE.txt README.md config.json generation_config.json special_tokens_map.json tokenizer.json"
    " tokenizer_config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors"
    " model.safetensors.index.json original/consolidated.00.pth original/consolidated.01.pth original/params.json"
    " original/tokenizer.model"
)
DIFFUSION = (
    "README.md model_index.json v1-5-pruned.safetensors v1-5-pruned.ckpt feature_extractor/preprocessor_config.json"
    " scheduler/scheduler_config.json tokenizer/merges.txt tokenizer/vocab.json text_encoder/config.json"
    " text_encoder/model.safetensors text_encoder/model.fp16.safetensors text_encoder/pytorch_model.bin"
    " unet/config.json unet/diffusion_pytorch_model.bin unet/diffusion_pytorch_model.fp16.safetensors"
    " unet/diffusion_pytorch_model.safetensors unet/diffusion_pytorch_model.non_ema.safetensors vae/config.json"
    " vae/diffusion_pytorch_model.bin vae/diffusion_pytorch_model.fp16.safetensors"
    " vae/diffusion_pytorch_model.safetensors"
)
COREML = (
    "README.md config.json tokenizer.json Model.mlpackage/Manifest.json"
    " Model.mlpackage/Data/com.apple.CoreML/model.mlmodel Model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    " compiled/Model.mlmodelc/coremldata.bin compiled/Model.mlmodelc/model.mil compiled/Model.mlmodelc/metadata.json"
)
SAVED_MODEL = (
    "README.md tf/saved_model.pb tf/keras_metadata.pb tf/variables/variables.data-00000-of-00001"
    " tf/variables/variables.index tf/assets/vocab.txt tf/notes.txt"
)
BY_PARTS = "config.json text_encoder/model.onnx unet/model.onnx unet/weights.pb vae_decoder/model.onnx model_index.json"


def files(listing: str | dict[str, int | None]) -> list[ModelFile]:
    """The listing of a manager; files without a size get one."""
    if isinstance(listing, str):
        return [ModelFile(path, 1000) for path in listing.split()]
    return [ModelFile(path, size) for path, size in listing.items()]
