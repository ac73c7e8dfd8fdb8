"""Parameters of image models: transformers over patches, and convolutions."""

from __future__ import annotations

from collections.abc import Callable

from gpux.inspect.architecture.fields import Fields, MissingFieldError, NoFormulaError
from gpux.inspect.architecture.tally import Tally, linear, norm, table, transformer_layer


def patches(fields: Fields) -> int:
    """Patches of one image of the configured size."""
    size, patch = fields.need("image_size"), fields.need("patch_size")
    return (size // patch) ** 2


def patch_embedding(fields: Fields, hidden: int, bias: bool = True) -> int:
    """The convolution that makes a vector of each patch."""
    return linear((fields.size("channels") or 3) * fields.need("patch_size") ** 2, hidden, bias)


def _classifies(fields: Fields) -> bool:
    """Does the class end in a classification; a bare model or backbone does not.

    Raises:
        NoFormulaError: the class is another one.
    """
    name = next(iter(fields.architectures), "Model")
    if name.endswith(("Model", "Backbone")):
        return False
    if "ImageClassification" not in name and "AudioClassification" not in name:
        raise NoFormulaError(f"the class {name[:80]}")
    return True


def count_vit(fields: Fields) -> Tally:
    """Parameters of ViT (arXiv 2010.11929), DeiT and the spectrogram transformer."""
    hidden, distilled = fields.need("hidden"), fields.model_type in ("deit", "audio-spectrogram-transformer")
    marks = 2 if distilled else 1  # learned tokens before the patches
    spectrogram = fields.model_type == "audio-spectrogram-transformer"
    layer = transformer_layer(hidden, fields.need("inner"))
    layer -= 0 if fields.flag("qkv_bias", True) else 3 * hidden
    found = table((_spectrogram_patches(fields) if spectrogram else patches(fields)) + marks, hidden)
    found += marks * hidden + fields.need("layers") * layer + norm(hidden)
    channels = hidden * (1 + fields.need("patch_size") ** 2)
    found += channels if spectrogram else patch_embedding(fields, hidden)
    return found + _vit_head(fields, hidden)


def _spectrogram_patches(fields: Fields) -> int:
    patch = fields.need("patch_size")
    rows = (fields.need("num_mel_bins") - patch) // fields.need("frequency_stride") + 1
    columns = (fields.need("max_length") - patch) // fields.need("time_stride") + 1
    if rows < 1 or columns < 1:
        raise MissingFieldError("max_length")
    return rows * columns


def _vit_head(fields: Fields, hidden: int) -> int:
    name = next(iter(fields.architectures), "Model")
    if not _classifies(fields):
        pooled = fields.model_type in ("vit", "deit") and name.endswith("Model")
        return linear(hidden, fields.size("pooler_output_size") or hidden) if pooled else 0
    if fields.model_type == "audio-spectrogram-transformer":
        return norm(hidden) + linear(hidden, fields.labels)
    return linear(hidden, fields.labels) * (2 if name.endswith("WithTeacher") else 1)


def count_dinov2(fields: Fields) -> Tally:
    """Parameters of DINOv2 (arXiv 2304.07193), with register tokens or without."""
    hidden = fields.need("hidden")
    inner = int(hidden * (fields.number("mlp_ratio") or 4))
    registers = (fields.size("num_register_tokens") or 4) if fields.model_type == "dinov2_with_registers" else 0
    layer = 4 * linear(hidden, hidden) + 2 * norm(hidden) + 2 * hidden  # two layer scales
    layer -= 0 if fields.flag("qkv_bias", True) else 3 * hidden
    if fields.flag("use_swiglu_ffn"):
        inner = (inner * 2 // 3 + 7) // 8 * 8
        layer += linear(hidden, 2 * inner) + linear(inner, hidden)
    else:
        layer += linear(hidden, inner) + linear(inner, hidden)
    mask = hidden if fields.flag("use_mask_token", True) else 0
    found = table(patches(fields) + 1, hidden) + hidden * (1 + registers) + mask + patch_embedding(fields, hidden)
    found += fields.need("layers") * layer + norm(hidden)
    return found + (linear(2 * hidden, fields.labels) if _classifies(fields) else 0)


def count_swin(fields: Fields) -> Tally:
    """Parameters of the Swin transformer, arXiv 2103.14030."""
    width, depths, heads = fields.need("embed_dim"), _stages(fields, "depths"), fields.counts("num_heads")
    if len(heads) != len(depths):
        raise MissingFieldError("num_heads")
    offsets = (2 * fields.need("window_size") - 1) ** 2
    ratio, biased = fields.number("mlp_ratio") or 4.0, fields.flag("qkv_bias", True)
    total = patch_embedding(fields, width) + norm(width)
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        size = width << stage
        layer = transformer_layer(size, int(ratio * size)) - (0 if biased else 3 * size)
        total += depth * (layer + offsets * count)
        if stage + 1 < len(depths):
            total += norm(4 * size) + linear(4 * size, 2 * size, bias=False)
    last = width << (len(depths) - 1)
    total += norm(last)
    return Tally(total + (linear(last, fields.labels) if _classifies(fields) else 0))


def _stages(fields: Fields, name: str) -> tuple[int, ...]:
    """The sizes of the stages of a model that narrows step by step."""
    found = fields.counts(name)
    if not 0 < len(found) <= 16:
        raise MissingFieldError(name)
    return found


def count_convnext(fields: Fields) -> Tally:
    """Parameters of ConvNeXT, arXiv 2201.03545."""
    sizes, depths = _stages(fields, "hidden_sizes"), _stages(fields, "depths")
    total = patch_embedding(fields, sizes[0]) + norm(sizes[0])
    for stage, (size, depth) in enumerate(zip(sizes, depths, strict=False)):
        scale = size  # the layer scale
        total += depth * (linear(49, size) + norm(size) + 2 * 4 * size * size + 4 * size + size + scale)
        if stage:
            total += norm(sizes[stage - 1]) + linear(4 * sizes[stage - 1], size)
    total += norm(sizes[-1])
    return Tally(total + (linear(sizes[-1], fields.labels) if _classifies(fields) else 0))


def count_resnet(fields: Fields) -> Tally:
    """Parameters of ResNet, arXiv 1512.03385; each convolution is followed by a batch norm."""
    sizes, depths = _stages(fields, "hidden_sizes"), _stages(fields, "depths")
    before = fields.need("embedding_size")
    bottleneck = fields.text("layer_type") != "basic"
    total = _convolution(fields.size("channels") or 3, before, 7)
    for stage, (size, depth) in enumerate(zip(sizes, depths, strict=False)):
        total += _residual(before, size, bottleneck, first=stage == 0)
        total += (depth - 1) * _residual(size, size, bottleneck, first=True)
        before = size
    return Tally(total + (linear(before, fields.labels) if _classifies(fields) else 0))


def _convolution(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel * kernel + 2 * outputs


def _residual(inputs: int, outputs: int, bottleneck: bool, *, first: bool) -> int:
    """One block; a shortcut has a convolution where the width changes, or the image shrinks (not in the first)."""
    shortcut = _convolution(inputs, outputs, 1) if inputs != outputs or not first else 0
    if not bottleneck:
        return shortcut + _convolution(inputs, outputs, 3) + _convolution(outputs, outputs, 3)
    middle = outputs // 4
    inside = _convolution(inputs, middle, 1) + _convolution(middle, middle, 3) + _convolution(middle, outputs, 1)
    return shortcut + inside


VISION: dict[str, Callable[[Fields], Tally]] = {
    **dict.fromkeys(("vit", "deit", "audio-spectrogram-transformer"), count_vit),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), count_dinov2),
    "swin": count_swin,
    "convnext": count_convnext,
    "resnet": count_resnet,
}
