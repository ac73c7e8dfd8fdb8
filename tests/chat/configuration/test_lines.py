"""The line of each key of a TOML document."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from gpux.chat.configuration.lines import key_lines

HARD = '''\
# comment = 1 [not.a.table]
first = 1
"quoted = key" = "a # text = [x]"
dotted . "b.c".'d' = 'literal \\'
numbers = [ 1, 2, # [ " comment
  3, [4, { x = "}" , y = [5] }],
]
text = """
a = 1
[b]
quote \\""" end """"
raw = \'\'\'
c = '' 2
\'\'\'\'
inline = { k = 1, "l m" = { n = 2 }, o.p = 3 }
day = 1979-05-27 07:32:00 # local

  [ table . sub ]  # of tables
x = "\\" = 5"
[table]
y = inf
[[list]]
z = 1
[list.inner]
z = 2
[[list]]
z = 3
'''


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, (*path, name))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from leaves(one, (*path, str(place)))


def test_every_form_of_keys_and_values() -> None:
    found = key_lines(HARD)
    named = {".".join(path): line for path, line in found.items()}
    assert named["first"] == 2
    assert named["quoted = key"] == 3
    assert named["dotted.b.c.d"] == 4
    assert named["numbers.2"] == 6
    assert named["numbers.3.1.y.0"] == 6
    assert named["text"] == 8
    assert named["raw"] == 12
    assert named["inline.l m.n"] == named["inline.o.p"] == 15
    assert named["day"] == 16
    assert named["table.sub"] == 18
    assert named["table.sub.x"] == 19
    assert named["table"] == 20
    assert named["table.y"] == 21
    assert named["list.0.inner.z"] == 25
    assert named["list.1.z"] == 27


def test_the_keys_are_those_of_tomllib() -> None:
    assert set(key_lines(HARD)) == set(leaves(tomllib.loads(HARD)))


scalars = st.one_of(st.booleans(), st.integers(), st.text(), st.dates(), st.floats(allow_nan=False))
keys = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=10,
)


@given(st.dictionaries(keys, values, max_size=5))
def test_any_document(document: dict[str, Any]) -> None:
    text = tomlkit.dumps(document)
    found = key_lines(text)
    assert set(found) == set(leaves(tomllib.loads(text)))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())
