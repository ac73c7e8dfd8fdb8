"""Opens stored variants for the generation matrix: rows of token ids in, states of gpux's runtime out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.model.json_file import read_json
from gpux.model.variant import CallSpec
from gpux.runtime.generation.engine.decoder import Decoder
from gpux.runtime.generation.engine.encoder_decoder import EncoderDecoder
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.published import read_published
from gpux.runtime.graphs import Graphs

Arrays = dict[str, NDArray[Any]]


class StoredDecoder:
    """A decoder and its prompts."""

    def __init__(self, graphs: Graphs, call_spec: CallSpec, prompts: Sequence[Sequence[int]]) -> None:
        self.decoder = Decoder(graphs.session("model"), call_spec)
        self.limit = self.decoder.limit
        self.prompts = [list(prompt) for prompt in prompts]
        self.count = len(self.prompts)

    def open(self, rows: Sequence[int], room: int) -> State:
        """A state for these rows."""
        return self.decoder.open(room)

    def prompts_of(self, rows: Sequence[int]) -> list[list[int]]:
        """The prompts of these rows."""
        return [self.prompts[row] for row in rows]


class StoredPair:
    """An encoder, its decoder, and the inputs of each row."""

    def __init__(self, graphs: Graphs, start: Sequence[int], inputs: Sequence[Sequence[int]] | Arrays) -> None:
        later = graphs.session("decoder_with_past") if "decoder_with_past" in graphs.names else None
        self._model = EncoderDecoder(graphs.session("encoder"), graphs.session("decoder"), later)
        self.limit = self._model.limit
        self._start = list(start)
        self._inputs = inputs
        self.count = len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)

    def open(self, rows: Sequence[int], room: int) -> State:
        """A state for these rows, their inputs padded to the longest of them."""
        return self._model.open(self._batch(rows), room)

    def prompts_of(self, rows: Sequence[int]) -> list[list[int]]:
        """The decoder's start tokens of each row."""
        return [list(self._start) for _ in rows]

    def _batch(self, rows: Sequence[int]) -> Arrays:
        if isinstance(self._inputs, dict):
            return {name: array[list(rows)] for name, array in self._inputs.items()}
        width = max(len(self._inputs[row]) for row in rows)
        ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        for place, row in enumerate(rows):
            size = len(self._inputs[row])
            ids[place, :size], mask[place, :size] = self._inputs[row], 1
        return {"input_ids": ids, "attention_mask": mask}


Stored = StoredDecoder | StoredPair


def options_of(folder: Path, **chosen: Any) -> GenerationOptions:
    """The model's generation defaults as gpux reads them, with the chosen options."""
    own = read_published(read_json(folder / "config.json"), read_json(folder / "generation_config.json")).options
    return own.with_options(**{"do_sample": False, "num_beams": 1, **chosen})


def open_graphs(row: Mapping[str, Any]) -> Graphs:
    """The graphs of a row of the coverage matrix."""
    files = {name: Path(path).name for name, path in row["graphs"].items()}
    return Graphs(Path(row["path"]), files)
