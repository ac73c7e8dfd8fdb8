"""What pipelines of texts share: tokens for graphs that read token ids, and the options and checks of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from gpux.runtime.token_inputs import Ids, Padded, TokenInputs

#: Outputs that hold vectors by their names, whatever the sizes of their axes.
_VECTORS = frozenset({"last_hidden_state", "hidden_states", "token_embeddings", "pooler_output", "sentence_embedding"})


#: What a longformer attends to from everywhere, by the task of its model.
_MARKED: Mapping[str, Literal["first", "question"]] = {"text-classification": "first", "question-answering": "question"}


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
    """A pipeline whose graph reads token ids, and inputs that follow from them.

    Those are the attention mask, segments and positions, an empty cache, and others of
    :class:`~gpux.runtime.token_inputs.TokenInputs`. Texts of unequal lengths are padded on the side that the manifest
    names. Where padding would change an answer (a graph without a mask), only texts of equal lengths run together; a
    graph with a fixed batch or a fixed length is given rows of that size.
    """

    call_options: ClassVar[type] = TextOptions
    spins: ClassVar[bool] = True  # one text is a short run, of which threads that sleep would wait a third of the time
    #: In tokens. Activations of 256 tokens per thread stay in the CPU's caches: on all-MiniLM-L6-v2, 128 to 512 run
    #: alike, 32 and 2048 cost a fifth. A run on another device fills a large accelerator and fits a small one.
    budget: ClassVar[BatchBudget] = BatchBudget(
        cpu_per_thread=256, one_thread=384, device=16_384, one_thread_from=8_192
    )
    outputs: Sequence[str] = ()  #: of one name, unless :meth:`forward` is another

    def __init__(self, model: StoredModel, **arguments: Any) -> None:  # a subclass names their types
        super().__init__(model, **arguments)
        self.tokenizer = self._open_tokenizer()
        self._inputs = TokenInputs(
            self.session.inputs,
            model.read_json("config.json"),
            largest_batch=self._largest_batch(model),
            marks=_MARKED.get(self.model_task),
        )
        if self._inputs.unknown:
            raise UnsupportedError(
                f"the graph of {model.id} needs {', '.join(self._inputs.unknown)}, which a text does not give",
                hint="Run the graph yourself with gpux.Session.",
                model=model.id,
            )
        self._inputs.check()
        self._pads = self._inputs.has_mask  #: whether texts of unequal lengths may run together
        self._pad_id = self.tokenizer.pad_id

    def _largest_batch(self, model: StoredModel) -> int | None:
        """Rows of a call at most: as the graph says, or the manifest of a variant whose graph does not have it yet."""
        manifest = model.manifest
        declared = manifest.call_spec.limits.get(manifest.graphs[0].name, {}).get("input_ids", {}).get("0")
        return self.session.limits.get("input_ids", {}).get(0, declared)

    def size(self, prepared: Tokens) -> int:
        """Tokens of a text, or of a row of a graph with a fixed length."""
        return self._inputs.length or len(prepared)

    def forward(self, batch: Sequence[Tokens], session: Session) -> Sequence[NDArray[Any]]:
        """The graph's output for each text: [tokens, …] without padding, or […] where it has no axis of tokens."""
        (output,) = self.outputs
        found: list[NDArray[Any]] = [np.empty(0)] * len(batch)
        for places, result, mask in self._runs(batch, session, output):
            for place, row, count in zip(places, result, mask.sum(axis=1), strict=True):
                found[place] = row if result.ndim < 3 else row[:count]
        return found

    def _runs(
        self, batch: Sequence[Tokens], session: Session, output: str
    ) -> Iterator[tuple[list[int], NDArray[Any], Ids]]:
        """An output of the graph for parts of a batch, with their places in it: [rows, …], and the mask [rows, tokens].

        An output with an axis of tokens begins with a row's first token, whichever side was padded.
        """
        for places in self._together(batch):
            yield places, *self._run_padded([batch[place] for place in places], session, output)

    def _together(self, batch: Sequence[Tokens]) -> Iterator[list[int]]:
        """The places of the texts that one call of the graph may take."""
        lengths = [0 if self._pads else len(text) for text in batch]
        for length in dict.fromkeys(lengths):
            places = [place for place, one in enumerate(lengths) if one == length]
            most = self._inputs.largest_batch or len(places)
            yield from (places[start : start + most] for start in range(0, len(places), most))

    def _run_padded(self, batch: Sequence[Tokens], session: Session, output: str) -> tuple[NDArray[Any], Ids]:
        """An output for texts that run together, and the mask, both with padding on the right."""
        (result,), mask = self._run_rows(batch, session, [output])
        return self._begun(result, mask)

    def _begun(self, result: NDArray[Any], mask: Ids) -> tuple[NDArray[Any], Ids]:
        """An output with an axis of tokens, and the mask, with each row's first token first."""
        if self._side == "right" or mask.all():
            return result, mask
        return _moved(result, mask), mask[:, ::-1]

    def _run_rows(
        self, batch: Sequence[Tokens], session: Session, outputs: Sequence[str]
    ) -> tuple[list[NDArray[Any]], Ids]:
        """Outputs of the graph for texts that run together, and the mask, padded as the graph reads them."""
        width = self._inputs.length or max(len(text) for text in batch)
        shape = (max(len(batch), self._inputs.rows or 0), width)
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        types = np.full(shape, self.tokenizer.pad_type_id if self.tokenizer.gives_types else 0, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, text in enumerate(batch):
            span = self._span(len(text), width)
            ids[row, span], mask[row, span] = text.ids, text.attention
            if self.tokenizer.gives_types:
                types[row, span] = text.type_ids
        for array in (ids, types, mask):
            array[len(batch) :] = array[0]  # a fixed batch is filled up with copies of its first row
        found = session.run(self._inputs.feed(Padded(ids, mask, types)), list(outputs))
        return [found[name][: len(batch)] for name in outputs], mask[: len(batch)]

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
        """Tokens of each text; ``limit`` replaces the tokenizer's own one.

        Raises:
            InputError: a text is too long with ``truncation=False``, or has not the one length that the graph reads.
        """
        smallest = self._limit(max_length=max_length, limit=limit)
        found = (tokenizer or self.tokenizer)(texts, limit=smallest, truncation=truncation)
        self._check_length(found)
        return found

    def _limit(self, *, max_length: int | None = None, limit: int | None = None) -> int | None:
        """The smallest of the call's limit, the model's own, and the graph's."""
        limits = (max_length, limit or self.tokenizer.limit, self.tokenizer.hard_limit, self._inputs.length)
        return min((value for value in limits if value is not None), default=None)

    def _check_length(self, texts: Sequence[Tokens]) -> None:
        """Refuse a text that a graph of fixed length, which cannot tell padding from tokens, does not take."""
        length = self._inputs.length
        if length is None or self._inputs.has_mask:
            return
        for index, text in enumerate(texts):
            if len(text) != length:
                raise InputError(
                    f"text {index} has {len(text)} tokens, and the graph of {self.model.id} reads exactly {length}: it "
                    "has no attention mask, so a shorter text cannot be padded",
                    hint=f"Convert the original weights: `gpux convert {self.model.id}`.",
                    index=index,
                    tokens=len(text),
                    limit=length,
                )

    @property
    def _side(self) -> Literal["right", "left"]:
        return self.model.manifest.call_spec.padding_side

    def _check_width(self, output: str, labels: Sequence[str]) -> None:
        """Refuse a graph whose scores are not those of the labels.

        Raises:
            UnsupportedError: their numbers differ.
        """
        width = next(spec.shape[-1] for spec in self.session.outputs if spec.name == output)
        if isinstance(width, int) and width != len(labels):
            raise UnsupportedError(
                f"the graph of {self.model.id} gives {width} scores, and its config.json has {len(labels)} labels"
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
            hint=f"Convert the original weights with `gpux convert {self.model.id} --task {self.model_task}`.",
            model=self.model.id,
        )


def _moved(result: NDArray[Any], mask: Ids) -> NDArray[Any]:
    """An output of left-padded texts with each row's padding moved behind its tokens; zeros there."""
    if result.ndim < 3:
        return result
    moved = np.zeros_like(result)
    for row, count in enumerate(mask.sum(axis=1)):
        moved[row, :count] = result[row, result.shape[1] - count :]
    return moved


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
