"""Words for the masked places of a text, as ``transformers.pipeline("fill-mask")`` of 4.57 answers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, check_positive
from gpux.pipelines.options import Option
from gpux.pipelines.text.base import TextOptions, TextPipeline, TokenizerOptions, as_texts, tokenizer_options
from gpux.pipelines.text.tokenization import Tokens
from gpux.runtime.numeric import softmax
from gpux.runtime.session import Session

log = logging.getLogger(__name__)
_TOP_K = 5


class FillMaskOptions(TextOptions, total=False):
    """Options of fill-mask."""

    top_k: Annotated[int | None, Option("candidates for each mask", default=_TOP_K)]
    targets: Annotated[
        str | Iterable[str] | None,
        Option("words to choose from; the first token counts for a word of several tokens"),
    ]
    tokenizer_kwargs: Annotated[
        TokenizerOptions | None, Option("truncation and max_length in a dict, as transformers accepts them")
    ]


class FillMaskArguments(FillMaskOptions, OpenOptions, total=False):
    """Keywords of :class:`FillMaskPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    count: int
    targets: list[int] | None  #: token ids
    tokenizer: dict[str, Any]


class FillMaskPipeline(TextPipeline):
    """The most likely words for each mask of a text.

    >>> fill = FillMaskPipeline(model)
    >>> fill("Paris is the [MASK] of France.", top_k=1)
    [{'score': 0.997, 'token': 3007, 'token_str': 'capital', 'sequence': 'paris is the capital of france.'}]
    """

    task: ClassVar[str] = "fill-mask"
    call_options: ClassVar[type] = FillMaskOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[FillMaskArguments]) -> None:
        super().__init__(model, **arguments)
        self.outputs = (self._score_output(3, _vocabulary(model.read_json("config.json"))),)
        if self.tokenizer.mask_id is None:
            raise UnsupportedError(f"the tokenizer of {model.id} has no mask token", model=model.id)
        self._mask_id = self.tokenizer.mask_id

    def __call__(self, inputs: str | Iterable[str], **options: Unpack[FillMaskOptions]) -> Any:
        """Candidates for every mask, most likely first.

        Args:
            inputs: a text that contains the mask token, or several.
            options: see :class:`FillMaskOptions`.

        Returns:
            A list of ``{"score": float, "token": int, "token_str": str, "sequence": str}`` for a text with one mask, a
            list of such lists for a text with more; for several texts a list of those, and for a list of one text its
            answer alone.

        Raises:
            InputError: a text has no mask token, or loses it by truncation.
            UsageError: an unknown option, no token in ``targets``, or ``top_k`` below 1.
        """
        answers = self.run(inputs, options)
        return answers[0] if isinstance(inputs, str) or len(answers) == 1 else answers

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Look the token ids of ``targets`` up, and check ``top_k``."""
        targets = self._target_ids(options.get("targets"))
        count = _TOP_K if options.get("top_k") is None else options["top_k"]
        check_positive(top_k=count)
        count = count if targets is None else min(count, len(targets))
        return _Resolved(count, targets, tokenizer_options(options, "tokenizer_kwargs"))

    def preprocess(self, inputs: str | Iterable[str], options: _Resolved) -> list[Tokens]:
        """Tokens of each text, every one with a mask among them."""
        tokens = self._tokenize(as_texts(inputs), **options.tokenizer)
        for index, text in enumerate(tokens):
            if not self._masked(text):
                raise InputError(
                    f"text {index} has no mask token {self.tokenizer.mask_token}",
                    hint=f"Put {self.tokenizer.mask_token} where a word is wanted.",
                    index=index,
                )
        return tokens

    def forward(self, batch: Sequence[Tokens], session: Session) -> list[NDArray[np.float32]]:
        """The logits float32 [masks, vocabulary] of each text's masked places; the rest is not kept."""
        outputs = super().forward(batch, session)
        return [output[self._masked(text)].astype(np.float32) for text, output in zip(batch, outputs, strict=True)]

    def postprocess(self, prepared: Tokens, output: NDArray[np.float32], options: _Resolved) -> Any:
        """The candidates of the only mask, or of each mask."""
        places = self._masked(prepared)
        rows = []
        for place, row in zip(places, softmax(output), strict=True):
            ids = np.arange(len(row)) if options.targets is None else np.array(options.targets)
            best = np.argsort(-row[ids], kind="stable")[: options.count]
            rows.append([self._entry(prepared, places, place, int(ids[i]), float(row[ids[i]])) for i in best])
        return rows[0] if len(rows) == 1 else rows

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each candidate: the text with this candidate in place of the mask."""
        masks = answer if answer and isinstance(answer[0], list) else [answer]
        return [AnswerRow(entry["sequence"], entry["score"]) for mask in masks for entry in mask]

    def _entry(self, text: Tokens, places: Sequence[int], place: int, token: int, score: float) -> dict[str, Any]:
        ids = [*text.ids]
        ids[place] = token
        kept = [i for i in ids if i != self.tokenizer.pad_id]
        # with several masks the other masks stay visible, so special tokens are kept, as in transformers
        sequence = self.tokenizer.decode(kept, skip_special_tokens=len(places) == 1)
        return {"score": score, "token": token, "token_str": self.tokenizer.decode([token]), "sequence": sequence}

    def _masked(self, text: Tokens) -> list[int]:
        return [place for place, token in enumerate(text.ids) if token == self._mask_id]

    def _target_ids(self, targets: str | Iterable[str] | None) -> list[int] | None:
        if targets is None:
            return None
        found: list[int] = []
        for word in as_texts(targets, "target"):
            token = self.tokenizer.first_id(word)
            if token is None:
                log.warning("target %r has no token and is ignored", word)
            elif token not in found:
                found.append(token)
        if not found:
            raise UsageError("targets names no token of the model", hint="Give words of the model's vocabulary.")
        return found


def _vocabulary(config: dict[str, Any]) -> int | None:
    size = config.get("vocab_size")
    return size if isinstance(size, int) else None
