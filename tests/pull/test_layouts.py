"""sentence-transformers repositories of every layout: what is fetched, converted and opened."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux import Settings, errors, pull_model
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from tests.hub import add_repo, folder_files
from tests.models.bert import bert_repository
from tests.models.cases import SENTENCES
from tests.models.sentence import move_modules
from tests.pull.conftest import Make

OLD = "sentence_transformers.models"
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.sentence_transformer.modules.normalize.Normalize",
}
#: folders of the modules, as modules.json writes them
LAYOUTS: dict[str, dict[str, str]] = {
    "of old versions": {"Transformer": "0_Transformer"},
    "with slashes": {"Transformer": "0_Transformer/", "Pooling": "1_Pooling/", "Dense": "2_Dense/"},
    "without numbers": {"Pooling": "pooling", "Dense": "dense", "Normalize": "normalize"},
    "without numbers, with slashes": {"Transformer": "encoder/", "Pooling": "pooling/", "Dense": "projection/"},
    "nested": {"Transformer": "parts/transformer", "Pooling": "parts/pooling", "Dense": "parts/head/dense"},
    "within the transformer": {"Transformer": "model", "Pooling": "model/1_Pooling", "Dense": "model/2_Dense"},
    "relative": {"Transformer": ".", "Pooling": "./1_Pooling"},
    "other names": {"Transformer": "0_BERT", "Pooling": "1_Mean", "Dense": "2_Layer"},
}
Arrange = Callable[..., Path]


def write_layout(folder: Path, layout: dict[str, str], *, onnx: str | None = None, new_names: bool = False) -> Path:
    """A repository whose modules are in the folders of a layout."""
    options: Any = {"dense": 24, "normalize": True, "max_seq_length": 12}
    path = onnx or "onnx/model.onnx"
    bert_repository(
        folder, "feature-extraction", onnx=onnx is not None, onnx_path=path, safetensors=onnx is None,
        sentence_transformers=options,
    )  # fmt: skip
    move_modules(folder, layout)
    if new_names:
        listed = json.loads((folder / "modules.json").read_text())
        renamed = [{**module, "type": NEW[module["type"].rpartition(".")[2]]} for module in listed]
        (folder / "modules.json").write_text(json.dumps(renamed))
    return folder


@pytest.fixture
def arrange(tmp_path: Path) -> Arrange:
    """Writes a repository into a folder of the test."""
    return lambda name, *args, **options: write_layout(tmp_path / name, *args, **options)


def vectors(model: Any) -> Any:
    with FeatureExtractionPipeline(model) as pipe:
        assert pipe.max_seq_length == 12
        return pipe.encode(SENTENCES)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The vectors of the usual layout."""
    folder = tmp_path_factory.mktemp("plain")
    model = pull_model(
        write_layout(folder / "model", {}, onnx="onnx/model.onnx"), settings=Settings.from_env(home=folder / "home")
    )
    return vectors(model)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("new_names", [False, True], ids=["old names", "new names"])
def test_a_folder_is_converted_and_opens(
    arrange: Arrange, stubs: Make, wanted: Any, layout: dict[str, str], new_names: bool
) -> None:
    converter = stubs(stub={})["stub"]
    model = pull_model(arrange("source", layout, new_names=new_names))
    assert converter.calls == 1
    assert (model.manifest.recipe, model.manifest.model_type) == ("stub", "bert")
    assert np.allclose(vectors(model), wanted, atol=1e-5)


@pytest.fixture
def repositories(repositories: Path, tmp_path: Path) -> Path:
    """A copy, to which tests add repositories."""
    return shutil.copytree(repositories, tmp_path / "hub", symlinks=True)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.hub
def test_everything_that_a_run_needs_is_fetched_from_the_hub(
    arrange: Arrange, repositories: Path, settings: Settings, wanted: Any, name: str
) -> None:
    folder = arrange("source", LAYOUTS[name], onnx="onnx/model.onnx")
    id = f"layouts/{re.sub('[ ,]+', '-', name)}"
    add_repo(repositories, id, folder_files(folder))
    assert np.allclose(vectors(pull_model(id, settings=settings)), wanted, atol=1e-5)


@pytest.mark.parametrize("onnx", ["0_Transformer/model.onnx", "0_Transformer/onnx/model.onnx", "onnx/model.onnx"])
def test_a_graph_beside_the_transformer_or_at_the_top(arrange: Arrange, wanted: Any, onnx: str) -> None:
    model = pull_model(arrange("source", {"Transformer": "0_Transformer"}, onnx=onnx))
    assert model.manifest.recipe == "shipped"
    assert np.allclose(vectors(model), wanted, atol=1e-5)


def test_the_transformer_s_files_replace_those_at_the_top(arrange: Arrange, stubs: Make, wanted: Any) -> None:
    """Versions before 2.0 wrote a config.json with their own version at the top."""
    stubs(stub={})
    folder = arrange("source", {"Transformer": "0_Transformer"})
    (folder / "config.json").write_text('{"__version__": "0.3.8"}')
    (folder / "model.safetensors").write_bytes(b"other weights")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    model = pull_model(folder)
    assert model.read_json("config.json")["model_type"] == "bert"
    assert np.allclose(vectors(model), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "reference",
    [
        f"{OLD}.Router",
        f"{OLD}.Asym",
        f"{OLD}.CLIPModel",
        f"{OLD}.WordEmbeddings",
        f"{OLD}.BoW",
        f"{OLD}.StaticEmbedding",
        "sentence_transformers.base.modules.router.Router",
        "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding",
    ],
)
def test_first_modules_that_are_not_converted_are_refused_by_name(
    arrange: Arrange, stubs: Make, reference: str
) -> None:
    stubs(stub={})
    folder = arrange("source", {"Transformer": "0_Part"})
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["type"] = reference
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(
        errors.UnsupportedError, match=f"first module of .* is {reference.rpartition('.')[2]}"
    ) as caught:
        pull_model(folder)
    assert caught.value.hint is not None and "--files" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is not a list of modules"),
        ("[]", "is not a list of modules"),
        ('[{"path": ""}]', "without a class"),
        ('["Transformer"]', "without a class"),
        (f'[{{"type": "{OLD}.Transformer", "path": "../outside"}}]', "outside of the repository"),
        (f'[{{"type": "{OLD}.Transformer", "path": "/etc"}}]', "outside of the repository"),
        (f'[{{"type": "{OLD}.Transformer", "path": "C:\\\\windows"}}]', "outside of the repository"),
    ],
)
def test_a_modules_file_that_cannot_be_used(arrange: Arrange, stubs: Make, content: str, message: str) -> None:
    stubs(stub={})
    folder = arrange("source", {})
    (folder / "modules.json").write_text(content)
    with pytest.raises(errors.CorruptFileError, match=message):
        pull_model(folder)


def test_a_folder_that_modules_name_and_the_repository_does_not_have(arrange: Arrange, stubs: Make) -> None:
    stubs(stub={})
    folder = arrange("source", {"Transformer": "0_Transformer"})
    shutil.rmtree(folder / "0_Transformer")
    with pytest.raises(errors.NoWeightsError):
        pull_model(folder)
