"""Texts that models write about pictures, as ``transformers.pipeline("image-to-text")`` of 4.57 gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Unpack

from numpy.typing import NDArray

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Kind
from gpux.pipelines.generation.base import Call, GenerationPipeline, Prompt
from gpux.pipelines.generation.options import GenerationCallOptions
from gpux.pipelines.generation.streaming import AsyncTextStreamer, TextStreamer
from gpux.pipelines.options import Option
from gpux.pipelines.vision.base import ImageOpenOptions, Images, as_images, stacked, together
from gpux.processors.image.load import ImageInput, is_image_input, load_image, name_errors
from gpux.processors.image.processor import ImageProcessor, open_image_processor
from gpux.runtime.generation.engine.encoder_decoder import EncoderDecoder
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.engine.uncached import UncachedState
from gpux.runtime.generation.options import GenerationOptions, option_names
from gpux.runtime.generation.results import Generation
from gpux.system.cancel import CancelToken

_ENCODER, _DECODER, _WITH_PAST = "encoder", "decoder", "decoder_with_past"
_KEY = "generated_text"
#: Places of a picture in the encoder's output, for an estimate of memory where the graph does not state them.
_PLACES = 577


class ImageToTextOptions(GenerationCallOptions, total=False):
    """Options of image-to-text."""

    prompt: Annotated[str | None, Option("the beginning of the text, or a question in the form of the model")]
    generate_kwargs: Annotated[Mapping[str, Any] | None, Option("generation options in a dict, as in transformers")]


class ImageToTextArguments(ImageToTextOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`ImageToTextPipeline`."""


@dataclass(frozen=True)
class _Pictured(Prompt):
    """The first tokens of the text, and what the graph reads of the picture."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class ImageToTextPipeline(GenerationPipeline):
    """Captions of pictures, and the text that is written in them.

    >>> read = ImageToTextPipeline(model)
    >>> read("cat.jpg")
    [{'generated_text': 'a cat on a sofa'}]
    """

    task: ClassVar[str] = "image-to-text"
    takes: ClassVar[Kind] = "image"
    window: ClassVar[int | None] = None
    call_options: ClassVar[type] = ImageToTextOptions
    encoder_decoder: ClassVar[bool] = True
    beams: ClassVar[int | None] = None

    def __init__(self, model: StoredModel, **arguments: Unpack[ImageToTextArguments]) -> None:
        self._text_config: Mapping[str, Any] = model.read_json("config.json").get("text_config") or {}
        opening: dict[str, Any] = dict(arguments)
        self.allow_urls = bool(opening.pop("allow_urls", False))
        super().__init__(model, **opening)
        self._arguments = {**self._arguments, "allow_urls": self.allow_urls}
        self.processor: ImageProcessor = open_image_processor(model)
        names = self.graphs.names
        self._model: EncoderDecoder | None = None
        if _ENCODER in names and _DECODER in names:
            with_past = self.graphs.session(_WITH_PAST) if _WITH_PAST in names else None
            self._model = EncoderDecoder(self.graphs.session(_ENCODER), self.graphs.session(_DECODER), with_past)
        elif not {"input_ids", "pixel_values"} <= {spec.name for spec in self.session.inputs}:
            raise UnsupportedError(
                f"{model.id} has the graphs {', '.join(names)}, and its task needs an encoder and a decoder",
                hint="Convert it again with `gpux pull --force`.",
            )

    def __call__(
        self,
        inputs: Images,
        *,
        stream: bool = False,
        cancel: CancelToken | None = None,
        **options: Unpack[ImageToTextOptions],
    ) -> Any:
        """Write a text about each picture.

        Args:
            inputs: a picture (path, bytes, PIL image, or uint8 array [height, width, channels]), or several.
            stream: return the text of one picture as a stream, see :meth:`stream`.
            cancel: ends the texts after the token that is being computed.
            options: see :class:`ImageToTextOptions`.

        Returns:
            ``[{"generated_text": str}]``, one for each of ``num_return_sequences``; a list of such lists for several
            pictures.

        Raises:
            InputError: an input cannot be read as a picture; ``index`` is its place.
            CacheMemoryError, NumericError, UsageError: see :meth:`generate`.
        """
        if stream:
            return self._stream(inputs, options, cancel)
        items = as_images(inputs)
        call = self._call(options, cancel)
        prompts = self.preprocess(items, call)
        answers = [
            [{_KEY: self._text(prompt, one)} for one in written]
            for prompt, written in zip(prompts, self._write_all(prompts, call), strict=True)
        ]
        return answers[0] if is_image_input(inputs) else answers

    def generate(
        self, inputs: Sequence[Any], *, cancel: CancelToken | None = None, **options: Unpack[ImageToTextOptions]
    ) -> list[tuple[Generation, ...]]:
        """See :meth:`GenerationPipeline.generate`; with the options of this task."""
        return self._generate(inputs, options, cancel)

    def stream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[ImageToTextOptions]
    ) -> TextStreamer:
        """See :meth:`GenerationPipeline.stream`; with the options of this task."""
        return self._stream(item, options, cancel)

    def astream(
        self, item: Any, *, cancel: CancelToken | None = None, **options: Unpack[ImageToTextOptions]
    ) -> AsyncTextStreamer:
        """As :meth:`stream`, for ``async for``."""
        return AsyncTextStreamer(self._stream(item, options, cancel))

    def preprocess(self, inputs: Sequence[Any], options: Call) -> list[Prompt]:
        """The arrays of each picture, and the tokens that its text begins with."""
        return [self._pictured(item, index, options) for index, item in enumerate(inputs)]

    def _prompt(self, item: Any, call: Call) -> Prompt:
        return self._pictured(item, 0, call)

    def _pictured(self, item: ImageInput, index: int, call: Call) -> Prompt:
        with name_errors(item, index):
            arrays = self.processor(load_image(item, index, allow_urls=self.allow_urls)).inputs
        text = call.chosen.get("prompt")
        if text is not None and not isinstance(text, str):
            raise UsageError(f"prompt is {text!r}, and must be a text", hint="Give one text for all pictures.")
        begun = self._begin(text, call.options)
        before = begun if text else ()
        return _Pictured((), begun, before, arrays=arrays)

    def _begin(self, text: str | None, options: GenerationOptions) -> tuple[int, ...]:
        """The tokens that the answer continues."""
        if self._model is None:  # BLIP: the tokenizer's first token is replaced, and its last one left out
            ids = self.tokenizer.ids(text)[1:-1] if text else []
            return (self._token("bos_token_id"), *ids)
        start = options.decoder_start_token_id
        start = self._published.bos_token_id if start is None else start
        if start is None:
            raise UnsupportedError(
                f"the configuration of {self.model.id} has no decoder_start_token_id",
                hint="Give decoder_start_token_id=.",
            )
        ids = self.tokenizer.ids(text, add_special_tokens=False) if text else []
        return (start, *(ids[1:] if ids[:1] == [start] else ids))

    def _token(self, name: str) -> int:
        found = self._text_config.get(name)
        if not isinstance(found, int):
            raise UnsupportedError(f"the configuration of {self.model.id} has no text_config.{name}")
        return found

    def _text(self, prompt: Prompt, written: Generation) -> str:
        """The text with its prompt, decoded as a whole, as transformers does; up to a stop text."""
        if written.finish_reason == "stop" and written.stopped_by is not None:
            begun = self.tokenizer.decode(prompt.before, skip_special_tokens=True) if prompt.before else ""
            return begun + written.text
        return self.tokenizer.decode((*prompt.begun, *written.tokens), skip_special_tokens=True)

    def _call(self, options: Mapping[str, Any], cancel: CancelToken | None) -> Call:
        inner = options.get("generate_kwargs", self._options.get("generate_kwargs")) or {}
        unknown = sorted(set(inner) - set(option_names()))
        twice = sorted(set(inner) & set(options))
        if unknown or twice:
            what = f"has no option {', '.join(unknown)}" if unknown else f"repeats {', '.join(twice)}"
            raise UsageError(f"generate_kwargs {what}", hint="Give each generation option once.")
        return super()._call({**options, **inner}, cancel)

    def _generation_options(self, options: Mapping[str, Any]) -> GenerationOptions:
        """BLIP ends a text with its separator."""
        found = super()._generation_options(options)
        end = self._text_config.get("sep_token_id") if self._config.get("model_type") == "blip" else None
        given = any(options.get(name) is not None for name in ("eos_token_ids", "eos_token_id"))
        return found if end is None or given else found.with_options(eos_token_id=end)

    @contextmanager
    def _state(self, prompts: Sequence[Prompt], call: Call) -> Iterator[State]:
        session = self.session if self._model is None else self._model.encoder
        arrays = [prompt.arrays for prompt in prompts if isinstance(prompt, _Pictured)]
        names = [spec.name for spec in session.inputs if spec.name in arrays[0]]
        missing = [spec.name for spec in session.inputs if spec.name not in (*names, "input_ids", "attention_mask")]
        if missing:
            raise InputError(f"the graph needs {', '.join(missing)}, which a picture does not give")
        dtypes = {spec.name: spec.dtype for spec in session.inputs}
        inputs = {name: stacked([one[name] for one in arrays], dtypes[name]) for name in names}
        state: State
        if self._model is None:
            state = UncachedState(session, inputs, self._limit)
        else:
            state = self._model.open(inputs, call.options.max_new_tokens)
        try:
            yield state
        finally:
            state.close()

    def _batches(self, prompts: Sequence[Prompt], call: Call) -> list[list[int]]:
        """The pictures of each batch: of equal shapes."""
        arrays = [prompt.arrays if isinstance(prompt, _Pictured) else {} for prompt in prompts]
        names = list(arrays[0]) if arrays else []
        return [
            [batch[place] for place in places]
            for batch in super()._batches(prompts, call)
            for places in together([arrays[index] for index in batch], names, None)
        ]

    def _row_bytes(self, prompt: Prompt, room: int) -> int:
        if self._model is None:
            return 0
        shape = self._model.encoder.outputs[0].shape
        places = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else _PLACES
        kept = sum(tensor.nbytes(1, places) for tensor in self._model.kept)
        return kept + self._model.bytes_per_token() * room

    def _check_length(self, prompt: Prompt) -> None:
        """Nothing to check: the state refuses a prompt that leaves no room."""

    @property
    def _limit(self) -> int | None:
        """Tokens of a graph without a cache."""
        found = self.session.limits.get("input_ids", {}).get(1, self._text_config.get("max_position_embeddings"))
        return found if isinstance(found, int) else None

    @property
    def _most_rows(self) -> int | None:
        if self._model is not None:
            return self._model.most_rows
        return self.session.limits.get("pixel_values", {}).get(0)
