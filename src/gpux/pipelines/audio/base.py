"""What pipelines of sounds share: opened sounds, the repository's feature extractor, runs of equal shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Kind, OpenOptions, Pipeline
from gpux.pipelines.batching import BatchBudget
from gpux.pipelines.options import Option
from gpux.processors.audio.extractor import open_feature_extractor
from gpux.processors.audio.load import SoundInput, fetch_sound, load_sound
from gpux.processors.audio.prepared import PreparedSound, Samples
from gpux.processors.limits import media_limits
from gpux.runtime.session import Session

#: One or more sounds.
Sounds = SoundInput | Iterable[SoundInput]

#: ``(conv_kernel, conv_stride)`` of the convolutions that read samples, where config.json does not have them: defaults
#: of ``Wav2Vec2Config`` and of ``SEWConfig`` in transformers 4.57.
_CONVOLUTIONS = {"conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}
_SEW = {
    "conv_kernel": (10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1),
    "conv_stride": (5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1),
}
#: Model types that read samples by such convolutions.
_WAVEFORM_TYPES = frozenset(
    (
        "data2vec-audio",
        "hubert",
        "sew",
        "sew-d",
        "unispeech",
        "unispeech-sat",
        "wav2vec2",
        "wav2vec2-conformer",
        "wavlm",
    )
)


class AudioOpenOptions(OpenOptions, total=False):
    """How a pipeline of sounds is opened."""

    allow_urls: Annotated[bool, Option("fetch sounds that are given as http or https addresses", default=False)]


class AudioPipeline(Pipeline):
    """A pipeline whose graph reads what a feature extractor makes of a sound.

    Sounds of equal lengths run together; none is padded, so an answer does not depend on the others of its batch.
    """

    takes: ClassVar[Kind] = "audio"
    #: units are samples: 20 s of sound at 16 kHz for each thread
    budget: ClassVar[BatchBudget] = BatchBudget(cpu_per_thread=320_000, one_thread=320_000, device=10_000_000)

    def __init__(
        self,
        model: StoredModel,
        *,
        allow_urls: bool = False,
        **arguments: Any,  # a subclass names their types
    ) -> None:
        super().__init__(model, **arguments)
        self.allow_urls = allow_urls
        self._arguments = {**self._arguments, "allow_urls": allow_urls}
        self.extractor = open_feature_extractor(model)
        self.config = model.read_json("config.json")
        self._masked = any(spec.name == "attention_mask" for spec in self.session.inputs)
        self._least = least_samples(self.config)

    @property
    def sampling_rate(self) -> int:
        """Samples per second that the model reads; sounds of other rates are resampled."""
        return self.extractor.sampling_rate

    def preprocess(self, inputs: Sounds, options: Any) -> Sequence[Any]:
        """The arrays of each sound."""
        found, total = [], 0
        for index, sound in enumerate(self.sounds(inputs)):
            samples = load_sound(sound, self.sampling_rate, index)
            total += len(samples)
            if index:
                _check_together(total / self.sampling_rate, index)
            found.append(self.prepare(samples, index))
        return found

    def sounds(self, inputs: Sounds) -> list[SoundInput]:
        """A list of sounds, from one sound or several; what is at addresses is fetched if that was asked for.

        Raises:
            InputError: an address cannot be fetched; ``index`` is its place.
        """
        found = as_sounds(inputs)
        return [fetch_sound(sound, index) for index, sound in enumerate(found)] if self.allow_urls else found

    def prepare(self, samples: Samples, index: int = 0) -> PreparedSound:
        """The arrays of one sound, by its samples at :attr:`sampling_rate`.

        Raises:
            InputError: the sound is too short; ``index`` is its place.
        """
        if len(samples) < self._least:
            raise InputError(
                f"sound {index} has {len(samples)} samples, and the model needs {self._least} at least",
                hint=f"It reads {self.sampling_rate} samples per second.",
                index=index,
            )
        try:
            return self.extractor(samples, attention_mask=self._masked)
        except InputError as exc:
            raise InputError(f"sound {index}: {exc.message}", hint=exc.hint, index=index) from exc

    def size(self, prepared: PreparedSound) -> int:
        """Samples of the sound."""
        return prepared.samples

    def forward(self, batch: Sequence[PreparedSound], session: Session) -> Sequence[dict[str, NDArray[Any]]]:
        """The graph's outputs for each sound, by name and without the batch axis."""
        return run_sounds([item.inputs for item in batch], session, self.outputs)


def _check_together(seconds: float, index: int) -> None:
    """Refuse sounds that together are beyond the limit of the process for one, as they are in memory at once.

    Raises:
        InputError: they are; ``index`` is the place of the sound that is too much.
    """
    most = media_limits().seconds
    if most is not None and seconds > most:
        raise InputError(
            f"the sounds up to sound {index} are longer than {most:g} seconds, the most that are read here at once",
            hint="Send several requests.",
            index=index,
        )


def run_sounds(
    batch: Sequence[Mapping[str, NDArray[Any]]],
    session: Session,
    outputs: Sequence[str] | None,
    shared: Mapping[str, NDArray[Any]] | None = None,
) -> list[dict[str, NDArray[Any]]]:
    """The graph's outputs for each sound, by name and without the batch axis; sounds of equal shapes run together.

    Args:
        batch: of each sound, arrays by name of a graph input, without the batch axis.
        session: of the graph.
        outputs: names of those to compute; None: all.
        shared: further inputs, which are the same for all sounds.

    Raises:
        UnsupportedError: the graph needs an input that the feature extractor does not give.
    """
    given = dict(shared or {})
    specs = [spec for spec in session.inputs if spec.name not in given]
    missing = [spec.name for spec in specs if spec.name not in batch[0]]
    if missing:
        raise UnsupportedError(
            f"the graph reads {', '.join(missing)}, which the feature extractor does not give",
            hint="Prepare the arrays yourself and run them with gpux.Graphs.",
        )
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, inputs in enumerate(batch):
        groups.setdefault(tuple(inputs[spec.name].shape for spec in specs), []).append(place)
    found: list[dict[str, NDArray[Any]]] = [{} for _ in batch]
    for places in groups.values():
        stacked = {spec.name: np.stack([batch[place][spec.name] for place in places]) for spec in specs}
        feed = {spec.name: stacked[spec.name].astype(spec.dtype, copy=False) for spec in specs}
        results = session.run(feed | given, None if outputs is None else list(outputs))
        for row, place in enumerate(places):
            found[place] = {name: array[row] for name, array in results.items()}
    return found


def as_sounds(inputs: Any) -> list[Any]:
    """A list of sounds, from one sound or several.

    Raises:
        InputError: neither.
    """
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    single = (str, Path, bytes, bytearray, memoryview, np.ndarray, Mapping)
    if isinstance(inputs, single) or hasattr(inputs, "read") or not isinstance(inputs, Iterable):
        return [inputs]  # what is none is refused where it is opened
    return list(inputs)


def convolutions(config: Mapping[str, Any]) -> tuple[Sequence[int], Sequence[int]] | None:
    """Kernels and strides of the convolutions that read samples; None for a model that reads features."""
    if config.get("model_type") not in _WAVEFORM_TYPES:
        return None
    defaults = _SEW if str(config["model_type"]).startswith("sew") else _CONVOLUTIONS
    kernels, strides = (config.get(name) or defaults[name] for name in ("conv_kernel", "conv_stride"))
    return kernels, strides


def least_samples(config: Mapping[str, Any]) -> int:
    """Samples of the shortest sound that gives one frame; 1 for a model that reads features."""
    least = 1
    for kernel, stride in reversed(list(zip(*(convolutions(config) or ((), ())), strict=True))):
        least = (least - 1) * stride + kernel
    return least


def samples_per_frame(config: Mapping[str, Any]) -> int | None:
    """``inputs_to_logits_ratio`` of transformers' configuration of a model; None where it has none."""
    if found := convolutions(config):
        return math.prod(found[1])
    if config.get("model_type") == "wav2vec2-bert":
        ratio = 2 * int(config.get("feature_projection_input_dim") or 160)
        if config.get("add_adapter"):
            ratio *= int(config.get("adapter_stride") or 2) ** int(config.get("num_adapter_layers") or 1)
        return ratio
    return None
