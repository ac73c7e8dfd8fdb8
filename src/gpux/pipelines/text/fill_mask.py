"""Words for the masked places of a text, as ``transformers.pipeline("fill-mask")`` of 4.57 answers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.text.base import TextPipeline, as_texts, check_positive, tokenizer_options
from gpux.pipelines.text.tokenization import Tokens
from gpux.runtime.numeric import softmax

log = logging.getLogger(__name__)
_TOP_K = 5


class FillMaskPipeline(TextPipeline):
    """The most likely words for each mask of a text.

    >>> fill = FillMaskPipeline(model)
    >>> fill("Paris is the [MASK] of France.", top_k=1)
    [{'score': 0.997, 'token': 3007, 'token_str': 'capital', 'sequence': 'paris is the capital of france.'}]
    """

    task: ClassVar[str] = "fill-mask"
    call_options: ClassVar[frozenset[str]] = frozenset(
        {"top_k", "targets", "truncation", "max_length", "tokenizer_kwargs", "batch_size"}
    )

    def __init__(self, model: StoredModel, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        self._logits = self._score_output(3, _vocabulary(model.read_json("config.json")))
        if self.tokenizer.mask_id is None:
            raise UnsupportedError(f"the tokenizer of {model.id} has no mask token", model=model.id)
        self._mask_id = self.tokenizer.mask_id

    def __call__(self, inputs: str | Iterable[str], **options: Any) -> Any:
        """Candidates for every mask, most likely first.

        Args:
            inputs: a text with the mask token in it, or several.
            options: ``top_k`` (how many, 5), ``targets`` (words to choose from; of a word that is no single token the
                first token counts), ``tokenizer_kwargs`` or ``truncation`` and ``max_length``, ``batch_size``.

        Returns:
            A list of ``{"score", "token", "token_str", "sequence"}`` for a text with one mask, a list of such lists
            for a text with more; for several texts a list of those, and for a list of one text its only answer.

        Raises:
            InputError: a text has no mask token, or loses it by truncation.
            UsageError: ``targets`` names no token, or ``top_k`` is out of range.
        """
        chosen = self._merged(options)
        targets = self._target_ids(chosen.get("targets"))
        count = self._count(chosen.get("top_k"), targets)
        texts = as_texts(inputs)
        tokens = self._tokenize(texts, **tokenizer_options(chosen, "tokenizer_kwargs"))
        self._check_masks(tokens)
        answers = [
            self._answer(text, logits, count, targets)
            for text, logits in self._scored(tokens, batch_size=chosen.get("batch_size"))
        ]
        return answers[0] if isinstance(inputs, str) or len(answers) == 1 else answers

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """The candidates for each text."""
        found = self(list(inputs))
        return [found] if len(inputs) == 1 else list(found)

    def _scored(self, tokens: Sequence[Tokens], *, batch_size: int | None) -> list[tuple[Tokens, NDArray[Any]]]:
        """Each text with the logits [masks, vocabulary] of its masked places; the rest is never kept."""
        found: list[NDArray[Any]] = [np.empty(0)] * len(tokens)
        for batch, logits, mask in self._run(tokens, self._logits, batch_size=batch_size):
            for row, index in enumerate(batch):
                places = np.flatnonzero(mask[row])[self._masked(tokens[index])]
                found[index] = logits[row, places].astype(np.float32)
        return list(zip(tokens, found, strict=True))

    def _answer(self, text: Tokens, logits: NDArray[Any], count: int, targets: list[int] | None) -> Any:
        places = self._masked(text)
        scores = softmax(logits)
        rows = []
        for place, row in zip(places, scores, strict=True):
            ids = np.arange(len(row)) if targets is None else np.array(targets)
            best = np.argsort(-row[ids], kind="stable")[:count]
            rows.append([self._entry(text, places, place, int(ids[i]), float(row[ids[i]])) for i in best])
        return rows[0] if len(rows) == 1 else rows

    def _entry(self, text: Tokens, places: Sequence[int], place: int, token: int, score: float) -> dict[str, Any]:
        ids = [*text.ids]
        ids[place] = token
        kept = [i for i in ids if i != self.tokenizer.pad_id]
        # with more masks the others stay visible, so special tokens are kept; as transformers has it
        sequence = self.tokenizer.decode(kept, skip_special_tokens=len(places) == 1)
        return {"score": score, "token": token, "token_str": self.tokenizer.decode([token]), "sequence": sequence}

    def _masked(self, text: Tokens) -> list[int]:
        return [place for place, token in enumerate(text.ids) if token == self._mask_id]

    def _check_masks(self, tokens: Sequence[Tokens]) -> None:
        for index, text in enumerate(tokens):
            if not self._masked(text):
                raise InputError(
                    f"text {index} has no mask token {self.tokenizer.mask_token}",
                    hint=f"Put {self.tokenizer.mask_token} where a word is wanted.",
                    index=index,
                )

    def _target_ids(self, targets: str | Iterable[str] | None) -> list[int] | None:
        if targets is None:
            return None
        found: list[int] = []
        for word in as_texts(targets, "target"):
            token = self.tokenizer.first_id(word)
            if token is None:
                log.warning("target %r has no token and is left out", word)
            elif token not in found:
                found.append(token)
        if not found:
            raise UsageError("targets names no token of the model")
        return found

    def _count(self, top_k: int | None, targets: list[int] | None) -> int:
        count = _TOP_K if top_k is None else top_k
        check_positive(top_k=count)
        return count if targets is None else min(count, len(targets))


def _vocabulary(config: dict[str, Any]) -> int | None:
    size = config.get("vocab_size")
    return size if isinstance(size, int) else None
