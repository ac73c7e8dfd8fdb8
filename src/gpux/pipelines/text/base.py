"""What the pipelines of texts share: checked inputs, token budgets, and answers in the order of the inputs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel, TensorSpec
from gpux.pipelines.base import Pipeline
from gpux.pipelines.text.batching import (
    CPU_TOKENS_PER_THREAD,
    DEVICE_TOKENS,
    LANE_TOKENS,
    OUTPUT_BYTES,
    arrays,
    overlapped,
    plan,
    span,
)
from gpux.pipelines.text.tokenization import TextInput, Tokenizer, Tokens, check_unicode
from gpux.runtime.session import Session

#: Tokens per core from which a session for one-thread runs is worth its loading.
LANES_FROM = 8_192
#: Bytes of weights up to which they may be held twice for it.
LANES_BYTES = 256_000_000
#: Outputs that are vectors by their names, whatever the sizes of their axes.
VECTORS = frozenset({"last_hidden_state", "hidden_states", "token_embeddings", "pooler_output", "sentence_embedding"})


class TextPipeline(Pipeline):
    """A pipeline whose graph takes token ids."""

    def __init__(self, model: StoredModel, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        self._lock = threading.Lock()
        self._lane_session: Session | None = None
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
        session, runs, budget = self._lanes(sum(len(text) for text in tokens), output)
        names = {spec.name for spec in session.inputs}

        def run(batch: list[int]) -> tuple[list[int], NDArray[Any], NDArray[Any]]:
            feed = arrays([tokens[i] for i in batch], self.tokenizer.pad_id, self.tokenizer.pad_type_id, self._side)
            inputs = {name: array for name, array in feed.items() if name in names}
            return batch, session.run(inputs, [output])[output], feed["attention_mask"]

        return overlapped(run, plan([len(text) for text in tokens], budget, batch_size), runs)

    def _run_each(self, tokens: Sequence[Tokens], output: str, *, batch_size: int | None = None) -> list[NDArray[Any]]:
        """The output of each text [tokens, …] or [...], padding taken off, in the order of the texts."""
        found: list[NDArray[Any]] = [np.empty(0)] * len(tokens)
        for batch, result, mask in self._run(tokens, output, batch_size=batch_size):
            per_token = result.ndim == 3
            for row, index in enumerate(batch):
                place = span(len(tokens[index]), mask.shape[1], self._side)
                found[index] = result[row, place] if per_token else result[row]
        return found

    def _lanes(self, tokens: int, output: str) -> tuple[Session, int, int]:
        """What runs so many tokens: a session, how many runs at once, and the tokens of one run.

        Much text on the CPU is run one batch per core, each on one thread: threads that share a run wait for each
        other after every operator (an eighth of the time of all-MiniLM-L6-v2 on two cores). That takes a session of
        its own with weights of its own, so it is for small graphs and is opened when it first pays.
        """
        threads = self.session.threads
        if self.device != "cpu":
            lanes = (self.session, 1, DEVICE_TOKENS)
        elif threads > 1 and tokens >= LANES_FROM * threads and self.session.memory_bytes <= LANES_BYTES:
            lanes = (self._narrow(), threads, LANE_TOKENS)
        else:
            lanes = (self.session, min(2, threads), CPU_TOKENS_PER_THREAD * threads)
        width = next(spec.shape[-1] for spec in self.session.outputs if spec.name == output)
        fitting = OUTPUT_BYTES // (4 * width) if isinstance(width, int) else lanes[2]
        return (*lanes[:2], min(lanes[2], fitting))

    def _narrow(self) -> Session:
        """The session whose runs take one thread each; closed together with the other one."""
        with self._lock:
            if self.session.closed:
                return self.session  # whose run says so
            if self._lane_session is None:
                self._lane_session = Session(self.session.path, device="cpu", threads=1)
            return self._lane_session

    @property
    def memory_bytes(self) -> int:
        """Bytes that the loaded model holds, about: the size of its weights, as often as they are loaded."""
        return super().memory_bytes * (1 if self._lane_session is None else 2)

    def close(self) -> None:
        """Let go of the model's memory. May be called twice; a later call of the pipeline is a ``SessionError``."""
        with self._lock:
            super().close()
            if self._lane_session is not None:
                self._lane_session.close()
                self._lane_session = None

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

    def _score_output(self, rank: int, width: int | None) -> str:
        """The output named logits; of another name, the only one that can be scores and nothing else.

        Args:
            rank: of the output.
            width: how many scores there are, as far as the configuration tells.

        Raises:
            UnsupportedError: the graph has no such output, or several.
        """
        outputs = self.session.outputs
        fitting = [spec for spec in outputs if len(spec.shape) == rank and "float" in spec.dtype]
        if any(spec.name == "logits" for spec in fitting):
            return "logits"
        hidden = hidden_size(self.model)
        scores = [spec.name for spec in fitting if _may_be_scores(spec, width, hidden)]
        if len(scores) == 1:
            return scores[0]
        raise UnsupportedError(
            f"the graph of {self.model.id} gives {', '.join(spec.name for spec in outputs)}, and {self.task} needs "
            f"scores: an output of rank {rank} named logits",
            hint=f"Convert the original weights with `gpux convert {self.model.id} --task {self.task}`.",
            model=self.model.id,
        )


def hidden_size(model: StoredModel) -> int | None:
    """Size of a token's vector, as config.json tells it under one of its names."""
    config = model.read_json("config.json")
    sizes = (config.get(name) for name in ("hidden_size", "d_model", "dim"))
    return next((size for size in sizes if isinstance(size, int) and size > 0), None)


def _may_be_scores(spec: TensorSpec, width: int | None, hidden: int | None) -> bool:
    """By name and last axis; a free axis tells nothing."""
    last = spec.shape[-1]
    if spec.name in VECTORS:
        return False
    return not isinstance(last, int) or (last != hidden if width is None else last == width)


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
    """A list of texts, from any iterable of them, or from one text.

    Raises:
        InputError: something in it, or the whole, is no text, or no valid Unicode.
    """
    if isinstance(inputs, str):
        inputs = [inputs]
    if isinstance(inputs, (bytes, dict)) or not isinstance(inputs, Iterable):
        raise InputError(f"{what} is expected, and {type(inputs).__name__} was given")
    found = list(inputs)
    for index, item in enumerate(found):
        if not isinstance(item, str):
            raise InputError(f"{what} {index} is {type(item).__name__}, not str", index=index)
    check_unicode(found, what)
    return found
