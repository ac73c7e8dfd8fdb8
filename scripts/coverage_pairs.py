"""An independent check of encoder-decoders: the encoder, the decoder's first call, then cached steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.coverage_decoders import empty_past
from scripts.coverage_graphs import Arrays, Graph, Original, RefusedRun
from scripts.coverage_inputs import Inputs, Sizes
from scripts.coverage_single import frames, image_size
from scripts.coverage_verdict import Verdict

STEPS = 6


class PairOpinion:
    """Compares an encoder and its decoder (merged, or with a second graph for cached steps) with the original."""

    def __init__(self, graphs: dict[str, Graph], original: Original, verdict: Verdict, seed: int) -> None:
        self._encoder, self._decoder = graphs["encoder"], graphs["decoder"]
        self._later = graphs.get("decoder_with_past", self._decoder)
        self._original = original
        self._verdict = verdict
        self._inputs = Inputs(self._encoder, original, seed)

    def judge(self) -> None:
        """Compare inputs of several sizes, each with decoder prefixes of several lengths."""
        for sizes in self._trials():
            for prefix in (1, 5, 31):
                self._attempt(sizes, prefix)

    def _trials(self) -> Iterator[Sizes]:
        end = self._encoder.largest("input_ids", "attention_mask")
        known = int(self._original.setting("max_position_embeddings", default=150))
        height, width = image_size(self._original)
        image: dict[str, Any] = {"images": 2, "height": height, "width": width}
        yield Sizes(rows=2, tokens=min(23, end), padded=True, samples=9000, frames=frames(self._original, 120), **image)
        yield Sizes(
            rows=2, tokens=min(end, known), samples=7001, frames=frames(self._original, 90), patches=11, **image
        )
        if "input_ids" in self._encoder.inputs:
            yield Sizes(rows=1, tokens=min(end, known + 30))

    def _attempt(self, sizes: Sizes, prefix: int) -> None:
        what = f"{sizes}, {prefix} decoded"
        feed, _ = self._inputs.make(sizes)
        rows = next(iter(feed.values())).shape[0]
        room = self._decoder.largest("input_ids", "decoder_input_ids")
        decoded = self._inputs.tokens((rows, min(prefix, room - STEPS) + STEPS))
        try:
            expected = self._original.logits(**feed, decoder_input_ids=decoded)
        except RefusedRun as exc:
            self._verdict.notes.append(f"{what}: {exc}")
            return
        try:
            self._run(what, feed, decoded, decoded.shape[1] - STEPS, expected)
        except RefusedRun as exc:
            self._verdict.raised.append(f"{what}: {exc}")

    def _run(self, what: str, feed: Arrays, decoded: NDArray[np.int64], prefix: int, expected: NDArray[Any]) -> None:
        hidden = next(iter(self._encoder.run(feed).values()))
        mask = feed.get(
            "attention_mask", np.ones(hidden.shape[:2])
        )  # the decoder of an audio model shortens the mask itself
        context: Arrays = {"encoder_hidden_states": hidden, "encoder_attention_mask": mask, "attention_mask": mask}
        answer = self._call(self._decoder, decoded[:, :prefix], context, empty_past(self._decoder, len(decoded)), False)
        self._verdict.compare(f"{what}: first call", answer["logits"], expected[:, :prefix])
        past = _presents(answer)
        for at in range(prefix, decoded.shape[1]):
            answer = self._call(self._later, decoded[:, at : at + 1], context, past, True, at)
            self._verdict.compare(f"{what}: step {at}", answer["logits"], expected[:, at : at + 1])
            past |= {name: value for name, value in _presents(answer).items() if ".encoder." not in name}

    def _call(
        self, graph: Graph, tokens: NDArray[np.int64], context: Arrays, past: Arrays, cached: bool, start: int = 0
    ) -> Arrays:
        positions = np.arange(start, start + tokens.shape[1])
        given: Arrays = {
            "input_ids": tokens,
            "decoder_input_ids": tokens,
            "use_cache_branch": np.array([cached]),
            "cache_position": positions,
            "position_ids": np.broadcast_to(positions, tokens.shape),
            "decoder_attention_mask": np.ones((len(tokens), start + tokens.shape[1])),
            **context,
            **past,
        }
        unknown = [name for name in graph.inputs if name not in given]
        if unknown:
            raise RefusedRun(f"the inputs {', '.join(unknown[:3])} are unknown here")
        return graph.run({name: np.ascontiguousarray(given[name], graph.inputs[name][0]) for name in graph.inputs})


def _presents(answer: Arrays) -> Arrays:
    return {
        name.replace("present", "past_key_values"): value
        for name, value in answer.items()
        if name.startswith("present")
    }
