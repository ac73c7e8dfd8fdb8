"""One vector for each token of a text (ColBERT), and the scores of late interaction.

Sources: ``colbert/modeling/tokenization`` and ``checkpoint.py`` of stanford-futuredata/ColBERT, whose files fastembed
reads alike, and ``pylate/models/colbert.py`` of PyLate. After the first token comes a marker of queries or of
documents. A query is filled up to its length with mask tokens, whose vectors count although no other token attends to
them. Of a document, tokens of punctuation are not kept. A linear head makes the vectors smaller, and each has length 1.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError
from gpux.model.late_interaction import HEAD, METADATA
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, check_positive
from gpux.pipelines.options import Option
from gpux.pipelines.text.base import TextOptions, TextPipeline, as_texts, hidden_size
from gpux.pipelines.text.sentence import TokenDense, read_floats, read_modules, transformer_folder
from gpux.pipelines.text.tokenization import Tokenizer, Tokens
from gpux.pipelines.text.vectors import normalized
from gpux.runtime.session import Session
from gpux.runtime.token_outputs import token_output

Floats = NDArray[np.float32]


class LateInteractionOptions(TextOptions, total=False):
    """Options of late-interaction."""

    is_query: Annotated[bool, Option("the texts are queries, not documents", default=False)]


class LateInteractionArguments(LateInteractionOptions, OpenOptions, total=False):
    """Keywords of :class:`LateInteractionPipeline`."""


@dataclass(frozen=True)
class ColbertConfig:
    """How the vectors of a model are computed, by its files."""

    query_marker: str = "[Q] "
    document_marker: str = "[D] "
    query_length: int = 32  #: tokens of a query, the marker included
    document_length: int = 180  #: tokens of a document at most
    expands: bool = True  #: whether queries are filled up
    attends: bool = False  #: whether tokens attend to those that a query is filled up with
    skipped: tuple[str, ...] = tuple(string.punctuation)  #: entries of the vocabulary that documents do not keep


@dataclass(frozen=True, slots=True)
class _Marked(Tokens):
    """The tokens of a text with its marker."""

    attended: int  #: leading tokens that are attended to
    kept: tuple[int, ...]  #: places of the tokens whose vectors are kept

    @property
    def attention(self) -> list[int]:
        """1 for the leading tokens."""
        return [1] * self.attended + [0] * (len(self.ids) - self.attended)


class LateInteractionPipeline(TextPipeline):
    """Vectors of tokens for search, of queries and of documents.

    >>> colbert = LateInteractionPipeline(model)
    >>> colbert.encode_query("who wrote Emma?").shape, colbert.encode_document("Emma is a novel.").shape
    ((32, 128), (7, 128))
    >>> colbert.rank("who wrote Emma?", ["Emma is a novel by Jane Austen.", "Emma has a dog."])
    [{'corpus_id': 0, 'score': 21.4}, {'corpus_id': 1, 'score': 17.9}]
    """

    task: ClassVar[str] = "late-interaction"
    model_task: ClassVar[str] = "feature-extraction"
    call_options: ClassVar[type] = LateInteractionOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[LateInteractionArguments]) -> None:
        super().__init__(model, **arguments)
        found = token_output(self.session.outputs)
        if found is None:
            raise UnsupportedError(
                f"the graph of {model.id} gives no vectors of tokens",
                hint=f"Convert the original weights with `gpux convert {model.id} --task feature-extraction`.",
                model=model.id,
            )
        self.outputs = (found,)
        self.config = read_colbert_config(model)
        self._head = self._read_head(found)
        self._markers = {
            is_query: self._token(text)
            for is_query, text in ((True, self.config.query_marker), (False, self.config.document_marker))
        }
        if self.config.expands and self._filling is None:
            raise UnsupportedError(
                f"the tokenizer of {model.id} has no mask token to fill queries up with", model=model.id
            )

    def __call__(self, inputs: str | Iterable[str], **options: Unpack[LateInteractionOptions]) -> Floats | list[Floats]:
        """The same as :meth:`encode`."""
        return self.encode(inputs, **options)

    @overload
    def encode(  # type: ignore[overload-overlap]  # a text is an iterable of texts too, and comes first
        self, texts: str, **options: Unpack[LateInteractionOptions]
    ) -> Floats: ...
    @overload
    def encode(self, texts: Iterable[str], **options: Unpack[LateInteractionOptions]) -> list[Floats]: ...
    def encode(self, texts: str | Iterable[str], **options: Unpack[LateInteractionOptions]) -> Floats | list[Floats]:
        """The vectors of documents, or of queries with ``is_query=True``.

        Args:
            texts: one text, or several.
            options: see :class:`LateInteractionOptions`.

        Returns:
            float32 [tokens, dim] for one text, a list of such for several, in their order. Every vector has length 1.

        Raises:
            InputError: an input is not a text, or too long with ``truncation=False``.
            UsageError: an option that is unknown or out of range.
        """
        found: list[Floats] = self.run(texts, options)
        return found[0] if isinstance(texts, str) else found

    @overload
    def encode_query(  # type: ignore[overload-overlap]  # as encode
        self, texts: str, **options: Unpack[TextOptions]
    ) -> Floats: ...
    @overload
    def encode_query(self, texts: Iterable[str], **options: Unpack[TextOptions]) -> list[Floats]: ...
    def encode_query(self, texts: str | Iterable[str], **options: Unpack[TextOptions]) -> Floats | list[Floats]:
        """The vectors of queries, see :meth:`encode`: as many as :attr:`ColbertConfig.query_length`."""
        return self.encode(texts, is_query=True, **options)

    @overload
    def encode_document(  # type: ignore[overload-overlap]  # as encode
        self, texts: str, **options: Unpack[TextOptions]
    ) -> Floats: ...
    @overload
    def encode_document(self, texts: Iterable[str], **options: Unpack[TextOptions]) -> list[Floats]: ...
    def encode_document(self, texts: str | Iterable[str], **options: Unpack[TextOptions]) -> Floats | list[Floats]:
        """The vectors of documents, see :meth:`encode`: of their tokens without punctuation."""
        return self.encode(texts, is_query=False, **options)

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[TextOptions],
    ) -> list[dict[str, Any]]:
        """The documents by their :func:`maxsim` to a query, best first, in the form of a text-ranking pipeline.

        Args:
            query: what is looked for.
            documents: any number of texts.
            top_k: documents of the answer at most; by default all.
            return_documents: put the text of each document into the answer.
            options: of documents, see :class:`gpux.pipelines.text.base.TextOptions`.

        Returns:
            ``[{"corpus_id": int, "score": float}]``; with ``return_documents`` each also has ``text``.

        Raises:
            InputError: the query or a document is not a text, or too long with ``truncation=False``.
            UsageError: an option that is unknown or out of range.
        """
        check_positive(top_k=top_k)
        texts = as_texts(documents, "document")
        scores = maxsim([self.encode_query(query)], self.encode_document(texts, **options))[0]
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [
            {
                "corpus_id": int(place),
                "score": float(scores[place]),
                **({"text": texts[place]} if return_documents else {}),
            }
            for place in best
        ]

    @property
    def dimension(self) -> int:
        """Size of a vector."""
        return len(self.encode_query("a")[0])

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the limit of tokens."""
        check_positive(max_length=options.get("max_length"))
        return options

    def preprocess(self, inputs: str | Iterable[str], options: Mapping[str, Any]) -> list[Tokens]:
        """Tokens of each text with its marker; a query is filled up."""
        is_query = bool(options.get("is_query"))
        marker = self._markers[is_query]
        length = self.config.query_length if is_query else self.config.document_length
        given = options.get("max_length")
        most = [limit for limit in (length if given is None else given, self.tokenizer.limit) if limit is not None]
        room = min(most) - (marker is not None)
        texts = self._tokenize(as_texts(inputs), limit=max(room, 1), truncation=bool(options.get("truncation", True)))
        return [self._marked(text, marker, length if is_query and self.config.expands else 0) for text in texts]

    def forward(self, batch: Sequence[Tokens], session: Session) -> Sequence[Floats]:
        """The vectors float32 [kept tokens, dim] of each text."""
        found: list[Floats] = [np.empty((0, 0), np.float32)] * len(batch)
        for places in self._together(batch):
            texts = [batch[place] for place in places]
            (rows,), _ = self._run_rows(texts, session, self.outputs)
            for place, row, text in zip(places, rows, texts, strict=True):
                assert isinstance(text, _Marked)
                hidden = row[self._span(len(text), len(row))][list(text.kept)]
                vectors = hidden.astype(np.float32, copy=False)
                for layer in self._head:
                    vectors = layer(vectors)
                found[place] = normalized(vectors)
        return found

    def postprocess(self, prepared: Tokens, output: Floats, options: Mapping[str, Any]) -> Floats:
        """The vectors, unchanged."""
        return output

    def to_json(self, answer: Floats) -> Any:
        """Nested lists."""
        return answer.tolist()

    def render(self, answer: Any) -> list[AnswerRow]:
        """How many vectors of which size."""
        return [AnswerRow(f"{len(answer)} vectors of {len(answer[0]) if answer else 0} numbers")]

    def _marked(self, text: Tokens, marker: int | None, length: int) -> _Marked:
        ids, types = [*text.ids], [*text.type_ids]
        if marker is not None:
            ids.insert(1, marker)
            types.insert(1, 0)
        attended = len(ids)
        more = max(0, length - attended)
        if more and self._filling is not None:
            ids += [self._filling] * more
            types += [0] * more
        if length:
            kept = tuple(range(len(ids)))
            return _Marked(ids, types, len(ids) if self.config.attends else attended, kept)
        skipped = self._skipped if marker == self._markers[False] else frozenset()
        return _Marked(ids, types, attended, tuple(place for place, token in enumerate(ids) if token not in skipped))

    @cached_property
    def _skipped(self) -> frozenset[int]:
        """The ids that documents do not keep."""
        found = (self.tokenizer.first_id(word) for word in self.config.skipped)
        return frozenset(token for token in found if token is not None)

    @cached_property
    def _filling(self) -> int | None:
        """The token that queries are filled up with: the mask token, else the end of a text."""
        if self.tokenizer.mask_id is not None:
            return self.tokenizer.mask_id
        end = self.model.read_json("config.json").get("eos_token_id")
        return end if isinstance(end, int) else None

    def _token(self, marker: str) -> int | None:
        """The id of a marker; None for an empty one.

        Raises:
            UnsupportedError: the vocabulary does not have it.
        """
        if not marker:
            return None
        backend = self.tokenizer.backend
        found = next(
            (index for name in (marker, marker.strip()) if (index := backend.token_to_id(name)) is not None), None
        )
        if found is None:
            raise UnsupportedError(
                f"the tokenizer of {self.model.id} has no token {marker!r}, which marks queries or documents: it is "
                "not a model of late interaction",
                hint=f"Its token vectors are available: gpux.pipeline('feature-extraction', model={self.model.id!r}).",
                model=self.model.id,
            )
        return found

    def _read_head(self, output: str) -> tuple[TokenDense, ...]:
        """The layers after the transformer; none where the graph applies them itself.

        Raises:
            UnsupportedError: the model has no such layers, or others.
        """
        width = next(spec.shape[-1] for spec in self.session.outputs if spec.name == output)
        hidden = hidden_size(self.model)
        if isinstance(width, int) and hidden is not None and width != hidden:
            return ()
        others = [module for module in read_modules(self.model)[1:] if module.reference.rpartition(".")[2] != "Dense"]
        layers = [TokenDense(self.model.path / module.folder) for module in read_modules(self.model)[1:] if not others]
        file = self.model.path / HEAD
        if file.is_file():
            layers.append(TokenDense.of(read_floats(file)))
        if others or not layers:
            has = f"the module {others[0].reference}" if others else "no linear head after its transformer"
            raise UnsupportedError(
                f"{self.model.id} has {has}, so it is not a model of late interaction that gpux knows",
                hint=f"Its token vectors are available: gpux.pipeline('feature-extraction', model={self.model.id!r}).",
                model=self.model.id,
            )
        return tuple(layers)

    def _open_tokenizer(self) -> Tokenizer:
        return Tokenizer(self.model, subfolder=transformer_folder(self.model))


def maxsim(queries: Sequence[Floats], documents: Sequence[Floats]) -> Floats:
    """The scores of late interaction: for each vector of a query the largest dot product in the document, summed.

    Args:
        queries: float32 [tokens, dim] for each query, as :meth:`LateInteractionPipeline.encode_query` gives them.
        documents: the same, of :meth:`LateInteractionPipeline.encode_document`.

    Returns:
        float32 [queries, documents]; 0 for a document without vectors.

    Raises:
        InputError: an array does not have two axes, or sizes differ.
    """
    for what, arrays in (("query", queries), ("document", documents)):
        for index, array in enumerate(arrays):
            if np.ndim(array) != 2 or (len(array) and array.shape[1] != queries[0].shape[1]):
                raise InputError(
                    f"{what} {index} has the shape {np.shape(array)}, not (tokens, {np.shape(queries[0])[-1]})",
                    hint="Give lists of arrays: maxsim([query], [document, …]).",
                    index=index,
                )
    scores = np.zeros((len(queries), len(documents)), np.float32)
    for row, query in enumerate(queries):
        for column, document in enumerate(documents):
            if len(document):
                scores[row, column] = (query @ document.T).max(axis=1).sum()
    return scores


def is_late_interaction(model: StoredModel) -> bool:
    """Whether a repository has the files of stanford-futuredata/ColBERT, or PyLate's settings."""
    if any((model.path / name).is_file() for name in (HEAD, METADATA)):
        return True
    return bool(model.read_json("config_sentence_transformers.json").get("similarity_fn_name") == "MaxSim")


def read_colbert_config(model: StoredModel) -> ColbertConfig:
    """Markers, lengths and skipped words.

    They are those of PyLate's ``config_sentence_transformers.json``, or of the ``artifact.metadata`` of stanford's
    ColBERT, else the defaults of the library that wrote the model.
    """
    stanford = any((model.path / name).is_file() for name in (HEAD, METADATA))
    default = ColbertConfig("[unused0]", "[unused1]") if stanford else ColbertConfig()
    pylate = model.read_json("config_sentence_transformers.json")
    own = model.read_json(METADATA) if stanford else {}

    def value(name: str, key: str, fallback: Any) -> Any:
        found = pylate.get(name)
        found = own.get(key) if found is None else found
        return fallback if found is None else found

    skipped = pylate.get("skiplist_words")
    if skipped is None and own.get("mask_punctuation") is False:
        skipped = ()
    return ColbertConfig(
        value("query_prefix", "query_token_id", default.query_marker),
        value("document_prefix", "doc_token_id", default.document_marker),
        int(value("query_length", "query_maxlen", default.query_length)),
        int(value("document_length", "doc_maxlen", default.document_length)),
        bool(value("do_query_expansion", "", True)),
        bool(value("attend_to_expansion_tokens", "attend_to_mask_tokens", False)),
        default.skipped if skipped is None else tuple(map(str, skipped)),
    )
