"""The image processor of a repository, by the class that its files name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.processors.image import detection, documents, keypoints, patches, sizes, standard, tiles
from gpux.processors.image.prepared import ImageProcessor, PreparedImage
from gpux.processors.image.settings import class_table, resolve_settings

__all__ = ["ImageProcessor", "PreparedImage", "make_image_processor", "open_image_processor", "processor_classes"]


def open_image_processor(model: StoredModel) -> ImageProcessor:
    """The image processor that the files of a variant name.

    The class stands in ``preprocessor_config.json``, in ``processor_config.json`` (transformers 5) or follows from the
    ``model_type`` in ``config.json``, in this order, as in ``AutoImageProcessor``.

    Raises:
        UnsupportedError: the files name no class, or one that gpux does not have.
    """
    found: Mapping[str, Any] = model.read_json("preprocessor_config.json") or model.read_json("processor_config.json")
    nested = found.get("image_processor")
    found = nested if isinstance(nested, Mapping) else found
    name = found.get("image_processor_type")
    if name is None and found.get("feature_extractor_type"):
        name = str(found["feature_extractor_type"]).replace("FeatureExtractor", "ImageProcessor")
    if name is None:
        config = model.read_json("config.json")
        name = config.get("image_processor_type")
        name = class_table()["model_types"].get(config.get("model_type")) if name is None else name
    if not found or name is None:
        raise UnsupportedError(
            f"{model.id} has no preprocessor_config.json that says how its pictures are prepared",
            hint="Add the preprocessor_config.json of the model it was trained from, and pull it again; or prepare the "
            "arrays yourself and run them with gpux.Graphs.",
            model=model.id,
        )
    try:
        return make_image_processor(str(name), found)
    except UnsupportedError as exc:
        exc.details.setdefault("model", model.id)
        raise


def make_image_processor(name: str, found: Mapping[str, Any]) -> ImageProcessor:
    """An image processor by the name of its class; ``found`` is what the repository's file says.

    Names that end with ``Fast`` (the same steps by torchvision), ``Pil`` (transformers 5) and ``FeatureExtractor``
    (before transformers 4.26) are those of the same class.

    Raises:
        UnsupportedError: gpux does not have the class, or cannot follow one of the settings.
    """
    plain = name.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if plain not in _CLASSES:
        only = plain in class_table()["only_torchvision"]
        raise UnsupportedError(
            f"the image processor {name} exists only with torchvision, which gpux does not use"
            if only
            else f"gpux does not have the image processor {name}",
            hint="Prepare the arrays yourself and run them with gpux.Graphs.",
        )
    try:
        return _CLASSES[plain](plain, resolve_settings(plain, found))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        raise UnsupportedError(
            f"the settings of the image processor {name} cannot be followed: {type(exc).__name__}: {exc}",
            hint="Compare preprocessor_config.json with the defaults of the class in transformers.",
        ) from exc


def processor_classes() -> tuple[str, ...]:
    """The classes that gpux has, by their names in transformers."""
    return tuple(sorted(_CLASSES))


_Make = Callable[[str, Mapping[str, Any]], ImageProcessor]
_fixed, _shortest = standard.standard(sizes.fixed), standard.standard(sizes.shortest_or_fixed)
_detr = detection.padding(sizes.detection)
_masks = detection.padding(sizes.masks, detection.MaskProcessor)


def _with(kind: Callable[..., ImageProcessor], target: sizes.Target) -> _Make:
    return lambda class_name, settings: kind(class_name, settings, target)


_CLASSES: dict[str, _Make] = {
    "BridgeTowerImageProcessor": _with(detection.CroppedPaddingProcessor, sizes.multiples_below),
    "ChameleonImageProcessor": _shortest,
    "DINOv3ViTImageProcessor": detection.FloatResizeProcessor,
    "DonutImageProcessor": documents.PageProcessor,
    "EfficientFormerImageProcessor": _fixed,
    "EfficientLoFTRImageProcessor": keypoints.GreyProcessor,
    "EomtImageProcessor": detection.EomtProcessor,
    "FlavaImageProcessor": _fixed,
    "DeepseekVLImageProcessor": standard.CanvasProcessor,
    "Gemma3ImageProcessor": tiles.PanProcessor,
    "Glm4vImageProcessor": patches.FrameGridProcessor,
    "GotOcr2ImageProcessor": tiles.GridTileProcessor,
    "Idefics2ImageProcessor": tiles.QuarterProcessor,
    "Idefics3ImageProcessor": tiles.SplittingProcessor,
    "InstructBlipVideoImageProcessor": _fixed,
    "JanusImageProcessor": standard.CanvasProcessor,
    "Kosmos2_5ImageProcessor": documents.CountedPatchProcessor,
    "LlavaNextImageProcessor": tiles.PinpointProcessor,
    "LlavaOnevisionImageProcessor": tiles.PinpointProcessor,
    "SmolVLMImageProcessor": tiles.SplittingProcessor,
    "LightGlueImageProcessor": keypoints.GreyProcessor,
    "LlavaImageProcessor": _with(standard.SquareProcessor, sizes.shortest_or_fixed),
    "NougatImageProcessor": documents.ScanProcessor,
    "Owlv2ImageProcessor": detection.Owlv2Processor,
    "PerceiverImageProcessor": standard.CropFirstProcessor,
    "Pix2StructImageProcessor": documents.FlattenedPatchProcessor,
    "PixtralImageProcessor": _with(standard.StandardProcessor, patches.pixtral),
    "PromptDepthAnythingImageProcessor": _with(standard.DepthProcessor, sizes.depth),
    "Qwen2VLImageProcessor": patches.GridProcessor,
    "SamImageProcessor": _with(detection.SquarePaddingProcessor, sizes.longest_rounded),
    "SegGptImageProcessor": _fixed,
    "Siglip2ImageProcessor": patches.PatchProcessor,
    "SuperGlueImageProcessor": keypoints.GreyProcessor,
    "SuperPointImageProcessor": keypoints.GreyProcessor,
    "TextNetImageProcessor": _with(standard.StandardProcessor, sizes.multiples_above),
    "TvpImageProcessor": _with(standard.FixedPadProcessor, sizes.longest_below),
    "ViTHybridImageProcessor": _shortest,
    "VideoMAEImageProcessor": _shortest,
    "ViltImageProcessor": _with(detection.PaddingProcessor, sizes.multiples_below),
    "VitMatteImageProcessor": standard.MatteProcessor,
    "VitPoseImageProcessor": keypoints.PoseProcessor,
    "VivitImageProcessor": _with(standard.OffsetProcessor, sizes.shortest_or_fixed),
    "ZoeDepthImageProcessor": detection.ZoeDepthProcessor,
    "BeitImageProcessor": _fixed,
    "BitImageProcessor": _shortest,
    "BlipImageProcessor": _fixed,
    "CLIPImageProcessor": _shortest,
    "ChineseCLIPImageProcessor": _fixed,
    "ConditionalDetrImageProcessor": _detr,
    "ConvNextImageProcessor": standard.ConvNextProcessor,
    "DPTImageProcessor": lambda name, settings: standard.DepthProcessor(name, settings, sizes.depth),
    "DeformableDetrImageProcessor": _detr,
    "DeiTImageProcessor": _fixed,
    "DetrImageProcessor": _detr,
    "EfficientNetImageProcessor": standard.EfficientNetProcessor,
    "GLPNImageProcessor": lambda name, settings: standard.RescalingProcessor(name, settings, sizes.multiple_below),
    "GroundingDinoImageProcessor": _detr,
    "ImageGPTImageProcessor": standard.ClusterProcessor,
    "LayoutLMv2ImageProcessor": standard.DocumentFlippingProcessor,
    "LayoutLMv3ImageProcessor": standard.DocumentProcessor,
    "LevitImageProcessor": standard.standard(sizes.levit),
    "Mask2FormerImageProcessor": _masks,
    "MaskFormerImageProcessor": _masks,
    "MobileNetV1ImageProcessor": _shortest,
    "MobileNetV2ImageProcessor": _shortest,
    "MobileViTImageProcessor": lambda name, settings: standard.FlippingProcessor(
        name, settings, sizes.shortest_or_fixed
    ),
    "OneFormerImageProcessor": _masks,
    "OwlViTImageProcessor": _fixed,
    "PoolFormerImageProcessor": standard.standard(sizes.poolformer),
    "PvtImageProcessor": _fixed,
    "RTDetrImageProcessor": detection.padding(sizes.detection),
    "SegformerImageProcessor": _fixed,
    "SiglipImageProcessor": _fixed,
    "Swin2SRImageProcessor": standard.Swin2SRProcessor,
    "ViTImageProcessor": _fixed,
    "YolosImageProcessor": detection.padding(sizes.yolos, detection.UnmaskedProcessor),
}
