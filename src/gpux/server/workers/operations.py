"""What a worker does for each kind of request that generates no text."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any, cast

from gpux.errors import InputError, UnsupportedTaskError, UsageError
from gpux.pipelines.base import Pipeline
from gpux.pipelines.generation.base import GenerationPipeline
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.pipelines.options import check_names, option_specs
from gpux.pipelines.text.encoding import EncodeOptions, EncodingPipeline
from gpux.pipelines.text.late_interaction import LateInteractionPipeline, is_late_interaction
from gpux.pipelines.text.text_ranking import TextRankingPipeline
from gpux.pipelines.text.tokenization import Tokenizer, check_unicode
from gpux.server.workers.account import Account
from gpux.server.workers.calls import checked_options, received
from gpux.server.workers.messages import (
    Answer,
    Answered,
    Count,
    Counted,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    Last,
    Rank,
    Ranked,
    Tensor,
    Tokenize,
    Tokenized,
)
from gpux.server.workers.parsing import for_template
from gpux.server.workers.tasks import Tasks, needs


def reply_to(tasks: Tasks, account: Account) -> Last:
    """The last reply to a request, run in the calling thread.

    Raises:
        GpuxError: the request is invalid, or was cancelled.
    """
    request = account.request
    if isinstance(request, Embed):
        return _embed(tasks, request, account)
    if isinstance(request, Rank):
        return _rank(tasks, request, account)
    if isinstance(request, Tokenize):
        return _tokenize(tasks, request, account)
    if isinstance(request, Detokenize):
        return _detokenize(tasks, request, account)
    if isinstance(request, Count):
        return _count(tasks, request, account)
    assert isinstance(request, Answer)
    return _answer(tasks, request, account)


def _answer(tasks: Tasks, request: Answer, account: Account) -> Answered:
    pipe = tasks.of(request.task)
    options = checked_options(pipe, request.options)
    if not request.as_call and not isinstance(request.inputs, list):
        raise InputError("the inputs are not a list", hint="Send a list of inputs.")
    inputs = received(pipe, request.inputs)
    if pipe.task == "automatic-speech-recognition" and not pipe.shares_batches:
        options["generate_kwargs"] = {**(options.get("generate_kwargs") or {}), "cancel": account.cancel}
    answers = _called(pipe, inputs, options) if request.as_call else pipe.answers(inputs, options)
    return Answered(request.id, answers, account.timing, account.tokens)


def _called(pipe: Pipeline, inputs: Any, options: dict[str, Any]) -> Any:
    """What a call of the pipeline answers, as JSON."""
    found = pipe(inputs, **options)
    several = isinstance(inputs, (list, tuple)) and isinstance(found, list)
    return [pipe.to_json(one) for one in found] if several else pipe.to_json(found)


def _embed(tasks: Tasks, request: Embed, account: Account) -> Embedded:
    pipe = tasks.encoder()
    options = {name: value for name, value in request.options.items() if value is not None}
    size = pipe.dimension
    if (wanted := options.get("truncate_dim")) is not None and (not isinstance(wanted, int) or not 1 <= wanted <= size):
        raise UsageError(
            f"{wanted!r} dimensions are requested, and the vectors of {pipe.model.id} have {size}",
            hint=f"Give a number from 1 to {size}.",
            param="dimensions",
        )
    vectors = pipe.encode(request.texts, **cast(EncodeOptions, options))
    tensor = Tensor("float32", vectors.shape, vectors.astype("<f4", copy=False).tobytes())
    return Embedded(request.id, tensor, account.tokens, account.timing)


def _rank(tasks: Tasks, request: Rank, account: Account) -> Ranked:
    options = {name: value for name, value in request.options.items() if value is not None}
    scores = _scores(tasks, request, options)
    return Ranked(request.id, scores, account.tokens, account.timing)


def _scores(tasks: Tasks, request: Rank, options: dict[str, Any]) -> list[float]:
    pipe = tasks.of("late-interaction") if is_late_interaction(tasks.opened.model) else tasks.opened
    if isinstance(pipe, LateInteractionPipeline):
        found = pipe.rank(request.query, request.texts, **checked_options(pipe, options))
        by_place = {one["corpus_id"]: one["score"] for one in found}
        return [by_place[place] for place in range(len(request.texts))]
    if isinstance(pipe, EncodingPipeline):
        check_names("rank", options, [spec.name for spec in option_specs(EncodeOptions)])
        query = pipe.encode_query([request.query], **cast(EncodeOptions, options))
        texts = pipe.encode_document(request.texts, **cast(EncodeOptions, options))
        return [float(score) for score in pipe.similarity(query, texts)[0]] if len(texts) else []
    if pipe.model_task != "text-classification":
        raise UnsupportedTaskError(
            f"{pipe.model.id} is a model of {pipe.task} and does not rank texts",
            hint="Name a model of text-ranking, or one of embeddings.",
        )
    ranking = tasks.of("text-ranking")
    assert isinstance(ranking, TextRankingPipeline)
    if not ranking.one_label:
        raise UnsupportedTaskError(
            f"{pipe.model.id} has the labels {', '.join(ranking.labels)}, and texts are ranked by one score",
            hint="Name a model of text-ranking.",
        )
    pairs = [(request.query, text) for text in request.texts]
    return [float(score) for score in ranking.predict(pairs, **checked_options(ranking, options))] if pairs else []


def _tokenizer(pipe: Pipeline) -> Tokenizer:
    found = needs(pipe, "tokenizer", "tokenizer")
    if isinstance(pipe, EncodingPipeline) and pipe.sentence.lower_case:
        found = pipe.sentence_tokenizer
    return cast(Tokenizer, found)


def _tokenize(tasks: Tasks, request: Tokenize, account: Account) -> Tokenized:
    backend = _tokenizer(tasks.opened).backend
    check_unicode(request.texts)
    found = backend.encode_batch(request.texts, add_special_tokens=request.add_special_tokens)
    return Tokenized(
        request.id,
        [one.ids for one in found],
        [one.tokens for one in found],
        [one.offsets for one in found],
        [[bool(special) for special in one.special_tokens_mask] for one in found],
        account.timing,
    )


def _detokenize(tasks: Tasks, request: Detokenize, account: Account) -> Detokenized:
    tokenizer = _tokenizer(tasks.opened)
    size = tokenizer.backend.get_vocab_size()
    for index, ids in enumerate(request.ids):
        if any(not 0 <= token < size for token in ids):
            raise InputError(
                f"list {index} has an id that is not between 0 and {size - 1}",
                hint="Send ids of this model's own tokenizer.",
                index=index,
            )
    texts = [tokenizer.decode(ids, skip_special_tokens=request.skip_special_tokens) for ids in request.ids]
    return Detokenized(request.id, texts, account.timing)


def _count(tasks: Tasks, request: Count, account: Account) -> Counted:
    pipe = tasks.opened
    if isinstance(pipe, GenerationPipeline):
        options, inputs = checked_options(pipe, request.options), request.inputs
        if isinstance(pipe, TextGenerationPipeline) and all(isinstance(item, list) for item in inputs):
            inputs, _, _ = for_template(pipe, inputs, options)
        counts = [len(prompt.ids) for prompt in pipe.preprocess(inputs, pipe.resolve(options))]
    else:
        texts = [_as_text(item, index) for index, item in enumerate(request.inputs)]
        tokenizer = _tokenizer(pipe)
        counts = [len(tokenizer.tokens(text)) for text in texts]
    return Counted(request.id, counts, account.timing)


def _as_text(item: Any, index: int) -> str:
    if not isinstance(item, str):
        raise InputError(f"input {index} is {type(item).__name__}, not a text", index=index)
    return item


def plain(value: Any) -> Any:
    """A value that MessagePack does not know: arrays as nested lists, pictures as PNG files in base64.

    Raises:
        NotImplementedError: of another type, which is a fault of gpux.
    """
    if hasattr(value, "tolist"):  # arrays and numbers of numpy
        return value.tolist()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "save") and hasattr(value, "mode"):  # a picture of Pillow
        stream = io.BytesIO()
        value.save(stream, format="PNG")
        return base64.b64encode(stream.getvalue()).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"an answer of the type {type(value).__name__}")
