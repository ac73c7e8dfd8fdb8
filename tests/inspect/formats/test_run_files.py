from __future__ import annotations

import pytest

from gpux.inspect.formats.run_files import run_files, run_files_beside, run_kind


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "tokenizer",
            "tokenizer.json vocab.txt vocab.json merges.txt spiece.model sentencepiece.bpe.model tokenizer.model"
            " tokenizer.model.v3 qwen.tiktoken source.spm target.spm vocab-src.json vocab-tgt.json target_vocab.json"
            " special_tokens_map.json added_tokens.json bpe.codes tekken.json entity_vocab.json prophetnet.tokenizer"
            " normalizer.json",
        ),
        ("chat template", "chat_template.jinja chat_template.json additional_chat_templates/tool_use.jinja"),
        ("processor", "preprocessor_config.json processor_config.json video_preprocessor_config.json"),
        ("generation config", "generation_config.json"),
        ("config", "config.json modules.json sentence_bert_config.json open_clip_config.json"),
        ("tokenizer", "0_Transformer/sentencepiece.bpe.model 0_Transformer/tokenizer.json"),
        ("module 2_Dense", "2_Dense/config.json 2_Dense/model.safetensors"),
        ("module query_0_SparseStaticEmbedding", "query_0_SparseStaticEmbedding/model.safetensors"),
        (
            None,
            "modeling_x.py README.md model.safetensors model.onnx data_config.json quantize_config.json"
            " onnx/tokenizer.json 0_Transformer/model.safetensors 2_Dense/pytorch_model.bin image.png"
            " 0_Transformer/onnx/tokenizer.json trainer_state.json tokenizer.json.md5",
        ),
    ],
)
def test_kinds_of_run_files(kind: str | None, names: str) -> None:
    assert {name: run_kind(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


def test_a_pickled_module_is_selected_only_without_safetensors() -> None:
    dense = "2_Dense/config.json 2_Dense/pytorch_model.bin"
    assert "2_Dense/pytorch_model.bin" in run_files_beside(dense.split(), ())
    assert "2_Dense/pytorch_model.bin" not in run_files(dense.split())
    assert "2_Dense/pytorch_model.bin" not in run_files_beside([*dense.split(), "2_Dense/model.safetensors"], ())


def test_files_missing_at_the_top_come_from_the_folder_of_the_weights() -> None:
    names = ["config.json", "onnx/config.json", "onnx/tokenizer.json", "onnx/model.onnx", "other/tokenizer.json"]
    assert list(run_files_beside(names, {"onnx"})) == ["config.json", "onnx/tokenizer.json"]


def test_no_part_of_a_package_is_a_config() -> None:
    names = ["1_A/x.mlpackage/Manifest.json", "1_A/config.json"]
    assert list(run_files_beside(names, ())) == ["1_A/config.json"]
