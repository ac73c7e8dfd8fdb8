"""What pipelines of texts share: tokens for graphs that read token ids, and the options and checks of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel, TensorSpec
from gpux.pipelines.base import Pipeline, check_positive
from gpux.pipelines.batching import BatchBudget
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.text.tokenization import TextInput, Tokenizer, Tokens, check_unicode
from gpux.runtime.session import Session

_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
#: Outputs that hold vectors by their names, whatever the sizes of their axes.
_VECTORS = frozenset({"last_hidden_state", "hidden_states", "token_embeddings", "pooler_output", "sentence_embedding"})


class TokenizerOptions(TypedDict, total=False):
    """``truncation`` and ``max_length`` in a dict, as transformers accepts them; ``padding`` is ignored."""

    truncation: bool
    max_length: int | None
    padding: bool | str


class TextOptions(CallOptions, total=False):
    """Options of every pipeline of texts."""

    truncation: Annotated[bool, Option("cut a text beyond the limit; False: refuse it", default=True)]
    max_length: Annotated[int | None, Option("limit of tokens; by default the tokenizer's and the graph's")]


class TextPipeline(Pipeline):
    """A pipeline whose graph reads token ids: int64 ``input_ids``, ``attention_mask`` and ``token_type_ids``."""

    call_options: ClassVar[type] = TextOptions
    #: In tokens. Activations of 256 tokens per thread stay in the CPU's caches: on all-MiniLM-L6-v2, 128 to 512 run
    #: alike, 32 and 2048 cost a fifth. A run on another device fills a large accelerator and fits a small one.
    budget: ClassVar[BatchBudget] = BatchBudget(
        cpu_per_thread=256, one_thread=384, device=16_384, one_thread_from=8_192
    )
    outputs: Sequence[str] = ()  #: of one name

    def __init__(self, model: StoredModel, **arguments: Any) -> None:  # a subclass names their types
        super().__init__(model, **arguments)
        self.tokenizer = self._open_tokenizer()
        foreign = [spec.name for spec in self.session.inputs if spec.name not in _INPUTS]
        if foreign:
            raise UnsupportedError(f"the graph of {model.id} needs {', '.join(foreign)}, which a text does not give")
        self._names = {spec.name for spec in self.session.inputs}

    def size(self, prepared: Tokens) -> int:
        """Tokens of a text."""
        return len(prepared)

    def forward(self, batch: Sequence[Tokens], session: Session) -> Sequence[NDArray[Any]]:
        """The graph's output for each text: [tokens, …] without padding, or […] where it has no axis of tokens."""
        result, mask = self._run_padded(batch, session)
        if result.ndim < 3:
            return list(result)
        spans = [self._span(len(text), mask.shape[1]) for text in batch]
        return [result[row, span] for row, span in enumerate(spans)]

    def _run_padded(self, batch: Sequence[Tokens], session: Session) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The graph's output for a padded batch [batch, …], and the attention mask [batch, tokens]."""
        shape = (len(batch), max(len(text) for text in batch))
        ids = np.full(shape, self.tokenizer.pad_id, dtype=np.int64)
        types = np.full(shape, self.tokenizer.pad_type_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, text in enumerate(batch):
            span = self._span(len(text), shape[1])
            ids[row, span], types[row, span], mask[row, span] = text.ids, text.type_ids, 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        (output,) = self.outputs
        found = session.run({name: array for name, array in feed.items() if name in self._names}, [output])
        return found[output], mask

    def _span(self, length: int, width: int) -> slice:
        """The place of a text in a padded row of ``width``."""
        return slice(0, length) if self._side == "right" else slice(width - length, width)

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
        """Tokens of each text; ``limit`` replaces the tokenizer's own one."""
        smallest = self._limit(max_length=max_length, limit=limit)
        return (tokenizer or self.tokenizer)(texts, limit=smallest, truncation=truncation)

    def _limit(self, *, max_length: int | None = None, limit: int | None = None) -> int | None:
        """The smallest of the call's limit, the model's own, and the graph's."""
        limits = (max_length, limit or self.tokenizer.limit, self.tokenizer.hard_limit)
        return min((value for value in limits if value is not None), default=None)

    @property
    def _side(self) -> Literal["right", "left"]:
        return self.model.manifest.call_spec.padding_side

    def _vector_output(self, names: Sequence[str], rank: int) -> str:
        """The first of these names that is an output of this rank, else the graph's first output of this rank.

        Raises:
            UnsupportedError: the graph has no output of this rank.
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
        """The output named logits, else the only output that can hold scores.

        Args:
            rank: of the output.
            width: number of scores, if the configuration states it.

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
    """Size of a token's vector, from config.json, where it has one of three names."""
    config = model.read_json("config.json")
    sizes = (config.get(name) for name in ("hidden_size", "d_model", "dim"))
    return next((size for size in sizes if isinstance(size, int) and size > 0), None)


def _may_be_scores(spec: TensorSpec, width: int | None, hidden: int | None) -> bool:
    """Whether an output's name and last axis allow scores; a dynamic axis allows them."""
    last = spec.shape[-1]
    if spec.name in _VECTORS:
        return False
    return not isinstance(last, int) or (last != hidden if width is None else last == width)


def tokenizer_options(options: Mapping[str, Any], nested: str) -> dict[str, Any]:
    """``truncation`` and ``max_length`` of a call, given as options or in the dict that transformers accepts.

    Raises:
        UsageError: the dict has another key, or an option is given twice.
    """
    inner = dict(options.get(nested) or {})
    inner.pop("padding", None)  # answers carry no padding, however they were batched
    unknown = sorted(set(inner) - {"truncation", "max_length"})
    twice = sorted(set(inner) & set(options))
    if unknown:
        raise UsageError(
            f"{nested} has no option {', '.join(unknown)}", hint="It has: truncation, max_length, padding."
        )
    if twice:
        raise UsageError(f"{nested}: {', '.join(twice)} is given twice", hint=f"Give it once, without {nested}.")
    found = {**{name: options[name] for name in ("truncation", "max_length") if name in options}, **inner}
    check_positive(max_length=found.get("max_length"))
    return {**found, "truncation": bool(found.get("truncation", True))}


def as_texts(inputs: Any, what: str = "text") -> list[str]:
    """A list of texts, from any iterable of texts, or from one text.

    Raises:
        InputError: an item is not a text, or not valid Unicode.
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
