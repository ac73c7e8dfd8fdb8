"""Labels of the caller for pictures, as ``transformers.pipeline("zero-shot-image-classification")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines import candidate_labels
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.pipelines.vision.base import ImageOpenOptions, ImagePipeline, Images, as_images, run_images
from gpux.processors.image.processor import PreparedImage
from gpux.runtime.numeric import sigmoid, softmax
from gpux.runtime.session import Session
from gpux.runtime.token_inputs import Padded, TokenInputs

_SCORES = "logits_per_image"
_TEMPLATE = "This is a photo of {}."
#: Tokens that every text of the siglip family is padded to.
_SIGLIP_LENGTH = 64


class ZeroShotImageClassificationKeywords(CallOptions, total=False):
    """Options of zero-shot-image-classification that a call gives by name only."""

    hypothesis_template: Annotated[str, Option("the text of a label, which stands for {}", default=_TEMPLATE)]


class ZeroShotImageClassificationOptions(ZeroShotImageClassificationKeywords, total=False):
    """Options of zero-shot-image-classification."""

    candidate_labels: Annotated[Sequence[str] | str, Option("the labels: a list, or separated by commas")]


class ZeroShotImageClassificationArguments(ZeroShotImageClassificationOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`ZeroShotImageClassificationPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    labels: Sequence[str]
    texts: Mapping[str, NDArray[Any]]  #: what the graph reads of them, [labels, …]


@dataclass(frozen=True)
class _Prepared:
    image: PreparedImage
    texts: Mapping[str, NDArray[Any]]


class ZeroShotImageClassificationPipeline(ImagePipeline):
    """Scores of labels that a call names, by a model that compares pictures with texts: CLIP, SigLIP.

    >>> classify = ZeroShotImageClassificationPipeline(model)
    >>> classify("cat.jpg", candidate_labels=["cat", "dog"])
    [{'score': 0.99, 'label': 'cat'}, {'score': 0.01, 'label': 'dog'}]
    """

    task: ClassVar[str] = "zero-shot-image-classification"
    call_options: ClassVar[type] = ZeroShotImageClassificationOptions
    outputs = (_SCORES,)

    def __init__(self, model: StoredModel, **arguments: Unpack[ZeroShotImageClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        self.tokenizer = Tokenizer(model)
        config = model.read_json("config.json")
        self._is_siglip = "siglip" in str(config.get("model_type"))
        images = {spec.name for spec in self.session.inputs if spec.name.startswith(("pixel_", "spatial_"))}
        self._texts = TokenInputs([spec for spec in self.session.inputs if spec.name not in images], config)
        if self._texts.unknown or not images or not any(spec.name == _SCORES for spec in self.session.outputs):
            raise UnsupportedError(
                f"the graph of {model.id} reads {', '.join(spec.name for spec in self.session.inputs)}, and "
                f"{self.task} needs one that compares texts with pictures and gives {_SCORES}",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.task}`.",
                model=model.id,
            )
        if "candidate_labels" in self._options:
            self.resolve(self._options)  # raises now for invalid labels

    def __call__(
        self,
        inputs: Images,
        candidate_labels: Sequence[str] | str | None = None,
        **options: Unpack[ZeroShotImageClassificationKeywords],
    ) -> Any:
        """The labels, best first, with their scores.

        Args:
            inputs: a picture (path, bytes, PIL image, or uint8 array [height, width, channels]), or several.
            candidate_labels: the labels; by default those of the pipeline.
            options: see :class:`ZeroShotImageClassificationOptions`.

        Returns:
            ``[{"score": float, "label": str}]``, and a list of such lists for several pictures. Scores add up to 1; of
            the siglip family each is between 0 and 1 by itself.

        Raises:
            InputError: an input cannot be read as a picture; ``index`` is its place.
            UsageError: no labels, one that is too long, an unknown option, or a template without ``{}``.
        """
        labels = {} if candidate_labels is None else {"candidate_labels": candidate_labels}
        return super().__call__(inputs, **labels, **options)

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """The labels, and the token ids of their texts."""
        labels = candidate_labels.labels(options.get("candidate_labels"))
        template = options.get("hypothesis_template", _TEMPLATE)
        return _Resolved(
            labels, self._padded([candidate_labels.filled(template, label, _TEMPLATE) for label in labels])
        )

    def preprocess(self, inputs: Images, options: _Resolved) -> Sequence[_Prepared]:
        """The arrays of each picture, with those of the labels."""
        images = self.prepared(as_images(inputs), self._prepare)
        return [_Prepared(image, options.texts) for image in images]

    def forward(self, batch: Sequence[_Prepared], session: Session) -> Sequence[dict[str, NDArray[Any]]]:
        """The scores [labels] of each picture; all pictures of a call have the same labels."""
        return run_images([item.image.inputs for item in batch], session, self.outputs, shared=batch[0].texts)

    def shared_by(self, prepared: _Prepared) -> Hashable:
        """The arrays of the labels, which are those of one call."""
        return id(prepared.texts)

    def postprocess(self, prepared: _Prepared, output: Mapping[str, Any], options: _Resolved) -> Any:
        """The labels by their scores."""
        logits = output[_SCORES].astype(np.float32, copy=False)
        scores = (sigmoid if self._is_siglip else softmax)(logits)
        best = np.argsort(-scores, kind="stable")
        return [{"score": float(scores[index]), "label": options.labels[int(index)]} for index in best]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each label."""
        return [AnswerRow(entry["label"], entry["score"]) for entry in answer]

    def _padded(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """What the graph reads of texts: padded to the longest, of the siglip family to 64 tokens."""
        fixed, limit = self._texts.length, self._limit
        if self._is_siglip:
            limit = min(_SIGLIP_LENGTH, limit or _SIGLIP_LENGTH)
        found = self.tokenizer(texts, limit=limit if self._is_siglip else None)
        for text, tokens in zip(texts, found, strict=True):
            if limit is not None and len(tokens) > limit:
                raise UsageError(
                    f"the label in {text!r} makes {len(tokens)} tokens, and the limit is {limit}",
                    hint="Shorten the label or hypothesis_template.",
                )
        width = (limit if self._is_siglip else fixed) or max(map(len, found))
        ids = np.full((len(texts), width), self.tokenizer.pad_id, np.int64)
        types, mask = np.zeros_like(ids), np.full_like(ids, 0 if self.tokenizer.gives_mask else 1)
        for row, tokens in enumerate(found):
            place = slice(0, len(tokens)) if self._pads_right else slice(width - len(tokens), width)
            ids[row, place], mask[row, place] = tokens.ids, 1
        return dict(self._texts.feed(Padded(ids, mask, types)))

    @property
    def _limit(self) -> int | None:
        """Tokens of a text at most."""
        config = self.model.read_json("config.json").get("text_config") or {}
        graph = self.session.limits.get("input_ids", {}).get(1)
        limits = (self._texts.length, graph, self.tokenizer.hard_limit, config.get("max_position_embeddings"))
        return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)

    @property
    def _pads_right(self) -> bool:
        return self.model.manifest.call_spec.padding_side == "right"
