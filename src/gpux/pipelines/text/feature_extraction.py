"""Token vectors as ``transformers.pipeline("feature-extraction")``, sentence vectors as sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpux.model.variant import StoredModel
from gpux.pipelines.text.base import TextPipeline, as_texts, check_positive, hidden_size, tokenizer_options
from gpux.pipelines.text.sentence import (
    MODES,
    Normalize,
    SentenceConfig,
    read_sentence_config,
    transformer_folder,
    without_prompt,
)
from gpux.pipelines.text.tokenization import Tokenizer

Floats = NDArray[np.float32]
#: Texts that are tokenized at once: enough to sort well, few enough to hold.
_CHUNK = 4096


class FeatureExtractionPipeline(TextPipeline):
    """Vectors of texts: of every token by calling it, of whole texts by :meth:`encode`.

    >>> embed = FeatureExtractionPipeline(model)
    >>> embed("hello")                       # [[[0.1, …], …]]: [1, tokens, hidden]
    >>> embed.encode(["hello", "world"])     # float32 [2, hidden]
    """

    task: ClassVar[str] = "feature-extraction"
    call_options: ClassVar[frozenset[str]] = frozenset(
        {"truncation", "max_length", "tokenize_kwargs", "return_arrays", "batch_size"}
    )

    def __init__(self, model: StoredModel, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        self._vectors = self._output(("last_hidden_state", "token_embeddings"), rank=3)

    def __call__(self, inputs: str | Iterable[str], **options: Any) -> Any:
        """The vector of every token, special tokens included, as ``transformers.pipeline`` gives it.

        Args:
            inputs: one text, or several.
            options: ``truncation`` (True: a text beyond the limit is cut; False: it is refused), ``max_length``
                (tokens), ``tokenize_kwargs`` (the two in a dict, as transformers takes them), ``return_arrays``,
                ``batch_size`` (texts of one run at most).

        Returns:
            Nested lists [1, tokens, hidden] for one text, a list of such for several; with ``return_arrays`` float32
            arrays of that shape in place of the nested lists.

        Raises:
            InputError: an input is no text, too long, or has no tokens.
        """
        chosen = self._merged(options)
        limits = tokenizer_options(chosen, "tokenize_kwargs")
        texts = as_texts(inputs)
        tokens = self._tokenize(texts, **limits)
        found = [v[None] for v in self._run_each(tokens, self._vectors, batch_size=chosen.get("batch_size"))]
        answers = found if chosen.get("return_arrays") else [array.tolist() for array in found]
        return answers[0] if isinstance(inputs, str) else answers

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """The vector of each text for a sentence-transformers model, the vectors of its tokens for any other."""
        if self.model.has_file("modules.json"):
            return list(self.encode(list(inputs)).tolist())
        return super().answers(inputs)

    @cached_property
    def sentence(self) -> SentenceConfig:
        """How :meth:`encode` makes one vector per text.

        Raises:
            UnsupportedError: the repository asks for a module that gpux does not know.
        """
        return read_sentence_config(self.model)

    @property
    def max_seq_length(self) -> int | None:
        """Tokens of a text that :meth:`encode` takes, special tokens included; None without a limit."""
        return self._limit(limit=self.sentence.max_seq_length)

    @property
    def dimension(self) -> int:
        """Size of the vectors that :meth:`encode` gives."""
        width = self._hidden_size() * len(self.sentence.pooling)
        for layer in self.sentence.layers:
            width = layer.width or width
        return min(width, self.sentence.truncate_dim or width)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the loaded model holds, about: the size of its weights."""
        read: SentenceConfig | None = self.__dict__.get("sentence")  # what was not asked for is not loaded for this
        return super().memory_bytes + sum(layer.nbytes for layer in (read.layers if read else ()))

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int | None = None,
        normalize: bool | None = None,
        normalize_embeddings: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncation: bool = True,
        max_length: int | None = None,
        truncate_dim: int | None = None,
    ) -> Floats:
        """One vector per text, as sentence-transformers' ``encode`` gives it.

        Args:
            texts: one text, or several.
            batch_size: texts of one run at most; by default as many as a budget of tokens holds.
            normalize: True for vectors of length 1; False leaves a normalisation of the repository out; None does
                what the repository says.
            normalize_embeddings: sentence-transformers' name for ``normalize=True``.
            prompt_name: one of the repository's prompts, by name.
            prompt: what opens every text, in place of a named prompt.
            truncation: cut a text beyond :attr:`max_seq_length`; else refuse it.
            max_length: a smaller limit, in tokens.
            truncate_dim: leading dimensions to keep.

        Returns:
            float32 [dim] for one text, [texts, dim] for several, in their order.

        Raises:
            InputError: an input is no text, has no tokens, or is too long and may not be cut.
            UnsupportedError: the repository asks for a module that gpux does not know.
            UsageError: no prompt of that name, or an option out of range.
        """
        check_positive(batch_size=batch_size, max_length=max_length, truncate_dim=truncate_dim)
        opening = self.sentence.prompt(prompt, prompt_name)
        given = as_texts(texts)
        vectors = self._pooled(
            [opening + text for text in given],
            batch_size=batch_size,
            limits={"truncation": truncation, "max_length": max_length, "limit": self.sentence.max_seq_length},
            skipped=self._prompt_tokens(opening),
        )
        for layer in self.sentence.layers:
            vectors = vectors if layer.normalizes and normalize is False else layer(vectors)
        vectors = vectors[:, : truncate_dim or self.sentence.truncate_dim]
        if normalize or normalize_embeddings:
            vectors = Normalize()(vectors)
        return vectors[0] if isinstance(texts, str) else np.ascontiguousarray(vectors)

    def _pooled(self, texts: Sequence[str], *, batch_size: int | None, limits: dict[str, Any], skipped: int) -> Floats:
        """Pooled token vectors [texts, hidden × modes]; ``skipped`` tokens of each text stay out of the pooling."""
        width = self._hidden_size() * len(self.sentence.pooling)
        vectors = np.empty((len(texts), width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        for start in range(0, len(order), _CHUNK):
            chunk = order[start : start + _CHUNK]
            tokens = self._tokenize([texts[i] for i in chunk], tokenizer=self._sentence_tokenizer, **limits)
            for batch, hidden, mask in self._run(tokens, self._vectors, batch_size=batch_size):
                kept = without_prompt(mask, skipped) if skipped else mask
                hidden = hidden.astype(np.float32, copy=False)
                modes = [MODES[mode](hidden, kept) for mode in self.sentence.pooling]
                vectors[[chunk[i] for i in batch]] = np.concatenate(modes, axis=1)
        return vectors

    def _prompt_tokens(self, prompt: str) -> int:
        if not prompt or self.sentence.include_prompt:
            return 0
        return self._sentence_tokenizer.prompt_length(prompt, self.max_seq_length)

    @cached_property
    def _sentence_tokenizer(self) -> Tokenizer:
        if not self.sentence.lower_case:
            return self.tokenizer
        return Tokenizer(self.model, subfolder=self.sentence.folder, lower_case=True)

    def _open_tokenizer(self) -> Tokenizer:
        return Tokenizer(self.model, subfolder=transformer_folder(self.model))

    def _hidden_size(self) -> int:
        declared = next(spec.shape[2] for spec in self.session.outputs if spec.name == self._vectors)
        if isinstance(declared, int):
            return declared
        return hidden_size(self.model) or 0
