"""The tokenizer as transformers builds it: ``tokenizer.json`` under the rules of its class.

``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json`` say more than ``tokenizer.json``:
which special tokens there are, with which flags, which are put around a text, whether a space comes first.
transformers applies them when it opens a tokenizer (``PreTrainedTokenizerBase._from_pretrained``,
``PreTrainedTokenizerFast`` and its classes, version 4.57.6); the functions here apply the same without it. The rules of
the classes are the table :data:`gpux.pipelines.text.tokenizer_classes.CLASSES`.

The class is that of ``AutoTokenizer``: ``tokenizer_class`` of ``tokenizer_config.json``, else of ``config.json``, else
that of the model type. A class that transformers has only in Python, or that a repository brings, has no rules here:
its ``tokenizer.json`` is used as it is if it does what the configuration says, and refused otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from gpux.errors import CorruptFileError
from gpux.model.json_file import read_json
from gpux.pipelines.text.tokenizer_classes import (
    ADDITIONAL,
    CLASSES,
    LATER,
    NAMES,
    Draft,
    Token,
    TokenizerClass,
    facts,
    prefix_space,
)

TOKENIZER = "tokenizer.json"
GENERIC = "PreTrainedTokenizerFast"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_BOM = b"\xef\xbb\xbf"
_SANE_LIMIT = 1_000_000  #: transformers writes 1e30 where it has no limit
_MISTRAL = 100_000  #: transformers corrects the pattern of larger vocabularies
#: The version whose rules these are: a repository may have a ``tokenizer.VERSION.json`` for it.
_VERSION = (4, 57, 6)


@dataclass(frozen=True, slots=True)
class EffectiveTokenizer:
    """A tokenizer, and what its files and its class say about texts.

    Attributes:
        tokenizer: of the ``tokenizers`` library, without truncation and padding; must not be changed.
        class_name: the class of transformers whose rules were applied.
        special_tokens: ``bos_token`` … -> text, for those that are set.
        additional: further special tokens.
        limit: limit of tokens per text; None for none.
        padding_side: ``right`` or ``left``.
        truncation_side: ``right`` or ``left``.
        pad_type_id: segment id of padding.
        input_names: the inputs that transformers gives to the model.
        clean_up: whether decoding removes spaces before punctuation.
        padding: the padding that ``tokenizer.json`` had.
    """

    tokenizer: Tokenizer
    class_name: str
    special_tokens: Mapping[str, str]
    additional: tuple[str, ...]
    limit: int | None
    padding_side: str
    truncation_side: str
    pad_type_id: int
    input_names: tuple[str, ...]
    clean_up: bool
    padding: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The JSON files of a tokenizer; ``{}`` for a missing one."""

    tokenizer: Path
    config: dict[str, Any]
    specials: dict[str, Any]
    added: dict[str, Any]
    model: dict[str, Any]

    @classmethod
    def find(cls, folders: Sequence[Path]) -> TokenizerFiles | None:
        """The files of the first folder that has a ``tokenizer.json``; None if no folder has one.

        ``config.json``, which only names the class, may be in a later folder.

        Raises:
            CorruptFileError: a file is not JSON.
        """
        for folder in folders:
            config = read_json(folder / "tokenizer_config.json")
            names = (*_versioned(config.get("fast_tokenizer_files")), TOKENIZER)
            file = next((path for name in names if (path := folder / name).is_file()), None)
            if file is not None:
                listed = "added_tokens_decoder" in config  # then transformers does not read the two older files
                return cls(
                    tokenizer=file,
                    config=config,
                    specials={} if listed else read_json(folder / "special_tokens_map.json"),
                    added={} if listed else read_json(folder / "added_tokens.json"),
                    model=next((found for place in folders if (found := read_json(place / "config.json"))), {}),
                )
        return None


def effective_tokenizer(files: TokenizerFiles, *, model: str, finished: bool = False) -> EffectiveTokenizer:
    """Open a tokenizer under the rules of its class.

    Args:
        files: the repository's files.
        model: the model's name, for messages.
        finished: ``tokenizer.json`` has been written with the rules applied: only names, limits and sides are read.

    Raises:
        UnsupportedError: a setting that gpux cannot apply, or that transformers refuses; it names class and key.
        CorruptFileError: ``tokenizer.json`` cannot be read.
    """
    tokenizer = _open(files.tokenizer)
    padding: dict[str, Any] = tokenizer.padding or {}
    truncation: dict[str, Any] = tokenizer.truncation or {}
    tokenizer.no_padding()
    tokenizer.no_truncation()
    name, rules = tokenizer_class(files.config, files.model)
    settings, listed = _settings(files, tokenizer.get_added_tokens_decoder())
    for key, value in (
        ("truncation_side", truncation.get("direction")),
        ("padding_side", padding.get("direction")),
        ("pad_token", padding.get("pad_token")),
    ):
        if value is not None and (rules is None or key not in rules.tokens):
            settings.setdefault(key, value)
    draft = Draft(tokenizer, name, settings, model)
    rules = rules or TokenizerClass(settings={"add_prefix_space": None})  # an unknown class's parts stay as they are
    if finished:  # the files have what the class's defaults are
        rules = TokenizerClass()
    _apply(draft, rules, listed, change=not finished, known=name in CLASSES)
    return _described(draft, rules, padding)


def special_tokens(files: TokenizerFiles, *, finished: bool = False) -> dict[str, Any]:
    """The special tokens as text, by name, as ``special_tokens_map`` of transformers has them; for chat templates.

    Args:
        files: the repository's files.
        finished: they have been written with the rules of the class applied, so its defaults are not used.
    """
    rules = (None if finished else tokenizer_class(files.config, files.model)[1]) or TokenizerClass()
    settings, _ = _settings(files, {})
    found = {name: settings.get(name, rules.tokens.get(name)) for name in NAMES}
    extra, more = settings.get("extra_special_tokens"), settings.get(ADDITIONAL)
    found |= extra if isinstance(extra, dict) else {}
    texts: dict[str, Any] = {name: str(token) for name, token in found.items() if token and isinstance(token, Token)}
    if isinstance(more, list) and more:
        texts[ADDITIONAL] = [str(token) for token in more if isinstance(token, Token)]
    return texts


def tokenizer_class(config: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, TokenizerClass | None]:
    """The class that ``AutoTokenizer`` chooses, and its rules; None for a class without rules here.

    Args:
        config: ``tokenizer_config.json``.
        model: ``config.json``.
    """
    named = config.get("tokenizer_class") or model.get("tokenizer_class")
    if not isinstance(named, str):
        inner = model.get("encoder")
        kind = inner.get("model_type") if isinstance(inner, dict) and "decoder" in model else model.get("model_type")
        named = facts()["model_types"].get(kind, GENERIC)
    fast = named if named.endswith("Fast") or named == LATER else f"{named}Fast"
    return (fast, CLASSES[fast]) if fast in CLASSES else (named, None)


def _open(file: Path) -> Tokenizer:
    try:
        with file.open("rb") as stream:
            if stream.read(3) != _BOM:
                return Tokenizer.from_file(str(file))
            return Tokenizer.from_str(stream.read().decode())
    except Exception as exc:
        raise CorruptFileError(f"{file} is not a tokenizer: {exc}", hint="Run `gpux verify`.", path=file) from exc


# --- arguments --------------------------------------------------------------------------------------------------------


def _settings(files: TokenizerFiles, present: Mapping[int, AddedToken]) -> tuple[dict[str, Any], dict[int, AddedToken]]:
    """The arguments that the files give to the class, and the tokens that it adds with their ids.

    Args:
        files: the repository's files.
        present: the added tokens of ``tokenizer.json``.
    """
    settings: dict[str, Any] = {key: _token(value) for key, value in files.config.items()}
    listed: dict[int, AddedToken] = {}
    if isinstance(files.config.get("added_tokens_decoder"), dict):
        found = {int(index): _added(token) for index, token in files.config["added_tokens_decoder"].items()}
        listed = {index: token for index, token in found.items() if token is not None}
    else:  # files of transformers before 4.34
        settings |= {key: _legacy(key, value, settings) for key, value in files.specials.items()}
        special = {str(token) for token in _tokens(settings)}
        for token, index in files.added.items():
            listed[int(index)] = AddedToken(token, normalized=token not in special, special=token in special)
        listed |= present
    flagged = {str(token): token for token in listed.values()}
    for name in NAMES:
        if settings.get(name) is not None:
            settings[name] = flagged.get(str(settings[name]), settings[name])
    return settings, listed


def _legacy(key: str, value: Any, settings: Mapping[str, Any]) -> Any:
    """A value of special_tokens_map.json: an object is a special token, a list adds to that of the configuration."""
    if isinstance(value, dict):
        return _added({**value, "special": True})
    if key == ADDITIONAL and isinstance(value, list):
        found = list(settings.get(ADDITIONAL) or [])
        more = [_added({**token, "special": True}) if isinstance(token, dict) else token for token in value]
        return [*found, *(token for token in more if token not in found)]
    return value


def _token(value: Any) -> Any:
    """A value of tokenizer_config.json; an object with ``content`` is a token, also within a list or an object."""
    if (
        isinstance(value, dict)
        and isinstance(value.get("content"), str)
        and set(value) <= {*_FLAGS, "content", "__type"}
    ):
        return _added(value)
    if isinstance(value, list):
        return [_token(item) for item in value]
    if isinstance(value, dict):
        return {key: _token(item) for key, item in value.items()}
    return value


def _added(value: Any) -> AddedToken | None:
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        return None
    return AddedToken(value["content"], **{flag: value[flag] for flag in _FLAGS if isinstance(value.get(flag), bool)})


def _tokens(settings: Mapping[str, Any]) -> list[Token]:
    """The special tokens among the arguments, in the order of their names."""
    found = [settings[name] for name in NAMES if isinstance(settings.get(name), Token)]
    more = settings.get(ADDITIONAL)
    return [*found, *(token for token in more if isinstance(token, Token))] if isinstance(more, list) else found


# --- the rules of all classes -----------------------------------------------------------------------------------------


def _apply(draft: Draft, rules: TokenizerClass, listed: Mapping[int, AddedToken], *, change: bool, known: bool) -> None:
    for name, default in {**rules.tokens, **rules.settings}.items():
        draft.settings.setdefault(name, list(default) if isinstance(default, list) else default)
    for name, flags in rules.flags.items():
        if isinstance(token := draft.settings.get(name), str):
            draft.settings[name] = AddedToken(token, **flags)
    if change:
        _check_settings(draft)
        for before in rules.before:
            before(draft)
    _settle(draft)
    draft.tokenizer.encode_special_tokens = bool(draft.settings.get("split_special_tokens", False))
    if not change:
        return
    _add(draft, {} if draft.settings.get("added_tokens_decoder") == {} else listed)
    prefix_space(draft)
    for after in rules.after:
        after(draft)
    if not known:
        _check(draft)


def _check_settings(draft: Draft) -> None:
    if draft.settings.get("from_slow"):
        draft.refuse("from_slow", "needs the files of the tokenizer in Python")
    if draft.settings.get("fix_mistral_regex") and draft.tokenizer.get_vocab_size(False) > _MISTRAL:
        draft.refuse("fix_mistral_regex", "replaces the pattern of the pre-tokenizer")


def _settle(draft: Draft) -> None:
    """Read the special tokens: those of every class, and the model's own (``extra_special_tokens``)."""
    extra = draft.settings.get("extra_special_tokens")
    if isinstance(extra, list):  # as transformers 5 writes additional_special_tokens
        draft.settings[ADDITIONAL] = [*(draft.settings.get(ADDITIONAL) or []), *extra]
    own = {**{name: draft.settings.get(name) for name in NAMES}, **(extra if isinstance(extra, dict) else {})}
    for name, token in own.items():
        if token is None or token == "":
            continue
        if not isinstance(token, Token):
            draft.settings.setdefault(name, token)
            draft.refuse(name, "is not a token", also_refused=True)
        draft.tokens[name] = token
    more = draft.settings.get(ADDITIONAL)
    if more is not None and not (isinstance(more, list) and all(isinstance(token, Token) for token in more)):
        draft.refuse(ADDITIONAL, "is not a list of tokens", also_refused=True)


def _all_special(draft: Draft) -> list[Token]:
    """The special tokens without repetitions, in the order in which missing ones get their ids."""
    more = draft.settings.get(ADDITIONAL) or []
    named = [draft.tokens[name] for name in NAMES if name in draft.tokens]
    own = [token for name, token in draft.tokens.items() if name not in NAMES]
    found: dict[str, Token] = {}
    for token in (*named, *more, *own):
        found.setdefault(str(token), token)
    return [token for text, token in found.items() if text]


def _add(draft: Draft, listed: Mapping[int, AddedToken]) -> None:
    """Add tokens that the vocabulary lacks, those with an id first, and replace the flags of known ones."""
    special = _all_special(draft)
    texts = {str(token) for token in special}
    known = {token.content: token for token in draft.tokenizer.get_added_tokens_decoder().values()}
    wanted: list[Token] = [token for _, token in sorted(listed.items())]
    present = {*known, *(str(token) for token in wanted)}
    wanted += [token for token in special if not (isinstance(token, str) and token in present)]
    adding = []
    for token in wanted:
        is_special = str(token) in texts or (isinstance(token, AddedToken) and token.special)
        if isinstance(token, str):
            token = AddedToken(token, special=is_special)
        token.special = is_special
        before = known.get(token.content)
        if before is not None and before.special and is_special:
            token = _as_before(token, before)
        if before is None or repr(token) != repr(before):
            adding.append(token)
    if adding:
        draft.tokenizer.add_tokens(adding)


def _as_before(token: AddedToken, before: AddedToken) -> AddedToken:
    """The token, looked for in texts as it was first added: before or after normalization.

    tokenizers 0.22, which transformers 4.57 has, keeps that of a special token when its flags are replaced.
    """
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=before.normalized,
        special=True,
    )


def _described(draft: Draft, rules: TokenizerClass, padding: Mapping[str, Any]) -> EffectiveTokenizer:
    settings = draft.settings
    limit = settings.get("model_max_length", settings.get("max_len"))
    names = settings.get("model_input_names")
    return EffectiveTokenizer(
        tokenizer=draft.tokenizer,
        class_name=draft.class_name,
        special_tokens={name: str(token) for name, token in draft.tokens.items()},
        additional=tuple(str(token) for token in settings.get(ADDITIONAL) or []),
        limit=limit if isinstance(limit, int) and 0 < limit < _SANE_LIMIT else None,
        padding_side=_side(draft, "padding_side", rules.padding_side),
        truncation_side=_side(draft, "truncation_side", "right"),
        pad_type_id=rules.pad_type_id,
        input_names=tuple(names) if isinstance(names, list) else rules.input_names,
        clean_up=bool(settings.get("clean_up_tokenization_spaces", False)),
        padding=padding,
    )


def _side(draft: Draft, key: str, default: str) -> str:
    found = draft.settings.get(key, default)
    if found not in ("right", "left"):
        draft.refuse(key, "is neither left nor right", also_refused=True)
    return str(found)


# --- classes without rules --------------------------------------------------------------------------------------------


def _check(draft: Draft) -> None:
    """Refuse a setting of an unknown class that ``tokenizer.json`` does not follow: its code would.

    Raises:
        UnsupportedError: with the class and the key.
    """
    unlike = "is not what its tokenizer.json does, and gpux does not know the class"
    hint = f"`gpux convert {draft.model} --trust-remote-code` builds the tokenizer with the repository's own code."
    encoded = draft.tokenizer.encode("a").ids
    for key, name, place in (("add_bos_token", "bos_token", 0), ("add_eos_token", "eos_token", -1)):
        wanted, token = draft.settings.get(key), draft.id_of(draft.tokens.get(name))
        if isinstance(wanted, bool) and wanted != (bool(encoded) and token is not None and encoded[place] == token):
            draft.refuse(key, unlike, hint=hint)
    lower, normalizer = draft.settings.get("do_lower_case"), draft.tokenizer.normalizer
    lowers = normalizer is not None and normalizer.normalize_str("A") == "a"
    if isinstance(lower, bool) and lower != lowers:
        draft.refuse("do_lower_case", unlike, hint=hint)
    if draft.settings.get("normalization"):  # of BertweetTokenizer: users, links and emoji
        draft.refuse("normalization", "is code that gpux does not have")


# --- files ------------------------------------------------------------------------------------------------------------


def _versioned(names: Any) -> Iterable[str]:
    """The last file of ``fast_tokenizer_files`` for this version of transformers or an earlier one."""
    found = {}
    for name in names if isinstance(names, list) else []:
        version = re.search(r"tokenizer\.(\d+)\.(\d+)\.(\d+)\.json$", str(name))
        if version is not None and (number := tuple(int(part) for part in version.groups())) <= _VERSION:
            found[number] = str(name)
    return [found[max(found)]] if found else []
