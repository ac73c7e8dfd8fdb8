"""Parameters of text encoders: BERT and its descendants, with the head that their class has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpux.inspect.architecture.fields import Fields, NoFormulaError
from gpux.inspect.architecture.tally import Tally, feed_forward, linear, norm, table, transformer_layer


@dataclass(frozen=True)
class EncoderForm:
    """What one type of encoder has that another has not."""

    token_types: bool = True
    pooler: bool = True
    #: classification by two layers on the first token, without the pooler (RoBERTa) or by one on the pooler (BERT)
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


def count_encoder(fields: Fields) -> Tally:
    """Parameters of BERT, RoBERTa, ALBERT, ELECTRA, MPNet and their namesakes."""
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


def _tables(fields: Fields, form: EncoderForm, width: int) -> Tally:
    found = table(fields.need("vocab"), width) + table(fields.need("context"), width)
    return found + (table(fields.count("type_vocab_size") or 0, width) if form.token_types else 0)


def _albert_groups(fields: Fields, hidden: int) -> int:
    """ALBERT repeats the layers of a few groups."""
    layers = (fields.size("num_hidden_groups") or 1) * (fields.size("inner_group_num") or 1)
    return layers * transformer_layer(hidden, fields.need("inner"))


def _task(fields: Fields) -> str:
    """The last part of the class name: ``ForMaskedLM`` …, ``Model`` where no class is named."""
    name = next(iter(fields.architectures), "Model")
    if name.endswith(("LMHeadModel", "ForCausalLM")):
        return "ForMaskedLM"  # the same head, asked another way
    return name[name.rindex("For") :] if "For" in name else "Model"


def _headless(task: str, fields: Fields) -> int:
    """Nothing stands behind the layers of a bare model.

    Raises:
        NoFormulaError: the class is another one.
    """
    if task != "Model":
        raise NoFormulaError(f"the class {fields.architectures[0][:80]}")
    return 0


def _head(fields: Fields, form: EncoderForm, hidden: int, width: int) -> Tally:
    task, square = _task(fields), linear(hidden, hidden)
    pooled = square if form.pooler else 0
    if task == "ForMaskedLM":
        return _words(fields, hidden, width)
    if task == "ForPreTraining":
        if fields.model_type == "electra":
            return Tally(square + linear(hidden, 1))
        pair = fields.labels if fields.model_type == "albert" else 2
        return _words(fields, hidden, width) + pooled + linear(hidden, pair)
    if task == "ForSequenceClassification":
        return Tally((square if form.wide_head else pooled) + linear(hidden, fields.labels))
    if task in ("ForTokenClassification", "ForQuestionAnswering"):
        return Tally(linear(hidden, fields.labels))
    if task in ("ForMultipleChoice", "ForNextSentencePrediction") and fields.model_type != "electra":
        return Tally(pooled + linear(hidden, 1 if task == "ForMultipleChoice" else 2))
    return Tally(pooled + _headless(task, fields))


def _words(fields: Fields, hidden: int, width: int) -> Tally:
    vocabulary = fields.need("vocab")
    untied = Tally() if fields.flag("tie_word_embeddings", True) else table(vocabulary, width)
    return untied + linear(hidden, width) + norm(width) + vocabulary


def count_distilbert(fields: Fields) -> Tally:
    """Parameters of DistilBERT."""
    hidden, vocabulary = fields.need("hidden"), fields.need("vocab")
    layer = transformer_layer(hidden, fields.need("inner"))
    found = table(vocabulary, hidden) + table(fields.need("context"), hidden) + norm(hidden)
    found += fields.need("layers") * layer
    task = _task(fields)
    if task == "ForMaskedLM":
        return found + _words(fields, hidden, hidden)
    if task == "ForSequenceClassification":
        return found + linear(hidden, hidden) + linear(hidden, fields.labels)
    if task in ("ForTokenClassification", "ForQuestionAnswering"):
        return found + linear(hidden, fields.labels)
    return found + _headless(task, fields)


def count_deberta(fields: Fields) -> Tally:
    """Parameters of DeBERTa, arXiv 2006.03654, and of its second and third version."""
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
    """Which of content-to-position and position-to-content attention there is."""
    stated = fields.raw("pos_att_type")
    named = stated.lower().split("|") if isinstance(stated, str) else list(fields.items("pos_att_type"))
    return "c2p" in named, "p2c" in named


def _disentangled(fields: Fields, hidden: int) -> int:
    found = 3 * hidden * hidden + 2 * hidden + linear(hidden, hidden)  # no bias for keys
    if fields.flag("relative_attention"):
        content, position = _pairs(fields)
        found += (hidden * hidden if content else 0) + (linear(hidden, hidden) if position else 0)
    return found


def _disentangled_v2(fields: Fields, hidden: int) -> int:
    found = 4 * linear(hidden, hidden)
    if fields.flag("relative_attention") and not fields.flag("share_att_key"):
        found += sum(_pairs(fields)) * linear(hidden, hidden)
    return found


def _deberta_head(fields: Fields, hidden: int) -> Tally:
    task = _task(fields)
    if task == "ForMaskedLM":
        return _words(fields, hidden, hidden)
    if task == "ForSequenceClassification":
        width = fields.size("pooler_hidden_size") or hidden
        return Tally(linear(width, width) + linear(width, fields.labels))
    if task in ("ForTokenClassification", "ForQuestionAnswering"):
        return Tally(linear(hidden, fields.labels))
    return Tally(_headless(task, fields))


def count_modernbert(fields: Fields) -> Tally:
    """Parameters of ModernBERT, arXiv 2412.13663; its first layer has no norm before attention."""
    hidden, layers, vocabulary = fields.need("hidden"), fields.need("layers"), fields.need("vocab")
    inner, normed = fields.need("inner"), norm(hidden, fields.flag("norm_bias"))
    biased, wide = fields.flag("attention_bias"), fields.flag("mlp_bias")
    layer = linear(hidden, 3 * hidden, biased) + linear(hidden, hidden, biased) + 2 * normed
    layer += linear(hidden, 2 * inner, wide) + linear(inner, hidden, wide)
    found = table(vocabulary, hidden) + normed + layers * layer  # the missing norm is the last one's place
    dense = linear(hidden, hidden, fields.flag("classifier_bias")) + normed
    task = _task(fields)
    if task == "ForMaskedLM":
        words = Tally() if fields.flag("tie_word_embeddings", True) else table(vocabulary, hidden)
        return found + dense + words + (vocabulary if fields.flag("decoder_bias", True) else 0)
    if task in ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"):
        return found + dense + linear(hidden, fields.labels)
    return found + _headless(task, fields)


ENCODERS: dict[str, Callable[[Fields], Tally]] = {
    **dict.fromkeys(FORMS, count_encoder),
    "distilbert": count_distilbert,
    **dict.fromkeys(("deberta", "deberta-v2"), count_deberta),
    "modernbert": count_modernbert,
}
