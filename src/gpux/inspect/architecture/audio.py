"""Parameters of models that hear a waveform: wav2vec 2.0 and HuBERT."""

from __future__ import annotations

from collections.abc import Callable

from gpux.inspect.architecture.fields import Fields, MissingFieldError, NoFormulaError
from gpux.inspect.architecture.tally import Tally, linear, norm, transformer_layer


def count_wav2vec2(fields: Fields) -> Tally:
    """Parameters of wav2vec 2.0 (arXiv 2006.11477) and of HuBERT, whose layers are the same."""
    hidden = fields.need("hidden")
    widths = fields.counts("conv_dim")
    if not widths:
        raise MissingFieldError("conv_dim")
    found = _feature_encoder(fields, widths) + linear(widths[-1], hidden)
    found += norm(widths[-1]) if fields.flag("feat_proj_layer_norm", True) else 0
    found += hidden  # the vector that stands for what is masked
    found += _positions(fields, hidden) + norm(hidden)
    found += fields.need("layers") * transformer_layer(hidden, fields.need("inner"))
    return Tally(found + _head(fields, hidden))


def _feature_encoder(fields: Fields, widths: tuple[int, ...]) -> int:
    kernels, biased = fields.counts("conv_kernel"), fields.flag("conv_bias")
    if len(kernels) != len(widths):
        raise MissingFieldError("conv_kernel")
    inputs = (1, *widths)
    found = sum(linear(i * k, o, biased) for i, o, k in zip(inputs, widths, kernels, strict=False))
    grouped = fields.text("feat_extract_norm") != "layer"  # only the first layer has a norm, one for each channel
    return found + (norm(widths[0]) if grouped else sum(norm(width) for width in widths))


def _positions(fields: Fields, hidden: int) -> int:
    """A grouped convolution whose weight is kept as direction and length."""
    kernel = fields.size("num_conv_pos_embeddings") or 128
    groups = fields.size("num_conv_pos_embedding_groups") or 16
    return hidden * (hidden // groups) * kernel + kernel + hidden


def _head(fields: Fields, hidden: int) -> int:
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


AUDIO: dict[str, Callable[[Fields], Tally]] = dict.fromkeys(("wav2vec2", "hubert"), count_wav2vec2)
