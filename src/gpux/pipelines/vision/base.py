"""What pipelines of pictures share: opened pictures, the repository's image processor, runs of equal shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.pipelines.batching import BatchBudget
from gpux.processors.image.load import ImageInput, is_image_input, load_image
from gpux.processors.image.processor import PreparedImage, open_image_processor
from gpux.runtime.session import Session

#: One or more pictures.
Images = ImageInput | Iterable[ImageInput]


class ImagePipeline(Pipeline):
    """A pipeline whose graph reads pixel values, and inputs that follow from them.

    Pictures of equal shapes run together; none is padded, so an answer does not depend on the others of its batch.
    """

    budget: ClassVar[BatchBudget] = BatchBudget(cpu_per_thread=4, one_thread=4, device=32)

    def __init__(self, model: StoredModel, **arguments: Any) -> None:  # a subclass names their types
        super().__init__(model, **arguments)
        self.processor = open_image_processor(model)

    def preprocess(self, inputs: Images, options: Any) -> Sequence[Any]:
        """The arrays of each picture."""
        return [self.processor(load_image(image, index)) for index, image in enumerate(as_images(inputs))]

    def forward(self, batch: Sequence[PreparedImage], session: Session) -> Sequence[dict[str, NDArray[Any]]]:
        """The graph's outputs for each picture, by name and without the batch axis."""
        names = [spec.name for spec in session.inputs]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, item in enumerate(batch):
            groups.setdefault(tuple(item.inputs[name].shape for name in names if name in item.inputs), []).append(place)
        found: list[dict[str, NDArray[Any]]] = [{} for _ in batch]
        for places in groups.values():
            feed = {name: np.stack([batch[place].inputs[name] for place in places]) for name in names}
            outputs = session.run(feed, None if self.outputs is None else list(self.outputs))
            for row, place in enumerate(places):
                found[place] = {name: array[row] for name, array in outputs.items()}
        return found


def as_images(inputs: Any) -> list[Any]:
    """A list of pictures, from one picture or an iterable of them.

    Raises:
        InputError: no pictures.
    """
    if is_image_input(inputs):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise InputError(f"a picture is expected, and {type(inputs).__name__} was given")
    return list(inputs)
