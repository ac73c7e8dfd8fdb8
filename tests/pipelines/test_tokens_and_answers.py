"""token-classification, question-answering and zero-shot-classification beyond the golden files: windows, options, bad
input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tokenizers

from gpux import pipeline
from gpux.errors import GpuxError, InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.text.question_answering import QuestionAnsweringPipeline
from gpux.pipelines.text.token_classification import TokenClassificationPipeline
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.pipelines.text.windows import Window, encode, windows
from gpux.pipelines.text.zero_shot_classification import ZeroShotClassificationPipeline
from tests.models.bert import bert_repository
from tests.models.cases import ASKED, CHOICES, LONG, NAMES, NLI, OTHER, SHORT, words
from tests.pipelines.conftest import Build, stored

MIXED = f"{OTHER} naïve ÜBER-foxes don't  sleep, [SEP] 日本 3,141.59 🙂! {SHORT}"


Open = Callable[..., StoredModel]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """As the fixture `build`, for models that no test changes."""

    def made(task: str, **arguments: Any) -> StoredModel:
        folder = tmp_path_factory.mktemp(task)
        return stored(bert_repository(folder, task, onnx=True, safetensors=False, **arguments), task)

    return made


@pytest.fixture(scope="module")
def find(make: Open) -> Iterator[TokenClassificationPipeline]:
    with TokenClassificationPipeline(make("token-classification", labels=NAMES)) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def answer(make: Open) -> Iterator[QuestionAnsweringPipeline]:
    with QuestionAnsweringPipeline(make("question-answering")) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def choose(make: Open) -> Iterator[ZeroShotClassificationPipeline]:
    with ZeroShotClassificationPipeline(make("text-classification", labels=NLI)) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def tokenizer(make: Open) -> Tokenizer:
    return Tokenizer(make("feature-extraction"))


# -- windows: those of the tokenizers library --------------------------------------------------------------------------


def _columns(window: Window) -> list[Any]:
    special = [int(added) for added in window.special]
    return [window.ids, window.type_ids, window.offsets, window.words, window.sequences, special]


@pytest.mark.parametrize(("limit", "stride"), [(12, 0), (20, 7), (30, 20), (500, 3)])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(
    ("text", "cut", "strategy"),
    [(MIXED, 0, "longest_first"), ((MIXED, SHORT[:9]), 0, "only_first"), ((SHORT[:9], MIXED), 1, "only_second")],
)
def test_windows_are_those_of_the_tokenizers_library(
    tokenizer: Tokenizer, text: Any, cut: int, strategy: str, left: bool, limit: int, stride: int
) -> None:
    copy = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    copy.enable_truncation(limit, stride=stride, strategy=strategy, direction="left" if left else "right")
    first = copy.encode(*text) if isinstance(text, tuple) else copy.encode(text)
    wanted = [
        [each.ids, each.type_ids, each.offsets, each.word_ids, each.sequence_ids, each.special_tokens_mask]
        for each in (first, *first.overflowing)
    ]
    found = windows(encode(tokenizer, text), limit, stride=stride, cut=cut, left=left)
    assert [_columns(window) for window in found] == wanted


def test_a_window_without_room_names_the_text(tokenizer: Tokenizer) -> None:
    whole = encode(tokenizer, (SHORT, SHORT))
    kept = sum(sequence != 1 for sequence in whole.sequences)
    assert {len(window) for window in windows(whole, kept + 1, cut=1)} == {kept + 1}
    with pytest.raises(
        InputError, match=f"text 4 has {kept} tokens that are not cut, and the limit is {kept}"
    ) as caught:
        windows(whole, kept, cut=1, index=4)
    assert caught.value.details["index"] == 4


# -- token-classification ----------------------------------------------------------------------------------------------


def test_places_are_characters_of_the_text(find: TokenClassificationPipeline) -> None:
    text = f"🙂 {OTHER} 日本"
    for entry in find(text, aggregation_strategy="first", ignore_labels=[]):
        assert entry["word"].replace(" ", "") == text[entry["start"] : entry["end"]].lower().replace(" ", "")
    assert all(type(entry["score"]) is float for entry in find(text))


def test_several_texts_and_a_generator_give_the_answers_of_each(find: TokenClassificationPipeline) -> None:
    texts = [SHORT, "", OTHER, words(150)]
    options: dict[str, Any] = {"aggregation_strategy": "simple", "stride": 8}
    each = [find(text, **options) for text in texts]
    assert each[1] == []
    for found in (find(texts, **options), find(texts, batch_size=1, **options), list(find(iter(texts), **options))):
        assert [[entry["word"] for entry in one] for one in found] == [[e["word"] for e in one] for one in each]
    assert find([]) == []


def test_labelled_tokens_as_rows(find: TokenClassificationPipeline) -> None:
    [found] = find.answers([SHORT])
    assert find.render(found)[0] == AnswerRow(f"{found[0]['entity']}: {found[0]['word']}", found[0]["score"])
    assert find.render([]) == [AnswerRow("")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation_strategy": "last"}, "aggregation_strategy is 'last'"),
        ({"stride": 4}, "stride needs an aggregation_strategy"),
        ({"stride": 64, "aggregation_strategy": "simple"}, "stride is 64, and a window has 64 tokens"),
        ({"stride": -1, "aggregation_strategy": "simple"}, "stride is -1, not"),
        ({"ignore_labels": "O"}, "ignore_labels is 'O'"),
        ({"grouped_entities": True}, "has no option grouped_entities"),
    ],
)
def test_invalid_options_of_tokens(find: TokenClassificationPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        find(SHORT, **options)
    assert caught.value.hint


@pytest.mark.parametrize("inputs", [None, 5, b"text", [5], [SHORT, None], [["two", "words"]], {"text": SHORT}])
def test_inputs_that_are_no_texts(find: TokenClassificationPipeline, inputs: Any) -> None:
    with pytest.raises(InputError):
        find(inputs)


@pytest.mark.parametrize("inputs", [SHORT, [["a"], "b"], [["a", 5]]])
def test_inputs_that_are_no_lists_of_words(find: TokenClassificationPipeline, inputs: Any) -> None:
    with pytest.raises(InputError, match="is not a list of words"):
        find.run(inputs if isinstance(inputs, list) else [inputs], {"is_split_into_words": True})


def test_the_invalid_text_is_named_by_its_place(find: TokenClassificationPipeline) -> None:
    with pytest.raises(InputError, match="text 1 is not valid Unicode") as caught:
        find([SHORT, "\ud800"])
    assert caught.value.details["index"] == 1
    kept = dict(find.iter_answers([SHORT, "\ud800", OTHER], on_error="keep"))
    assert isinstance(kept[1], InputError) and kept[2] == find(OTHER)


def test_a_long_text_can_be_refused(find: TokenClassificationPipeline) -> None:
    with pytest.raises(InputError, match="text 0 has 102 tokens, and the limit is 64"):
        find(words(100), truncation=False)


def test_words_for_a_tokenizer_that_reads_the_space_before_them(build: Build) -> None:
    model = build("token-classification", labels=NAMES)
    content = json.loads((model.path / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    (model.path / "tokenizer.json").write_text(json.dumps(content))
    with TokenClassificationPipeline(model) as pipe, pytest.raises(UnsupportedError, match="no separate words"):
        pipe([["two", "words"]], is_split_into_words=True)


# -- question-answering ------------------------------------------------------------------------------------------------


def test_questions_are_accepted_as_transformers_accepts_them(answer: QuestionAnsweringPipeline) -> None:
    question, context = ASKED["question"], ASKED["context"]
    one, two = answer(ASKED), answer([ASKED, LONG])
    assert one == answer(question=question, context=context) == answer(question, context) == answer([ASKED])
    assert [entry["answer"] for entry in two] == [one["answer"], answer(LONG)["answer"]]
    assert answer(question=[question, question], context=context) == [one, one]
    asked = [question, LONG["question"]], [context, LONG["context"]]
    assert [entry["answer"] for entry in answer(question=asked[0], context=asked[1])] == [e["answer"] for e in two]
    assert answer({**ASKED, "id": "row 7"}) == answer(json.dumps(ASKED)) == one


def test_the_context_may_be_an_option_of_the_pipeline(build: Build) -> None:
    with QuestionAnsweringPipeline(build("question-answering"), context=ASKED["context"], top_k=2) as pipe:
        assert pipe.answers([ASKED["question"]]) == pipe.answers([ASKED])
        assert list(pipe(iter([ASKED["question"]] * 3))) == pipe.answers([ASKED]) * 3
        assert list(pipe(iter([ASKED["question"]]), SHORT)) == pipe.answers([{**ASKED, "context": SHORT}])


def test_an_answer_is_a_part_of_the_context(answer: QuestionAnsweringPipeline) -> None:
    context = f"🙂 {MIXED}"
    for entry in answer(question=ASKED["question"], context=context, top_k=20):
        assert entry["answer"] == context[entry["start"] : entry["end"]] != ""
        assert type(entry["score"]) is float


def test_no_more_answers_than_there_are(answer: QuestionAnsweringPipeline) -> None:
    """transformers fills the list up with spans of probability 0, in no particular order."""
    found = answer(question=ASKED["question"], context="Rome, Paris", top_k=30)
    assert {entry["answer"] for entry in found} == {"Rome", "Rome,", "Rome, Paris", ",", ", Paris", "Paris"}
    assert answer(question="?", context="   ") == {"score": 0.0, "start": 0, "end": 0, "answer": ""}


def test_answers_as_rows(answer: QuestionAnsweringPipeline) -> None:
    [found] = answer.answers([ASKED])
    assert answer.render(found) == [AnswerRow(found["answer"], found["score"])]
    [several] = answer.answers([ASKED], {"top_k": 2})
    assert [row.text for row in answer.render(several)] == [entry["answer"] for entry in several]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"question": "Who?"}, "input 1: the context is missing"),
        ({"context": "She."}, "input 1: the question is missing"),
        ({"question": "", "context": "She."}, "input 1: the question is empty"),
        ({"question": "Who?", "context": ""}, "input 1: the context is empty"),
        ({"question": 5, "context": "She."}, "input 1: the question is int, not str"),
        ({"question": "Who?", "context": "\ud800"}, "the context of input 1 is not valid Unicode"),
        ("Who?", "input 1: the context is missing"),
        ('{"question": "Who?"}', "input 1: the context is missing"),
        (None, "input 1: the question is missing"),
    ],
)
def test_questions_without_their_texts(answer: QuestionAnsweringPipeline, item: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        answer([ASKED, item])
    assert caught.value.details["index"] == 1


@pytest.mark.parametrize("call", [{}, {"inputs": 5}, {"question": ["a", "b"], "context": ["c"]}, {"inputs": b"?"}])
def test_no_questions(answer: QuestionAnsweringPipeline, call: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        answer(**call)


@pytest.mark.parametrize("option", ["top_k", "max_answer_len", "max_seq_len"])
def test_numbers_of_answers_below_one(answer: QuestionAnsweringPipeline, option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} is 0"):
        answer(ASKED, **{option: 0})


def test_a_stride_beyond_the_window(answer: QuestionAnsweringPipeline) -> None:
    with pytest.raises(UsageError, match="doc_stride is 41, and max_seq_len is 40"):
        answer(ASKED, max_seq_len=40, doc_stride=41)


def test_a_question_that_leaves_no_room_for_the_text(answer: QuestionAnsweringPipeline) -> None:
    """The hints help: a shorter question is answered, and so are windows that share less."""
    with pytest.raises(InputError, match=r"text 0 has \d+ tokens that are not cut") as caught:
        answer(question=words(80), context=OTHER)
    assert caught.value.hint == "Shorten it."
    with pytest.raises(InputError, match="text 1: windows of 64 tokens have room for 21") as caught:
        answer([ASKED, {"question": words(40), "context": words(60)}])
    assert caught.value.hint == "Let them share 10."
    assert len(answer([ASKED, {"question": words(40), "context": words(60)}], doc_stride=10)) == 2


def test_a_graph_without_the_two_outputs(build: Build) -> None:
    with pytest.raises(UnsupportedError, match="needs start_logits and end_logits"):
        QuestionAnsweringPipeline(build("text-classification"))


# -- zero-shot-classification ------------------------------------------------------------------------------------------


def test_a_stored_classifier_serves_labels_of_the_caller(build: Build) -> None:
    model = build("text-classification", labels=NLI)
    with pipeline("zero-shot-classification", model, candidate_labels=CHOICES) as pipe:
        [found] = pipe.answers([SHORT])
        assert pipe(SHORT, CHOICES) == pipe(SHORT) == found
        assert list(pipe(iter([SHORT, OTHER]), CHOICES)) == pipe([SHORT, OTHER])
        assert pipe.render(found) == [
            AnswerRow(label, score) for label, score in zip(found["labels"], found["scores"], strict=True)
        ]


def test_a_model_without_a_label_of_that_name_uses_the_last(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    model = build("text-classification", labels=("no", "perhaps", "yes"))
    with (
        ZeroShotClassificationPipeline(model) as pipe,
        ZeroShotClassificationPipeline(build("text-classification", labels=NLI, name="named")) as named,
    ):
        assert pipe(SHORT, CHOICES) == named(SHORT, CHOICES)
    assert "the last one is used: no, perhaps, yes" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs candidate_labels"),
        ({"candidate_labels": []}, "needs candidate_labels"),
        ({"candidate_labels": " , "}, "needs candidate_labels"),
        ({"candidate_labels": ["a", 5]}, "candidate_labels is"),
        ({"candidate_labels": {"a": 1}}, "candidate_labels is"),
        ({"candidate_labels": "a", "hypothesis_template": "It is."}, "without a place"),
        ({"candidate_labels": "a", "hypothesis_template": "It is {label}."}, "without a place"),
        ({"candidate_labels": "a", "hypothesis_template": "It is {."}, "without a place"),
        ({"candidate_labels": "a", "hypothesis_template": 5}, "without a place"),
    ],
)
def test_invalid_labels(choose: ZeroShotClassificationPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        choose(SHORT, **options)
    assert caught.value.hint


@pytest.mark.parametrize("inputs", [None, 5, [""], [SHORT, ""], [{"text": SHORT}]])
def test_inputs_without_a_text(choose: ZeroShotClassificationPipeline, inputs: Any) -> None:
    with pytest.raises(GpuxError):
        choose(inputs, CHOICES)


def test_a_label_that_leaves_no_room_for_the_text(choose: ZeroShotClassificationPipeline) -> None:
    with pytest.raises(InputError, match=r"text 0 has \d+ tokens that are not cut, and the limit is 64"):
        choose(SHORT, [words(70)])
