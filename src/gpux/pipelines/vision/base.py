"""What pipelines of pictures share: opened pictures, the repository's image processor, runs of equal shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError
from gpux.model.variant import StoredModel, TensorSpec
from gpux.pipelines.base import Kind, OpenOptions, Pipeline
from gpux.pipelines.batching import BatchBudget
from gpux.pipelines.options import Option
from gpux.processors.image.load import ImageInput, is_image_input, load_image, name_errors
from gpux.processors.image.processor import ImageProcessor, PreparedImage, open_image_processor
from gpux.runtime.session import Session

if TYPE_CHECKING:
    from PIL.Image import Image

#: One or more pictures.
Images = ImageInput | Iterable[ImageInput]
PIXELS, _IDS, _MASK = "pixel_values", "input_ids", "attention_mask"

T = TypeVar("T")
R = TypeVar("R")


class ImageOpenOptions(OpenOptions, total=False):
    """How a pipeline of pictures is opened."""

    allow_urls: Annotated[bool, Option("fetch pictures that are given as http or https addresses", default=False)]


class ImagePipeline(Pipeline):
    """A pipeline whose graph reads pixel values, and inputs that follow from them.

    Pictures of equal shapes run together; none is padded, so an answer does not depend on the others of its batch.
    """

    takes: ClassVar[Kind] = "image"
    budget: ClassVar[BatchBudget] = BatchBudget(cpu_per_thread=4, one_thread=4, device=32)

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
        self.processor: ImageProcessor = open_image_processor(model)

    def preprocess(self, inputs: Images, options: Any) -> Sequence[Any]:
        """The arrays of each picture; several are prepared at once."""
        return self.prepared(as_images(inputs), self._prepare)

    def forward(self, batch: Sequence[Any], session: Session) -> Sequence[dict[str, NDArray[Any]]]:
        """The graph's outputs for each picture, by name and without the batch axis."""
        return run_images([item.inputs for item in batch], session, self.outputs)

    def prepared(self, inputs: Sequence[T], prepare: Callable[[T, int], R]) -> list[R]:
        """Prepare each input, by as many threads as the session has: decoding and resizing release Python's lock.

        Args:
            inputs: any number.
            prepare: from an input and its place.
        """
        if len(inputs) < 2 or self.session.threads < 2:
            return [prepare(item, index) for index, item in enumerate(inputs)]
        with ThreadPoolExecutor(min(self.session.threads, len(inputs))) as pool:
            return list(pool.map(prepare, inputs, range(len(inputs))))

    def open_image(self, image: ImageInput, index: int = 0) -> Image:
        """A picture in RGB; see :func:`gpux.processors.image.load.load_image`."""
        return load_image(image, index, allow_urls=self.allow_urls)

    def _prepare(self, image: ImageInput, index: int) -> PreparedImage:
        with name_errors(image, index):
            return self.processor(self.open_image(image, index))

    def _score_output(self, rank: int = 2) -> str:
        """The output named logits, else the only one with floats of this rank.

        Raises:
            UnsupportedError: the graph has no such output, or several.
        """
        fitting = [spec.name for spec in self.session.outputs if len(spec.shape) == rank and "float" in spec.dtype]
        if "logits" in fitting:
            return "logits"
        if len(fitting) == 1:
            return fitting[0]
        raise UnsupportedError(
            f"the graph of {self.model.id} gives {', '.join(spec.name for spec in self.session.outputs)}, and "
            f"{self.task} needs scores: an output of rank {rank} named logits",
            hint=f"Convert the original weights with `gpux convert {self.model.id} --task {self.task}`.",
            model=self.model.id,
        )


def run_images(
    batch: Sequence[Mapping[str, NDArray[Any]]],
    session: Session,
    outputs: Sequence[str] | None,
    *,
    shared: Mapping[str, NDArray[Any]] | None = None,
) -> list[dict[str, NDArray[Any]]]:
    """The graph's outputs for each picture, by name and without the batch axis.

    A graph with another name for its only input reads the pixel values there. One with a fixed number of pictures is
    given as many.

    Args:
        batch: of each picture, arrays by name of a graph input, without the batch axis.
        session: of the graph.
        outputs: names of those to compute; None: all.
        shared: further inputs, which are the same for all pictures.

    Raises:
        UnsupportedError: the graph needs an input that the image processor does not give.
    """
    given = shared or {}
    if any(spec.name == _MASK for spec in session.inputs) and batch and {_IDS, _MASK} & batch[0].keys() == {_IDS}:
        batch = [{**item, _MASK: np.ones_like(item[_IDS])} for item in batch]  # of imagegpt: all pixels count
    names = _sources([spec for spec in session.inputs if spec.name not in given], batch[0]) if batch else {}
    dtypes = {spec.name: spec.dtype for spec in session.inputs}
    fixed, most = _rows(session, names)
    found: list[dict[str, NDArray[Any]]] = [{} for _ in batch]
    for places in together(batch, list(names.values()), most):
        rows = [*places, *[places[0]] * (fixed - len(places))]  # a fixed batch is filled up with its first picture
        feed = {name: stacked([batch[place][source] for place in rows], dtypes[name]) for name, source in names.items()}
        computed = session.run({**feed, **given}, None if outputs is None else list(outputs))
        for row, place in enumerate(places):
            found[place] = {name: array[row] for name, array in computed.items()}
    return found


def stacked(arrays: Sequence[NDArray[Any]], dtype: str) -> NDArray[Any]:
    """The arrays of several pictures as one, in the dtype of a graph's input: some processors give masks as floats."""
    found = arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
    whole = np.issubdtype(np.dtype(dtype), np.integer) and found.dtype.kind == "f"
    return found.astype(dtype) if whole else found


def _sources(inputs: Sequence[TensorSpec], given: Mapping[str, Any]) -> dict[str, str]:
    """Graph input -> the array of a prepared picture that it reads."""
    needed = [spec.name for spec in inputs]
    if len(needed) == 1 and needed[0] not in given:
        only = PIXELS if PIXELS in given else next(iter(given))
        return {needed[0]: only}
    if missing := [name for name in needed if name not in given]:
        raise UnsupportedError(
            f"the graph needs {', '.join(missing)}, which a picture does not give",
            hint="Run the graph yourself with gpux.Session.",
        )
    return {name: name for name in needed}


def _rows(session: Session, names: Mapping[str, str]) -> tuple[int, int | None]:
    """Pictures of every run of a graph with a fixed batch, else 0; and pictures of a run at most."""
    declared = [spec.shape[0] for spec in session.inputs if spec.name in names and spec.shape]
    fixed = max((size for size in declared if isinstance(size, int)), default=0)
    limits = [session.limits[name][0] for name in names if 0 in session.limits.get(name, {})]
    return fixed, min([*limits, *([fixed] if fixed else [])], default=None)


def together(
    batch: Sequence[Mapping[str, NDArray[Any]]], sources: Sequence[str], most: int | None
) -> Iterator[list[int]]:
    """The places of the pictures that one run may take: of equal shapes."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, item in enumerate(batch):
        groups.setdefault(tuple(item[source].shape for source in sources), []).append(place)
    for places in groups.values():
        size = most or len(places)
        yield from (places[start : start + size] for start in range(0, len(places), size))


def as_images(inputs: Any) -> list[Any]:
    """A list of pictures, from one picture or an iterable of them; each is checked where it is opened.

    Raises:
        InputError: neither a picture nor an iterable.
    """
    if is_image_input(inputs):
        return [inputs]
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
        raise InputError(
            f"a picture is expected, and {type(inputs).__name__} was given",
            hint="Give a path, the bytes of a file, a PIL image or an array.",
        )
    return list(inputs)
