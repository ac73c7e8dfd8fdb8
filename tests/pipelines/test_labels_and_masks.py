"""text-classification and fill-mask beyond the golden files: options, invalid input, missing files."""

from __future__ import annotations

import json
from typing import Any

import onnx
import pytest

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.text.fill_mask import FillMaskPipeline
from gpux.pipelines.text.text_classification import TextClassificationPipeline
from tests.models.cases import MASKED, OTHER, PAIR, SHORT, TWO_MASKS, words
from tests.models.reference import Graph, softmax
from tests.pipelines.conftest import Build


def edit(model: StoredModel, name: str, **changes: Any) -> StoredModel:
    """Change a JSON file of the model; None removes a key."""
    content = {**model.read_json(name), **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    (model.path / name).write_text(json.dumps(kept))
    return model


@pytest.fixture
def classify(build: Build) -> TextClassificationPipeline:
    return TextClassificationPipeline(build("text-classification"))


@pytest.fixture
def fill(build: Build) -> FillMaskPipeline:
    return FillMaskPipeline(build("fill-mask"))


def test_options_of_the_pipeline_apply_to_every_call(build: Build) -> None:
    """transformers wraps a single text's answer unless the call itself names top_k, even where the pipeline does."""
    pipe = TextClassificationPipeline(build("text-classification"), top_k=None)
    assert [len(answer) for answer in pipe([SHORT, OTHER])] == [3, 3]
    assert len(pipe(SHORT)) == 1 and len(pipe(SHORT)[0]) == 3
    assert len(pipe(SHORT, top_k=2)) == 2


@pytest.mark.parametrize("gives_types", [True, False])
def test_segments_follow_the_inputs_of_the_tokenizer(build: Build, *, gives_types: bool) -> None:
    """transformers gives token_type_ids to a model only if the tokenizer's model_input_names has them."""
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if gives_types else [])]
    model = edit(build("text-classification"), "tokenizer_config.json", model_input_names=names)
    graph = Graph(model.path)
    feed = graph.feed(PAIR["text"], PAIR["text_pair"])
    assert feed["token_type_ids"].any()
    wanted = softmax(graph.run(feed if gives_types else {**feed, "token_type_ids": 0 * feed["token_type_ids"]}))[0]
    with TextClassificationPipeline(model) as pipe:
        found = {entry["label"]: entry["score"] for entry in pipe(PAIR, top_k=None)}
    assert [found[label] for label in pipe.labels] == pytest.approx(wanted.tolist(), abs=1e-6)


def test_labels_as_rows(classify: TextClassificationPipeline, build: Build) -> None:
    [best] = classify.answers([SHORT])
    assert classify.render(best) == [AnswerRow(best["label"], best["score"])]
    several = TextClassificationPipeline(build("text-classification", name="several"), top_k=2)
    [found] = several.answers([SHORT])
    assert [row.text for row in several.render(found)] == [entry["label"] for entry in found]
    assert len(found) == 2


def test_candidates_as_rows(fill: FillMaskPipeline) -> None:
    one, two = fill.answers([MASKED, TWO_MASKS])
    assert fill.answers([MASKED]) == [one]
    assert fill.render(one) == [AnswerRow(entry["sequence"], entry["score"]) for entry in one]
    assert [row.text for row in fill.render(two)] == [entry["sequence"] for mask in two for entry in mask]


def test_labels_without_names(build: Build) -> None:
    model = edit(build("text-classification"), "config.json", id2label=None, num_labels=3)
    assert TextClassificationPipeline(model)(SHORT)[0]["label"].startswith("LABEL_")


def test_more_scores_than_labels(build: Build) -> None:
    model = edit(build("text-classification"), "config.json", id2label={"0": "yes", "1": "no"})
    with pytest.raises(UnsupportedError, match=r"gives 3 scores, and its config\.json has 2 labels"):
        TextClassificationPipeline(model)


def test_a_pair_without_a_second_text(classify: TextClassificationPipeline) -> None:
    assert classify({"text": SHORT})["score"] == pytest.approx(classify(SHORT)[0]["score"])
    assert classify({"text": SHORT, "text_pair": None}) == classify({"text": SHORT})


def test_padding_is_accepted_and_ignored(classify: TextClassificationPipeline) -> None:
    assert classify([SHORT, OTHER], padding=True, truncation=True) == classify([SHORT, OTHER])


def test_long_pairs_are_cut_at_the_end_of_the_longer_text(classify: TextClassificationPipeline) -> None:
    long = {"text": words(100), "text_pair": "a fox"}
    assert classify(long) == classify({"text": words(59), "text_pair": "a fox"})
    with pytest.raises(InputError, match="text 0 has 105 tokens"):
        classify(long, truncation=False)


@pytest.mark.parametrize(
    "inputs", [None, 5, b"text", [None], [[SHORT, OTHER]], [{"text": 1}], [{"texts": "a"}], [PAIR, 1]]
)
def test_inputs_that_are_neither_text_nor_pair(classify: TextClassificationPipeline, inputs: Any) -> None:
    with pytest.raises(InputError, match="text"):
        classify(inputs)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"function_to_apply": "tanh"}, {"targets": "a"}])
def test_invalid_options_of_labels(classify: TextClassificationPipeline, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        classify(SHORT, **options)


def test_no_texts(classify: TextClassificationPipeline, fill: FillMaskPipeline) -> None:
    assert classify([]) == []
    assert fill([]) == []


def test_scores_are_sorted(classify: TextClassificationPipeline, fill: FillMaskPipeline) -> None:
    for answer in (classify(SHORT, top_k=None), fill(MASKED, top_k=50)):
        scores = [entry["score"] for entry in answer]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("text", ["", "no mask here", f"{words(200)} [MASK]"])
def test_a_text_without_a_mask(fill: FillMaskPipeline, text: str) -> None:
    with pytest.raises(InputError, match=r"text 1 has no mask token \[MASK\]"):
        fill([MASKED, text])


def test_more_candidates_than_words(fill: FillMaskPipeline) -> None:
    vocabulary = fill.session.outputs[0].shape[2]
    assert len(fill(MASKED, top_k=10**6)) == vocabulary


def test_targets_without_a_token(fill: FillMaskPipeline) -> None:
    with pytest.raises(UsageError, match="names no token"):
        fill(MASKED, targets=[""])
    with pytest.raises(InputError):
        fill(MASKED, targets=[3])
    assert [entry["token_str"] for entry in fill(MASKED, targets=["fox", "fox", ""])] == ["fox"]


def test_masks_in_batches_of_mixed_length(fill: FillMaskPipeline) -> None:
    texts = [MASKED, f"{words(40)} [MASK]", TWO_MASKS, "[MASK]"]
    for answer, text in zip(fill(texts), texts, strict=True):
        masks, alone = (found if isinstance(found[0], list) else [found] for found in (answer, fill(text)))
        assert [[entry["sequence"] for entry in mask] for mask in masks] == [
            [entry["sequence"] for entry in mask] for mask in alone
        ]


@pytest.mark.parametrize("bad", ["a\udcff", {"text": SHORT, "text_pair": "\ud83d"}])
def test_labels_of_invalid_unicode(classify: TextClassificationPipeline, bad: Any) -> None:
    with pytest.raises(InputError, match="text 1 is not valid Unicode text"):
        classify([SHORT, bad])


def test_masks_of_invalid_unicode(fill: FillMaskPipeline) -> None:
    with pytest.raises(InputError, match="text 0 is not valid Unicode text"):
        fill(f"{MASKED} \udcff")
    with pytest.raises(InputError, match="target 0 is not valid Unicode text"):
        fill(MASKED, targets="\udcff")


def with_outputs(model: StoredModel, **names: str) -> StoredModel:
    """The model with tensors of its graph as outputs: new name = old name."""
    file = model.path / "onnx" / "model.onnx"
    graph = onnx.load(file)
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(graph).graph.value_info}
    inferred |= {value.name: value for value in graph.graph.output}
    found = []
    for new, old in names.items():
        graph.graph.node.add(op_type="Identity", input=[old], output=[new], name=f"as_{new}")
        value = onnx.ValueInfoProto()
        value.CopyFrom(inferred[old])
        value.name = new
        found.append(value)
    del graph.graph.output[:]
    graph.graph.output.extend(found)
    onnx.save(graph, file)
    return model


def a_hidden_state(model: StoredModel) -> str:
    """Name of a tensor of the graph with a vector of 32 numbers per token."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(model.path / "onnx" / "model.onnx")).graph
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.value_info}
    return next(str(name) for name, shape in shapes.items() if len(shape) == 3 and shape[-1] == 32)


def test_scores_under_another_name(build: Build) -> None:
    model = build("fill-mask")
    with FillMaskPipeline(model) as pipe:
        wanted = pipe(MASKED)
    model = with_outputs(model, hidden=a_hidden_state(model), output_0="logits")
    with FillMaskPipeline(model) as pipe:
        assert pipe(MASKED) == wanted
    model = with_outputs(build("text-classification", name="labels"), output_0="logits")
    with TextClassificationPipeline(model) as pipe:
        assert pipe(SHORT)


@pytest.mark.parametrize("name", ["last_hidden_state", "output_0"])
def test_a_graph_without_scores_is_refused_for_fill_mask(build: Build, name: str) -> None:
    model = build("fill-mask")
    with pytest.raises(UnsupportedError, match=rf"gives {name}, and fill-mask needs scores.*named logits") as caught:
        FillMaskPipeline(with_outputs(model, **{name: a_hidden_state(model)}))
    assert caught.value.hint == "Convert the original weights with `gpux convert tests/tiny-bert --task fill-mask`."


def test_two_outputs_that_could_be_the_scores(build: Build) -> None:
    with pytest.raises(UnsupportedError, match="gives one, two, and text-classification needs scores"):
        TextClassificationPipeline(with_outputs(build("text-classification"), one="logits", two="logits"))


def test_a_tokenizer_without_a_mask(build: Build) -> None:
    model = build("fill-mask")
    file = model.path / "tokenizer.json"
    file.write_text(file.read_text().replace("[MASK]", "[HOLE]"))
    edit(edit(model, "tokenizer_config.json", mask_token=None), "special_tokens_map.json", mask_token=None)
    with pytest.raises(UnsupportedError, match="no mask token"):
        FillMaskPipeline(model)
