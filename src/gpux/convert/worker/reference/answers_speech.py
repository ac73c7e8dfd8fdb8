"""Reference answers of ``pipeline("automatic-speech-recognition")`` for models with an encoder and a decoder.

Answers are greedy and end before the first token whose score is nearly that of another. The times of words are not
compared: of attention that is nearly even, rounding decides where a word begins; graphs are compared with their
cross-attention instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from transformers import LogitsProcessorList

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_generation import FEWEST, FIRST, Margins
from gpux.convert.worker.reference.answers_inputs import Question
from gpux.convert.worker.reference.answers_library import Opened, Original, jsonable
from gpux.convert.worker.reference.answers_sounds import LENGTHS, sound

#: The name under which transformers and gpux take options of the generation.
GENERATION = "generate_kwargs"
WHISPER = "seq2seq_whisper"


def open_written_speech(original: Original, pipe: Any) -> Opened:
    """The answers of a pipeline that is open already."""
    size = original.model.num_parameters()
    most = next(count for least, count in FIRST.items() if size > least)
    rate = pipe.feature_extractor.sampling_rate

    def ask(question: Question) -> tuple[Question, Any] | None:
        tokens = most
        while tokens >= min(FEWEST, most):
            margins = Margins()
            options = {**question.options[GENERATION], "max_new_tokens": tokens}
            written = {**question.options, GENERATION: options}
            hooked = {**written, GENERATION: {**options, "logits_processor": LogitsProcessorList([margins])}}
            answer = jsonable(pipe(dict(question.inputs), **hooked))
            if margins.clear is None:
                return replace(question, options=written), answer
            tokens = min(margins.clear, tokens - 1)
        return None

    return Opened(CALL, list(_questions(original, pipe, rate)), ask)


def _questions(original: Original, pipe: Any, rate: int) -> Iterator[Question]:
    """Each kind of answer that the model gives; several of a kind, since one with an unclear token is left out."""
    config = original.model.generation_config
    whisper = pipe.type == WHISPER
    kinds: list[tuple[str, dict[str, Any], dict[str, Any]]] = [("text", {}, {})]
    if whisper and getattr(config, "no_timestamps_token_id", None) is not None:
        kinds.append(("segments", {}, {"return_timestamps": True}))
    languages = list(getattr(config, "lang_to_id", None) or {})
    if whisper and languages and "translate" in (getattr(config, "task_to_id", None) or {}):
        kinds.append(("translated", {"language": languages[-1].strip("<|>"), "task": "translate"}, {}))
    kinds.append(("chunks", {}, {"chunk_length_s": 0.8, "stride_length_s": 0.2}))
    for seed in range(3):
        for index, (name, generation, options) in enumerate(kinds):
            seconds = LENGTHS[(index + seed) % len(LENGTHS)]
            chosen = {GENERATION: {"num_beams": 1, **generation}, **options}
            yield Question(f"{name}-{seed}", sound(seconds, rate, len(kinds) * seed + index), chosen)
