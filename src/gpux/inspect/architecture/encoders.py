"""Parameters of encoders of text, images and sound, with the head that the class has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpux.inspect.architecture.fields import Fields, MissingFieldError, NoFormulaError
from gpux.inspect.architecture.layers import Parameters, feed_forward, linear, norm, table, transformer_layer


@dataclass(frozen=True)
class EncoderForm:
    """How an encoder type differs from BERT."""

    token_types: bool = True
    pooler: bool = True
    #: classification head of two layers without the pooler (RoBERTa), instead of one layer on the pooler (BERT)
    wide_head: bool = False


_BERT = EncoderForm()
_ROBERTA = EncoderForm(wide_head=True)
FORMS: dict[str, EncoderForm] = {
    "bert": _BERT,
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), _ROBERTA),
    "albert": _BERT,
    "electra": EncoderForm(pooler=False, wide_head=True),
    "mpnet": EncoderForm(token_types=False, wide_head=True),
}


def count_encoder(fields: Fields) -> Parameters:
    """Parameters of BERT, RoBERTa, ALBERT, ELECTRA, MPNet and types of the same structure."""
    form = FORMS[fields.model_type or ""]
    hidden = fields.need("hidden")
    width = fields.size("embedding_size") or hidden
    found = _tables(fields, form, width) + norm(width) + (linear(width, hidden) if width != hidden else 0)
    if fields.model_type == "albert":
        found += _albert_groups(fields, hidden) + (0 if width != hidden else linear(width, hidden))
    else:
        found += fields.need("layers") * transformer_layer(hidden, fields.need("inner"))
    if fields.model_type == "mpnet":
        found += (fields.size("relative_attention_num_buckets") or 32) * fields.need("heads")
    return found + _head(fields, form, hidden, width)


def _tables(fields: Fields, form: EncoderForm, width: int) -> Parameters:
    found = table(fields.need("vocab"), width) + table(fields.need("context"), width)
    return found + (table(fields.count("type_vocab_size") or 0, width) if form.token_types else 0)


def _albert_groups(fields: Fields, hidden: int) -> int:
    """ALBERT shares parameters: all layers of a group are the same."""
    layers = (fields.size("num_hidden_groups") or 1) * (fields.size("inner_group_num") or 1)
    return layers * transformer_layer(hidden, fields.need("inner"))


def _task(fields: Fields) -> str:
    """The end of the class name: ``ForMaskedLM`` …; default: ``Model``."""
    name = next(iter(fields.architectures), "Model")
    if name.endswith(("LMHeadModel", "ForCausalLM")):
        return "ForMaskedLM"  # the same head
    return name[name.rindex("For") :] if "For" in name else "Model"


def _headless(task: str, fields: Fields) -> int:
    """A bare model has no head.

    Raises:
        NoFormulaError: another class.
    """
    if task != "Model":
        raise NoFormulaError(f"the class {fields.architectures[0][:80]}")
    return 0


def _head(fields: Fields, form: EncoderForm, hidden: int, width: int) -> Parameters:
    task, square = _task(fields), linear(hidden, hidden)
    pooled = square if form.pooler else 0
    if task == "ForMaskedLM":
        return _lm_head(fields, hidden, width)
    if task == "ForPreTraining":
        if fields.model_type == "electra":
            return Parameters(square + linear(hidden, 1))
        pair = fields.labels if fields.model_type == "albert" else 2
        return _lm_head(fields, hidden, width) + pooled + linear(hidden, pair)
    if task == "ForSequenceClassification":
        return Parameters((square if form.wide_head else pooled) + linear(hidden, fields.labels))
    if task in ("ForTokenClassification", "ForQuestionAnswering"):
        return Parameters(linear(hidden, fields.labels))
    if task in ("ForMultipleChoice", "ForNextSentencePrediction") and fields.model_type != "electra":
        return Parameters(pooled + linear(hidden, 1 if task == "ForMultipleChoice" else 2))
    return Parameters(pooled + _headless(task, fields))


def _lm_head(fields: Fields, hidden: int, width: int) -> Parameters:
    vocabulary = fields.need("vocab")
    untied = Parameters() if fields.flag("tie_word_embeddings", True) else table(vocabulary, width)
    return untied + linear(hidden, width) + norm(width) + vocabulary


def count_distilbert(fields: Fields) -> Parameters:
    """Parameters of DistilBERT."""
    hidden, vocabulary = fields.need("hidden"), fields.need("vocab")
    layer = transformer_layer(hidden, fields.need("inner"))
    found = table(vocabulary, hidden) + table(fields.need("context"), hidden) + norm(hidden)
    found += fields.need("layers") * layer
    task = _task(fields)
    if task == "ForMaskedLM":
        return found + _lm_head(fields, hidden, hidden)
    if task == "ForSequenceClassification":
        return found + linear(hidden, hidden) + linear(hidden, fields.labels)
    if task in ("ForTokenClassification", "ForQuestionAnswering"):
        return found + linear(hidden, fields.labels)
    return found + _headless(task, fields)


def count_deberta(fields: Fields) -> Parameters:
    """Parameters of DeBERTa, arXiv 2006.03654, and of its versions 2 and 3."""
    hidden, second = fields.need("hidden"), fields.model_type == "deberta-v2"
    found = table(fields.need("vocab"), hidden) + norm(hidden)
    found += table(fields.count("type_vocab_size") or 0, hidden)
    if fields.flag("position_biased_input", True):
        found += table(fields.need("context"), hidden)
    found += _relative(fields, hidden) if fields.flag("relative_attention") else 0
    own = feed_forward(hidden, fields.need("inner"), bias=True) + 2 * norm(hidden)
    own += _disentangled_v2(fields, hidden) if second else _disentangled(fields, hidden)
    if (kernel := fields.count("conv_kernel_size") or 0) and second:
        found += linear(hidden * kernel, hidden) + norm(hidden)
    found += fields.need("layers") * own
    return found + _deberta_head(fields, hidden)


def _relative(fields: Fields, hidden: int) -> int:
    reach = fields.size("max_relative_positions") or fields.need("context")
    rows = 2 * (fields.size("position_buckets") or reach)
    normed = "layer_norm" in (fields.text("norm_rel_ebd") or "")
    return rows * hidden + (norm(hidden) if normed else 0)


def _pairs(fields: Fields) -> tuple[bool, bool]:
    """Whether there is content-to-position attention, and position-to-content attention."""
    stated = fields.raw("pos_att_type")
    named = stated.lower().split("|") if isinstance(stated, str) else list(fields.items("pos_att_type"))
    return "c2p" in named, "p2c" in named


def _disentangled(fields: Fields, hidden: int) -> int:
    found = 3 * hidden * hidden + 2 * hidden + linear(hidden, hidden)  # keys have no bias
    if fields.flag("relative_attention"):
        content, position = _pairs(fields)
        found += (hidden * hidden if content else 0) + (linear(hidden, hidden) if position else 0)
    return found


def _disentangled_v2(fields: Fields, hidden: int) -> int:
    found = 4 * linear(hidden, hidden)
    if fields.flag("relative_attention") and not fields.flag("share_att_key"):
        found += sum(_pairs(fields)) * linear(hidden, hidden)
    return found


def _deberta_head(fields: Fields, hidden: int) -> Parameters:
    task = _task(fields)
    if task == "ForMaskedLM":
        return _lm_head(fields, hidden, hidden)
    if task == "ForSequenceClassification":
        width = fields.size("pooler_hidden_size") or hidden
        return Parameters(linear(width, width) + linear(width, fields.labels))
    if task in ("ForTokenClassification", "ForQuestionAnswering"):
        return Parameters(linear(hidden, fields.labels))
    return Parameters(_headless(task, fields))


def count_modernbert(fields: Fields) -> Parameters:
    """Parameters of ModernBERT, arXiv 2412.13663; its first layer has no norm before attention."""
    hidden, layers, vocabulary = fields.need("hidden"), fields.need("layers"), fields.need("vocab")
    inner, normed = fields.need("inner"), norm(hidden, fields.flag("norm_bias"))
    biased, wide = fields.flag("attention_bias"), fields.flag("mlp_bias")
    layer = linear(hidden, 3 * hidden, biased) + linear(hidden, hidden, biased) + 2 * normed
    layer += linear(hidden, 2 * inner, wide) + linear(inner, hidden, wide)
    found = table(vocabulary, hidden) + normed + layers * layer  # the final norm makes up for the missing first one
    dense = linear(hidden, hidden, fields.flag("classifier_bias")) + normed
    task = _task(fields)
    if task == "ForMaskedLM":
        output = Parameters() if fields.flag("tie_word_embeddings", True) else table(vocabulary, hidden)
        return found + dense + output + (vocabulary if fields.flag("decoder_bias", True) else 0)
    if task in ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"):
        return found + dense + linear(hidden, fields.labels)
    return found + _headless(task, fields)


ENCODERS: dict[str, Callable[[Fields], Parameters]] = {
    **dict.fromkeys(FORMS, count_encoder),
    "distilbert": count_distilbert,
    **dict.fromkeys(("deberta", "deberta-v2"), count_deberta),
    "modernbert": count_modernbert,
}


def patches(fields: Fields) -> int:
    """Patches of one image of the configured size."""
    size, patch = fields.need("image_size"), fields.need("patch_size")
    return (size // patch) ** 2


def patch_embedding(fields: Fields, hidden: int, bias: bool = True) -> int:
    """The convolution that embeds each patch."""
    return linear((fields.size("channels") or 3) * fields.need("patch_size") ** 2, hidden, bias)


def _classifies(fields: Fields) -> bool:
    """Whether the class has a classification head; a bare model or backbone has none.

    Raises:
        NoFormulaError: another class.
    """
    name = next(iter(fields.architectures), "Model")
    if name.endswith(("Model", "Backbone")):
        return False
    if "ImageClassification" not in name and "AudioClassification" not in name:
        raise NoFormulaError(f"the class {name[:80]}")
    return True


def count_vit(fields: Fields) -> Parameters:
    """Parameters of ViT (arXiv 2010.11929), DeiT and the spectrogram transformer."""
    hidden, distilled = fields.need("hidden"), fields.model_type in ("deit", "audio-spectrogram-transformer")
    marks = 2 if distilled else 1  # class and distillation tokens
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


def count_dinov2(fields: Fields) -> Parameters:
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


def count_swin(fields: Fields) -> Parameters:
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
    return Parameters(total + (linear(last, fields.labels) if _classifies(fields) else 0))


def _stages(fields: Fields, name: str) -> tuple[int, ...]:
    """The sizes of the stages."""
    found = fields.counts(name)
    if not 0 < len(found) <= 16:
        raise MissingFieldError(name)
    return found


def count_convnext(fields: Fields) -> Parameters:
    """Parameters of ConvNeXT, arXiv 2201.03545."""
    sizes, depths = _stages(fields, "hidden_sizes"), _stages(fields, "depths")
    total = patch_embedding(fields, sizes[0]) + norm(sizes[0])
    for stage, (size, depth) in enumerate(zip(sizes, depths, strict=False)):
        scale = size  # the layer scale
        total += depth * (linear(49, size) + norm(size) + 2 * 4 * size * size + 4 * size + size + scale)
        if stage:
            total += norm(sizes[stage - 1]) + linear(4 * sizes[stage - 1], size)
    total += norm(sizes[-1])
    return Parameters(total + (linear(sizes[-1], fields.labels) if _classifies(fields) else 0))


def count_resnet(fields: Fields) -> Parameters:
    """Parameters of ResNet, arXiv 1512.03385; each convolution is followed by a batch norm."""
    sizes, depths = _stages(fields, "hidden_sizes"), _stages(fields, "depths")
    before = fields.need("embedding_size")
    bottleneck = fields.text("layer_type") != "basic"
    total = _convolution(fields.size("channels") or 3, before, 7)
    for stage, (size, depth) in enumerate(zip(sizes, depths, strict=False)):
        total += _residual(before, size, bottleneck, first=stage == 0)
        total += (depth - 1) * _residual(size, size, bottleneck, first=True)
        before = size
    return Parameters(total + (linear(before, fields.labels) if _classifies(fields) else 0))


def _convolution(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel * kernel + 2 * outputs


def _residual(inputs: int, outputs: int, bottleneck: bool, *, first: bool) -> int:
    """One block; the shortcut has a convolution if the width changes or the image is downsampled (not in the first)."""
    shortcut = _convolution(inputs, outputs, 1) if inputs != outputs or not first else 0
    if not bottleneck:
        return shortcut + _convolution(inputs, outputs, 3) + _convolution(outputs, outputs, 3)
    middle = outputs // 4
    inside = _convolution(inputs, middle, 1) + _convolution(middle, middle, 3) + _convolution(middle, outputs, 1)
    return shortcut + inside


VISION: dict[str, Callable[[Fields], Parameters]] = {
    **dict.fromkeys(("vit", "deit", "audio-spectrogram-transformer"), count_vit),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), count_dinov2),
    "swin": count_swin,
    "convnext": count_convnext,
    "resnet": count_resnet,
}


def count_wav2vec2(fields: Fields) -> Parameters:
    """Parameters of wav2vec 2.0 (arXiv 2006.11477) and of HuBERT, whose layers are the same."""
    hidden = fields.need("hidden")
    widths = fields.counts("conv_dim")
    if not widths:
        raise MissingFieldError("conv_dim")
    found = _feature_encoder(fields, widths) + linear(widths[-1], hidden)
    found += norm(widths[-1]) if fields.flag("feat_proj_layer_norm", True) else 0
    found += hidden  # the mask embedding
    found += _positions(fields, hidden) + norm(hidden)
    found += fields.need("layers") * transformer_layer(hidden, fields.need("inner"))
    return Parameters(found + _wav2vec2_head(fields, hidden))


def _feature_encoder(fields: Fields, widths: tuple[int, ...]) -> int:
    kernels, biased = fields.counts("conv_kernel"), fields.flag("conv_bias")
    if len(kernels) != len(widths):
        raise MissingFieldError("conv_kernel")
    inputs = (1, *widths)
    found = sum(linear(i * k, o, biased) for i, o, k in zip(inputs, widths, kernels, strict=False))
    grouped = fields.text("feat_extract_norm") != "layer"  # group norm in the first layer only
    return found + (norm(widths[0]) if grouped else sum(norm(width) for width in widths))


def _positions(fields: Fields, hidden: int) -> int:
    """A grouped convolution with weight normalization, which stores direction and length."""
    kernel = fields.size("num_conv_pos_embeddings") or 128
    groups = fields.size("num_conv_pos_embedding_groups") or 16
    return hidden * (hidden // groups) * kernel + kernel + hidden


def _wav2vec2_head(fields: Fields, hidden: int) -> int:
    name = next(iter(fields.architectures), "Model")
    if name.endswith("ForCTC"):
        return linear(hidden, fields.need("vocab"))
    if name.endswith("ForSequenceClassification"):
        width = fields.size("classifier_proj_size") or 256
        weights = fields.need("layers") + 1 if fields.flag("use_weighted_layer_sum") else 0
        return linear(hidden, width) + linear(width, fields.labels) + weights
    if name.endswith("Model"):
        return 0
    raise NoFormulaError(f"the class {name[:80]}")


AUDIO: dict[str, Callable[[Fields], Parameters]] = dict.fromkeys(("wav2vec2", "hubert"), count_wav2vec2)
