"""The options that a model's files set: which are followed, which are reported, and those of one task."""

from __future__ import annotations

from typing import Any

import pytest

from gpux.errors import UsageError
from gpux.runtime.generation.options import GenerationOptions, option_names
from gpux.runtime.generation.published import _UNSUPPORTED, READ, WITHOUT_EFFECT, Published, read_published

T5 = {
    "summarization": {
        "early_stopping": True,
        "length_penalty": 2.0,
        "max_length": 200,
        "min_length": 30,
        "no_repeat_ngram_size": 3,
        "num_beams": 4,
        "prefix": "summarize: ",
    },
    "translation_en_to_de": {"early_stopping": True, "max_length": 300, "num_beams": 5, "prefix": "to German: "},
    "translation_en_to_fr": {"num_beams": 6, "prefix": "to French: "},
}


def of_task(task: str, published: dict[str, Any] | None = None, **config: Any) -> Published:
    config = {"task_specific_params": T5, **config}
    return read_published(config, published or {}, task=task, encoder_decoder=True)


def test_defaults_come_from_the_generation_config() -> None:
    published = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
        "eos_token_id": [1, 2],
        "max_length": 20,
        "max_new_tokens": 9,
        "max_time": 2.5,
        "stop_strings": ["\n\n"],
        "transformers_version": "4.1",
    }
    found = read_published({"eos_token_id": 7, "pad_token_id": 8, "num_beams": 5}, published)
    sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 50}
    assert found.options == GenerationOptions(**sampling, eos_token_ids=(1, 2), pad_token_id=8, stop_strings=("\n\n",))
    assert (found.max_time, found.unsupported, found.invalid) == (2.5, ("max_new_tokens",), ())


def test_old_models_publish_in_their_config() -> None:
    config = {"num_beams": 4, "length_penalty": 2.0, "min_length": 56, "max_length": 142, "no_repeat_ngram_size": 3}
    ends = {"early_stopping": True, "forced_eos_token_id": 2, "decoder_start_token_id": 2, "eos_token_id": 2}
    found = read_published({**config, **ends, "decoder_layers": 12}, {}, encoder_decoder=True).options
    assert (found.num_beams, found.length_penalty, found.min_length, found.no_repeat_ngram_size) == (4, 2.0, 56, 3)
    assert (found.early_stopping, found.forced_eos_token_id, found.decoder_start_token_id) == (True, (2,), 2)
    assert (found.max_length, found.eos_token_ids) == (142, (2,))


def test_special_tokens_of_a_part_are_found() -> None:
    config = {"text_config": {"eos_token_id": 5, "pad_token_id": 6}, "pad_token_id": 1, "bos_token_id": 7}
    found = read_published(config, {"top_k": 3})
    assert (found.options.eos_token_ids, found.options.pad_token_id, found.options.top_k) == ((5,), 1, 3)
    assert found.bos_token_id == 7 and read_published(config, {"bos_token_id": 9}).bos_token_id == 9


@pytest.mark.parametrize(
    ("published", "invalid"),
    [
        ({"top_k": -1, "pad_token_id": -1, "top_p": 3}, ("pad_token_id=-1", "top_k=-1", "top_p=3")),
        ({"temperature": -0.5, "suppress_tokens": [-1]}, ("temperature=-0.5", "suppress_tokens=[-1]")),
        ({"bad_words_ids": 5, "num_beams": "many"}, ("num_beams='many'", "bad_words=5")),
        ({"early_stopping": 3, "eos_token_id": None}, ("early_stopping=3",)),
        ({"max_length": "long", "min_p": None, "typical_p": 0}, ("max_length='long'", "typical_p=0")),
        ({"temperature": "0.5", "do_sample": "yes"}, ("do_sample='yes'", "temperature='0.5'")),
    ],
)
def test_invalid_published_values_are_ignored_and_named(published: dict[str, Any], invalid: tuple[str, ...]) -> None:
    found = read_published({}, published)
    assert (found.options, found.invalid) == (GenerationOptions(top_k=50), invalid)


@pytest.mark.parametrize("zero", [0, 0.0])
def test_a_published_temperature_of_0_is_greedy(zero: float) -> None:
    for order in (("do_sample", "temperature"), ("temperature", "do_sample")):
        published = {"do_sample": True, "temperature": zero, "top_p": 0.9}
        options = read_published({}, {name: published[name] for name in (*order, "top_p")}).options
        assert (options.do_sample, options.temperature) == (False, 0)
        for call in ({"do_sample": True}, {"seed": 1}, {"top_p": 0.5}):
            with pytest.raises(UsageError, match="temperature is 0"):
                options.with_options(**call)
        assert options.with_options(temperature=0.5).do_sample
        assert not options.with_options(temperature=0).do_sample
        assert options.with_options(num_beams=2).num_beams == 2


def test_a_published_top_p_of_0_takes_the_likeliest_token() -> None:
    found = read_published({}, {"do_sample": True, "top_p": 0.0})
    assert (found.options.top_k, found.options.top_p, found.invalid) == (1, 1.0, ())


def test_contradicting_published_values_are_applied_in_one_order() -> None:
    found = read_published({}, {"do_sample": True, "temperature": 0.5, "num_beams": 4})
    assert (found.options.num_beams, found.options.do_sample) == (4, False)
    assert found.unsupported == ("do_sample with num_beams",)


def test_unsupported_options_are_named() -> None:
    published = {"guidance_scale": 1.5, "epsilon_cutoff": 0.0, "penalty_alpha": 0.6, "top_k": 4, "sequence_bias": None}
    assert read_published({}, published).unsupported == ("guidance_scale", "penalty_alpha")
    assert read_published({"diversity_penalty": 0.5}, {}).unsupported == ("diversity_penalty",)
    assert read_published({"diversity_penalty": 0.5}, {"top_k": 4}).unsupported == ()
    off = {"num_beam_groups": 1, "encoder_repetition_penalty": 1.0, "forced_decoder_ids": [], "use_cache": False}
    assert read_published({}, {**off, "num_return_sequences": 1, "cache_implementation": "hybrid"}).unsupported == ()
    more = {"num_return_sequences": 3, "cache_implementation": "quantized", "remove_invalid_values": True}
    assert read_published({}, more).unsupported == tuple(sorted(more))


#: The attributes of ``GenerationConfig()`` of transformers 4.57.
GENERATION_CONFIG = """
assistant_confidence_threshold assistant_early_exit assistant_lookbehind bad_words_ids begin_suppress_tokens
bos_token_id cache_config cache_implementation compile_config constraints decoder_start_token_id disable_compile
diversity_penalty do_sample dola_layers early_stopping encoder_no_repeat_ngram_size encoder_repetition_penalty
eos_token_id epsilon_cutoff eta_cutoff exponential_decay_length_penalty force_words_ids forced_bos_token_id
forced_eos_token_id guidance_scale is_assistant length_penalty low_memory max_length max_matching_ngram_size
max_new_tokens max_time min_length min_new_tokens min_p no_repeat_ngram_size num_assistant_tokens
num_assistant_tokens_schedule num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
output_logits output_scores pad_token_id penalty_alpha prefill_chunk_size prompt_lookup_num_tokens
remove_invalid_values renormalize_logits repetition_penalty return_dict_in_generate return_legacy_cache sequence_bias
stop_strings suppress_tokens target_lookbehind temperature token_healing top_k top_p transformers_version typical_p
use_cache watermarking_config
"""


def test_every_key_of_generation_config_is_followed_reported_or_without_effect() -> None:
    followed = {name for name in option_names() if name in GENERATION_CONFIG.split()}
    named = {*followed, *_UNSUPPORTED, *WITHOUT_EFFECT, *READ}
    assert named - {"forced_decoder_ids"} == set(GENERATION_CONFIG.split())  # that one is Whisper's own
    assert not {*_UNSUPPORTED} & {*WITHOUT_EFFECT, *READ}


# Tasks


def test_the_parameters_of_a_task() -> None:
    found = of_task("summarization")
    assert found.prefix == "summarize: "
    assert found.options == GenerationOptions(
        top_k=50, num_beams=4, min_length=30, no_repeat_ngram_size=3, early_stopping=True, length_penalty=2.0
    )  # 256 new tokens win over its max_length, as in transformers 4.57
    assert of_task("summarization", max_length=50).options.max_length == 200


@pytest.mark.parametrize(
    ("task", "beams", "prefix"),
    [
        ("translation", 5, "to German: "),
        ("translation_en_to_de", 5, "to German: "),
        ("translation_en_to_fr", 6, "to French: "),
        ("translation_en_to_ro", 4, "own: "),
        ("text2text-generation", 4, "own: "),
    ],
)
def test_the_task_selects_its_parameters(task: str, beams: int, prefix: str) -> None:
    found = of_task(task, prefix="own: ")
    assert (found.options.num_beams, found.prefix) == (beams, prefix)


def test_an_encoder_decoder_has_4_beams_unless_its_task_or_the_call_sets_a_number() -> None:
    assert of_task("text2text-generation", {"num_beams": 2}).options.num_beams == 4
    assert of_task("translation_en_to_fr", {"num_beams": 2}).options.num_beams == 6
    sampled = of_task("text2text-generation", {"do_sample": True}).options
    assert (sampled.num_beams, sampled.do_sample) == (1, True)
    options = of_task("text2text-generation").options
    assert options.with_options(do_sample=True).num_beams == 1
    assert options.with_options(logprobs=2).num_beams == options.with_options(prompt_lookup_tokens=3).num_beams == 1


def test_max_length_replaces_256_new_tokens() -> None:
    found = of_task("text2text-generation", {"max_length": 12, "min_new_tokens": 40}).options
    assert (found.max_length, found.max_new_tokens, found.min_new_tokens) == (12, 12, 12)
    assert found.with_options(max_new_tokens=30) == of_task(
        "text2text-generation", {"min_new_tokens": 12}
    ).options.with_options(max_new_tokens=30)
    decoder = read_published({}, {"max_length": 4096}).options
    assert (decoder.max_length, decoder.max_new_tokens) == (4096, 256)


def test_a_default_value_of_a_task_is_no_value_for_files_of_transformers_4_50() -> None:
    """As measured with transformers 4.57: ``generate`` fills values that equal its defaults from the model's file."""
    params = {"translation": {"min_length": 0, "max_length": 20}}
    for version, length in (("4.57.6", 5), ("4.41.0", 0), (None, 5)):
        published = {"min_length": 5, "max_length": 50, "transformers_version": version}
        found = read_published({"task_specific_params": params}, published, task="translation", encoder_decoder=True)
        assert found.options.min_length == length


@pytest.mark.parametrize("params", [None, [], {"summarization": None}, {"summarization": {"num_beams": "four"}}, {}])
def test_malformed_parameters_of_a_task_are_ignored(params: Any) -> None:
    found = read_published({"task_specific_params": params}, {}, task="summarization", encoder_decoder=True)
    assert (found.options.num_beams, found.prefix) == (4, "")
