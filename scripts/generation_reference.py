"""Reference tokens by transformers: ``generate`` with one row at a time, and the score gap of every token.

    TOOLCHAIN_PYTHON -m scripts.generation_reference

Runs in the repository's root, with an interpreter that has torch and transformers. Requests are lines of JSON on
standard input, responses are lines of JSON on standard output. A request has ``folder``; ``prompts`` (token ids of each
row) or ``arrays`` (an .npz of an encoder's inputs, ``[rows, …]``); ``room`` (number of new tokens); ``varied`` (options
that prevent repetition); ``beams`` (name -> options of a beam search); ``beam_ends`` (further end tokens of beams, so
that they end at many lengths). A response has

- ``start``: the decoder's start tokens; empty for a decoder-only model,
- ``endless``: the rows without end tokens, each with ``tokens``, ``gaps`` (between torch's two best scores) and
  ``uncached`` (the token that torch chooses at each position without a cache),
- ``config``: the same with the model's own end tokens,
- ``varied``: tokens and gaps without end tokens, with the options ``varied``,
- ``ended``: the same with an end token that is certain to occur in the first row; ``ends`` are the end tokens,
- ``beams``: name -> rows -> hypotheses, best first, each with ``tokens`` and ``score``, ended by ``ends`` and
  ``beam_ends``.

Nothing of gpux is imported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.generation import GenerationMixin

_SURE = 9  # index of the token in the first row of ``varied`` that is the end token of ``ended``
_LARGE = 1e9  # JSON has no infinity


class Writer:
    """One folder's model, unpatched, in float32."""

    def __init__(self, folder: Path) -> None:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = getattr(transformers, (config.architectures or ["AutoModelForCausalLM"])[0])
        self._model = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        self._two_parts = bool(config.is_encoder_decoder)
        ends = self._model.generation_config.eos_token_id
        #: end tokens of the model's generation configuration
        self.ends: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)

    def greedy(self, inputs: Mapping[str, Any], ends: Sequence[int], **options: Any) -> dict[str, Any]:
        """Greedy tokens of one row, with score gaps."""
        found = self._generate(inputs, ends, output_scores=True, **options)
        tokens = self._written(found.sequences[0], inputs)
        return {"tokens": tokens, "gaps": [_gap(scores[0]) for scores in found.scores]}

    def plain(self, inputs: Mapping[str, Any], ends: Sequence[int], **options: Any) -> dict[str, Any]:
        """Greedy tokens, and the tokens that torch chooses without its cache."""
        found = self.greedy(inputs, ends, **options)
        before = self.start(inputs) or inputs["input_ids"][0].tolist()
        ids = torch.tensor([[*before, *found["tokens"][:-1]]])
        given = {**inputs, "decoder_input_ids": ids} if self._two_parts else {"input_ids": ids}
        with torch.no_grad():
            scores = self._model(**given, use_cache=False).logits[0, len(before) - 1 :]
        return {**found, "uncached": scores.argmax(dim=-1).tolist()}

    def beams(self, inputs: Mapping[str, Any], ends: Sequence[int], **options: Any) -> list[dict[str, Any]]:
        """The best beams of one row."""
        found = self._generate(inputs, ends, output_scores=True, **options)
        return [
            {"tokens": _until(self._written(tokens, inputs), ends), "score": float(score)}
            for tokens, score in zip(found.sequences, found.sequences_scores, strict=True)
        ]

    def start(self, inputs: Mapping[str, Any]) -> list[int]:
        """The start tokens of an encoder-decoder's decoder; empty for a decoder-only model."""
        if not self._two_parts:
            return []
        return [int(token) for token in self._generate(inputs, [], max_new_tokens=1).sequences[0, :-1]]

    def _generate(self, inputs: Mapping[str, Any], ends: Sequence[int], **options: Any) -> Any:
        self._model.generation_config.eos_token_id = list(ends) or None
        chosen = {"num_beams": 1, "do_sample": False, **options}
        with torch.no_grad():
            # Not the model's own `generate`: Whisper's splits audio into segments, which is not tested here.
            return GenerationMixin.generate(self._model, **inputs, return_dict_in_generate=True, **chosen)

    def _written(self, sequence: Any, inputs: Mapping[str, Any]) -> list[int]:
        before = 1 if self._two_parts else inputs["input_ids"].shape[1]
        return [int(token) for token in sequence[before:]]


def _gap(scores: Any) -> float:
    best = scores.topk(2).values
    return min(float(best[0] - best[1]), _LARGE)


def _until(tokens: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to the first end token, without padding."""
    last = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return list(tokens[: last + 1])


def _rows(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inputs of each row as a batch of one."""
    if "arrays" in request:
        with np.load(request["arrays"]) as found:
            arrays = {name: torch.from_numpy(found[name]) for name in found.files}
        count = len(next(iter(arrays.values())))
        return [{name: array[row : row + 1] for name, array in arrays.items()} for row in range(count)]
    ids = [torch.tensor([prompt]) for prompt in request["prompts"]]
    return [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """The response to one request."""
    writer, rows = Writer(Path(request["folder"])), _rows(request)
    room = {"max_new_tokens": request["room"]}
    varied = {**room, **request["varied"]}
    free = [writer.greedy(row, [], **varied) for row in rows]
    sure = free[0]["tokens"][: _SURE + 1][-1]
    ends = sorted({*writer.ends, sure})
    beam_ends = sorted({*ends, *request["beam_ends"]})
    return {
        "start": writer.start(rows[0]),
        "endless": [writer.plain(row, [], **room) for row in rows],
        "config": [writer.plain(row, writer.ends, **room) for row in rows],
        "varied": free,
        "ended": [writer.greedy(row, ends, **varied) for row in rows],
        "ends": ends,
        "beams": {
            name: [writer.beams(row, beam_ends, **options) for row in rows]
            for name, options in request["beams"].items()
        },
    }


def main() -> int:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep output of libraries out of the responses
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # a second thread does not help with such small models
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as exc:  # noqa: BLE001  an exception of a model is reported in its response
            found = {"error": f"{type(exc).__name__}: {str(exc)[:300]}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
