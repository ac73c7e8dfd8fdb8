"""The cases of the golden files: tiny repositories and calls. golden.py writes the original libraries' answers."""

from __future__ import annotations

import functools
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.models.bert import bert_repository
from tests.models.sentence import SentenceOptions

#: Task of a pipeline -> task of its models, where they differ.
STORED_FOR = {"zero-shot-classification": "text-classification"}
GOLDEN = Path(__file__).parent / "golden"
WORDS = ("the", "quick", "brown", "fox", "was", "never", "near", "a", "warm", "stove", "and", "nobody", "sleeps")


def words(count: int) -> str:
    """A text of `count` words that are one token each."""
    return " ".join(WORDS[i * (i + 3) // 2 % len(WORDS)] for i in range(count))


SHORT = "The movie was great, and I loved it!"
OTHER = "Paris is the capital of France."
SENTENCES = ["", SHORT, OTHER, words(200), words(600)]  # two of them longer than every length limit


@dataclass(frozen=True)
class Call:
    """One call of a pipeline, `pipe(input, **options)`, or of `model.encode(input, **options)`."""

    name: str
    input: Any
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> int:
        """A checksum of the call, to detect an answer to an older form of it."""
        return zlib.crc32(json.dumps([self.input, self.options]).encode())


@dataclass(frozen=True)
class Case:
    """One repository, by the arguments of `bert_repository`, and the calls made on it."""

    name: str
    task: str
    repository: dict[str, Any]
    calls: tuple[Call, ...]

    def build(self, dest: Path, *, onnx: bool = False) -> Path:
        """Write the repository into `dest`."""
        return bert_repository(dest, STORED_FOR.get(self.task, self.task), onnx=onnx, **self.repository)


@functools.cache
def golden(file: str) -> dict[str, Any]:
    """A golden file, by its stem: {"versions": …, "cases": {case: {"weights": sha256, "calls": {call: …}}}}."""
    content: dict[str, Any] = json.loads((GOLDEN / f"{file}.json").read_text(encoding="utf-8"))
    return content


def expected(file: str, case: str, call: Call) -> Any:
    """The original library's answer; ValueError if the file is older than the call."""
    entry = golden(file)["cases"][case]["calls"][call.name]
    if entry["digest"] != call.digest:
        raise ValueError(f"{file}.json has an answer to another form of {case}/{call.name}: run golden.py again")
    return entry["output"]


FEATURE_CALLS = (
    Call("one", SHORT),
    Call("list", [SHORT, OTHER]),
    Call("list of one", [OTHER]),
    Call("empty text", ""),
    Call("unknown characters", "日本 ☃ naïve ÜBER-fox"),
    Call("23 tokens", words(21)),
    Call("truncation", words(200), {"truncation": True}),
    Call("truncation to 8", [SHORT, "fox"], {"tokenize_kwargs": {"truncation": True, "max_length": 8}}),
)
LIMIT_CALLS = tuple(call for call in FEATURE_CALLS if call.name in ("list", "23 tokens"))
PAIR = {"text": SHORT, "text_pair": OTHER}
CLASSIFICATION_CALLS = (
    Call("one", SHORT),
    Call("list", [SHORT, OTHER]),
    Call("list of one", [OTHER]),
    Call("top_k none", SHORT, {"top_k": None}),
    Call("top_k 1", SHORT, {"top_k": 1}),
    Call("top_k 2", SHORT, {"top_k": 2}),
    Call("list, top_k none", [SHORT, OTHER], {"top_k": None}),
    Call("list, top_k 2, batches", [SHORT, OTHER, words(21)], {"top_k": 2, "batch_size": 3}),
    Call("pair", PAIR),
    Call("pair, top_k none", PAIR, {"top_k": None}),
    Call("list of pairs", [PAIR, {"text": OTHER, "text_pair": SHORT}]),
    Call("pair in lists", [[[SHORT, OTHER]]]),
    Call("empty text", ""),
    Call("raw scores", SHORT, {"function_to_apply": "none", "top_k": None}),
    Call("softmax", SHORT, {"function_to_apply": "softmax", "top_k": None}),
    Call("sigmoid", SHORT, {"function_to_apply": "sigmoid", "top_k": None}),
    Call("truncation", words(200), {"truncation": True, "top_k": None}),
)
MASKED, TWO_MASKS = "Paris is the [MASK] of France.", "the [MASK] brown fox jumps over the [MASK] dog"
MASK_CALLS = (
    Call("one", MASKED),
    Call("list", [MASKED, "the movie was [MASK]"]),
    Call("list of one", [MASKED]),
    Call("top_k 2", MASKED, {"top_k": 2}),
    Call("top_k 1", MASKED, {"top_k": 1}),
    Call("two masks", TWO_MASKS, {"top_k": 3}),
    Call("list with two masks", [MASKED, TWO_MASKS], {"top_k": 2}),
    Call("one target", MASKED, {"targets": "capital"}),
    Call("targets", MASKED, {"targets": ["capital", "fox", "dog"]}),
    Call("targets, top_k 2", MASKED, {"targets": ["capital", "fox", "dog"], "top_k": 2}),
    Call("targets, two masks", TWO_MASKS, {"targets": ["quick", "lazy"]}),
    Call("target of many tokens", MASKED, {"targets": ["capital", "foxglove"]}),
    Call("truncation", f"[MASK] {words(200)}", {"tokenizer_kwargs": {"truncation": True}, "top_k": 2}),
)
NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TOKEN_CALLS = (
    Call("one", SHORT),
    Call("list", [SHORT, OTHER]),
    Call("list of one", [OTHER]),
    Call("every label", SHORT, {"ignore_labels": []}),
    Call("two labels left out", SHORT, {"ignore_labels": ["O", "B-PER"]}),
    *(
        Call(
            strategy, "The quickest foxes slept near Berlin's nightly dogs, really!", {"aggregation_strategy": strategy}
        )
        for strategy in ("simple", "first", "average", "max")
    ),
    Call("unknown characters", "日本 ☃ naïve ÜBER-foxes", {"aggregation_strategy": "first", "ignore_labels": []}),
    Call("truncation", words(100), {"aggregation_strategy": "simple"}),
    Call("windows", words(150), {"aggregation_strategy": "simple", "stride": 16}),
    Call("windows, words", words(100), {"aggregation_strategy": "average", "stride": 0, "ignore_labels": []}),
    Call("words", ["The", "foxes", "slept", "near", "Berlin"], {"is_split_into_words": True}),
    Call(
        "list of words",
        [["The", "foxes"], ["slept", "near", "Berlin"]],
        {"is_split_into_words": True, "delimiter": "--", "aggregation_strategy": "max", "ignore_labels": []},
    ),
)
ASKED = {"question": "Where is the capital?", "context": f"{OTHER} Berlin is the capital of Germany, and so on."}
LONG = {"question": "Who sleeps?", "context": words(150)}
ANSWER_CALLS = (
    Call("one", ASKED),
    Call("list", [ASKED, {"question": "What was great?", "context": SHORT}]),
    Call("list of one", [ASKED]),
    Call("top_k 3", ASKED, {"top_k": 3}),
    Call("tokens", ASKED, {"top_k": 4, "align_to_words": False}),
    Call("short answers", ASKED, {"top_k": 2, "max_answer_len": 2}),
    Call("impossible", ASKED, {"top_k": 50, "handle_impossible_answer": True, "max_answer_len": 60}),
    Call("windows", LONG, {"top_k": 2}),
    Call("short windows", LONG, {"top_k": 3, "max_seq_len": 24, "doc_stride": 5}),
    Call("windows without overlap", LONG, {"max_seq_len": 32, "doc_stride": 0, "handle_impossible_answer": True}),
    Call("unknown characters", {"question": "日本?", "context": "☃ naïve ÜBER-foxes 日本 sleep"}, {"top_k": 2}),
)
NLI = ("contradiction", "neutral", "entailment")
CHOICES = ["great", "terrible", "about a fox"]
CHOICE_CALLS = (
    Call("one", SHORT, {"candidate_labels": CHOICES}),
    Call("list", [SHORT, OTHER], {"candidate_labels": CHOICES}),
    Call("list of one", [OTHER], {"candidate_labels": "great , terrible,"}),
    Call("one label", SHORT, {"candidate_labels": "great"}),
    Call("each for itself", SHORT, {"candidate_labels": CHOICES, "multi_label": True}),
    Call("template", SHORT, {"candidate_labels": CHOICES, "hypothesis_template": "the movie was {}."}),
    Call("truncation", words(100), {"candidate_labels": CHOICES}),
)

PIPELINE_CASES = (
    Case("plain", "feature-extraction", {}, FEATURE_CALLS),
    Case("shipped limits", "feature-extraction", {"tokenizer_limits": True}, LIMIT_CALLS),
    Case("single label", "text-classification", {"tokenizer_limits": True}, CLASSIFICATION_CALLS),
    Case(
        "multi label",
        "text-classification",
        {"problem_type": "multi_label_classification", "labels": ("anger", "joy", "love", "fear")},
        CLASSIFICATION_CALLS,
    ),
    Case(
        "regression", "text-classification", {"problem_type": "regression", "labels": ("score",)}, CLASSIFICATION_CALLS
    ),
    Case("one label", "text-classification", {"labels": ("toxic",)}, CLASSIFICATION_CALLS),
    Case("mask", "fill-mask", {"tokenizer_limits": True}, MASK_CALLS),
    Case("names", "token-classification", {"labels": NAMES, "tokenizer_limits": True}, TOKEN_CALLS),
    Case("cased names", "token-classification", {"labels": NAMES, "cased": True}, TOKEN_CALLS[5:10]),
    Case("answers", "question-answering", {"tokenizer_limits": True}, ANSWER_CALLS),
    Case("answers, from the left", "question-answering", {"left": True}, ANSWER_CALLS),
    Case("inference", "zero-shot-classification", {"labels": NLI}, CHOICE_CALLS),
    Case("names, from the left", "token-classification", {"labels": NAMES, "left": True}, TOKEN_CALLS[10:11]),
    Case("inference, from the left", "zero-shot-classification", {"labels": NLI, "left": True}, CHOICE_CALLS[6:]),
    Case("inference, two labels", "zero-shot-classification", {"labels": ("Entailment", "not")}, CHOICE_CALLS),
)

PROMPTS = {"query": "query: ", "passage": "passage to search for: "}
ENCODE = Call("list", SENTENCES)
ENCODE_CALLS = (
    ENCODE,
    Call("one", SHORT),
    Call("normalized", [SHORT, OTHER], {"normalize_embeddings": True}),
    Call("8 numbers", [SHORT, OTHER], {"truncate_dim": 8}),
    Call("8 numbers, normalized", [SHORT, OTHER], {"truncate_dim": 8, "normalize_embeddings": True}),
)
PROMPT_CALLS = (
    ENCODE,
    Call("prompt_name", SENTENCES, {"prompt_name": "query"}),
    Call("prompt", [SHORT, OTHER], {"prompt": "document: "}),
    Call("one, prompt_name", SHORT, {"prompt_name": "passage"}),
)


def _sentence(name: str, options: SentenceOptions, calls: tuple[Call, ...] = (ENCODE,), **more: Any) -> Case:
    repository = {"sentence_transformers": options, "tokenizer_limits": True, **more}
    return Case(name, "feature-extraction", repository, calls)


SENTENCE_CASES = (
    Case("no modules", "feature-extraction", {}, (ENCODE,)),  # mean pooling, the model's own limit of 64
    _sentence("mean", {"pooling": "mean"}, ENCODE_CALLS),
    _sentence("cls", {"pooling": "cls"}),
    _sentence("max", {"pooling": "max"}),
    _sentence("mean_sqrt_len", {"pooling": "mean_sqrt_len"}),
    _sentence("weightedmean", {"pooling": "weightedmean"}),
    _sentence("lasttoken", {"pooling": "lasttoken"}),
    _sentence("cls and mean", {"pooling": ["cls", "mean"]}),
    _sentence("normalize", {"normalize": True}),
    _sentence("no max_seq_length", {"max_seq_length": None}),
    _sentence("max_seq_length beyond the model", {"max_seq_length": 512}, (Call("short", [SHORT, OTHER]),)),
    _sentence("dense", {"dense": 24}),
    _sentence("dense, identity, no bias", {"dense": 8, "dense_activation": "identity", "dense_bias": False}),
    _sentence("dense, normalize", {"dense": 24, "dense_activation": "gelu", "normalize": True}),
    _sentence("do_lower_case", {"do_lower_case": True}, cased=True),
    _sentence("cased", {}, cased=True),
    _sentence("prompts", {"prompts": PROMPTS}, PROMPT_CALLS),
    _sentence("default prompt", {"prompts": PROMPTS, "default_prompt_name": "query"}, PROMPT_CALLS),
    _sentence("prompt left out", {"prompts": PROMPTS, "include_prompt": False}, PROMPT_CALLS),
    _sentence(
        "prompt left out, lasttoken",
        {"prompts": PROMPTS, "include_prompt": False, "pooling": "lasttoken"},
        PROMPT_CALLS,
    ),
)
MINILM_CALLS = (
    Call("list", SENTENCES),
    Call("normalized", ["hello world", "The weather is lovely today."], {"normalize_embeddings": True}),
)
