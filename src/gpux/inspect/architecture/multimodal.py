"""Parameters of multimodal models: pairs of encoders, and vision-language models."""

from __future__ import annotations

from collections.abc import Callable

from gpux.inspect.architecture.decoders import FORMS, count_decoder
from gpux.inspect.architecture.encoders import patch_embedding, patches
from gpux.inspect.architecture.fields import Fields, MissingFieldError, NoFormulaError
from gpux.inspect.architecture.layers import Parameters, feed_forward, linear, norm, table, transformer_layer


def part(fields: Fields, name: str) -> Fields:
    """The configuration of a part.

    Raises:
        MissingFieldError: neither the file nor the defaults of the type describe the part.
    """
    found = fields.section(name)
    if found is None:
        raise MissingFieldError(f"{name}_config")
    return found


def count_clip(fields: Fields) -> Parameters:
    """Parameters of CLIP, arXiv 2103.00020."""
    _class(fields, "Model")
    text, vision = part(fields, "text"), part(fields, "vision")
    width = fields.need("projection_dim")
    ends = linear(text.need("hidden"), width, bias=False) + linear(vision.need("hidden"), width, bias=False)
    return clip_text(text) + clip_vision(vision) + ends + 1  # logit scale


def clip_text(fields: Fields) -> Parameters:
    """CLIP's text encoder."""
    hidden = fields.need("hidden")
    found = table(fields.need("vocab"), hidden) + table(fields.need("context"), hidden) + norm(hidden)
    return found + fields.need("layers") * transformer_layer(hidden, fields.need("inner"))


def clip_vision(fields: Fields) -> Parameters:
    """CLIP's image encoder."""
    hidden = fields.need("hidden")
    found = table(patches(fields) + 1, hidden) + hidden + patch_embedding(fields, hidden, bias=False)
    return found + 2 * norm(hidden) + fields.need("layers") * transformer_layer(hidden, fields.need("inner"))


def _alone(fields: Fields, formula: Callable[[Fields], Parameters]) -> Parameters:
    """A part that is published as a model of its own, without projection."""
    _class(fields, "Model")
    return formula(fields)


def count_siglip(fields: Fields) -> Parameters:
    """Parameters of SigLIP, arXiv 2303.15343."""
    _class(fields, "Model")
    text = part(fields, "text")
    hidden = text.need("hidden")
    last = linear(hidden, text.size("projection_size") or hidden)
    return clip_text(text) + last + siglip_vision(part(fields, "vision")) + 2  # logit scale and bias


def siglip_vision(fields: Fields) -> Parameters:
    """SigLIP's image encoder, with its attention pooling unless that is disabled."""
    hidden, inner = fields.need("hidden"), fields.need("inner")
    found = table(patches(fields), hidden) + patch_embedding(fields, hidden) + norm(hidden)
    found += fields.need("layers") * transformer_layer(hidden, inner)
    if not fields.flag("vision_use_head", True):
        return found
    return found + hidden + 4 * linear(hidden, hidden) + norm(hidden) + feed_forward(hidden, inner)


def count_llava(fields: Fields) -> Parameters:
    """Parameters of LLaVA, arXiv 2304.08485: CLIP's vision encoder, a projector of two layers, a decoder."""
    vision, text = part(fields, "vision"), part(fields, "text")
    if vision.model_type != "clip_vision_model":
        raise NoFormulaError(f"the vision part {vision.model_type}")
    layers = len(fields.items("vision_feature_layer")) or 1
    biased, width = fields.flag("multimodal_projector_bias", True), text.need("hidden")
    projector = linear(layers * vision.need("hidden"), width, biased) + linear(width, width, biased)
    return clip_vision(vision) + projector + language(text, fields)


def language(text: Fields, whole: Fields) -> Parameters:
    """The decoder of a vision-language model, with the head of the whole model's class.

    Raises:
        NoFormulaError: there is no formula for the decoder's type, or for the class.
    """
    if text.model_type not in FORMS:
        raise NoFormulaError(f"the text part {text.model_type}")
    given = {**text.given, "model_type": text.model_type, "architectures": [_class(whole, "ForConditionalGeneration")]}
    return count_decoder(Fields(given, text.defaults))


def _class(fields: Fields, usual: str) -> str:
    """The class name in ``architectures``; default: ``usual``.

    Raises:
        NoFormulaError: the class is neither a bare model nor the usual one.
    """
    name = next(iter(fields.architectures), usual)
    if not name.endswith(("Model", usual)):
        raise NoFormulaError(f"the class {name[:80]}")
    return name


def count_gemma3(fields: Fields) -> Parameters:
    """Parameters of the multimodal Gemma 3, arXiv 2503.19786."""
    vision, text = part(fields, "vision"), part(fields, "text")
    width = vision.need("hidden")
    return _headless(vision) + width * text.need("hidden") + width + language(text, fields)


def _headless(vision: Fields) -> Parameters:
    return siglip_vision(Fields({**vision.given, "vision_use_head": False}, vision.defaults))


def count_paligemma(fields: Fields) -> Parameters:
    """Parameters of PaliGemma, arXiv 2407.07726."""
    vision, text = part(fields, "vision"), part(fields, "text")
    width = vision.size("projection_dim") or fields.need("projection_dim")
    return _headless(vision) + linear(vision.need("hidden"), width) + language(text, fields)


def count_idefics3(fields: Fields) -> Parameters:
    """Parameters of Idefics3 and SmolVLM: pixel shuffle, then one projection."""
    vision, text = part(fields, "vision"), part(fields, "text")
    gathered = vision.need("hidden") * (fields.size("scale_factor") or 2) ** 2
    return _headless(vision) + linear(gathered, text.need("hidden"), bias=False) + language(text, fields)


def count_mistral3(fields: Fields) -> Parameters:
    """Parameters of Mistral 3 with Pixtral's vision encoder, arXiv 2410.07073."""
    vision, text = part(fields, "vision"), part(fields, "text")
    hidden, width = vision.need("hidden"), text.need("hidden")
    layer = 4 * hidden * hidden + feed_forward(hidden, vision.need("inner"), gated=True, bias=False) + 2 * hidden
    encoder = patch_embedding(vision, hidden, bias=False) + hidden + vision.need("layers") * layer
    merged, biased = hidden * (fields.size("spatial_merge_size") or 2) ** 2, fields.flag("multimodal_projector_bias")
    projector = (
        hidden + linear(merged, hidden, bias=False) + linear(hidden, width, biased) + linear(width, width, biased)
    )
    return language(text, fields) + encoder + projector


def count_qwen2_vl(fields: Fields) -> Parameters:
    """Parameters of Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923)."""
    vision, text = part(fields, "vision"), part(fields, "text")
    newer = fields.model_type == "qwen2_5_vl"
    hidden = vision.need("hidden") if newer else vision.need("embed_dim")
    inner = vision.need("inner") if newer else int(hidden * (vision.number("mlp_ratio") or 4))
    biases = not newer  # of the norms
    layer = linear(hidden, 3 * hidden) + linear(hidden, hidden) + 2 * norm(hidden, biases)
    layer += feed_forward(hidden, inner, gated=newer)
    frames = (vision.size("temporal_patch_size") or 2) * vision.need("patch_size") ** 2
    encoder = (vision.size("channels") or 3) * frames * hidden + vision.need("layers") * layer
    merged = hidden * (vision.size("spatial_merge_size") or 2) ** 2
    width = vision.need("out_hidden_size") if newer else vision.need("hidden_size")
    projector = norm(hidden, biases) + linear(merged, merged) + linear(merged, width)
    return language(text, fields) + encoder + projector


MULTIMODAL: dict[str, Callable[[Fields], Parameters]] = {
    "clip": count_clip,
    "siglip": count_siglip,
    "llava": count_llava,
    "gemma3": count_gemma3,
    "paligemma": count_paligemma,
    **dict.fromkeys(("idefics3", "smolvlm"), count_idefics3),
    "mistral3": count_mistral3,
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), count_qwen2_vl),
}
#: Parts that are also published on their own.
PARTS: dict[str, Callable[[Fields], Parameters]] = {
    "clip_text_model": lambda fields: _alone(fields, clip_text),
    "clip_vision_model": lambda fields: _alone(fields, clip_vision),
    "siglip_vision_model": lambda fields: _alone(fields, siglip_vision),
}
