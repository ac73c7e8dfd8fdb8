"""Where a text may be cut while more of it is to come: not inside what a reader sees as one character.

A small part of Unicode's UAX #29: marks, joiners, variation selectors, skin tones, flags, Hangul letters and line ends.
"""

from __future__ import annotations

import unicodedata

_JOINER = "\u200d"
_REGIONS = range(0x1F1E6, 0x1F200)  # two of them make a flag
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_TAGS = range(0xE0020, 0xE0080)
_JAMO = range(0x1160, 0x1200)  # vowels and final consonants of Hangul letters
#: Scripts whose letters are usually followed by marks: Hebrew to Tibetan and Myanmar, Hangul letters, Khmer.
_MARKED = (range(0x0590, 0x1200), range(0x1780, 0x1800))
_VIRAMA = 9  #: combining class of the signs that tie two letters of Indic scripts to one
#: More than this is no character of any language, and is not waited for.
_LONGEST = 32


def last_grapheme(text: str) -> int:
    """Where the last grapheme begins if it is of a kind that often goes on; else the end of the text.

    Latin, Greek, Cyrillic, Han and Kana letters are not waited for: those that may have marks come composed.
    """
    if not text or not _may_go_on(text[-1]):
        return len(text)
    place = len(text) - 1
    while place > 0 and _goes_on(text, place):
        place -= 1
    return place if len(text) - place <= _LONGEST else len(text)


def _may_go_on(character: str) -> bool:
    if character.isascii():
        return character == "\r"
    code = ord(character)
    return _joins(character) or unicodedata.category(character) == "So" or any(code in script for script in _MARKED)


def _goes_on(text: str, place: int) -> bool:
    """Does what stands there belong to what stands before it."""
    return (
        _joins(text[place])
        or text[place - 1] == _JOINER
        or (unicodedata.combining(text[place - 1]) == _VIRAMA and unicodedata.category(text[place]) == "Lo")
        or _is_second_region(text, place)
    )


def _joins(character: str) -> bool:
    code = ord(character)
    return (
        unicodedata.category(character) in ("Mn", "Mc", "Me")
        or character == _JOINER
        or code in _SKIN_TONES
        or code in _TAGS
        or code in _JAMO
    )


def _is_second_region(text: str, place: int) -> bool:
    if ord(text[place]) not in _REGIONS:
        return False
    before = 0
    while before < place and ord(text[place - 1 - before]) in _REGIONS:
        before += 1
    return before % 2 == 1
