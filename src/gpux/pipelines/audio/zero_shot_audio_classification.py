"""Labels of the caller for sounds, as ``transformers.pipeline("zero-shot-audio-classification")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines import candidate_labels
from gpux.pipelines.audio.base import AudioOpenOptions, AudioPipeline, Sounds, run_sounds
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.processors.audio.clap import stretched
from gpux.processors.audio.prepared import PreparedSound
from gpux.runtime.numeric import softmax
from gpux.runtime.session import Session
from gpux.runtime.token_inputs import Padded, TokenInputs

_SCORES = "logits_per_audio"
_TEMPLATE = "This is a sound of {}."
#: What a feature extractor gives.
_OF_SOUNDS = ("input_features", "is_longer")


class ZeroShotAudioClassificationKeywords(CallOptions, total=False):
    """Options of zero-shot-audio-classification that a call gives by name only."""

    hypothesis_template: Annotated[str, Option("the text of a label, which stands for {}", default=_TEMPLATE)]


class ZeroShotAudioClassificationOptions(ZeroShotAudioClassificationKeywords, total=False):
    """Options of zero-shot-audio-classification."""

    candidate_labels: Annotated[Sequence[str] | str, Option("the labels: a list, or separated by commas")]


class ZeroShotAudioClassificationArguments(ZeroShotAudioClassificationOptions, AudioOpenOptions, total=False):
    """Keywords of :class:`ZeroShotAudioClassificationPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    labels: Sequence[str]
    texts: Mapping[str, NDArray[Any]]  #: what the graph reads of them, [labels, tokens]


@dataclass(frozen=True)
class _Prepared:
    sound: PreparedSound
    texts: Mapping[str, NDArray[Any]]


class ZeroShotAudioClassificationPipeline(AudioPipeline):
    """Scores of labels that a call names, by a model that compares sounds with texts: CLAP.

    >>> classify = ZeroShotAudioClassificationPipeline(model)
    >>> classify("street.wav", candidate_labels=["dog", "siren"])
    [{'score': 0.98, 'label': 'siren'}, {'score': 0.02, 'label': 'dog'}]
    """

    task: ClassVar[str] = "zero-shot-audio-classification"
    call_options: ClassVar[type] = ZeroShotAudioClassificationOptions
    outputs = (_SCORES,)

    def __init__(self, model: StoredModel, **arguments: Unpack[ZeroShotAudioClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        self.tokenizer = Tokenizer(model)
        self._texts = TokenInputs([spec for spec in self.session.inputs if spec.name not in _OF_SOUNDS], self.config)
        if self._texts.unknown or not any(spec.name == _SCORES for spec in self.session.outputs):
            raise UnsupportedError(
                f"the graph of {model.id} reads {', '.join(spec.name for spec in self.session.inputs)}, and "
                f"{self.task} needs one that compares texts with sounds and gives {_SCORES}",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.task}`.",
                model=model.id,
            )
        if "candidate_labels" in self._options:
            self.resolve(self._options)  # raises now for invalid labels

    def __call__(
        self,
        inputs: Sounds,
        candidate_labels: Sequence[str] | str | None = None,
        **options: Unpack[ZeroShotAudioClassificationKeywords],
    ) -> Any:
        """The labels, best first, with their scores.

        Args:
            inputs: a sound (path, bytes, file object, array, or a dict of an array and its rate), or several.
            candidate_labels: the labels; by default those of the pipeline.
            options: see :class:`ZeroShotAudioClassificationOptions`.

        Returns:
            ``[{"score": float, "label": str}]``, and a list of such lists for several sounds. Scores add up to 1.

        Raises:
            InputError: an input cannot be read as a sound (``index`` is its place), or a label's text is too long.
            UsageError: no labels, an unknown option, or a template without ``{}``.
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

    def preprocess(self, inputs: Sounds, options: _Resolved) -> Sequence[_Prepared]:
        """The arrays of each sound, with those of the labels."""
        return [_Prepared(self._fitted(sound), options.texts) for sound in super().preprocess(inputs, options)]

    def size(self, prepared: Any) -> int:
        """Samples of the sound."""
        return super().size(prepared.sound)

    def forward(self, batch: Sequence[Any], session: Session) -> Sequence[dict[str, NDArray[Any]]]:
        """The scores [labels] of each sound; all sounds of a call have the same labels."""
        return run_sounds([item.sound.inputs for item in batch], session, self.outputs, batch[0].texts)

    def shared_by(self, prepared: _Prepared) -> Hashable:
        """The arrays of the labels, which are those of one call."""
        return id(prepared.texts)

    def postprocess(self, prepared: _Prepared, output: Mapping[str, Any], options: _Resolved) -> Any:
        """The labels by their scores."""
        scores = softmax(output[_SCORES].astype(np.float32, copy=False))
        best = np.argsort(-scores, kind="stable")
        return [{"score": float(scores[index]), "label": options.labels[int(index)]} for index in best]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each label."""
        return [AnswerRow(entry["label"], entry["score"]) for entry in answer]

    def _fitted(self, sound: PreparedSound) -> PreparedSound:
        """The features with as many frames as the graph was exported for, which its model would stretch them to."""
        name = _OF_SOUNDS[0]
        frames = next((spec.shape[-2] for spec in self.session.inputs if spec.name == name), None)
        features = sound.inputs[name]
        if not isinstance(frames, int) or features.shape[-2] >= frames:
            return sound
        return replace(sound, inputs={**sound.inputs, name: stretched(features, frames)})

    def _padded(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """What the graph reads of texts: padded to the longest."""
        fixed = self._texts.length
        found = self.tokenizer(texts, limit=self.tokenizer.hard_limit if fixed is None else fixed, truncation=False)
        width = fixed or max(map(len, found))
        ids = np.full((len(texts), width), self.tokenizer.pad_id, np.int64)
        types, mask = np.zeros_like(ids), np.zeros_like(ids)
        for row, text in enumerate(found):
            ids[row, : len(text)], mask[row, : len(text)] = text.ids, 1
        return dict(self._texts.feed(Padded(ids, mask, types)))
