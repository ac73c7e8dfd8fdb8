"""What pipelines of places in pictures share: outputs that are read as the class of the image processor says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from PIL import Image

from gpux.errors import InputError, UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.vision.base import ImagePipeline, Images
from gpux.pipelines.vision.boxes import LabelNames
from gpux.processors.image.processor import PreparedImage

PIXELS = "pixel_values"


class LocatingPipeline(ImagePipeline):
    """A pipeline whose answers are places in the picture that came in."""

    def __init__(self, model: StoredModel, **arguments: Any) -> None:  # a subclass names their types
        super().__init__(model, **arguments)
        self.labels = LabelNames(model)

    def preprocess(self, inputs: Images, options: Any) -> Sequence[Any]:
        """The arrays of each picture.

        Raises:
            InputError: the graph reads pictures of one size only, and the image processor prepares a picture in
                another; ``graph_size`` is the height and width that it reads.
        """
        prepared = super().preprocess(inputs, options)
        for index, picture in enumerate(prepared):
            self._check_size(picture, index)
        return prepared

    def _check_size(self, picture: PreparedImage, index: int) -> None:
        shape = next((spec.shape for spec in self.session.inputs if spec.name == PIXELS), ())
        for fixed, side in zip(shape[-2:], picture.size, strict=False):
            if isinstance(fixed, int) and fixed != side:
                height, width = picture.size
                raise InputError(
                    f"picture {index} is prepared as {width} x {height} pixels, and the graph of {self.model.id} reads"
                    f" {shape[-1]} x {shape[-2]} only",
                    hint=self._how_to_fit(shape),
                    index=index,
                    graph_size=list(shape[-2:]),
                )

    def _how_to_fit(self, shape: Sequence[int | str | None]) -> str:
        """How a picture fits a graph of a fixed size, if the image processor prepares any picture in that size."""
        sides = [side if isinstance(side, int) else 0 for side in shape[-2:]]
        if all(sides) and self.processor(Image.new("RGB", (sides[1], sides[0]))).size == tuple(sides):
            return "Cut or pad the picture to the proportions of the graph."
        return "Its image processor prepares no picture in this size: run the graph on arrays with gpux.Session."

    def _check_model(self, known: Collection[str], outputs: Collection[str], inputs: Collection[str] = ()) -> None:
        """Refuse a model that the task cannot read.

        Args:
            known: classes of image processors.
            outputs: of the graph, which the task reads.
            inputs: of the graph, which the task gives; by default those of an image processor.

        Raises:
            UnsupportedError: with the names of the class, of outputs or of inputs.
        """
        model, name = self.model, self.processor.class_name
        if extra := [spec.name for spec in self.session.inputs if spec.name not in (inputs or (PIXELS, "pixel_mask"))]:
            raise UnsupportedError(
                f"the graph of {model.id} reads {', '.join(extra)} too, which {self.task} does not give",
                hint="Run the graph on arrays with gpux.Session.",
                model=model.id,
            )
        if name not in known:
            raise UnsupportedError(
                f"{model.id} has the image processor {name}, and {self.task} knows {', '.join(sorted(known))}",
                hint="Run the graph on arrays with gpux.Session.",
                model=model.id,
            )
        given = [spec.name for spec in self.session.outputs]
        if missing := [output for output in outputs if output not in given]:
            raise UnsupportedError(
                f"the graph of {model.id} gives {', '.join(given)}, and {self.task} needs {', '.join(missing)}",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.task}`.",
                model=model.id,
            )
