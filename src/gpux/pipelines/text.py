"""What the pipelines of texts share: checked inputs, token budgets, and answers in the order of the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.pipelines.base import Pipeline
from gpux.pipelines.batching import CPU_RUNS, CPU_TOKENS, DEVICE_TOKENS, OUTPUT_BYTES, arrays, overlapped, plan, span
from gpux.pipelines.tokenization import TextInput, Tokenizer, Tokens
from gpux.types import StoredModel


class TextPipeline(Pipeline):
    """A pipeline whose graph takes token ids."""

    def __init__(self, model: StoredModel, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        self.tokenizer = self._open_tokenizer()
        known = {"input_ids", "attention_mask", "token_type_ids"}
        foreign = [spec.name for spec in self.session.inputs if spec.name not in known]
        if foreign:
            raise UnsupportedError(f"the graph of {model.id} wants {', '.join(foreign)}, which no text gives")

    def _open_tokenizer(self) -> Tokenizer:
        return Tokenizer(self.model)

    def _tokenize(
        self,
        texts: Sequence[TextInput],
        *,
        tokenizer: Tokenizer | None = None,
        truncation: bool = True,
        max_length: int | None = None,
        limit: int | None = None,
    ) -> list[Tokens]:
        """Tokens of each text; ``limit`` stands for the tokenizer's own one."""
        smallest = self._limit(max_length=max_length, limit=limit)
        return (tokenizer or self.tokenizer)(texts, limit=smallest, truncation=truncation)

    def _limit(self, *, max_length: int | None = None, limit: int | None = None) -> int | None:
        """The smallest of: what the call asks for, the model's own limit, what the graph takes."""
        limits = (max_length, limit or self.tokenizer.limit, self.tokenizer.hard_limit)
        return min((value for value in limits if value is not None), default=None)

    def _run(
        self, tokens: Sequence[Tokens], output: str, *, batch_size: int | None = None
    ) -> Iterator[tuple[list[int], NDArray[Any], NDArray[Any]]]:
        """Run all texts, sorted by length and batched by a token budget, a few batches at once.

        Yields:
            Indices of a batch's texts, the graph's output [batch, …], and the attention mask [batch, tokens].
        """
        check_positive(batch_size=batch_size)
        names = {spec.name for spec in self.session.inputs}

        def run(batch: list[int]) -> tuple[list[int], NDArray[Any], NDArray[Any]]:
            feed = arrays([tokens[i] for i in batch], self.tokenizer.pad_id, self.tokenizer.pad_type_id, self._side)
            inputs = {name: array for name, array in feed.items() if name in names}
            return batch, self.session.run(inputs, [output])[output], feed["attention_mask"]

        batches = plan([len(text) for text in tokens], self._budget(output), batch_size)
        return overlapped(run, batches, min(self.session.threads, CPU_RUNS) if self.device == "cpu" else 1)

    def _run_each(self, tokens: Sequence[Tokens], output: str, *, batch_size: int | None = None) -> list[NDArray[Any]]:
        """The output of each text [tokens, …] or [...], padding taken off, in the order of the texts."""
        found: list[NDArray[Any]] = [np.empty(0)] * len(tokens)
        for batch, result, mask in self._run(tokens, output, batch_size=batch_size):
            per_token = result.ndim == 3
            for row, index in enumerate(batch):
                place = span(len(tokens[index]), mask.shape[1], self._side)
                found[index] = result[row, place] if per_token else result[row]
        return found

    def _budget(self, output: str) -> int:
        """Tokens of one run, padding included."""
        tokens = CPU_TOKENS if self.device == "cpu" else DEVICE_TOKENS
        width = next(spec.shape[-1] for spec in self.session.outputs if spec.name == output)
        return min(tokens, OUTPUT_BYTES // (4 * width)) if isinstance(width, int) else tokens

    @property
    def _side(self) -> Literal["right", "left"]:
        return self.model.manifest.driving.padding_side

    def _output(self, names: Sequence[str], rank: int) -> str:
        """The first of the names that the graph has, else its first output of that rank.

        Raises:
            UnsupportedError: the graph has neither.
        """
        outputs = self.session.outputs
        fitting = [spec.name for spec in outputs if len(spec.shape) == rank]
        for name in (*names, *fitting):
            if name in fitting:
                return name
        raise UnsupportedError(
            f"the graph of {self.model.id} gives {', '.join(spec.name for spec in outputs)}, and {self.task} needs "
            f"an output of rank {rank}"
        )


def tokenizer_options(options: dict[str, Any], nested: str) -> dict[str, Any]:
    """``truncation`` and ``max_length`` of a call, given by themselves or in the dict that transformers takes.

    Raises:
        UsageError: something else is in it, or an option is given twice.
    """
    inner = dict(options.get(nested) or {})
    inner.pop("padding", None)  # answers carry no padding, however they were batched
    unknown = sorted(set(inner) - {"truncation", "max_length"})
    twice = sorted(set(inner) & set(options))
    if unknown or twice:
        raise UsageError(f"{nested}: {', '.join(unknown or twice)} is {'not known' if unknown else 'given twice'}")
    found = {**{name: options[name] for name in ("truncation", "max_length") if name in options}, **inner}
    check_positive(max_length=found.get("max_length"))
    return {**found, "truncation": bool(found.get("truncation", True))}


def check_positive(**values: int | None) -> None:
    """Refuse numbers below 1; None stands for a default.

    Raises:
        UsageError: it names the first of them.
    """
    for name, value in values.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}, and has to be 1 or more")


def as_texts(inputs: Any, what: str = "text") -> list[str]:
    """A list of texts, from any iterable of them.

    Raises:
        InputError: something in it, or the whole, is no text.
    """
    if isinstance(inputs, (bytes, dict)) or not isinstance(inputs, Iterable):
        raise InputError(f"{what} is expected, and {type(inputs).__name__} was given")
    found = list(inputs)
    for index, item in enumerate(found):
        if not isinstance(item, str):
            raise InputError(f"{what} {index} is {type(item).__name__}, not str", index=index)
    return found
