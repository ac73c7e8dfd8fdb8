"""Labels of videos, as ``transformers.pipeline("video-classification")`` of 4.57 answers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, Kind, check_positive
from gpux.pipelines.batching import BatchBudget
from gpux.pipelines.labels import check_width, find_function, read_labels
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.vision.base import ImageOpenOptions, ImagePipeline
from gpux.processors.image.load import ImageInput, is_image_input, load_frames, name_errors
from gpux.processors.image.prepared import PreparedImage
from gpux.processors.image.standard import StandardProcessor

#: An animated file (GIF, WebP, PNG), an array [frames, height, width, 3], or pictures one after the other.
Video: TypeAlias = ImageInput | Sequence[ImageInput]
Videos: TypeAlias = Video | Iterable[Video]

_TOP_K = 5


class VideoClassificationOptions(CallOptions, total=False):
    """Options of video-classification."""

    top_k: Annotated[int | None, Option("labels in an answer", default=_TOP_K)]
    function_to_apply: Annotated[
        Literal["softmax", "sigmoid", "none"] | None, Option("from logits to scores", default="softmax")
    ]
    num_frames: Annotated[int | None, Option("frames that the model reads; by default those of its configuration")]
    frame_sampling_rate: Annotated[int, Option("use every first, second, third … frame from the start", default=1)]


class VideoClassificationArguments(VideoClassificationOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`VideoClassificationPipeline`."""


class VideoClassificationPipeline(ImagePipeline):
    """Labels with scores for videos, which are given as frames.

    >>> classify = VideoClassificationPipeline(model)
    >>> classify("dance.gif", top_k=1)
    [{'label': 'dancing', 'score': 0.97}]
    """

    task: ClassVar[str] = "video-classification"
    takes: ClassVar[Kind] = "video"
    call_options: ClassVar[type] = VideoClassificationOptions
    budget: ClassVar[BatchBudget] = BatchBudget(cpu_per_thread=1, one_thread=1, device=4)

    def __init__(self, model: StoredModel, **arguments: Unpack[VideoClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        config = model.read_json("config.json")
        self.frames = config.get("num_frames")  #: of a video, for the model
        self.labels = read_labels(config)  #: in the order of the scores
        logits = self._score_output()
        self.outputs = (logits,)
        check_width(model.id, next(spec for spec in self.session.outputs if spec.name == logits), len(self.labels))
        if not isinstance(self.processor, StandardProcessor):
            raise UnsupportedError(
                f"{model.id} has the image processor {self.processor.class_name}, which does not take frames",
                hint="Convert a model whose processor takes videos, such as VideoMAE, TimeSformer or ViViT.",
                model=model.id,
            )

    def __call__(self, inputs: Videos, **options: Unpack[VideoClassificationOptions]) -> Any:
        """Labels, best first, with their scores.

        Args:
            inputs: a video, or several. A video is an animated file (GIF, WebP, PNG), an array [frames, height, width,
                3], or a list of PIL images or arrays, which are its frames. Containers such as mp4 are not decoded.
            options: see :class:`VideoClassificationOptions`.

        Returns:
            ``[{"label": str, "score": float}]``, and a list of such lists for several videos.

        Raises:
            InputError: an input cannot be read, or has fewer frames than the model reads; ``index`` is its place.
            UsageError: an unknown option, an invalid one, or a model that does not say how many frames it reads.
        """
        if _is_video(inputs):
            return super().__call__([inputs], **options)[0]
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the numbers and look the function up."""
        check_positive(**{name: options.get(name) for name in ("top_k", "num_frames", "frame_sampling_rate")})
        frames = options.get("num_frames") or self.frames
        if not frames:
            raise UsageError(
                f"the configuration of {self.model.id} does not say how many frames it reads",
                hint="Pass num_frames=16, or as many as it was trained with.",
            )
        function = find_function(options.get("function_to_apply"), "softmax")
        return {**options, "num_frames": frames, "function": function}

    def preprocess(self, inputs: Any, options: Any) -> Sequence[PreparedImage]:
        """The arrays of each video: frames [frames, 3, height, width]."""
        count, rate = options["num_frames"], options.get("frame_sampling_rate") or 1
        places = np.linspace(0, count * rate - 1, num=count, dtype=np.int64).tolist()
        assert isinstance(self.processor, StandardProcessor)
        together = self.processor.together

        def prepare(video: Any, index: int) -> PreparedImage:
            frames = load_frames(video, places=places, index=index)
            with name_errors(video, index):
                return together(frames)

        return self.prepared(inputs, prepare)

    def postprocess(self, prepared: PreparedImage, output: Mapping[str, NDArray[Any]], options: Any) -> Any:
        """The best labels, from the logits [labels]."""
        (logits,) = output.values()
        scores = options["function"](logits.astype(np.float32, copy=False))
        best = np.argsort(-scores, kind="stable")[: options.get("top_k") or _TOP_K]
        return [{"label": self.labels[int(index)], "score": float(scores[index])} for index in best]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each label."""
        return [AnswerRow(entry["label"], entry["score"]) for entry in answer]


def _is_video(inputs: Any) -> bool:
    """Whether inputs are one video: a file, an array, or the pictures of one."""
    if is_image_input(inputs):
        return True
    if not isinstance(inputs, Sequence) or not inputs:
        return False
    return all(is_image_input(item) and not _may_move(item) for item in inputs)


def _may_move(item: Any) -> bool:
    """Whether an input may be a video of its own."""
    if isinstance(item, np.ndarray):
        return item.ndim == 4
    return isinstance(item, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(item, "read")
