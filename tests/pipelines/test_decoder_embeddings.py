"""Decoders as embedding models: positions, an empty cache and padding are fed as the graph declares them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tokenizers
from onnx import TensorProto, helper, numpy_helper
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from gpux import pull_model
from gpux.errors import UnsupportedError
from gpux.model.variant import CallSpec, StoredModel
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from gpux.pipelines.text.tokenization import Tokenizer
from tests.models.sentence import SentenceOptions, write_sentence_files
from tests.pipelines.conftest import stored
from tests.runtime.generation.tiny_graphs import HEADS, HIDDEN, SIZE, VOCABULARY, Kind, hidden, write_encoder

TEXTS = ["w5 w9 w2", "w7", "w1 w2 w3 w4 w5 w6 w7 w8 w9", "w30 w31", "w3 w3 w40 w11 w12"]
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "pad_token_id": 0,
}
Edit = Callable[[onnx.GraphProto], None]
MakeDecoder = Callable[..., StoredModel]


def ids_of(text: str) -> list[int]:
    return [int(word[1:]) for word in text.split()]


def write_words(folder: Path, *, pad: str = "w0") -> None:
    """A tokenizer whose token i is the word wi."""
    model = WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w0")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment] # declared read-only
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "model_max_length": 60}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def decoder(tmp_path: Path) -> MakeDecoder:
    """A decoder as a variant for feature-extraction; ``edit`` changes its graph."""

    def make(
        kind: Kind = "growing",
        *,
        side: str = "right",
        sentence: SentenceOptions | None = None,
        edit: Edit | None = None,
        **config: Any,
    ) -> StoredModel:
        folder = tmp_path / "model"
        (folder / "onnx").mkdir(parents=True)
        file = write_encoder(folder / "onnx" / "model.onnx", kind)
        if edit is not None:
            model = onnx.load(file)
            edit(model.graph)
            onnx.save(model, file)
        write_words(folder)
        (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
        if sentence is not None:
            write_sentence_files(folder, sentence, hidden=HIDDEN, seed=0)
        return stored(folder, "feature-extraction", call_spec=CallSpec(padding_side=side))  # type: ignore[arg-type]

    return make


def pooled(mode: str, vectors: Any) -> Any:
    weights = np.arange(1, len(vectors) + 1)[:, None]
    return {
        "lasttoken": vectors[-1],
        "cls": vectors[0],
        "mean": vectors.mean(axis=0),
        "max": vectors.max(axis=0),
        "weightedmean": (vectors * weights).sum(axis=0) / weights.sum(),
    }[mode]


def assert_pools(pipe: FeatureExtractionPipeline, mode: str, *, rotary: bool = False) -> None:
    """A batch and single texts have the vectors that numpy computes for each text alone."""
    wanted = [pooled(mode, hidden(ids_of(text), rotary=rotary)) for text in TEXTS]
    assert np.allclose(pipe.encode(TEXTS), wanted, atol=1e-5)
    assert np.allclose([pipe.encode(text) for text in TEXTS], wanted, atol=1e-5)


@pytest.mark.parametrize("mode", ["lasttoken", "cls", "mean", "max", "weightedmean"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_positions_and_an_empty_cache_on_both_padding_sides(decoder: MakeDecoder, mode: str, side: str) -> None:
    with FeatureExtractionPipeline(decoder(side=side, sentence={"pooling": mode})) as pipe:
        assert_pools(pipe, mode)


@pytest.mark.parametrize("kind", ["shared", "rotary"])
def test_other_caches(decoder: MakeDecoder, kind: Kind) -> None:
    """One that past and present share, and one whose graph counts positions itself."""
    with FeatureExtractionPipeline(decoder(kind, sentence={"pooling": "lasttoken"})) as pipe:
        assert_pools(pipe, "lasttoken", rotary=kind == "rotary")


def test_a_causal_model_without_modules_pools_its_last_token(decoder: MakeDecoder) -> None:
    with FeatureExtractionPipeline(decoder()) as pipe:
        assert_pools(pipe, "lasttoken")
        for text, answer in zip(TEXTS, pipe(TEXTS), strict=True):
            assert np.allclose(answer[0], hidden(ids_of(text)), atol=1e-5)


def recast(graph: onnx.GraphProto, name: str, kind: int) -> None:
    """Declare an input with another dtype; a node casts it back."""
    spec = next(value for value in graph.input if value.name == name)
    before = spec.type.tensor_type.elem_type
    spec.type.tensor_type.elem_type = kind
    for node in graph.node:
        for place, used in enumerate(node.input):
            if used == name:
                node.input[place] = f"{name}_cast"
    graph.node.insert(0, helper.make_node("Cast", [name], [f"{name}_cast"], to=before))


def rename_axes(graph: onnx.GraphProto, *names: str) -> None:
    """Name all axes of the cache."""
    for value in graph.input:
        if value.name.startswith("past"):
            shape = [*names]
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))


def rename_cache(graph: onnx.GraphProto) -> None:
    for value in graph.input:
        if value.name.startswith("past"):
            old, value.name = value.name, value.name.replace("past_key_values", "past")
            for node in graph.node:
                node.input[:] = [value.name if name == old else name for name in node.input]


def extra(name: str, kind: int, shape: list[Any]) -> Edit:
    def edit(graph: onnx.GraphProto) -> None:
        graph.input.append(helper.make_tensor_value_info(name, kind, shape))

    return edit


EDITS: dict[str, Edit] = {
    "int32 ids": lambda graph: recast(graph, "input_ids", TensorProto.INT32),
    "float mask": lambda graph: recast(graph, "attention_mask", TensorProto.FLOAT),
    "bool mask": lambda graph: recast(graph, "attention_mask", TensorProto.BOOL),
    "int32 positions": lambda graph: recast(graph, "position_ids", TensorProto.INT32),
    "float16 cache": lambda graph: recast(graph, "past_key_values.0.key", TensorProto.FLOAT16),
    "named axes": lambda graph: rename_axes(
        graph, "batch_size", "num_key_value_heads", "past_sequence_length", "head_dim"
    ),
    "unnamed axes": lambda graph: rename_axes(graph, "a", "b", "c", "d"),
    "names of old exporters": rename_cache,
    "scores of the last tokens": extra("num_logits_to_keep", TensorProto.INT64, []),
    "scores of the last tokens, as an array": extra("logits_to_keep", TensorProto.INT64, [1]),
    "a branch": extra("use_cache_branch", TensorProto.BOOL, [1]),
    "places in the cache": extra("cache_position", TensorProto.INT64, ["sequence"]),
    "a recurrent state": extra("past_conv.0", TensorProto.FLOAT, ["batch", 8, 3]),
    "segments": extra("token_type_ids", TensorProto.INT64, ["batch", "sequence"]),
    "a default": lambda graph: graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "logits_start")),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_inputs_as_exporters_declare_them(decoder: MakeDecoder, edit: Edit) -> None:
    with FeatureExtractionPipeline(decoder(edit=edit)) as pipe:
        assert_pools(pipe, "lasttoken")


def test_a_graph_without_a_mask_runs_texts_of_one_length_together(decoder: MakeDecoder) -> None:
    """Padding would count as tokens."""

    def edit(graph: onnx.GraphProto) -> None:
        mask = next(value for value in graph.input if value.name == "attention_mask")
        graph.input.remove(mask)
        shape = helper.make_node("Shape", ["input_ids"], ["shape"])
        one = numpy_helper.from_array(np.ones(1, np.int64))
        ones = helper.make_node("ConstantOfShape", ["shape"], ["attention_mask"], value=one)
        graph.node.insert(0, ones)
        graph.node.insert(0, shape)

    with FeatureExtractionPipeline(decoder(edit=edit, sentence={"pooling": "mean"})) as pipe:
        assert_pools(pipe, "mean")
        assert np.allclose(pipe.encode(TEXTS * 2)[5:], pipe.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("pixel_values", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        ("encoder_hidden_states", TensorProto.FLOAT, ["batch", "places", HIDDEN]),
        ("past_key_values.0.encoder.key", TensorProto.FLOAT, ["batch", HEADS, "places", SIZE]),
        ("task_id", TensorProto.INT64, []),
    ],
)
def test_inputs_that_a_text_does_not_give(decoder: MakeDecoder, name: str, kind: int, shape: list[Any]) -> None:
    with pytest.raises(UnsupportedError, match=f"needs {name}") as caught:
        FeatureExtractionPipeline(decoder(edit=extra(name, kind, shape)))
    assert caught.value.hint is not None and "gpux.Session" in caught.value.hint


def test_a_cache_that_cannot_be_empty(decoder: MakeDecoder) -> None:
    def fixed(graph: onnx.GraphProto) -> None:
        for value in graph.input:
            if value.name.startswith("past"):
                value.type.tensor_type.shape.dim[2].dim_value = 32

    with pytest.raises(UnsupportedError, match=r"fixed shape \[1, 2, 32, 8\]") as caught:
        FeatureExtractionPipeline(decoder(edit=fixed))
    assert caught.value.hint is not None and "gpux.Session" in caught.value.hint


def test_a_cache_of_a_dtype_that_numpy_lacks(decoder: MakeDecoder) -> None:
    with pytest.raises(UnsupportedError, match="bfloat16, which numpy does not have"):
        FeatureExtractionPipeline(
            decoder(edit=lambda graph: recast(graph, "past_key_values.0.key", TensorProto.BFLOAT16))
        )


@pytest.mark.parametrize(("room", "types"), [(60, [0] * 6 + [1] * 5), (7, [0] * 4 + [1] * 3), (2, [0, 1])])
def test_the_segments_of_a_cut_pair(decoder: MakeDecoder, room: int, types: list[int]) -> None:
    """A tokenizer without a template gives the second text's segment itself."""
    tokenizer = Tokenizer(decoder())
    (found,) = tokenizer([("w1 w2 w3 w4 w5 w6", "w7 w8 w9 w10 w11")], limit=room)
    assert found.type_ids == types


def test_a_shipped_decoder_is_pulled_and_embeds(decoder: MakeDecoder) -> None:
    """Its cache is empty where a pull checks its outputs, too."""
    folder = decoder("shared", sentence={"pooling": "lasttoken"}).path
    with FeatureExtractionPipeline(pull_model(folder)) as pipe:
        assert pipe.model.manifest.recipe == "shipped"
        assert_pools(pipe, "lasttoken")
