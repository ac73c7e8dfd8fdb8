"""What a model's own files say of its generation, where nobody asked otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gpux.errors import UsageError
from gpux.runtime.generation.options import OTHER_NAMES, GenerationOptions, plain

#: What a model may say of itself; the length of the answer, counts and seeds are the user's. In this order: of two that
#: contradict each other, the first is taken.
_PUBLISHED = (
    *("eos_token_ids", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
    *("num_beams", "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("repetition_penalty", "no_repeat_ngram_size", "bad_words", "suppress_tokens", "begin_suppress_tokens"),
    *("encoder_repetition_penalty", "encoder_no_repeat_ngram_size"),
    *("length_penalty", "early_stopping", "renormalize_logits", "min_length", "min_new_tokens"),
)
_SPECIAL = ("eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
#: What transformers also reads there and gpux does not, and the values that change nothing.
_OTHERS: dict[str, tuple[Any, ...]] = {
    "sequence_bias": (),
    "exponential_decay_length_penalty": (),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "guidance_scale": (1, 1.0),
    "watermarking_config": (),
    "penalty_alpha": (0, 0.0),
    "num_beam_groups": (0, 1),
    "diversity_penalty": (0.0,),
    "constraints": (),
    "force_words_ids": (),
    "dola_layers": (),
    "forced_decoder_ids": (),
}


def from_config(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> GenerationOptions:
    """The defaults of a model, as transformers reads them.

    They are those of ``generation_config.json``; of ``config.json`` where there is no such file, and the special tokens
    that the file leaves out. A sampling one has ``top_k`` 50 unless it says otherwise, for files leave out what equals
    transformers' default. Values that cannot be meant are left out: many published files hold some.
    """
    found = GenerationOptions(top_k=50)
    said = _said(config, generation_config)
    for name in _PUBLISHED:
        if name in said:
            try:
                found = replace(found, **{name: plain(name, said[name])})
            except UsageError:
                continue
    return found


def not_followed(generation_config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the file asks for and gpux does not do, by name: the answer may be another than transformers'."""
    found = [name for name, off in _OTHERS.items() if generation_config.get(name) not in (None, *off, [], {})]
    if generation_config.get("do_sample") is True and (generation_config.get("num_beams") or 1) > 1:
        found.append("do_sample with num_beams")
    return tuple(sorted(found))


def _said(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> dict[str, Any]:
    parts = [config[part] for part in ("text_config", "decoder") if isinstance(config.get(part), Mapping)]
    inner: Mapping[str, Any] = parts[0] if parts else {}
    names = _SPECIAL if generation_config else tuple({**inner, **config})
    found: dict[str, Any] = {}
    for source, taken in ((inner, names), (config, names), (generation_config, tuple(generation_config))):
        found |= {OTHER_NAMES.get(name, name): source[name] for name in taken if source.get(name) is not None}
    return found
