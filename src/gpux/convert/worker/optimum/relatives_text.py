"""Descriptions of text models that differ from a relative's in an input or a shape."""

from __future__ import annotations

from optimum.exporters.onnx.config import TextDecoderWithPositionIdsOnnxConfig
from optimum.exporters.onnx.model_configs import (
    BartOnnxConfig,
    BertOnnxConfig,
    DistilBertOnnxConfig,
    FalconOnnxConfig,
    LongformerOnnxConfig,
    T5OnnxConfig,
)
from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig
from optimum.utils.normalized_config import NormalizedTextConfigWithGQA

from gpux.convert.worker.optimum.generators import FalconKeyValues, KeyValues, LongformerText

Axes = dict[str, dict[int, str]]


class Grouped(TextDecoderWithPositionIdsOnnxConfig):
    """A decoder in llama's manner: fewer heads in the cache than in the attention, sized by the config."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, KeyValues)
    DUMMY_PKV_GENERATOR_CLASS = KeyValues
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfigWithGQA


class Ungrouped(TextDecoderWithPositionIdsOnnxConfig):
    """A decoder with as many heads in the cache as in the attention."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, KeyValues)
    DUMMY_PKV_GENERATOR_CLASS = KeyValues
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig


class Falcon(FalconOnnxConfig):
    """falcon, its new architecture's cache sized as transformers fills it."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, FalconKeyValues)
    DUMMY_PKV_GENERATOR_CLASS = FalconKeyValues


class Longformer(LongformerOnnxConfig):
    """longformer, asked as a pipeline asks it: the model itself knows where a task attends globally.

    Answers to questions and choices between several look for separators in a way that a trace cannot follow; there the
    places of global attention are an input.
    """

    DUMMY_INPUT_GENERATOR_CLASSES = (LongformerText,)

    @property
    def inputs(self) -> Axes:
        """Tokens and their mask; token types where there are several."""
        axes = super().inputs
        if self.task not in ("question-answering", "multiple-choice"):
            del axes["global_attention_mask"]
        if self._config.type_vocab_size < 2:
            del axes["token_type_ids"]
        return axes


class FNet(BertOnnxConfig):
    """fnet, which mixes padding in with everything else and takes no mask."""

    @property
    def inputs(self) -> Axes:
        """Tokens and their types."""
        axes = super().inputs
        del axes["attention_mask"]
        return axes


class Funnel(BertOnnxConfig):
    """funnel, its width under another name."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(hidden_size="d_model", num_attention_heads="n_head")


class XLNet(DistilBertOnnxConfig):
    """xlnet: no token types are asked for, which counts as the first of them everywhere."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(
        hidden_size="d_model", num_attention_heads="n_head", num_layers="n_layer"
    )


class LongT5(T5OnnxConfig):
    """longt5, traced at a length that fills no block, so that the trace fills the last one up."""

    #: A prime, beyond the default block of 128 tokens.
    TRACED = {"sequence_length": 197}  # noqa: RUF012 - Optimum's own constants are written so


class LED(BartOnnxConfig):
    """led, an encoder-decoder whose encoder attends in windows."""
