"""Open a model: the stored variant, pulled first if it is not stored, and the pipeline of its task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack, overload

from gpux.errors import UnsupportedTaskError, UsageError
from gpux.model.precisions import AUTO, known_precision
from gpux.model.reference import ModelRef, Reference, whole_model
from gpux.model.tasks import canonical, translation_pair
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.pipelines.registry import check_reads, pipeline_class, pipeline_of
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings

if TYPE_CHECKING:  # a pipeline's module is loaded by its entry point, when its task is opened
    from gpux.pipelines.audio.audio_classification import AudioClassificationArguments, AudioClassificationPipeline
    from gpux.pipelines.audio.audio_feature_extraction import AudioFeatureExtractionPipeline, VectorArguments
    from gpux.pipelines.audio.audio_frame_classification import (
        AudioFrameClassificationArguments,
        AudioFrameClassificationPipeline,
    )
    from gpux.pipelines.audio.audio_xvector import AudioXVectorPipeline
    from gpux.pipelines.audio.speech import AutomaticSpeechRecognitionArguments
    from gpux.pipelines.audio.speech_recognition import AutomaticSpeechRecognitionPipeline
    from gpux.pipelines.audio.zero_shot_audio_classification import (
        ZeroShotAudioClassificationArguments,
        ZeroShotAudioClassificationPipeline,
    )
    from gpux.pipelines.generation.options import (
        Text2TextGenerationArguments,
        TextGenerationArguments,
        TranslationArguments,
    )
    from gpux.pipelines.generation.text2text_generation import (
        SummarizationPipeline,
        Text2TextGenerationPipeline,
        TranslationPipeline,
    )
    from gpux.pipelines.generation.text_generation import TextGenerationPipeline
    from gpux.pipelines.text.feature_extraction import FeatureExtractionArguments, FeatureExtractionPipeline
    from gpux.pipelines.text.fill_mask import FillMaskArguments, FillMaskPipeline
    from gpux.pipelines.text.late_interaction import LateInteractionArguments, LateInteractionPipeline
    from gpux.pipelines.text.question_answering import QuestionAnsweringArguments, QuestionAnsweringPipeline
    from gpux.pipelines.text.sentence_similarity import SentenceSimilarityArguments, SentenceSimilarityPipeline
    from gpux.pipelines.text.sparse_embedding import SparseEmbeddingArguments, SparseEmbeddingPipeline
    from gpux.pipelines.text.text_classification import TextClassificationArguments, TextClassificationPipeline
    from gpux.pipelines.text.text_ranking import TextRankingArguments, TextRankingPipeline
    from gpux.pipelines.text.token_classification import TokenClassificationArguments, TokenClassificationPipeline
    from gpux.pipelines.text.zero_shot_classification import (
        ZeroShotClassificationArguments,
        ZeroShotClassificationPipeline,
    )
    from gpux.pipelines.vision.depth_estimation import DepthEstimationArguments, DepthEstimationPipeline
    from gpux.pipelines.vision.image_classification import ImageClassificationArguments, ImageClassificationPipeline
    from gpux.pipelines.vision.image_feature_extraction import (
        ImageFeatureExtractionArguments,
        ImageFeatureExtractionPipeline,
    )
    from gpux.pipelines.vision.image_segmentation import ImageSegmentationArguments, ImageSegmentationPipeline
    from gpux.pipelines.vision.image_to_image import ImageToImageArguments, ImageToImagePipeline
    from gpux.pipelines.vision.image_to_text import ImageToTextArguments, ImageToTextPipeline
    from gpux.pipelines.vision.keypoint_detection import KeypointDetectionArguments, KeypointDetectionPipeline
    from gpux.pipelines.vision.mask_generation import MaskGenerationArguments, MaskGenerationPipeline
    from gpux.pipelines.vision.object_detection import ObjectDetectionArguments, ObjectDetectionPipeline
    from gpux.pipelines.vision.video_classification import VideoClassificationArguments, VideoClassificationPipeline
    from gpux.pipelines.vision.zero_shot_image_classification import (
        ZeroShotImageClassificationArguments,
        ZeroShotImageClassificationPipeline,
    )
    from gpux.pipelines.vision.zero_shot_object_detection import (
        ZeroShotObjectDetectionArguments,
        ZeroShotObjectDetectionPipeline,
    )

Model: TypeAlias = StoredModel | ModelRef | str | Path

# The names of each task and its aliases, for type checkers; :data:`gpux.model.tasks.ALIASES` holds them at run time.
FeatureExtraction = Literal[
    "feature-extraction",
    "embedding",
    "embeddings",
    "sentence-embedding",
    "sentence-embeddings",
]
AutomaticSpeechRecognition = Literal["automatic-speech-recognition", "asr", "speech-to-text", "speech-recognition"]
FillMask = Literal["fill-mask", "masked-lm"]
TextClassification = Literal["text-classification", "sentiment-analysis", "sequence-classification"]
TokenClassification = Literal["token-classification", "ner", "named-entity-recognition"]
ImageToText = Literal["image-to-text", "image-captioning", "vision2seq"]
TextGeneration = Literal["text-generation", "causal-lm", "conversational"]
ImageSegmentation = Literal[
    "image-segmentation", "semantic-segmentation", "instance-segmentation", "panoptic-segmentation"
]
Text2TextGeneration = Literal["text2text-generation", "text2text", "seq2seq-lm"]


def open_model(
    ref: Reference,
    *,
    revision: str | None = None,
    task: str | None = None,
    precision: str | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> StoredModel:
    """The stored model of a reference, without any request; pulled if it is not stored.

    A branch stands for the commit that it had at the last pull; ``pull_model`` looks for a newer one. The files of a
    local folder are read each time. A reference without a precision stands for the most exact variant that is stored,
    or for the one that ``gpux pin --default`` chose; of a model that is not stored, fp32 is pulled.

    Args:
        ref: any form that :meth:`ModelRef.parse` accepts.
        revision: branch, tag, ``refs/pr/N`` or commit.
        task: the Hub's name of a task or an alias; by default the model's own.
        precision: as in a reference: ``int8``, ``q4`` … or ``auto``, which costs one request.
        settings: by default the environment's.
        store: by default the one of the settings.
        progress: as for :func:`gpux.pull_model`.
        cancel: set it to end a pull with ``CancelledError``.

    Raises:
        UsageError: there is no such precision, or the reference names another one.
        GpuxError: what :func:`gpux.pull_model` raises, for a model that is not stored.
    """
    settings = settings or Settings.from_env()
    kept = store or Store(settings.store)
    parsed = whole_model(ModelRef.parse(ref).at(revision).in_precision(precision))
    found = None
    if parsed.precision != AUTO:
        found = kept.find_ref(parsed, task=canonical(task) if task else None)
    if found is not None and parsed.scheme != "local":
        kept.touch(found)
        return found
    from gpux.pull.api import pull_model  # here, since a stored model is opened without what a pull needs

    if found is not None:  # of a folder whose files may have changed since
        parsed = parsed.in_precision(found.manifest.precision)
    return pull_model(parsed, task=task, settings=settings, store=kept, progress=progress, cancel=cancel)


@overload
def pipeline(
    task: FeatureExtraction,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[FeatureExtractionArguments],
) -> FeatureExtractionPipeline: ...
@overload
def pipeline(
    task: FillMask,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[FillMaskArguments],
) -> FillMaskPipeline: ...
@overload
def pipeline(
    task: TextClassification,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[TextClassificationArguments],
) -> TextClassificationPipeline: ...
@overload
def pipeline(
    task: AutomaticSpeechRecognition,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[AutomaticSpeechRecognitionArguments],
) -> AutomaticSpeechRecognitionPipeline: ...
@overload
def pipeline(
    task: Literal["audio-classification"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[AudioClassificationArguments],
) -> AudioClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["audio-feature-extraction"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[VectorArguments],
) -> AudioFeatureExtractionPipeline: ...
@overload
def pipeline(
    task: Literal["audio-frame-classification"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[AudioFrameClassificationArguments],
) -> AudioFrameClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["audio-xvector"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[VectorArguments],
) -> AudioXVectorPipeline: ...
@overload
def pipeline(
    task: Literal["zero-shot-audio-classification"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ZeroShotAudioClassificationArguments],
) -> ZeroShotAudioClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["image-classification"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ImageClassificationArguments],
) -> ImageClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["video-classification"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[VideoClassificationArguments],
) -> VideoClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["zero-shot-image-classification"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ZeroShotImageClassificationArguments],
) -> ZeroShotImageClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["image-feature-extraction"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ImageFeatureExtractionArguments],
) -> ImageFeatureExtractionPipeline: ...
@overload
def pipeline(
    task: Literal["image-to-image"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ImageToImageArguments],
) -> ImageToImagePipeline: ...
@overload
def pipeline(
    task: ImageToText,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ImageToTextArguments],
) -> ImageToTextPipeline: ...
@overload
def pipeline(
    task: Literal["object-detection"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ObjectDetectionArguments],
) -> ObjectDetectionPipeline: ...
@overload
def pipeline(
    task: ImageSegmentation,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ImageSegmentationArguments],
) -> ImageSegmentationPipeline: ...
@overload
def pipeline(
    task: Literal["depth-estimation"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[DepthEstimationArguments],
) -> DepthEstimationPipeline: ...
@overload
def pipeline(
    task: Literal["zero-shot-object-detection"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ZeroShotObjectDetectionArguments],
) -> ZeroShotObjectDetectionPipeline: ...
@overload
def pipeline(
    task: Literal["keypoint-detection"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[KeypointDetectionArguments],
) -> KeypointDetectionPipeline: ...
@overload
def pipeline(
    task: Literal["mask-generation"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[MaskGenerationArguments],
) -> MaskGenerationPipeline: ...
@overload
def pipeline(
    task: Literal["question-answering"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[QuestionAnsweringArguments],
) -> QuestionAnsweringPipeline: ...
@overload
def pipeline(
    task: TokenClassification,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[TokenClassificationArguments],
) -> TokenClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["zero-shot-classification"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[ZeroShotClassificationArguments],
) -> ZeroShotClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["sentence-similarity"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[SentenceSimilarityArguments],
) -> SentenceSimilarityPipeline: ...
@overload
def pipeline(
    task: Literal["sparse-embedding"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[SparseEmbeddingArguments],
) -> SparseEmbeddingPipeline: ...
@overload
def pipeline(
    task: Literal["text-ranking"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[TextRankingArguments],
) -> TextRankingPipeline: ...
@overload
def pipeline(
    task: Literal["late-interaction"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[LateInteractionArguments],
) -> LateInteractionPipeline: ...
@overload
def pipeline(
    task: TextGeneration,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[TextGenerationArguments],
) -> TextGenerationPipeline: ...
@overload
def pipeline(
    task: Text2TextGeneration,
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[Text2TextGenerationArguments],
) -> Text2TextGenerationPipeline: ...
@overload
def pipeline(
    task: Literal["summarization"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[Text2TextGenerationArguments],
) -> SummarizationPipeline: ...
@overload
def pipeline(
    task: Literal["translation"],
    model: Model,
    *,
    revision: str | None = None,
    precision: str | None = None,
    **options: Unpack[TranslationArguments],
) -> TranslationPipeline: ...
@overload
def pipeline(
    task: str | None,
    model: Model,
    *,
    device: str | int = "auto",
    revision: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    spinning: bool | None = None,
    allow_cpu_nodes: bool = False,
    settings: Settings | None = None,
    **options: Any,
) -> Pipeline: ...
@overload
def pipeline(
    *,
    model: Model,
    device: str | int = "auto",
    revision: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    spinning: bool | None = None,
    allow_cpu_nodes: bool = False,
    settings: Settings | None = None,
    **options: Any,
) -> Pipeline: ...
def pipeline(
    task: str | None = None,
    model: Model | None = None,
    *,
    device: str | int = "auto",
    revision: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    spinning: bool | None = None,
    allow_cpu_nodes: bool = False,
    settings: Settings | None = None,
    **options: Any,
) -> Pipeline:
    """Open a model for a task; it is pulled first if it is not stored.

    >>> pipeline("feature-extraction", model="sentence-transformers/all-MiniLM-L6-v2")("hello")

    The type of the result follows from a literal task, so that type checkers know ``.encode``, ``.stream`` and the
    options of each task.

    Args:
        task: the Hub's name of a task, or an alias; by default the model's own. ``translation_en_to_de`` follows the
            model's settings for that pair of languages.
        model: a stored model, or a reference.
        device: ``auto``, a short name (``cuda``, ``cuda:1``, ``coreml`` …), an execution provider's full name, or a
            number as in transformers (0 is ``cuda:0``, -1 is ``cpu``).
        revision: branch, tag or commit of a reference.
        precision: of a reference, as in ``org/name:int8``; ``auto`` chooses one for the device. By default the most
            exact variant that is stored, or the one that ``gpux pin --default`` chose.
        threads: threads of one run; by default, the cores that this process may use.
        spinning: let waiting threads spin on their core; the default depends on the task.
        allow_cpu_nodes: accept that a device requested by name runs some nodes of the graph on the CPU.
        settings: folders, token and switches; by default from the environment.
        options: defaults for the calls of the pipeline; the pipeline class lists them, see ``Pipeline.options()``.

    Raises:
        UnsupportedTaskError: no pipeline for the task, or the model is stored for another one.
        UsageError: an unknown option or precision, no model, or a stored model of another precision.
        CorruptFileError: a file of the stored model is missing.
        DeviceError: the device is not available.
    """
    if model is None:
        raise UsageError("no model was given", hint='pipeline("feature-extraction", model="org/name")')
    kind = None if task is None else pipeline_class(task)  # an unknown task is refused before anything is pulled
    wanted = None if kind is None else kind.model_task
    if not isinstance(model, StoredModel):
        model = open_model(model, task=wanted, revision=revision, precision=precision, settings=settings)
    elif precision is not None and known_precision(precision) not in (AUTO, model.manifest.precision):
        raise UsageError(
            f"{model.id} is stored in {model.manifest.precision} here, not in {precision}",
            hint=f'Name the model in place of the stored variant: model="{model.id}:{known_precision(precision)}".',
        )
    stored = canonical(model.task)
    if wanted not in (None, stored):
        raise UnsupportedTaskError(
            f"{model.id} is stored for {stored}, not for {wanted}",
            hint=f"Run `gpux pull {model.id} --task {wanted}`.",
        )
    if kind is not None:
        check_reads(kind, model)
    if task is not None and (pair := translation_pair(task)):
        options = {"pair": pair, **options}
    return (kind or pipeline_of(model))(
        model,
        device=device,
        threads=threads,
        spinning=spinning,
        allow_cpu_nodes=allow_cpu_nodes,
        settings=settings,
        **options,
    )
