"""Text of models with a CTC output (wav2vec2, hubert, wavlm …): the best token of each frame, repeats removed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError, UsageError
from gpux.pipelines.audio.base import AudioPipeline, samples_per_frame
from gpux.pipelines.audio.ctc_tokenizer import CtcTokenizer, open_ctc_tokenizer
from gpux.pipelines.audio.speech import strides
from gpux.pipelines.base import check_positive
from gpux.processors.audio.load import SoundInput, open_sound_blocks
from gpux.processors.audio.prepared import PreparedSound, Samples
from gpux.runtime.session import Session

log = logging.getLogger(__name__)

#: A sound that is longer than this many seconds is read in chunks unless the call says otherwise: the memory of
#: attention grows with the square of its length.
WHOLE_SECONDS = 60.0
#: Seconds of a chunk, and of its strides, where the call does not set them.
CHUNK_SECONDS = 30.0
_OPTIONS = frozenset(("batch_size", "chunk_length_s", "return_timestamps", "stride_length_s"))
#: Chunks that are prepared at once.
_AT_ONCE = 16


@dataclass(frozen=True)
class Chunk:
    """A part of a sound, with the samples at both ends that other chunks answer."""

    samples: Samples
    left: int
    right: int


class CtcDecoder:
    """The decoder of a pipeline whose graph has ``logits`` [frames, tokens]; see :class:`SpeechDecoder`.

    Args:
        pipeline: prepares sounds and runs the graph.

    Raises:
        UnsupportedError: the repository has no tokenizer that gpux knows.
    """

    def __init__(self, pipeline: AudioPipeline) -> None:
        self._pipeline = pipeline
        self._ratio = samples_per_frame(pipeline.config)
        self.tokenizer: CtcTokenizer = open_ctc_tokenizer(pipeline.model)
        if self.tokenizer.has_language_model:
            log.warning("%s has a language model for its decoder, which gpux does not use", pipeline.model.id)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the options that such a model has; those of encoder-decoders are refused."""
        others = sorted(name for name, value in options.items() if value is not None and name not in _OPTIONS)
        if others:
            raise UsageError(
                f"a model with a CTC output has no option {others[0]}", hint=f"It has: {', '.join(sorted(_OPTIONS))}."
            )
        check_positive(batch_size=options.get("batch_size"))
        timestamps = options.get("return_timestamps") or None
        if timestamps not in (None, "char", "word"):
            raise UsageError(
                f"return_timestamps is {timestamps!r}, and a model with a CTC output has times of chars and words",
                hint="Set it to 'char' or 'word'.",
            )
        if timestamps == "word" and not self.tokenizer.has_words:
            raise UsageError("phonemes have no words", hint="Set return_timestamps to 'char'.")
        span = strides(options)
        if self._ratio is None and (timestamps or (span and span[0])):
            kind = self._pipeline.config.get("model_type")
            what = "timestamps" if timestamps else "chunks"
            raise UsageError(
                f"{what} need the samples of a frame, which transformers does not have for the type {kind}",
                hint="Leave out return_timestamps and chunk_length_s.",
            )
        return {**options, "return_timestamps": timestamps, "strides": span}

    def transcribe(self, sounds: Sequence[SoundInput], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The answer to each sound; chunks of all of them run together, as many as memory is kept for."""
        frames: list[list[NDArray[np.int64]]] = [[] for _ in sounds]
        chunks = self._chunks(sounds, options["strides"])
        while part := list(islice(chunks, _AT_ONCE)):
            found = self._pipeline.run_batches(
                [prepared for _, _, prepared in part], batch_size=options.get("batch_size"), forward=self._best
            )
            for (index, chunk, _), ids in zip(part, found, strict=True):
                frames[index].append(self._own(chunk, ids))
        return [self._answer(np.concatenate(parts), options["return_timestamps"]) for parts in frames]

    def _chunks(
        self, sounds: Sequence[SoundInput], span: tuple[float, float, float] | None
    ) -> Iterator[tuple[int, Chunk, PreparedSound]]:
        for index, sound in enumerate(sounds):
            for chunk in self._parts(sound, index, span):
                yield index, chunk, self._pipeline.prepare(chunk.samples, index)

    def _parts(self, sound: SoundInput, index: int, span: tuple[float, float, float] | None) -> Iterator[Chunk]:
        rate = self._pipeline.sampling_rate
        blocks = open_sound_blocks(sound, rate, 10.0, index)
        if span is None and self._ratio is not None:
            start: list[Samples] = []
            while sum(map(len, start)) <= WHOLE_SECONDS * rate and (block := next(blocks, None)) is not None:
                start.append(block)
            if sum(map(len, start)) > WHOLE_SECONDS * rate:
                span = (CHUNK_SECONDS, CHUNK_SECONDS / 6, CHUNK_SECONDS / 6)
            blocks = iter([*start, *blocks]) if span is None else _chained(start, blocks)
        if span is None or not span[0]:
            yield Chunk(np.concatenate(list(blocks)), 0, 0)
            return
        ratio = self._ratio or 1
        length, left, right = (round(seconds * rate / ratio) * ratio for seconds in span)
        if length <= left + right:
            raise UsageError(
                f"a chunk of {length} samples is not longer than its strides, {left} and {right}",
                hint="Set a longer chunk_length_s.",
            )
        yield from cut(blocks, length, left, right)

    def _best(self, batch: Sequence[PreparedSound], session: Session) -> Sequence[NDArray[np.int64]]:
        """The token of each frame with the largest score."""
        return [found["logits"].argmax(axis=-1) for found in self._pipeline.forward(batch, session)]

    def _own(self, chunk: Chunk, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The frames of a chunk without its strides, as ``rescale_stride`` of transformers' pipeline cuts them."""
        if (not chunk.left and not chunk.right) or self._ratio is None:
            return ids
        total = len(chunk.samples)
        frames = round(total * (1 / self._ratio))
        left, right = (round(stride / total * frames) for stride in (chunk.left, chunk.right))
        return ids[left : frames - right]

    def _answer(self, ids: NDArray[np.int64], timestamps: str | None) -> dict[str, Any]:
        decoded = self.tokenizer.decode(ids.tolist())
        if timestamps is None:
            return {"text": decoded.text}
        if self._ratio is None:
            raise UnsupportedError("timestamps need the samples of a frame")
        pieces = decoded.words if timestamps == "word" else decoded.chars
        rate, ratio = self._pipeline.sampling_rate, self._ratio
        chunks = [
            {"text": piece.text, "timestamp": (piece.start * ratio / rate, piece.end * ratio / rate)}
            for piece in pieces
        ]
        return {"text": decoded.text, "chunks": chunks}


def cut(blocks: Iterator[Samples], length: int, left: int, right: int) -> Iterator[Chunk]:
    """Overlapping chunks of a sound, as ``chunk_iter`` of transformers' pipeline cuts them, from blocks of any lengths.

    Args:
        blocks: of the sound, in order.
        length: samples of a chunk.
        left: samples at its start that the chunk before answers; none of the first chunk.
        right: samples at its end that the next chunk answers; none of the last one.
    """
    step = length - left - right
    have: Samples = np.zeros(0, np.float32)
    first, more = True, True
    while True:
        while more and len(have) <= length:  # one sample beyond the chunk tells that it is not the last
            block = next(blocks, None)
            more = block is not None
            have = have if block is None else np.concatenate([have, block])
        last = len(have) <= length
        chunk, before = have[:length], 0 if first else left
        if len(chunk) > before:
            yield Chunk(chunk, before, 0 if last else right)
        if last:
            return
        have, first = have[step:], False


def _chained(start: Sequence[Samples], rest: Iterator[Samples]) -> Iterator[Samples]:
    yield from start
    yield from rest
