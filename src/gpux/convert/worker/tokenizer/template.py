"""What a Python tokenizer puts around texts and adds to its vocabulary, as the tokenizers library writes it."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

#: Stand for the ids of the first and the second text; no vocabulary has them.
_FIRST, _SECOND = -101, -102


def takes_pairs(slow: Any) -> bool:
    """False for a tokenizer that drops the second text."""
    return _SECOND in slow.build_inputs_with_special_tokens([_FIRST], [_SECOND])


def template(slow: Any) -> processors.TemplateProcessing | None:
    """Special tokens around a text and around a pair, found by asking; None if there are none."""
    single = slow.build_inputs_with_special_tokens([_FIRST])
    pair = slow.build_inputs_with_special_tokens([_FIRST], [_SECOND])
    if _SECOND not in pair:
        pair = [*single, _SECOND]  # a template must use both; such pairs are never asked for
    if list(single) == [_FIRST] and list(pair) == [_FIRST, _SECOND]:
        return None
    typed = "token_type_ids" in slow.model_input_names
    single_types = slow.create_token_type_ids_from_sequences([_FIRST]) if typed else [0] * len(single)
    pair_types = slow.create_token_type_ids_from_sequences([_FIRST], [_SECOND]) if typed else [0] * len(pair)
    if len(pair_types) != len(pair):
        pair_types = [0] * len(pair)
    used = {index for index in (*single, *pair) if index >= 0}
    return processors.TemplateProcessing(
        single=[_piece(slow, *item) for item in zip(single, single_types, strict=True)],
        pair=[_piece(slow, *item) for item in zip(pair, pair_types, strict=True)],
        special_tokens=[(slow.convert_ids_to_tokens(index), index) for index in sorted(used)],
    )


def _piece(slow: Any, index: int, kind: int) -> str:
    names = {_FIRST: "$A", _SECOND: "$B"}
    return f"{names[index] if index in names else slow.convert_ids_to_tokens(index)}:{kind}"


def add_tokens(tokenizer: Tokenizer, slow: Any) -> None:
    """Tokens that are found in a text before anything else looks at it; their ids are in the vocabulary already."""
    for _, token in sorted(slow.added_tokens_decoder.items()):
        added = AddedToken(
            token.content,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            single_word=token.single_word,
            normalized=False,
            special=token.special,
        )
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([added])
