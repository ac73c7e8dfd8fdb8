"""What each tokenizer class of transformers does to a ``tokenizer.json``: one table, :data:`CLASSES`.

A class has defaults of special tokens, adds some tokens itself, and replaces parts of the tokenizer by what
``tokenizer_config.json`` says: the lower-casing of a ``BertNormalizer``, the special tokens around a text, the space
before it. Source: the classes of transformers 4.57.6, ``models/NAME/tokenization_NAME_fast.py``; a test compares the
defaults with the signatures. Classes that are not here are unknown (:mod:`gpux.pipelines.text.effective`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, NoReturn

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors

from gpux.errors import UnsupportedError

#: The special tokens of every class, in the order in which missing ones get their ids.
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
ADDITIONAL = "additional_special_tokens"

#: The class of transformers 5 for every ``tokenizer.json``; its rules are those of transformers 5.23.
LATER = "TokenizersBackend"

Token = str | AddedToken


@dataclass(slots=True)
class Draft:
    """A tokenizer while the rules of its class are applied to it.

    ``settings`` are the arguments of the class: its defaults under what the repository's files say. ``tokens`` are the
    special tokens by their names, once they are settled.
    """

    tokenizer: Tokenizer
    class_name: str
    settings: dict[str, Any]
    model: str
    tokens: dict[str, Token] = field(default_factory=dict)

    def id_of(self, token: Token | None) -> int | None:
        """The id of a token; of the unknown token for a text that the vocabulary does not have."""
        if token is None:
            return None
        found = self.tokenizer.token_to_id(str(token))
        if found is None and (unknown := self.tokens.get("unk_token")) is not None:
            found = self.tokenizer.token_to_id(str(unknown))
        return found

    def refuse(self, key: str, why: str, *, also_refused: bool = False, hint: str | None = None) -> NoReturn:
        """Raise the error for a setting that cannot be applied.

        Args:
            key: the setting's name.
            why: the reason, as the second half of a sentence.
            also_refused: transformers raises an error for it too.
            hint: what to do, if it is neither a correction of the file nor a conversion.

        Raises:
            UnsupportedError: always.
        """
        usual = (
            f"transformers refuses it too: correct {key} in tokenizer_config.json, and pull the corrected folder."
            if also_refused
            else f"`gpux convert {self.model}` converts its weights, and builds the tokenizer with transformers."
        )
        value = json.dumps(self.settings.get(key), ensure_ascii=False, default=str)
        raise UnsupportedError(
            f"the tokenizer of {self.model} cannot be built: {self.class_name} with {key} = {value[:80]} {why}",
            hint=hint or usual,
            model=self.model,
            tokenizer_class=self.class_name,
            key=key,
        )


Change = Callable[[Draft], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerClass:
    """The rules of one class.

    Attributes:
        tokens: default of each special token that is an argument of the class.
        flags: flags with which the class adds a token that is given as text.
        settings: defaults of other arguments.
        before: changes before the special tokens are added to the vocabulary.
        after: changes after that.
        padding_side: where a shorter text of a batch is padded.
        input_names: what a model of this class gets.
        pad_type_id: segment id of padding.
    """

    tokens: Mapping[str, str | None] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[Change, ...] = ()
    after: tuple[Change, ...] = ()
    padding_side: str = "right"
    input_names: tuple[str, ...] = ("input_ids", "token_type_ids", "attention_mask")
    pad_type_id: int = 0


@cache
def facts() -> dict[str, Any]:
    """``tokenizer_classes.json``, which ``scripts/update_tokenizer_classes.py`` writes."""
    text = (files(__package__) / "tokenizer_classes.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


# --- changes of parts -------------------------------------------------------------------------------------------------


def bert_normalizer(draft: Draft) -> None:
    """``do_lower_case``, ``strip_accents`` and ``tokenize_chinese_chars`` replace those of a ``BertNormalizer``."""
    _bert_normalizer(draft, chinese=True)


def bert_normalizer_by_case(draft: Draft) -> None:
    """As :func:`bert_normalizer`, without ``tokenize_chinese_chars``."""
    _bert_normalizer(draft, chinese=False)


def _bert_normalizer(draft: Draft, *, chinese: bool) -> None:
    normalizer = draft.tokenizer.normalizer
    if not isinstance(normalizer, normalizers.BertNormalizer):
        return
    settings = draft.settings
    wanted = {"lowercase": settings["do_lower_case"], "strip_accents": settings["strip_accents"]}
    if chinese:
        wanted["handle_chinese_chars"] = settings["tokenize_chinese_chars"]
    state = {"clean_text": normalizer.clean_text, "handle_chinese_chars": normalizer.handle_chinese_chars, **wanted}
    try:
        changed = normalizers.BertNormalizer(**state)
    except TypeError:
        key = next(
            key for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars") if _not_bool(settings, key)
        )
        draft.refuse(key, "is neither true nor false", also_refused=True)
    for token in draft.tokenizer.get_added_tokens_decoder().values():
        # transformers still looks for the token as the normalizer of the file had it
        if token.normalized and normalizer.normalize_str(token.content) != changed.normalize_str(token.content):
            draft.refuse("do_lower_case", f"changes where the added token {token.content!r} is found")
    draft.tokenizer.normalizer = changed


def _not_bool(settings: Mapping[str, Any], key: str) -> bool:
    return not isinstance(settings[key], bool) and not (key == "strip_accents" and settings[key] is None)


def prefix_space(draft: Draft) -> None:
    """``add_prefix_space`` replaces that of a byte-level pre-tokenizer, for every class, false by default."""
    wanted, current = draft.settings.get("add_prefix_space", False), draft.tokenizer.pre_tokenizer
    if isinstance(current, pre_tokenizers.ByteLevel) and isinstance(wanted, bool):
        draft.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=wanted, trim_offsets=current.trim_offsets, use_regex=current.use_regex
        )


def offsets(draft: Draft) -> None:
    """``add_prefix_space`` and ``trim_offsets`` replace those of the post-processor, which computes offsets."""
    wanted = {key: bool(draft.settings[key]) for key in ("add_prefix_space", "trim_offsets")}
    found = _state(draft.tokenizer.post_processor)
    if found.get("type") not in ("RobertaProcessing", "ByteLevel"):
        return
    found.update(wanted)
    if found["type"] == "ByteLevel":
        draft.tokenizer.post_processor = processors.ByteLevel(
            add_prefix_space=found["add_prefix_space"], trim_offsets=found["trim_offsets"], use_regex=found["use_regex"]
        )
    else:
        draft.tokenizer.post_processor = processors.RobertaProcessing(
            tuple(found["sep"]), tuple(found["cls"]), found["trim_offsets"], found["add_prefix_space"]
        )


def beginning_and_end(draft: Draft) -> None:
    """``add_bos_token`` and ``add_eos_token`` replace the special tokens around a text by these two."""
    first = _wanted(draft, "add_bos_token", "bos_token")
    last = _wanted(draft, "add_eos_token", "eos_token")
    single = [*([f"{first}:0"] if first else []), "$A:0", *([f"{last}:0"] if last else [])]
    second = [*([f"{first}:1"] if first else []), "$B:1", *([f"{last}:1"] if last else [])]
    _around(draft, single, [*single, *second], [token for token in (first, last) if token])


def _wanted(draft: Draft, key: str, name: str) -> str | None:
    if not draft.settings.get(key):
        return None
    if name not in draft.tokens:
        draft.refuse(key, f"needs {name}, which is not set", also_refused=True)
    return str(draft.tokens[name])


def _around(draft: Draft, single: Sequence[str], pair: Sequence[str], used: Sequence[str]) -> None:
    try:
        draft.tokenizer.post_processor = processors.TemplateProcessing(
            single=list(single),
            pair=list(pair),
            special_tokens=[(token, draft.id_of(token)) for token in dict.fromkeys(used)],
        )
    except Exception as exc:  # noqa: BLE001 - tokenizers raises no more specific class
        draft.refuse("eos_token", f"gives no special tokens around a text: {exc}", also_refused=True)


def _asked_ends(draft: Draft) -> None:
    """:func:`beginning_and_end` if tokenizer.json puts nothing around a text; a token that is not set is omitted."""
    if draft.tokenizer.post_processor is None:
        for key, name in (("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")):
            draft.settings[key] = bool(draft.settings.get(key)) and name in draft.tokens
        beginning_and_end(draft)


def language(kind: str, default: str) -> Change:
    """The source language, and the end, are the special tokens around a text.

    Args:
        kind: the tokens' order: ``last`` (text, end, language), ``first`` (language, text, end), ``chosen`` (first,
            unless ``legacy_behaviour`` is true) or ``underlined`` (first, with the name in ``__``).
        default: the language where the repository names none.
    """

    def change(draft: Draft) -> None:
        name = draft.settings.get("src_lang") or default
        if kind == "underlined":
            name = name if "__" in name else f"__{name}__"
        if draft.class_name.startswith("MBart50") and name not in facts()["languages"]["MBart50"]:
            draft.refuse("src_lang", "is not one of its languages", also_refused=True)
        place, end = draft.id_of(name), draft.id_of(draft.tokens.get("eos_token"))
        if place is None or end is None:
            draft.refuse("src_lang" if place is None else "eos_token", "is not in the vocabulary", also_refused=True)
        code, stop = draft.tokenizer.id_to_token(place), draft.tokenizer.id_to_token(end)
        last = kind == "last" or (kind == "chosen" and bool(draft.settings.get("legacy_behaviour")))
        before, behind = ([], [stop, code]) if last else ([code], [stop])
        draft.tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *behind],
            pair=[*before, "$A", "$B", *behind],
            special_tokens=[(code, place), (stop, end)],
        )

    return change


def inner_prefix_space(draft: Draft) -> None:
    """``add_prefix_space: true`` also changes byte-level parts within a sequence, and the decoder."""
    if not draft.settings.get("add_prefix_space"):
        return
    for name in ("pre_tokenizer", "decoder"):
        part = getattr(draft.tokenizer, name)
        if part is not None:
            state = part.__getstate__().replace(b'"add_prefix_space":false', b'"add_prefix_space":true')
            part.__setstate__(state)
            setattr(draft.tokenizer, name, part)


# --- changes of arguments ---------------------------------------------------------------------------------------------


def more_tokens(draft: Draft, tokens: Sequence[str], *, first: bool = False) -> None:
    """Add the class's own tokens to the repository's additional special tokens, without repetitions."""
    given = list(draft.settings.get(ADDITIONAL) or [])
    known = {str(token) for token in given}
    own = [token for token in tokens if first or token not in known]
    later = [token for token in given if not first or str(token) not in set(tokens)]
    draft.settings[ADDITIONAL] = [*own, *later] if first else [*given, *own]


def _code_llama(draft: Draft) -> None:
    names = ("prefix_token", "middle_token", "suffix_token", "eot_token")
    marks = [draft.settings[name] for name in names if draft.settings[name] is not None]
    draft.settings[ADDITIONAL] = [*(draft.settings.get(ADDITIONAL) or []), *marks]


def _mbart(draft: Draft) -> None:
    more_tokens(draft, facts()["languages"]["MBart"], first=True)


def _mbart50(draft: Draft) -> None:
    more_tokens(draft, facts()["languages"]["MBart50"])


def _nllb(draft: Draft) -> None:
    if draft.settings.get(ADDITIONAL) is None:
        draft.settings[ADDITIONAL] = list(facts()["languages"]["Nllb"])


def _xglm(draft: Draft) -> None:
    more_tokens(draft, [f"<madeupword{index}>" for index in range(7)])


def _splinter(draft: Draft) -> None:
    if draft.settings.get(ADDITIONAL) is not None:
        draft.refuse(ADDITIONAL, "is not an argument of this class", also_refused=True)
    draft.settings[ADDITIONAL] = [draft.settings["question_token"]]


def _t5(draft: Draft) -> None:
    given, count = draft.settings.get(ADDITIONAL), draft.settings["extra_ids"]
    extra = [token for token in given or [] if "<extra_id_" in str(token)]
    if not extra:
        draft.settings[ADDITIONAL] = [*(given or []), *(f"<extra_id_{index}>" for index in range(count))]
    elif count > 0 and count != len(extra):
        draft.refuse("extra_ids", f"contradicts {ADDITIONAL}, which has {len(extra)} of them", also_refused=True)
    if draft.settings.get("add_prefix_space") is not None:
        scheme = _scheme(draft)
        state = _state(draft.tokenizer.pre_tokenizer)
        if state.get("type") == "Sequence":  # as written by transformers before 4.38
            inner = [item["type"] for item in state["pretokenizers"]]
            state = state["pretokenizers"][-1] if inner == ["WhitespaceSplit", "Metaspace"] else {}
        charsmap = _charsmap(_state(draft.tokenizer.normalizer))
        if state.get("type") != "Metaspace" or charsmap is None:
            draft.refuse("add_prefix_space", "needs the sentencepiece model")
        steps = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
        first = [normalizers.Precompiled(charsmap)] if charsmap else []
        draft.tokenizer.normalizer = normalizers.Sequence([*first, *steps])
        draft.tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme)
        draft.tokenizer.decoder = decoders.Metaspace("▁", scheme)


def _charsmap(state: Mapping[str, Any]) -> bytes | None:
    """sentencepiece's table of characters in a normalizer that transformers wrote; None for another normalizer."""
    parts = state["normalizers"] if state.get("type") == "Sequence" else [state]
    kinds = [part.get("type") for part in parts]
    if not set(kinds) <= {"Precompiled", "Strip", "Replace"} or "Precompiled" not in kinds:
        return None
    return base64.b64decode(parts[kinds.index("Precompiled")]["precompiled_charsmap"])


def _llama(draft: Draft) -> None:
    """With ``add_prefix_space`` (or ``from_slow``), transformers converts the sentencepiece model again instead of
    reading ``tokenizer.json``: the vocabulary is the same, and ``legacy`` and ``add_prefix_space`` choose the parts
    around it (``convert_slow_tokenizer.LlamaConverter``)."""
    prefix = draft.settings.get("add_prefix_space")
    if prefix is None:
        return
    shape = (_state(draft.tokenizer.pre_tokenizer).get("type"), _kinds(_state(draft.tokenizer.normalizer)))
    if shape[0] not in (None, "Metaspace") or not set(shape[1]) <= {"Prepend", "Replace"}:
        draft.refuse("add_prefix_space", "needs the sentencepiece model")
    replace = normalizers.Replace(" ", "▁")
    if draft.settings.get("legacy") is False:
        draft.tokenizer.normalizer = None
        draft.tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", _scheme(draft), split=False)
    else:
        draft.tokenizer.normalizer = normalizers.Sequence([*([normalizers.Prepend("▁")] if prefix else []), replace])
        draft.tokenizer.pre_tokenizer = None
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    draft.tokenizer.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if prefix else [])])


def _scheme(draft: Draft) -> str:
    if not draft.settings["add_prefix_space"]:
        return "never"
    return "first" if draft.settings.get("legacy") is False else "always"


def _kinds(state: Mapping[str, Any]) -> list[str]:
    parts = state.get("normalizers", [state] if state else [])
    return [str(part.get("type")) for part in parts]


def _pegasus(draft: Draft) -> None:
    settings = draft.settings
    for name, usual in (("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>")):
        if str(settings[name]) != usual:
            draft.refuse(name, "needs the sentencepiece model")
    given, mark, offset = settings.get(ADDITIONAL), settings["mask_token_sent"], settings["offset"]
    if given is None:
        found = [*([mark] if mark is not None else []), *(f"<unk_{index}>" for index in range(2, offset))]
    else:
        found = [mark, *given] if mark is not None and mark not in [str(token) for token in given] else list(given)
        found += [f"<unk_{index}>" for index in range(len(found), offset - 1)]
        if len({str(token) for token in found}) != len(found):
            draft.refuse(ADDITIONAL, "repeats a token", also_refused=True)
    settings[ADDITIONAL] = found
    settings["added_tokens_decoder"] = {}


def _codegen(draft: Draft) -> None:
    if draft.settings.get("add_bos_token"):
        draft.refuse("add_bos_token", "is not supported by this class", also_refused=True)


def _no_prefix_space(draft: Draft) -> None:
    """The class keeps ``add_prefix_space`` to itself."""
    draft.settings.pop("add_prefix_space", None)


def _as_written(draft: Draft) -> None:
    """The parts of tokenizer.json stay as they are, and every setting that is named as a token is one."""
    settings = draft.settings
    settings["add_prefix_space"] = None
    extra = settings.get("extra_special_tokens")
    named = {key: value for key, value in settings.items() if key.endswith("_token") and isinstance(value, Token)}
    own = {key: value for key, value in named.items() if key not in NAMES}
    if isinstance(extra, list):
        settings[ADDITIONAL] = [*(settings.get(ADDITIONAL) or []), *extra]
        extra = None
    settings["extra_special_tokens"] = {**(extra or {}), **own}


def _clip(draft: Draft) -> None:
    if not isinstance(draft.tokenizer.pre_tokenizer, pre_tokenizers.Sequence):
        draft.refuse("tokenizer_class", "needs a tokenizer.json of transformers 4.17 or later", also_refused=True)


_AS_OTHER = "set tokenizer_class to {} in tokenizer_config.json, and pull the corrected folder."


def _needs_words(draft: Draft) -> None:
    hint = f"For texts without Chinese, {_AS_OTHER.format('BertTokenizer')}"
    draft.refuse("tokenizer_class", "splits Chinese texts with rjieba, which gpux does not have", hint=hint)


def _markup(draft: Draft) -> None:
    hint = f"For plain texts, {_AS_OTHER.format('RobertaTokenizer')}"
    draft.refuse("tokenizer_class", "tokenizes HTML, which gpux does not support", hint=hint)


def _state(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as the JSON object that it has in tokenizer.json; ``{}`` for none."""
    if part is None:
        return {}
    try:
        found: dict[str, Any] = json.loads(part.__getstate__())
    except Exception:  # noqa: BLE001 - a part that is Python code cannot be written
        return {}
    return found


# --- the table --------------------------------------------------------------------------------------------------------

_NO_TYPES = ("input_ids", "attention_mask")
_BERT = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ENDS = {"bos_token": "<s>", "eos_token": "</s>"}
_FAIRSEQ = {**_ENDS, "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_ROBERTA = {**_FAIRSEQ, "mask_token": "<mask>"}
_ALBERT = {
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
    "unk_token": "<unk>",
    "sep_token": "[SEP]",
    "pad_token": "<pad>",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_XLNET = {**_ENDS, "unk_token": "<unk>", "sep_token": "<sep>", "pad_token": "<pad>", "cls_token": "<cls>"}
_END = "<|endoftext|>"
_GPT2 = {"unk_token": _END, "bos_token": _END, "eos_token": _END}
_CASES = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}
_BYTES = {"add_prefix_space": False, "trim_offsets": True}
_BOS = {"add_bos_token": True, "add_eos_token": False}
#: Flags of a mask token that takes the space before it; without ``normalized`` it follows ``special``.
_LEFT = {"mask_token": {"lstrip": True, "rstrip": False}}
_LEFT_EXACT = {"mask_token": {"lstrip": True, "rstrip": False, "normalized": False}}
_LEFT_NORMALIZED = {"mask_token": {"lstrip": True, "normalized": True, "special": True}}
_PLAIN = {"lstrip": False, "rstrip": False}
_EXACT = {"lstrip": False, "rstrip": False, "normalized": False, "special": True}


def _all_plain(*names: str) -> dict[str, dict[str, bool]]:
    return {**dict.fromkeys(names, _PLAIN), **_LEFT}


_bert = TokenizerClass(tokens=_BERT, settings=_CASES, after=(bert_normalizer,))
_bert_without_types = TokenizerClass(tokens=_BERT, settings=_CASES, after=(bert_normalizer,), input_names=_NO_TYPES)
_bart = TokenizerClass(
    tokens=_ROBERTA, flags=_LEFT_NORMALIZED, settings=_BYTES, after=(offsets,), input_names=_NO_TYPES
)
_roberta = TokenizerClass(tokens=_ROBERTA, flags=_LEFT_EXACT, settings=_BYTES, after=(offsets,), input_names=_NO_TYPES)
_fairseq = TokenizerClass(tokens=_ROBERTA, flags=_LEFT, input_names=_NO_TYPES)
_gpt2 = TokenizerClass(tokens=_GPT2, settings={"add_prefix_space": False}, input_names=_NO_TYPES)
_t5_class = TokenizerClass(
    tokens={"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    settings={"extra_ids": 100, "add_prefix_space": None},
    before=(_t5,),
    input_names=_NO_TYPES,
)

#: Name of the class -> its rules. ``PreTrainedTokenizerFast`` is the base class: it has only the rules of all classes.
CLASSES: Mapping[str, TokenizerClass] = {
    "PreTrainedTokenizerFast": TokenizerClass(),
    "ParakeetTokenizerFast": TokenizerClass(),
    LATER: TokenizerClass(before=(_as_written,), after=(_asked_ends,)),
    # word pieces
    **dict.fromkeys(
        (
            "BertTokenizerFast",
            "ConvBertTokenizerFast",
            "DPRContextEncoderTokenizerFast",
            "DPRQuestionEncoderTokenizerFast",
            "ElectraTokenizerFast",
            "LayoutLMTokenizerFast",
            "LxmertTokenizerFast",
            "MobileBertTokenizerFast",
            "RealmTokenizerFast",
            "SqueezeBertTokenizerFast",
        ),
        _bert,
    ),
    "DPRReaderTokenizerFast": _bert_without_types,
    "DistilBertTokenizerFast": _bert_without_types,
    "RetriBertTokenizerFast": _bert_without_types,
    "FunnelTokenizerFast": TokenizerClass(
        tokens={**_XLNET, "mask_token": "<mask>"}, settings=_CASES, after=(bert_normalizer,)
    ),
    "LayoutLMv2TokenizerFast": TokenizerClass(tokens=_BERT, settings=_CASES, after=(bert_normalizer_by_case,)),
    "MPNetTokenizerFast": TokenizerClass(
        tokens={**_ROBERTA, "unk_token": "[UNK]"},
        flags=_all_plain("bos_token", "eos_token", "sep_token", "cls_token", "unk_token", "pad_token"),
        settings=_CASES,
        after=(bert_normalizer_by_case,),
        input_names=_NO_TYPES,
    ),
    "SplinterTokenizerFast": TokenizerClass(
        tokens=_BERT,
        settings={**_CASES, "question_token": "[QUESTION]"},
        before=(_splinter,),
        after=(bert_normalizer_by_case,),
    ),
    "RoFormerTokenizerFast": TokenizerClass(tokens=_BERT, settings=_CASES, before=(_needs_words,)),
    # pairs of bytes
    "BartTokenizerFast": _bart,
    "LEDTokenizerFast": _bart,
    "BlenderbotTokenizerFast": _roberta,
    "LongformerTokenizerFast": _roberta,
    "RobertaTokenizerFast": _roberta,
    "LayoutLMv3TokenizerFast": TokenizerClass(
        tokens=_ROBERTA,
        settings={"add_prefix_space": True, "trim_offsets": True},
        after=(offsets,),
        input_names=_NO_TYPES,
    ),
    "MarkupLMTokenizerFast": TokenizerClass(
        tokens=_ROBERTA, settings={"add_prefix_space": False, "trim_offsets": False}, before=(_markup,)
    ),
    "MvpTokenizerFast": TokenizerClass(
        tokens=_ROBERTA,
        flags=_all_plain("bos_token", "eos_token", "sep_token", "cls_token", "unk_token", "pad_token"),
        settings=_BYTES,
        after=(offsets,),
        input_names=_NO_TYPES,
    ),
    "DebertaTokenizerFast": TokenizerClass(
        tokens={"bos_token": "[CLS]", "eos_token": "[SEP]", **_BERT},
        settings={"add_prefix_space": False},
        input_names=("input_ids", "attention_mask", "token_type_ids"),
    ),
    "BlenderbotSmallTokenizerFast": TokenizerClass(tokens=_GPT2, before=(_no_prefix_space,)),
    "BloomTokenizerFast": TokenizerClass(
        tokens={**_ENDS, "unk_token": "<unk>", "pad_token": "<pad>"},
        settings={"add_prefix_space": False},
        after=(inner_prefix_space,),
        input_names=_NO_TYPES,
    ),
    "CLIPTokenizerFast": TokenizerClass(
        tokens={"unk_token": _END, "bos_token": "<|startoftext|>", "eos_token": _END, "pad_token": _END},
        before=(_clip,),
        input_names=_NO_TYPES,
    ),
    "CodeGenTokenizerFast": TokenizerClass(
        tokens=_GPT2, settings={"add_prefix_space": False}, before=(_codegen,), input_names=_NO_TYPES
    ),
    "CohereTokenizerFast": TokenizerClass(
        tokens={"unk_token": "<UNK>", "bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>"},
        settings={**_BOS, "add_prefix_space": False},
        after=(beginning_and_end, inner_prefix_space),
        padding_side="left",
        input_names=_NO_TYPES,
    ),
    "GPT2TokenizerFast": _gpt2,
    "GPTNeoXTokenizerFast": TokenizerClass(
        tokens={**_GPT2, "pad_token": None},
        settings={"add_bos_token": False, "add_eos_token": False, "add_prefix_space": False},
        after=(beginning_and_end,),
        input_names=_NO_TYPES,
    ),
    "HerbertTokenizerFast": TokenizerClass(
        tokens={
            "cls_token": "<s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
            "sep_token": "</s>",
        }
    ),
    "OpenAIGPTTokenizerFast": TokenizerClass(tokens={"unk_token": "<unk>"}, input_names=_NO_TYPES),
    "Qwen2TokenizerFast": TokenizerClass(
        tokens={"unk_token": _END, "bos_token": None, "eos_token": _END, "pad_token": _END},
        flags=dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), _EXACT),
        input_names=_NO_TYPES,
    ),
    "WhisperTokenizerFast": TokenizerClass(
        tokens=_GPT2,
        flags=dict.fromkeys(("bos_token", "eos_token", "unk_token"), _EXACT),
        settings={"add_prefix_space": False},
        input_names=_NO_TYPES,
    ),
    # sentencepiece
    "AlbertTokenizerFast": TokenizerClass(tokens=_ALBERT, flags=_LEFT_EXACT),
    "BarthezTokenizerFast": _fairseq,
    "LayoutXLMTokenizerFast": _fairseq,
    "XLMRobertaTokenizerFast": _fairseq,
    "BigBirdTokenizerFast": TokenizerClass(
        tokens={**_ENDS, **_BERT, "unk_token": "<unk>", "pad_token": "<pad>"},
        flags=_all_plain("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token"),
        input_names=_NO_TYPES,
    ),
    "CamembertTokenizerFast": TokenizerClass(
        tokens=_ROBERTA,
        flags={"mask_token": {"lstrip": True, "special": True}},
        settings={ADDITIONAL: ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]},
        input_names=_NO_TYPES,
    ),
    "CodeLlamaTokenizerFast": TokenizerClass(
        tokens={**_ENDS, "unk_token": "<unk>"},
        settings={
            **_BOS,
            "prefix_token": "▁<PRE>",
            "middle_token": "▁<MID>",
            "suffix_token": "▁<SUF>",
            "eot_token": "▁<EOT>",
        },
        before=(_code_llama,),
        after=(beginning_and_end,),
        padding_side="left",
        input_names=_NO_TYPES,
    ),
    "CpmTokenizerFast": TokenizerClass(
        tokens={**_XLNET, "mask_token": "<mask>"}, before=(_needs_words,), pad_type_id=3
    ),
    "DebertaV2TokenizerFast": TokenizerClass(tokens={"bos_token": "[CLS]", "eos_token": "[SEP]", **_BERT}),
    "FNetTokenizerFast": TokenizerClass(
        tokens={**_BERT, "unk_token": "<unk>", "pad_token": "<pad>"},
        flags=_all_plain("cls_token", "sep_token"),
        input_names=("input_ids", "token_type_ids"),
    ),
    "GemmaTokenizerFast": TokenizerClass(
        tokens={"unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        settings=_BOS,
        after=(beginning_and_end,),
        padding_side="left",
        input_names=_NO_TYPES,
    ),
    "LlamaTokenizerFast": TokenizerClass(
        tokens={**_ENDS, "unk_token": "<unk>"},
        settings={**_BOS, "add_prefix_space": None},
        before=(_llama,),
        after=(beginning_and_end,),
        padding_side="left",
        input_names=_NO_TYPES,
    ),
    "MBartTokenizerFast": TokenizerClass(
        tokens=_ROBERTA, flags=_LEFT, before=(_mbart,), after=(language("last", "en_XX"),), input_names=_NO_TYPES
    ),
    "MBart50TokenizerFast": TokenizerClass(
        tokens={key: token for key, token in _ROBERTA.items() if key != "bos_token"},
        flags=_LEFT,
        before=(_mbart50,),
        after=(language("first", "en_XX"),),
        input_names=_NO_TYPES,
    ),
    "NllbTokenizerFast": TokenizerClass(
        tokens=_ROBERTA,
        flags=_LEFT_NORMALIZED,
        before=(_nllb,),
        after=(language("chosen", "eng_Latn"),),
        input_names=_NO_TYPES,
    ),
    "NougatTokenizerFast": TokenizerClass(
        tokens={**_ENDS, "unk_token": "<unk>", "pad_token": "<pad>"}, input_names=_NO_TYPES
    ),
    "PegasusTokenizerFast": TokenizerClass(
        tokens={"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask_2>"},
        settings={"mask_token_sent": "<mask_1>", "offset": 103},
        before=(_pegasus,),
        input_names=_NO_TYPES,
    ),
    "ReformerTokenizerFast": TokenizerClass(tokens={"eos_token": "</s>", "unk_token": "<unk>"}, input_names=_NO_TYPES),
    "RemBertTokenizerFast": TokenizerClass(tokens=_ALBERT, flags=_LEFT),
    "SeamlessM4TTokenizerFast": TokenizerClass(
        tokens=_FAIRSEQ, after=(language("underlined", "eng"),), input_names=_NO_TYPES
    ),
    "T5TokenizerFast": _t5_class,
    "MT5TokenizerFast": _t5_class,
    "UdopTokenizerFast": TokenizerClass(
        tokens={"eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        input_names=_NO_TYPES,
    ),
    "XGLMTokenizerFast": TokenizerClass(tokens=_FAIRSEQ, before=(_xglm,), input_names=_NO_TYPES),
    "XLNetTokenizerFast": TokenizerClass(
        tokens={**_XLNET, "mask_token": "<mask>"},
        flags=_LEFT,
        settings={ADDITIONAL: ["<eop>", "<eod>"]},
        padding_side="left",
        pad_type_id=3,
    ),
}
