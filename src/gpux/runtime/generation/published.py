"""The generation options that a model's own files set, as ``transformers.pipeline`` of 4.57 reads them.

``generation_config.json`` sets them; ``config.json`` does where that file is missing, and ``task_specific_params`` of
``config.json`` for one task. What gpux does not follow, and what no program could follow, is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpux.errors import UsageError
from gpux.runtime.generation.options import GenerationOptions, Number, option_infos, option_names, parse

#: Beams of an encoder-decoder for which neither the task nor the call sets a number: ``_default_generation_config`` of
#: transformers' text2text-generation, whose values win over those of ``generation_config.json``.
BEAMS = 4
#: ``GenerationConfig().max_length``: stands for no limit.
_NO_LENGTH = 20
_PROMPT = "prefix"
#: Options that transformers reads from the files and gpux does not, with the values that do nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "cache_implementation": ("dynamic", "static", "hybrid", "offloaded", "offloaded_static", "sliding_window"),
    "constraints": (),
    "diversity_penalty": (0.0,),
    "dola_layers": (),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "forced_decoder_ids": (),
    "guidance_scale": (1, 1.0),
    "num_beam_groups": (0, 1),
    "num_return_sequences": (1,),
    "penalty_alpha": (0, 0.0),
    "remove_invalid_values": (False,),
    "sequence_bias": (),
    "token_healing": (False,),
    "watermarking_config": (),
}
#: Keys of ``GenerationConfig`` that change no answer of gpux: the cache and its layout, what ``generate`` returns
#: besides tokens, assistants, compilation, metadata. ``prompt_lookup_num_tokens`` changes the speed of an answer only.
WITHOUT_EFFECT = frozenset(
    {
        *("assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind", "cache_config"),
        *("compile_config", "disable_compile", "is_assistant", "low_memory", "max_matching_ngram_size"),
        *("num_assistant_tokens", "num_assistant_tokens_schedule", "output_attentions", "output_hidden_states"),
        *(
            "output_logits",
            "output_scores",
            "prefill_chunk_size",
            "prompt_lookup_num_tokens",
            "return_dict_in_generate",
        ),
        *("return_legacy_cache", "target_lookbehind", "transformers_version", "use_cache"),
    }
)
#: Keys that are read here, besides the published options.
READ = frozenset({"bos_token_id", "max_new_tokens", "max_time"})


@dataclass(frozen=True)
class Published:
    """What a model's files set for one task."""

    options: GenerationOptions
    prefix: str = ""  #: text before every input
    max_time: float | None = None  #: seconds after which an answer ends
    bos_token_id: int | None = None
    unsupported: tuple[str, ...] = ()  #: names of options that gpux does not follow
    invalid: tuple[str, ...] = ()  #: ``name=value`` of options whose value is not allowed; they are ignored


def read_published(
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any],
    *,
    task: str | None = None,
    encoder_decoder: bool = False,
    beams: int | None = BEAMS,
) -> Published:
    """The defaults of a model for a task.

    Values come from ``generation_config.json``; from ``config.json`` if that file does not exist, and for special
    tokens that it does not have. ``top_k`` is 50 unless a file sets it, since files omit values that equal
    transformers' defaults. Of a decoder, ``max_length`` is an upper bound besides gpux's ``max_new_tokens``.

    Args:
        config: ``config.json``.
        generation_config: ``generation_config.json``; empty if the file is missing.
        task: the key of ``task_specific_params``: ``summarization``, ``translation_en_to_de`` …; ``translation`` stands
            for the first translation that is there.
        encoder_decoder: read as the pipelines text2text-generation, summarization and translation do: ``beams`` unless
            the task sets a number, and ``max_length`` in place of 256 new tokens.
        beams: of an encoder-decoder for which the task sets no number; None: those of the files.
    """
    source = generation_config or config
    values = dict(_values(config, generation_config))
    reader = _Reader(GenerationOptions(top_k=50))
    searched = encoder_decoder and beams is not None and values.get("do_sample") is not True
    reader.apply({**values, **({"num_beams": beams} if searched else {})})
    limited = reader.options.max_length is not None
    specific = _task_params(config, task)
    reader.apply(_task_values(specific, generation_config, values, limited=limited))
    options = reader.options
    longest = specific.get("max_new_tokens")
    if Number(1, whole=True).allows(longest):
        options = options.with_options(max_new_tokens=longest)
    elif encoder_decoder and options.max_length is not None:
        longest = options.max_length
        options = replace(options, max_new_tokens=longest, min_new_tokens=min(options.min_new_tokens, longest))
    unsupported = {*_unsupported(source), *_unsupported(specific), *reader.unsupported}
    if source.get("max_new_tokens") not in (None, options.max_new_tokens):
        unsupported.add("max_new_tokens")  # transformers.pipeline does not follow it either
    prefix = specific.get(_PROMPT, config.get(_PROMPT))
    begin = [one.get("bos_token_id") for one in (generation_config, config)]
    return Published(
        options,
        prefix=prefix if isinstance(prefix, str) else "",
        max_time=_seconds(source.get("max_time")),
        bos_token_id=next((token for token in begin if isinstance(token, int)), None),
        unsupported=tuple(sorted(unsupported)),
        invalid=tuple(reader.invalid),
    )


class _Reader:
    """Applies published values one by one, and notes those that are not allowed."""

    def __init__(self, options: GenerationOptions) -> None:
        self.options = options
        self.invalid: list[str] = []
        self.unsupported: set[str] = set()

    def apply(self, values: Mapping[str, Any]) -> None:
        """Apply the values in the order of the fields: of two that contradict each other, the first wins."""
        for name, info in option_infos().items():
            if not info.published or name not in values:
                continue
            value = values[name]
            if name == "max_length" and value == _NO_LENGTH:
                continue
            try:
                self._set(name, parse(name, value))
            except UsageError:
                if name == "do_sample" and value is True and self.options.num_beams > 1:
                    self.unsupported.add("do_sample with num_beams")
                else:
                    self.invalid.append(f"{name}={value!r}")

    def _set(self, name: str, value: Any) -> None:
        if name == "temperature" and value == 0 and Number(0).allows(value):
            self.options = replace(self.options, do_sample=False, temperature=0.0)
        elif name == "top_p" and value == 0 and Number(0).allows(value):  # transformers keeps the likeliest token
            self.options = replace(self.options, top_k=1)
        elif name == "num_beams" and value == 1:
            self.options = replace(self.options, num_beams=1)
        elif name == "num_beams" and isinstance(value, int) and value > 1:  # of the task, over a model that samples
            self.options = replace(self.options, num_beams=value, do_sample=False)
        else:
            self.options = replace(self.options, **{name: value})


def _task_params(config: Mapping[str, Any], task: str | None) -> Mapping[str, Any]:
    """``task_specific_params`` of a task; for ``translation``, of the first translation, as transformers warns."""
    every = config.get("task_specific_params")
    if not isinstance(every, Mapping) or task is None:
        return {}
    if task == "translation":
        task = next((name for name in every if name.startswith(task)), task)
    found = every.get(task)
    return found if isinstance(found, Mapping) else {}


def _task_values(
    specific: Mapping[str, Any], generation_config: Mapping[str, Any], values: Mapping[str, Any], *, limited: bool
) -> dict[str, Any]:
    """The options of a task that have an effect in transformers.

    Its ``max_length`` has none unless the model sets one too, since 256 new tokens win. ``generate`` takes a value that
    equals the library's default as one that was not set, where the model's file is of transformers 4.50 or later.
    """
    names = option_names()
    found = {names[name]: value for name, value in specific.items() if name in names and value is not None}
    if not limited:
        found.pop("max_length", None)
    if _merges_defaults(generation_config):
        infos = option_infos()
        for name, value in list(found.items()):
            default = _NO_LENGTH if name == "max_length" else 50 if name == "top_k" else infos[name].default
            if value == default and name in values:
                found[name] = values[name]
    return found


def _merges_defaults(generation_config: Mapping[str, Any]) -> bool:
    """Whether transformers 4.57 fills default values from the file again: a file of 4.50 or later, or of no version."""
    version = str(generation_config.get("transformers_version") or "9").split(".")
    numbers = tuple(int(part) for part in version[:2] if part.isdigit())
    return numbers >= (4, 50)


def _unsupported(source: Mapping[str, Any]) -> Iterator[str]:
    """Names of options that gpux does not follow, so that its answers may differ from transformers'."""
    for name, off in _UNSUPPORTED.items():
        if source.get(name) not in (None, *off, [], {}):
            yield name


def _seconds(value: Any) -> float | None:
    return float(value) if value is not None and Number(0, above=True).allows(value) else None


def _values(config: Mapping[str, Any], generation_config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values that a model's files set; later ones win."""
    parts = [config[part] for part in ("text_config", "decoder") if isinstance(config.get(part), Mapping)]
    inner: Mapping[str, Any] = parts[0] if parts else {}
    names = option_names()
    for source in (inner, config):
        for name in source:
            known, value = names.get(name), source[name]
            used = known is not None and (not generation_config or option_infos()[known].special_token)
            if known is not None and used and value is not None:
                yield known, value
    for name, value in generation_config.items():
        if name in names and value is not None:
            yield names[name], value
