from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from gpux.runtime.generation.text import TextStream, last_grapheme

CORPUS = [
    "the quick brown fox jumps over the lazy dog, and naïve café don't stop.",
    "héllo wörld 日本語 hello hello",
] * 3
SPECIAL = "<|end|>"


@cache
def byte_level() -> Tokenizer:
    """As GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=[SPECIAL], show_progress=False),
    )
    return tokenizer


@cache
def byte_fallback() -> Tokenizer:
    """As Llama 2's."""
    pieces = ["<unk>", SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    letters = sorted({letter for line in CORPUS for letter in line if letter != " " and ord(letter) < 0x100})
    words = ["▁t", "▁h", "he", "▁the", "llo", "▁hello"]
    vocabulary = {piece: place for place, piece in enumerate([*pieces, *letters, *words, "▁he"])}
    merges = [("▁", "t"), ("▁", "h"), ("h", "e"), ("▁t", "he"), ("▁h", "e")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(SPECIAL, special=True)])
    return tokenizer


@cache
def metaspace() -> Tokenizer:
    """As T5's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", SPECIAL], show_progress=False)
    )
    return tokenizer


@cache
def word_pieces() -> Tokenizer:
    """As BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]", SPECIAL], show_progress=False)
    )
    return tokenizer


KINDS: list[Callable[[], Tokenizer]] = [byte_level, byte_fallback, metaspace, word_pieces]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
texts = st.one_of(
    st.text(max_size=20),
    st.text("the hello. don't,  \n", max_size=40),
    st.text("aé日語👍🏽🇩🇪👨‍👩‍👧e\u0301\r\n<|>end", max_size=25),
)


def pieces(stream: TextStream, tokens: Sequence[int]) -> list[str]:
    return [*(stream.push(token) for token in tokens), stream.finish()]


def after(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    """All text without the part that the prompt alone has, too."""
    whole, before = tokenizer.decode([*prompt, *tokens]), tokenizer.decode(list(prompt))
    same = 0
    while same < min(len(whole), len(before)) and whole[same] == before[same]:
        same += 1
    return whole[same:]


@every_kind
@given(text=texts, cut=st.integers(0, 30))
def test_the_pieces_are_the_text(kind: Callable[[], Tokenizer], text: str, cut: int) -> None:
    tokenizer = kind()
    ids = tokenizer.encode(text).ids
    prompt, tokens = ids[:cut], ids[cut:]
    found = pieces(TextStream(tokenizer, prompt=prompt), tokens)
    assert "".join(found) == after(tokenizer, prompt, tokens)
    for piece in found:
        piece.encode()  # no half of a character


@every_kind
@given(data=st.data())
def test_the_pieces_of_any_tokens_are_their_text(kind: Callable[[], Tokenizer], data: st.DataObject) -> None:
    tokenizer = kind()
    token = st.one_of(st.integers(0, tokenizer.get_vocab_size() - 1), st.sampled_from([1, 0, 100, 200, 233, 228]))
    ids = data.draw(st.lists(token.filter(lambda one: one < tokenizer.get_vocab_size()), max_size=25))
    cut = data.draw(st.integers(0, len(ids)))
    found = pieces(TextStream(tokenizer, prompt=ids[:cut]), ids[cut:])
    assert "".join(found) == after(tokenizer, ids[:cut], ids[cut:])


@every_kind
def test_special_tokens_have_no_text_by_default(kind: Callable[[], Tokenizer]) -> None:
    tokenizer = kind()
    end = tokenizer.token_to_id(SPECIAL)
    tokens = [*tokenizer.encode("hello the").ids, end, *tokenizer.encode("dog").ids]
    assert "".join(pieces(TextStream(tokenizer), tokens)) == tokenizer.decode(tokens)
    assert SPECIAL not in tokenizer.decode(tokens)
    shown = "".join(pieces(TextStream(tokenizer, skip_special_tokens=False), tokens))
    assert shown == tokenizer.decode(tokens, skip_special_tokens=False)
    assert SPECIAL in shown


@every_kind
def test_a_word_is_returned_with_its_token(kind: Callable[[], Tokenizer]) -> None:
    tokenizer = kind()
    stream = TextStream(tokenizer)
    tokens = tokenizer.encode("the lazy dog").ids
    assert "".join(stream.push(token) for token in tokens) == "the lazy dog"
    assert stream.finish() == ""


@every_kind
@pytest.mark.parametrize("before", ["hello", "é"])
def test_tokens_that_the_tokenizer_does_not_have_change_nothing(kind: Callable[[], Tokenizer], before: str) -> None:
    tokenizer = kind()
    ids = tokenizer.encode(f"{before} the dog", add_special_tokens=False).ids
    for place in range(len(ids) + 1):
        stream = TextStream(tokenizer)
        pieces = [stream.push(token) for token in [*ids[:place], 1_000_000, *ids[place:]]]
        assert "".join([*pieces, stream.finish()]) == tokenizer.decode(ids)


def test_a_character_is_emitted_when_complete() -> None:
    tokenizer = byte_level()
    tokens = [tokenizer.token_to_id(piece) for piece in "xæĹ¥"]  # the letters that stand for its bytes
    assert pieces(TextStream(tokenizer), tokens) == ["x", "", "", "日", ""]
    assert "".join(pieces(TextStream(tokenizer), tokens[:3])) == "x\ufffd"


def test_invalid_bytes_do_not_end_the_stream() -> None:
    tokenizer = byte_fallback()
    bytes_ = {byte: tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in (0x41, 0xFF, 0xE6)}
    dog = tokenizer.encode("dog").ids
    tokens = [*dog, bytes_[0x41], bytes_[0xFF], *dog, bytes_[0xE6]]
    assert "".join(pieces(TextStream(tokenizer), tokens)) == tokenizer.decode(tokens) == "dog\ufffd\ufffd dog\ufffd"


def test_graphemes_are_emitted_when_complete() -> None:
    tokenizer = byte_level()
    for text in ("👍🏽", "🇩🇪", "👨‍👩‍👧", "क्षि", "각", "\r\n"):
        found = [piece for piece in pieces(TextStream(tokenizer), tokenizer.encode(text).ids) if piece]
        assert found == [text], text


@pytest.mark.parametrize("text", ["a", "é", "日", "Я", "か", "각", "", "a\n", "…"])
def test_letters_without_marks_are_not_held_back(text: str) -> None:
    assert last_grapheme(unicodedata.normalize("NFC", text)) == len(unicodedata.normalize("NFC", text))


def test_endless_marks_are_not_held_back() -> None:
    assert last_grapheme("ก" + "\u0e49" * 20) == 0
    assert last_grapheme("ก" + "\u0e49" * 200) == 201


@cache
def syllables() -> Tokenizer:
    """Every text of a, b and c may be cut into them in many ways."""
    names = ["a", "b", "c", "ab", "bc", "ca", "aa", "abc", "cab", "bb"]
    tokenizer = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="a"))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def first_complete(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


@example(tokens=[7], stops=["abc", "b"])
@example(tokens=[7], stops=["bc", "c"])
@given(tokens=st.lists(st.integers(0, 9), max_size=20), stops=st.lists(st.text("abc", min_size=1), max_size=3))
def test_stop_texts_do_not_depend_on_token_boundaries(tokens: list[int], stops: list[str]) -> None:
    tokenizer = syllables()
    stream = TextStream(tokenizer, stops)
    found = "".join(pieces(stream, tokens))
    assert (found, stream.stopped_by) == first_complete(tokenizer.decode(tokens), stops)


@every_kind
@given(text=texts, data=st.data())
def test_no_part_of_a_stop_text_is_returned(kind: Callable[[], Tokenizer], text: str, data: st.DataObject) -> None:
    tokenizer = kind()
    ids = tokenizer.encode(text).ids
    whole = tokenizer.decode(ids)
    begin = data.draw(st.integers(0, max(len(whole) - 1, 0)))
    stop = whole[begin : begin + data.draw(st.integers(1, 8))]
    stops = [stop, "the end"] if stop else ["the end"]
    stream = TextStream(tokenizer, stops)
    given_out = ""
    for token in ids:
        given_out += stream.push(token)
        assert not any(stop in given_out for stop in stops)
        if stream.stopped_by is None:
            continue
        break
    given_out += stream.finish()
    assert (given_out, stream.stopped_by) == first_complete(whole, stops)


def test_incomplete_stop_text_is_returned() -> None:
    tokenizer = byte_level()
    stream = TextStream(tokenizer, ["the quick red"])
    found = pieces(stream, tokenizer.encode("and the quick brown").ids)
    assert "".join(found) == "and the quick brown" and stream.stopped_by is None
    held = pieces(TextStream(tokenizer, ["dogs"]), tokenizer.encode("a dog").ids)
    assert "".join(held[:-1]) == "a " and held[-1] == "dog"


def test_nothing_comes_after_a_stop_text() -> None:
    tokenizer = byte_level()
    stream = TextStream(tokenizer, ["the"])
    assert "".join(pieces(stream, tokenizer.encode("hello the dog").ids)) == "hello "
    assert stream.push(tokenizer.token_to_id("d")) == stream.finish() == ""


@every_kind
def test_a_special_token_may_be_a_stop(kind: Callable[[], Tokenizer]) -> None:
    tokenizer = kind()
    stream = TextStream(tokenizer, [SPECIAL])
    end = tokenizer.token_to_id(SPECIAL)
    found = pieces(stream, [*tokenizer.encode("hello").ids, end, *tokenizer.encode("dog").ids])
    assert "".join(found) == "hello" and stream.stopped_by == SPECIAL


@example(tokens=[7, 1], prompt=[], stops=["b"])
@example(tokens=[1, 2], prompt=[0], stops=["ab"])
@given(
    tokens=st.lists(st.integers(0, 9), max_size=20),
    prompt=st.lists(st.integers(0, 9), max_size=4),
    stops=st.lists(st.text("abc", min_size=1), min_size=1, max_size=3),
)
def test_a_stop_string_ends_the_text_with_its_token(tokens: list[int], prompt: list[int], stops: list[str]) -> None:
    """A stop string may begin in the prompt, and has to end in a generated token."""
    tokenizer = syllables()
    stream = TextStream(tokenizer, prompt=prompt, stop_strings=stops)
    found, before = "".join(pieces(stream, tokens)), tokenizer.decode(prompt)
    for count in range(1, len(tokens) + 1):
        text = before + tokenizer.decode(tokens[:count])
        if any(text.find(stop, max(0, len(before) - len(stop) + 1)) >= 0 for stop in stops):
            assert found == text[len(before) :] and stream.stopped_by in stops
            return
    assert found == tokenizer.decode(tokens) and stream.stopped_by is None


@every_kind
@given(text=texts, data=st.data())
def test_a_stop_string_is_a_part_of_the_text(kind: Callable[[], Tokenizer], text: str, data: st.DataObject) -> None:
    tokenizer = kind()
    ids = tokenizer.encode(text).ids
    whole = tokenizer.decode(ids, skip_special_tokens=False)
    begin = data.draw(st.integers(0, max(len(whole) - 1, 0)))
    stop = whole[begin : begin + data.draw(st.integers(1, 8))]
    if not stop or "\N{REPLACEMENT CHARACTER}" in stop:
        return
    stream = TextStream(tokenizer, stop_strings=[stop])
    found = "".join(pieces(stream, ids))
    assert stream.stopped_by == stop and tokenizer.decode(ids).startswith(found)


@every_kind
def test_a_special_token_may_be_a_stop_string(kind: Callable[[], Tokenizer]) -> None:
    tokenizer = kind()
    stream = TextStream(tokenizer, stop_strings=[SPECIAL])
    end = tokenizer.token_to_id(SPECIAL)
    found = pieces(stream, [*tokenizer.encode("hello").ids, end, *tokenizer.encode("dog").ids])
    assert "".join(found) == "hello" and stream.stopped_by == SPECIAL
