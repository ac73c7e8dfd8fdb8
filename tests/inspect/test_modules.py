from __future__ import annotations

import pytest

from gpux.inspect.formats import run_files
from gpux.inspect.modules import Module, parse_modules, transformer_folder

OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (f"{OLD}.Pooling", "Pooling"),
        (f"{OLD}.Transformer.Transformer", "Transformer"),
        (f"{NEW}.pooling.Pooling", "Pooling"),
        ("sentence_transformers.base.modules.dense.Dense", "Dense"),
        ("sentence_transformers.base.modules.router.Router", "Router"),
        ("sentence_transformers.sparse_encoder.models.SpladePooling", "SpladePooling"),
        ("custom_st.Transformer", None),
        ("sentence_transformers_own.models.Pooling", None),
    ],
)
def test_classes(reference: str, name: str | None) -> None:
    assert parse_modules([{"idx": 0, "name": "0", "path": "", "type": reference}]) == (Module(reference, name, ""),)


@pytest.mark.parametrize(
    ("path", "folder"),
    [("", ""), (".", ""), ("./", ""), ("0_Transformer/", "0_Transformer"), ("a//b", "a/b"), ("a\\b", "a/b")],
)
def test_folders(path: str, folder: str) -> None:
    assert transformer_folder(parse_modules([{"path": path, "type": f"{OLD}.Transformer"}])) == folder


def test_run_files_of_modules_in_any_folder() -> None:
    paths = [
        "modules.json",
        "encoder/config.json",
        "encoder/model.safetensors",
        "encoder/tokenizer.json",
        "encoder/notes/config.json",
        "encoder/head/config.json",
        "encoder/head/model.safetensors",
        "pooling/config.json",
        "other/config.json",
        "pooling/pytorch_model.bin",
    ]
    modules = [("encoder", "Transformer"), ("pooling/", "Pooling"), ("encoder/head", "Dense")]
    listed = parse_modules([{"path": path, "type": f"{OLD}.{name}"} for path, name in modules])
    assert set(paths) - set(run_files(paths, listed)) == {
        "encoder/model.safetensors",
        "encoder/notes/config.json",
        "other/config.json",
        "pooling/pytorch_model.bin",
    }
