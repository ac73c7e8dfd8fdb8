"""Reference answers of ``transformers.pipeline`` for encoders of texts: vectors and labels of tokens, labels of texts,
words for masks, answers to questions.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_inputs import (
    Question,
    Texts,
    classified,
    filled,
    found,
    labelled_tokens,
    read,
)
from gpux.convert.worker.reference.answers_library import NoReferenceError, Opened, Original, floats, jsonable

#: Difference of the probabilities of a token's two best labels below which rounding may choose the other one.
_CLEAR = 1e-4
#: Inputs of models that read a picture or the structure of a page with a text, which no pipeline of texts gives.
_MORE = frozenset({"pixel_values", "image", "xpath_tags_seq"})


def open_token_vectors(original: Original) -> Opened:
    """``pipeline("feature-extraction")``."""
    pipe, texts = original.open_pipeline(), original.texts()

    def ask(question: Question) -> tuple[Question, Any] | None:
        if _without_tokens(question.inputs, texts):
            return None
        answer = pipe(question.inputs)
        return question, jsonable(answer) if isinstance(question.inputs, list) else floats(answer)

    return Opened(CALL, list(read(texts)), ask)


def open_labels(original: Original) -> Opened:
    """``pipeline("text-classification")``."""
    pipe, texts = original.open_pipeline(), original.texts()

    def ask(question: Question) -> tuple[Question, Any] | None:
        if _without_tokens(question.inputs, texts):
            return None
        return question, jsonable(pipe(question.inputs, **question.options))

    return Opened(CALL, list(classified(texts)), ask)


def open_token_labels(original: Original) -> Opened:
    """``pipeline("token-classification")``, asked where neither rounding nor padding changes a token's label.

    Raises:
        NoReferenceError: the model reads more than a text.
    """
    _check_reads_text(original)
    pipe, texts = original.open_pipeline(), original.texts()
    postprocess = pipe.postprocess
    outputs: list[Mapping[str, Any]] = []

    def remember(model_outputs: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        outputs.extend(model_outputs)
        return postprocess(model_outputs, **options)

    pipe.postprocess = remember

    def ask(question: Question) -> tuple[Question, Any] | None:
        if _without_tokens(question.inputs, texts):
            return None
        options = dict(question.options)
        limit = pipe.tokenizer.model_max_length
        outputs.clear()
        pipe.tokenizer.model_max_length = options.pop("max_length", limit)  # of a window; gpux has it as an option
        try:
            answer = pipe(question.inputs, **options)
        finally:
            pipe.tokenizer.model_max_length = limit
        proves = all(_is_clear(one) and _reads_no_padding(pipe, one) for one in outputs)
        return (question, jsonable(answer)) if proves else None

    return Opened(CALL, list(labelled_tokens(texts)), ask)


def open_found(original: Original) -> Opened:
    """``pipeline("question-answering")``.

    Raises:
        NoReferenceError: the model reads more than a text.
    """
    _check_reads_text(original)
    pipe = original.open_pipeline()

    def ask(question: Question) -> tuple[Question, Any] | None:
        if "max_seq_len" in question.options and not _knows_the_context(pipe.tokenizer, question):
            return None
        return question, jsonable(pipe(question.inputs, **question.options))

    return Opened(CALL, list(found(original.texts())), ask)


def _knows_the_context(tokenizer: Any, question: Question) -> bool:
    """Whether each window tells the question from the context: a tokenizer without a template of pairs (gptj, falcon)
    does so in the first one only, so that transformers finds no answer in the others.
    """
    windows = tokenizer(
        *question.inputs.values(),
        truncation="only_second",
        max_length=question.options["max_seq_len"],
        stride=question.options["doc_stride"],
        return_overflowing_tokens=True,
    )
    return all({0, 1} <= set(windows.sequence_ids(place)) for place in range(len(windows["input_ids"])))


def open_masks(original: Original) -> Opened:
    """``pipeline("fill-mask")``.

    Raises:
        NoReferenceError: the tokenizer has no mask token.
    """
    mask = original.open_tokenizer().mask_token
    if mask is None:
        raise NoReferenceError("the tokenizer has no mask token")
    pipe = original.open_pipeline()

    def ask(question: Question) -> tuple[Question, Any]:
        return question, jsonable(pipe(question.inputs, **question.options))

    return Opened(CALL, list(filled(original.texts(), mask)), ask)


def _without_tokens(inputs: Any, texts: Texts) -> bool:
    """Whether a text has no tokens, so that the model has nothing to read."""
    each = inputs if isinstance(inputs, list) else [inputs]
    return any(isinstance(text, str) and not texts.count(text) for text in each)


def _is_clear(output: Mapping[str, Any]) -> bool:
    """Whether each token's best label is clearly better than the next one."""
    scores = torch.softmax(output["logits"][0].float(), dim=-1)
    if scores.shape[-1] < 2:
        return True
    best = scores.topk(2, dim=-1).values
    read = output["special_tokens_mask"][0] == 0
    return bool((best[:, 0] - best[:, 1])[read].gt(_CLEAR).all())


def _reads_no_padding(pipe: Any, output: Mapping[str, Any]) -> bool:
    """Whether the padding of a window, which gpux does not have, leaves the scores of its tokens alone."""
    if "attention_mask" not in output:
        return pipe.tokenizer.pad_token_id not in output["input_ids"].tolist()[0]
    read = output["attention_mask"][0] == 1
    if read.all():
        return True
    names = [name for name in pipe.tokenizer.model_input_names if name in output]
    with torch.no_grad():
        found = pipe.model(**{name: output[name][:, read] for name in names})[0]
    return bool(torch.allclose(found[0].float(), output["logits"][0][read].float(), rtol=_CLEAR, atol=_CLEAR))


def _check_reads_text(original: Original) -> None:
    """Refuse a model that reads more than a text, such as layoutlmv3: its graphs need that too.

    Raises:
        NoReferenceError: with the name of the input.
    """
    for name in _MORE.intersection(inspect.signature(original.model.forward).parameters):
        raise NoReferenceError(f"the model reads {name}, which the pipeline does not give")
